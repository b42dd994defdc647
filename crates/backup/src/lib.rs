//! A platform's rows and the objects that they name: copied while it serves,
//! and put back into an empty place.

mod files;
mod manifest;
mod objects;
mod postgres;
mod restore;
mod sqlite;
mod take;

pub use manifest::Manifest;
pub use restore::Held;
pub use take::take;

use std::path::Path;

use service_error::ServiceError;
use sql_store::SqlSettings;

/// One service's schema and what a backup must know of it.
#[derive(Debug, Clone)]
pub struct Part {
    /// Its schema, or its file's name.
    pub schema: &'static str,
    /// The migrations that this program has for it, in order.
    pub migrations: Vec<String>,
    /// Which objects its rows name.
    pub objects: Option<Objects>,
    /// Statements that run once its rows are restored.
    pub after_restore: &'static [&'static str],
}

/// Objects that rows name.
#[derive(Debug, Clone, Copy)]
pub struct Objects {
    /// The prefix that they lie below, e.g. `items`.
    pub prefix: &'static str,
    /// Answers `key` (text), `bytes` (bigint), `hash` (BLAKE3-256 or null) and
    /// `certain` (bigint; 0: an object that may not be there yet), for SQLite.
    pub sqlite: &'static str,
    /// The same for Postgres; tables are named with their schema.
    pub postgres: &'static str,
}

/// What is backed up, or where it is restored to.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Where the rows are.
    pub sql: SqlSettings,
    /// Where the objects are.
    pub object_store_url: String,
    /// The schemas, in the order in which they are read.
    pub parts: Vec<Part>,
    /// This program's version, for the record.
    pub program: String,
}

impl Plan {
    fn engine(&self) -> manifest::Engine {
        match self.sql.database_url {
            Some(_) => manifest::Engine::Postgres,
            None => manifest::Engine::Sqlite,
        }
    }
}

fn unusable(path: &Path, error: &std::io::Error) -> ServiceError {
    ServiceError::precondition(format!("{}: {error}", path.display())).reason("BACKUP_UNUSABLE")
}

fn damaged(path: &Path, why: &str) -> ServiceError {
    ServiceError::data_loss(format!(
        "{}: {why}; this backup is damaged or was cut short, use another one",
        path.display()
    ))
    .reason("BACKUP_DAMAGED")
}

fn failed(what: &str, error: sea_orm::sqlx::Error) -> ServiceError {
    ServiceError::precondition(format!("{what}: {error}")).reason("BACKUP_FAILED").caused_by(error)
}

#[cfg(test)]
mod tests;
