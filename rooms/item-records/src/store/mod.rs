//! The item store's rows: schema `items` in Postgres or `items.sqlite`, and
//! the objects beside them.

mod block_files;
mod entity;
mod keys;
mod leases;
mod media;
mod migration;
mod remains;
mod saved_filters;
mod uploads;

use ::jobs::Jobs;
use blob_store::BlobStore;
use row_delta::RowDelta;
use sea_orm::DatabaseConnection;
use service_error::ServiceError;
use sql_store::{MigrationStatus, SqlSettings, SqlStore};

pub use block_files::BlockFiles;
pub use leases::UpkeepLease;
pub use media::Media;
pub use uploads::Upload;

use migration::Migrator;

/// The schema's and the objects' name.
const NAME: &str = "items";

/// The item store's rows and objects. Clones share the connections.
#[derive(Debug, Clone)]
pub struct Store {
    sql: SqlStore,
    blobs: BlobStore,
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
        Ok(Self { sql: SqlStore::open(settings, NAME).await?, blobs })
    }

    /// Brings the schema up to date, at the beginning of the process.
    ///
    /// # Errors
    /// As [`SqlStore::migrate`] and [`row_delta::end_leases`].
    pub async fn migrate(&self) -> Result<(), ServiceError> {
        self.sql.migrate::<Migrator>().await?;
        row_delta::end_leases(&self.sql).await
    }

    /// The same rows, with the objects seen in another way.
    #[must_use]
    pub fn with_blobs(mut self, change: impl FnOnce(BlobStore) -> BlobStore) -> Self {
        self.blobs = change(self.blobs);
        self
    }

    /// The objects.
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

    /// The row delta, keeping about so many bytes of it in memory.
    #[must_use]
    pub fn delta(&self, cache_bytes: u64) -> RowDelta {
        RowDelta::new(self.sql.clone(), cache_bytes)
    }

    /// The jobs in the same schema.
    #[must_use]
    pub fn jobs(&self, service: &'static str) -> Jobs {
        Jobs::new(self.sql.clone(), service)
    }

    fn read(&self) -> &DatabaseConnection {
        self.sql.read()
    }
}

/// Brings the schema up to date, for `quarry db migrate`.
///
/// # Errors
/// As [`SqlStore::migrate`].
pub async fn migrate(settings: &SqlSettings) -> Result<(), ServiceError> {
    SqlStore::open(settings, NAME).await?.migrate::<Migrator>().await
}

/// Takes back the last `steps` migrations, all if `None`.
///
/// # Errors
/// As [`SqlStore::revert`].
#[cfg(test)]
pub async fn revert(settings: &SqlSettings, steps: Option<u32>) -> Result<(), ServiceError> {
    SqlStore::open(settings, NAME).await?.revert::<Migrator>(steps).await
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

#[cfg(test)]
mod tests;
