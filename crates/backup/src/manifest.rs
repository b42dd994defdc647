//! `backup.json`: what is in a backup, and the hash of all of it.

use std::path::Path;

use serde::{Deserialize, Serialize};
use service_error::ServiceError;

use crate::{damaged, files, unusable};

/// The file that makes a directory a backup.
pub const FILE: &str = "backup.json";
/// The list of objects, a JSON object a line.
pub const OBJECTS: &str = "objects.jsonl";
/// Another one is refused.
pub const FORMAT: u32 = 1;

/// The kind of database.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Engine {
    /// A file a schema.
    Sqlite,
    /// COPY text, a file a table.
    Postgres,
}

/// What a backup holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// Of this layout.
    pub format: u32,
    /// Of the program that made it.
    pub program: String,
    /// Microseconds UTC: every row acknowledged before is in it.
    pub began_at: i64,
    /// Microseconds UTC.
    pub ended_at: i64,
    /// The kind of database.
    pub engine: Engine,
    /// In the order in which they were read.
    pub schemas: Vec<Schema>,
    /// The list of objects.
    pub objects: File,
    /// How many they are.
    pub object_count: u64,
    /// All of them together.
    pub object_bytes: u64,
}

/// One schema's rows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Schema {
    /// Its name.
    pub name: String,
    /// What had run, in order.
    pub migrations: Vec<String>,
    /// Rows by table.
    pub tables: Vec<Table>,
    /// The files that carry them.
    pub files: Vec<File>,
}

/// One table's rows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Table {
    /// Its name.
    pub name: String,
    /// How many rows it has.
    pub rows: i64,
    /// The columns that its file carries; empty on SQLite.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub columns: Vec<String>,
}

/// One file of the backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct File {
    /// Below the backup's directory.
    pub path: String,
    /// Its size.
    pub bytes: u64,
    /// BLAKE3-256, hexadecimal.
    pub blake3: String,
}

#[derive(Serialize, Deserialize)]
struct Sealed {
    /// BLAKE3-256 of the manifest as compact JSON.
    blake3: String,
    manifest: Manifest,
}

impl Manifest {
    /// Rows of all tables.
    #[must_use]
    pub fn rows(&self) -> i64 {
        self.schemas.iter().flat_map(|schema| &schema.tables).map(|table| table.rows).sum()
    }

    pub(crate) async fn write(&self, dir: &Path) -> Result<(), ServiceError> {
        let sealed = Sealed { blake3: self.hash()?, manifest: self.clone() };
        let text = serde_json::to_vec_pretty(&sealed)
            .map_err(|error| ServiceError::internal(format!("the manifest: {error}")))?;
        let path = dir.join(FILE);
        files::write_whole(&path, &text).await.map_err(|error| unusable(&path, &error))
    }

    pub(crate) async fn read(dir: &Path) -> Result<Self, ServiceError> {
        let path = dir.join(FILE);
        let text = match tokio::fs::read(&path).await {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(ServiceError::precondition(format!(
                    "{} holds no {FILE}: it is no backup, or one that did not come to its end",
                    dir.display()
                ))
                .reason("BACKUP_INCOMPLETE"));
            }
            Err(error) => return Err(unusable(&path, &error)),
        };
        let sealed: Sealed = serde_json::from_slice(&text)
            .map_err(|error| damaged(&path, &format!("it can't be read ({error})")))?;
        let manifest = sealed.manifest;
        if manifest.format != FORMAT {
            return Err(ServiceError::precondition(format!(
                "{}: the backup has format {}, this program reads {FORMAT}; use quarry {}",
                path.display(),
                manifest.format,
                manifest.program
            ))
            .reason("BACKUP_FORMAT"));
        }
        if manifest.hash()? != sealed.blake3 {
            return Err(damaged(&path, "its hash is another"));
        }
        Ok(manifest)
    }

    fn hash(&self) -> Result<String, ServiceError> {
        let text = serde_json::to_vec(self)
            .map_err(|error| ServiceError::internal(format!("the manifest: {error}")))?;
        Ok(blake3::hash(&text).to_hex().to_string())
    }
}
