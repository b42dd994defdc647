//! The vector search's rows: schema `vectors` in Postgres or `vectors.sqlite`,
//! and the snapshots beside them.
//!
//! Whoever writes points first takes numbers from the space's row, whose lock
//! keeps the order until the transaction ends.

mod changes;
mod dialect;
mod generations;
mod images;
mod migration;
mod nearest;
mod pages;
mod points;
mod rows;
mod snapshots;
mod spaces;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use blob_store::BlobStore;
use sea_orm::{
    ConnectionTrait, DatabaseConnection, DbBackend, ExecResult, QueryResult, Statement, Value,
};
use service_error::ServiceError;
use sql_store::{MigrationStatus, SqlSettings, SqlStore, db_error};
use tokio::sync::Semaphore;

pub use images::ImagePoint;
pub use pages::Pages;
pub use points::{ColumnsSet, NewPoint, Written};
pub use snapshots::blocking;
pub use spaces::Visible;

use migration::Migrator;

/// The schema's and the objects' name.
const NAME: &str = "vectors";

/// The rows and the snapshots. Clones share the connections.
#[derive(Debug, Clone)]
pub struct Store {
    sql: SqlStore,
    blobs: BlobStore,
    /// Of those who hold a connection for many reads: some are left for everybody else.
    page_turns: Arc<Semaphore>,
}

impl Store {
    /// Opens both without migrating.
    ///
    /// # Errors
    /// As [`SqlStore::open`] and [`BlobStore::open`].
    pub async fn open(
        settings: &SqlSettings,
        object_store_url: &str,
    ) -> Result<Self, ServiceError> {
        let blobs = BlobStore::open(object_store_url, NAME).await?;
        let page_turns = Arc::new(Semaphore::new((settings.max_connections as usize / 2).max(1)));
        Ok(Self { sql: SqlStore::open(settings, NAME).await?, blobs, page_turns })
    }

    /// Brings the schema up to date.
    ///
    /// # Errors
    /// As [`SqlStore::migrate`]; a Postgres without a pgvector that can be used.
    pub async fn migrate(&self) -> Result<(), ServiceError> {
        migrate_sql(&self.sql).await
    }

    /// The jobs in the same schema.
    #[must_use]
    pub fn jobs(&self, service: &'static str) -> jobs::Jobs {
        jobs::Jobs::new(self.sql.clone(), service)
    }

    /// The snapshots.
    #[must_use]
    pub const fn blobs(&self) -> &BlobStore {
        &self.blobs
    }

    /// Whether the database answers.
    ///
    /// # Errors
    /// Why it does not.
    pub async fn ping(&self) -> Result<(), ServiceError> {
        self.sql.ping().await
    }

    /// The migrations that have run, those of other programs too, in order.
    ///
    /// # Errors
    /// A database that is away.
    pub async fn applied_migrations(&self) -> Result<Vec<String>, ServiceError> {
        self.sql.applied_migrations().await
    }

    /// Takes back the last `steps` migrations, all if `None`.
    ///
    /// # Errors
    /// As [`SqlStore::revert`].
    #[cfg(test)]
    pub async fn revert(&self, steps: Option<u32>) -> Result<(), ServiceError> {
        self.sql.revert::<Migrator>(steps).await
    }

    fn read(&self) -> &DatabaseConnection {
        self.sql.read()
    }

    fn backend(&self) -> DbBackend {
        self.sql.backend()
    }

    async fn rows(
        &self,
        sql: impl Into<String>,
        values: Vec<Value>,
    ) -> Result<Vec<QueryResult>, ServiceError> {
        rows(self.read(), sql, values).await
    }
}

async fn rows<C: ConnectionTrait>(
    db: &C,
    sql: impl Into<String>,
    values: Vec<Value>,
) -> Result<Vec<QueryResult>, ServiceError> {
    let statement = Statement::from_sql_and_values(db.get_database_backend(), sql, values);
    db.query_all_raw(statement).await.map_err(db_error)
}

async fn execute<C: ConnectionTrait>(
    db: &C,
    sql: impl Into<String>,
    values: Vec<Value>,
) -> Result<ExecResult, ServiceError> {
    let statement = Statement::from_sql_and_values(db.get_database_backend(), sql, values);
    db.execute_raw(statement).await.map_err(db_error)
}

async fn migrate_sql(sql: &SqlStore) -> Result<(), ServiceError> {
    dialect::demand_pgvector(sql.read()).await?;
    sql.migrate::<Migrator>().await
}

/// Brings the schema up to date, for `quarry db migrate`.
///
/// # Errors
/// As [`Store::migrate`].
pub async fn migrate(settings: &SqlSettings) -> Result<(), ServiceError> {
    migrate_sql(&SqlStore::open(settings, NAME).await?).await
}

/// The migrations and whether each has run.
///
/// # Errors
/// As [`SqlStore::migration_status`].
pub async fn migration_status(
    settings: &SqlSettings,
) -> Result<Vec<MigrationStatus>, ServiceError> {
    SqlStore::open(settings, NAME).await?.migration_status::<Migrator>().await
}
