//! Identity's rows. Queries are methods of [`Db`], so that the same ones run
//! on the read pool and inside a transaction; writes are methods of [`Tx`].

mod audit;
mod changes;
mod claims;
mod code;
mod entity;
mod grants;
mod keys;
mod migration;
mod principals;
mod resources;
mod tokens;

use std::ops::Deref;
use std::sync::Arc;

use sea_orm::{DatabaseConnection, DatabaseTransaction};
use service_error::ServiceError;
use sql_store::{MigrationStatus, SqlSettings, SqlStore, db_error, next_numbers};
use tokio::sync::Notify;

pub use keys::KeyRow;
pub use sea_orm::ConnectionTrait;
pub use tokens::Origin;

const SCHEMA: &str = "identity";
/// The counter that every writer locks first.
const WRITER: &str = "writer";

/// The schema `identity`.
#[derive(Clone)]
pub struct Store {
    sql: SqlStore,
    db: Db<DatabaseConnection>,
    committed: Arc<Notify>,
}

/// Queries over a connection.
#[derive(Clone)]
pub struct Db<C> {
    conn: C,
}

/// A write transaction. Rolls back when dropped.
pub struct Tx {
    db: Db<DatabaseTransaction>,
    committed: Arc<Notify>,
}

impl Store {
    /// Opens and migrates the schema.
    ///
    /// # Errors
    /// As `SqlStore::open` and `SqlStore::migrate`.
    pub async fn open(settings: &SqlSettings) -> Result<Self, ServiceError> {
        let sql = SqlStore::open(settings, SCHEMA).await?;
        sql.migrate::<migration::Migrator>().await?;
        let db = Db { conn: sql.read().clone() };
        Ok(Self { sql, db, committed: Arc::default() })
    }

    /// Begins a change. Writers go one after the other on both databases, from
    /// here to their commit: what a change has read stays true until then, so
    /// the last admin and the last owner are safe without further locks, and
    /// revisions are in commit order. Identity writes little.
    ///
    /// # Errors
    /// As [`db_error`].
    pub async fn change(&self) -> Result<Tx, ServiceError> {
        let conn = self.sql.begin().await?;
        next_numbers(&conn, WRITER, 0).await?;
        Ok(Tx { db: Db { conn }, committed: Arc::clone(&self.committed) })
    }

    /// Wakes one waiter after each commit of this process.
    pub fn committed(&self) -> &Notify {
        &self.committed
    }

    /// Whether the database answers.
    ///
    /// # Errors
    /// As [`db_error`].
    pub async fn ping(&self) -> Result<(), ServiceError> {
        self.sql.ping().await
    }

    /// The migrations that have run, those of other programs too, in order.
    ///
    /// # Errors
    /// As [`db_error`].
    pub async fn applied_migrations(&self) -> Result<Vec<String>, ServiceError> {
        self.sql.applied_migrations().await
    }
}

impl Deref for Store {
    type Target = Db<DatabaseConnection>;

    fn deref(&self) -> &Self::Target {
        &self.db
    }
}

impl Tx {
    /// Makes the change durable and tells this process's feed.
    ///
    /// # Errors
    /// As [`db_error`].
    pub async fn commit(self) -> Result<(), ServiceError> {
        self.db.conn.commit().await.map_err(db_error)?;
        self.committed.notify_one();
        Ok(())
    }
}

impl Deref for Tx {
    type Target = Db<DatabaseTransaction>;

    fn deref(&self) -> &Self::Target {
        &self.db
    }
}

/// Runs the migrations that have not run.
///
/// # Errors
/// As `SqlStore::migrate`.
pub async fn migrate(settings: &SqlSettings) -> Result<(), ServiceError> {
    let sql = SqlStore::open(settings, SCHEMA).await?;
    sql.migrate::<migration::Migrator>().await?;
    sql.close().await
}

/// The migrations and which of them have run.
///
/// # Errors
/// As `SqlStore::migration_status`.
pub async fn migration_status(
    settings: &SqlSettings,
) -> Result<Vec<MigrationStatus>, ServiceError> {
    SqlStore::open(settings, SCHEMA).await?.migration_status::<migration::Migrator>().await
}

#[cfg(test)]
mod tests;
