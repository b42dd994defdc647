//! Experiments, runs and logged models of MLflow's client, by namespace.

mod datasets;
mod experiments;
mod forgetting;
mod history;
mod inputs;
mod logged_metrics;
mod logged_models;
mod logged_search;
mod metrics;
mod migration;
mod random_name;
mod run_data;
mod run_search;
mod runs;
pub mod search;
mod sql;
mod tags;

use ids::NamespaceId;
use mlflow_wire::{MlflowError, Result};
use sea_orm::DatabaseTransaction;
use sql_store::SqlStore;

pub use datasets::{DatasetEdge, NamedDataset, Resolved};
pub use migration::Migration;

/// Where a call works: the namespace that the client calls its workspace.
#[derive(Debug, Clone)]
pub struct Scope {
    /// Its id, by which everything is kept.
    pub namespace: NamespaceId,
    /// Its name, for what the client sees.
    pub name: String,
}

/// The use cases over the registry's database. Clones share it.
#[derive(Debug, Clone)]
pub struct Tracking {
    sql: SqlStore,
}

impl Tracking {
    /// Over a migrated database.
    #[must_use]
    pub const fn new(sql: SqlStore) -> Self {
        Self { sql }
    }

    async fn begin(&self) -> Result<DatabaseTransaction> {
        Ok(self.sql.begin().await?)
    }
}

async fn commit(tx: DatabaseTransaction) -> Result<()> {
    tx.commit().await.map_err(sql_store::db_error)?;
    Ok(())
}

/// In force, as in `lifecycle`.
const ACTIVE: i64 = 1;
/// Deleted, and kept.
const DELETED: i64 = 2;

fn stage(lifecycle: i64) -> &'static str {
    if lifecycle == ACTIVE { "active" } else { "deleted" }
}

fn defect(what: impl std::fmt::Display) -> MlflowError {
    service_error::ServiceError::internal(what.to_string()).into()
}

#[cfg(test)]
mod tests;
