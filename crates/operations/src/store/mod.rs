//! What operations read and write in a role's database.

mod metrics;
mod statistics;

pub use metrics::{HISTORY, Point, Sample, Series, keep, series};
pub use statistics::{Statistics, bytes, statistics, tidy};

use sea_orm::QueryResult;
use service_error::ServiceError;
use sql_store::{SqlStore, db_error};

use crate::Database;

/// Opened for a moment and closed by the caller: the role has its own pool.
async fn open(database: &Database) -> Result<SqlStore, ServiceError> {
    SqlStore::open(&database.sql, database.schema).await
}

fn get<T: sea_orm::TryGetable>(row: &QueryResult, name: &str) -> Result<T, ServiceError> {
    row.try_get("", name).map_err(db_error)
}
