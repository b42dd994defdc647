//! One service's own schema in Postgres, or its own SQLite file: opened,
//! migrated, read and written the same way.
//!
//! Every write transaction begins here, as `BEGIN IMMEDIATE` on SQLite, so a
//! read-then-write never fails half-way with a busy snapshot.

mod counter;
mod error;
mod metrics_table;
pub mod migration;
mod postgres;
mod script;
mod sqlite;
mod store;
pub mod testing;

pub use counter::{current_number, next_number, next_numbers};
pub use error::{db_error, is_unique_violation};
pub use metrics_table::SystemMetrics;
pub use migration::MigrationStatus;
pub use postgres::options_of as postgres_options;
pub use store::{Lookup, SqlStore};

use std::fmt;
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

/// Where the rows are.
#[derive(Clone)]
pub struct SqlSettings {
    /// `postgres://` or `postgresql://`; unset: a SQLite file in `data_dir`.
    pub database_url: Option<String>,
    /// The directory of `<schema>.sqlite`; made (mode 0700) if it is missing.
    pub data_dir: PathBuf,
    /// Connections of the pool (Postgres), or of the read-only pool (SQLite).
    pub max_connections: u32,
}

impl SqlSettings {
    /// Connections of a pool unless the settings say otherwise.
    pub const DEFAULT_MAX_CONNECTIONS: u32 = 16;

    /// SQLite in a directory.
    #[must_use]
    pub fn sqlite(data_dir: impl Into<PathBuf>) -> Self {
        Self {
            database_url: None,
            data_dir: data_dir.into(),
            max_connections: Self::DEFAULT_MAX_CONNECTIONS,
        }
    }
}

impl fmt::Debug for SqlSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The URL may carry a password.
        f.debug_struct("SqlSettings")
            .field("database_url", &self.database_url.as_ref().map(|_| "…"))
            .field("data_dir", &self.data_dir)
            .field("max_connections", &self.max_connections)
            .finish()
    }
}

/// Now, in microseconds since 1970 UTC: the form of every time column.
#[must_use]
pub fn now_micros() -> i64 {
    let elapsed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(elapsed.as_micros()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
