//! The catalog's rows: schema `catalog` in Postgres or `catalog.sqlite`.
//!
//! Every write is one transaction that first takes the row lock it competes
//! for (the namespace's or the dataset's row, by updating its revision), so what
//! it reads afterwards stays true until it commits, on both databases.

mod blocks;
mod check;
mod commits;
mod datasets;
mod dialect;
mod entity;
mod garbage;
mod merges;
mod migration;
mod namespaces;
mod outbox;
mod rows;
mod scalar_codec;
mod uploads;
mod versions;

use ids::DatasetId;
use sea_orm::DatabaseConnection;
use service_error::ServiceError;
use sql_store::{MigrationStatus, SqlSettings, SqlStore};

pub use blocks::BlockRange;
pub use datasets::Place;
pub use dialect::VisibleRows;

use migration::Migrator;

/// The catalog's database. Clones share the connections.
#[derive(Debug, Clone)]
pub struct Store {
    sql: SqlStore,
}

impl Store {
    /// Opens the database without migrating it.
    ///
    /// # Errors
    /// As [`SqlStore::open`].
    pub async fn open(settings: &SqlSettings) -> Result<Self, ServiceError> {
        Ok(Self { sql: SqlStore::open(settings, "catalog").await? })
    }

    /// Brings the schema up to date.
    ///
    /// # Errors
    /// As [`SqlStore::migrate`].
    pub async fn migrate(&self) -> Result<(), ServiceError> {
        self.sql.migrate::<Migrator>().await
    }

    /// Takes back the last `steps` migrations, all if `None`.
    ///
    /// # Errors
    /// As [`SqlStore::revert`].
    #[cfg(test)]
    pub async fn revert(&self, steps: Option<u32>) -> Result<(), ServiceError> {
        self.sql.revert::<Migrator>(steps).await
    }

    /// The migrations and whether each has run.
    ///
    /// # Errors
    /// As [`SqlStore::migration_status`].
    pub async fn migration_status(&self) -> Result<Vec<MigrationStatus>, ServiceError> {
        self.sql.migration_status::<Migrator>().await
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

    fn read(&self) -> &DatabaseConnection {
        self.sql.read()
    }
}

/// There is no such dataset (any more).
fn no_dataset(id: DatasetId) -> ServiceError {
    ServiceError::not_found("dataset", id)
}
