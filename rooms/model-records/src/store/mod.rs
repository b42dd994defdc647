//! The registry's rows: schema `models` in Postgres or `models.sqlite`.
//!
//! Every write is one transaction that first updates the row that it competes
//! for (the model's), so what it reads afterwards stays true until it commits,
//! on both databases.

mod aliases;
mod blobs;
mod codes;
mod data;
mod deployments;
mod events;
mod files;
mod garbage;
mod gone;
mod migration;
mod models;
mod ordered;
mod outbox;
mod parts;
mod rows;
mod scans;
mod search;
mod signatures;
mod small;
mod sql;
mod stages;
mod tags;
mod uploads;
mod versions;
mod visible;
mod webhooks;
mod whole;

use blob_store::BlobStore;
use jobs::Jobs;
use sea_orm::DatabaseConnection;
use service_error::ServiceError;
use sql_store::{MigrationStatus, SqlSettings, SqlStore};

pub use aliases::{AliasMove, AliasStep};
pub use deployments::{DeploymentCount, DeploymentPage, InputRow};
pub use models::{ModelOrder, ModelPage};
pub use ordered::OrderedPage;
pub use outbox::OutboxEvent;
pub use parts::TreeUpload;
pub use search::{VersionOrder, VersionPage};
pub use stages::Judged;
pub use uploads::not_found as upload_not_found;
pub use versions::{Registered, Registering, SCAN_JOB};
pub use visible::VisibleRows;
pub use webhooks::Tried;

use migration::Migrator;

/// The schema's name.
const SCHEMA: &str = "models";
/// The first part of its jobs' names.
const SERVICE: &str = "model-registry";

/// The registry's database. Clones share the connections.
#[derive(Debug, Clone)]
pub struct Store {
    sql: SqlStore,
    blobs: BlobStore,
    jobs: Jobs,
}

impl Store {
    /// Opens the database, without migrating it, and the objects.
    ///
    /// # Errors
    /// As [`SqlStore::open`] and [`BlobStore::open`].
    pub async fn open(
        settings: &SqlSettings,
        object_store_url: &str,
    ) -> Result<Self, ServiceError> {
        let blobs = BlobStore::open(object_store_url, SCHEMA).await?;
        let sql = SqlStore::open_with_lookups(settings, SCHEMA).await?;
        Ok(Self { jobs: Jobs::new(sql.clone(), SERVICE), sql, blobs })
    }

    /// The objects.
    #[must_use]
    pub const fn blobs(&self) -> &BlobStore {
        &self.blobs
    }

    /// The jobs in the same schema.
    #[must_use]
    pub const fn jobs(&self) -> &Jobs {
        &self.jobs
    }

    /// Brings the schema up to date.
    ///
    /// # Errors
    /// As [`SqlStore::migrate`].
    pub async fn migrate(&self) -> Result<(), ServiceError> {
        self.sql.migrate::<Migrator>().await
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

    /// Experiments, runs and logged models, in the same database.
    #[must_use]
    pub fn tracking(&self) -> tracking::Tracking {
        tracking::Tracking::new(self.sql.clone())
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
    SqlStore::open(settings, SCHEMA).await?.migrate::<Migrator>().await
}

/// Takes back the last `steps` migrations, all if `None`.
///
/// # Errors
/// As [`SqlStore::revert`].
pub async fn revert(settings: &SqlSettings, steps: Option<u32>) -> Result<(), ServiceError> {
    SqlStore::open(settings, SCHEMA).await?.revert::<Migrator>(steps).await
}

/// The migrations and whether each has run.
///
/// # Errors
/// As [`SqlStore::migration_status`].
pub async fn migration_status(
    settings: &SqlSettings,
) -> Result<Vec<MigrationStatus>, ServiceError> {
    SqlStore::open(settings, SCHEMA).await?.migration_status::<Migrator>().await
}

#[cfg(test)]
mod tests;
