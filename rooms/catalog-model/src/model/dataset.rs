//! Namespaces, datasets, snapshots and versions.

use std::collections::BTreeMap;
use std::fmt;

use ids::{DatasetId, NamespaceId, PrincipalId};
use item_schema::Profile;
use service_error::ServiceError;

use crate::model::Name;

/// The branch that every dataset has. There are no others yet.
pub const MAIN_BRANCH: i32 = 0;

const DESCRIPTION_LENGTH_MAX: usize = 10_000;
const PROPERTIES_MAX: usize = 64;
const PROPERTY_KEY_LENGTH_MAX: usize = 128;
const PROPERTY_VALUE_LENGTH_MAX: usize = 4_096;

/// A holder of datasets; access to it is access to all in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Namespace {
    pub id: NamespaceId,
    pub name: String,
    pub description: String,
    /// Microseconds UTC.
    pub created_at: i64,
    pub created_by: PrincipalId,
}

/// A dataset as a caller sees it.
#[derive(Debug, Clone, PartialEq)]
pub struct Dataset {
    pub id: DatasetId,
    pub namespace_id: NamespaceId,
    pub namespace: String,
    pub name: String,
    pub description: String,
    pub profile: Profile,
    /// The schema as an encapsulated IPC message; empty in lists.
    pub schema_ipc: Vec<u8>,
    pub key_column: Option<String>,
    /// No two rows have the same value in one.
    pub unique_columns: Vec<String>,
    /// Every authenticated caller may read it.
    pub public: bool,
    /// Microseconds UTC.
    pub created_at: i64,
    pub created_by: PrincipalId,
    /// The newest version, once there is one.
    pub latest: Option<Version>,
    pub properties: BTreeMap<String, String>,
}

impl Dataset {
    /// `namespace/name`, for messages.
    #[must_use]
    pub fn path(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }
}

/// A dataset to be made.
#[derive(Debug, Clone, PartialEq)]
pub struct NewDataset {
    pub name: Name,
    pub description: String,
    pub profile: Profile,
    pub schema_ipc: Vec<u8>,
    pub key_column: Option<String>,
    pub unique_columns: Vec<String>,
    pub public: bool,
    pub properties: BTreeMap<String, String>,
}

/// A named snapshot. Immutable; its number is never used again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version {
    /// From 1.
    pub number: i64,
    /// The version it was committed onto; 0 for the first.
    pub parent: i64,
    pub message: String,
    pub author: PrincipalId,
    /// Microseconds UTC.
    pub created_at: i64,
    pub snapshot: Snapshot,
}

/// The state of a branch after one commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Snapshot {
    /// From 1 within the dataset; 0 is the empty beginning.
    pub number: i64,
    pub row_count: i64,
    pub byte_count: i64,
    pub block_count: i64,
    /// Row-delta changes up to this sequence number are in the blocks.
    pub watermark: i64,
}

/// A dataset at one snapshot.
#[derive(Debug, Clone, PartialEq)]
pub struct Head {
    pub dataset: Dataset,
    pub snapshot: Snapshot,
    /// The version that the snapshot is, or the newest before it; 0: none.
    pub version: i64,
}

/// A dataset by id or by name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DatasetRef {
    Id(DatasetId),
    Name { namespace: Name, name: Name },
}

impl DatasetRef {
    /// The dataset of a namespace and a name that a request gives in a field.
    ///
    /// # Errors
    /// A name that breaks the grammar.
    pub fn named(namespace: &str, (field, name): (&str, &str)) -> Result<Self, ServiceError> {
        Ok(Self::Name {
            namespace: Name::parse("namespace", namespace)?,
            name: Name::parse(field, name)?,
        })
    }
}

/// As the caller named it: an id must not tell the name.
impl fmt::Display for DatasetRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Id(id) => id.fmt(f),
            Self::Name { namespace, name } => write!(f, "{namespace}/{name}"),
        }
    }
}

/// Which state of a dataset a request means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VersionRef {
    /// The newest.
    Latest,
    /// The version of a number.
    Number(i64),
    /// The snapshot of a number.
    Snapshot(i64),
}

impl VersionRef {
    /// Reads `latest` or a version's number; nothing means the latest.
    ///
    /// # Errors
    /// A text that is neither.
    pub fn parse(field: &str, text: &str) -> Result<Self, ServiceError> {
        if text.is_empty() || text == "latest" {
            return Ok(Self::Latest);
        }
        match text.parse() {
            Ok(number) if number > 0 => Ok(Self::Number(number)),
            _ => {
                let shown: String = text.chars().take(64).collect();
                Err(ServiceError::invalid(
                    field,
                    format!("{shown:?} is neither a version's number nor \"latest\""),
                ))
            }
        }
    }
}

/// Checks a description.
///
/// # Errors
/// One that is too long.
pub fn check_description(text: &str) -> Result<(), ServiceError> {
    check_length("description", text, DESCRIPTION_LENGTH_MAX)
}

/// Checks a commit message.
///
/// # Errors
/// One that is too long.
pub fn check_message(text: &str) -> Result<(), ServiceError> {
    check_length("message", text, DESCRIPTION_LENGTH_MAX)
}

/// Checks a dataset's properties.
///
/// # Errors
/// Too many, or a key or a value that is empty or too long.
pub fn check_properties(properties: &BTreeMap<String, String>) -> Result<(), ServiceError> {
    if properties.len() > PROPERTIES_MAX {
        let message = format!("has {} entries; at most {PROPERTIES_MAX}", properties.len());
        return Err(ServiceError::invalid("properties", message));
    }
    for (key, value) in properties {
        if key.is_empty() {
            return Err(ServiceError::invalid("properties", "a key is empty"));
        }
        check_length("properties", key, PROPERTY_KEY_LENGTH_MAX)?;
        check_length("properties", value, PROPERTY_VALUE_LENGTH_MAX)?;
    }
    Ok(())
}

fn check_length(field: &str, text: &str, bytes_max: usize) -> Result<(), ServiceError> {
    if text.len() > bytes_max {
        let message = format!("is {} bytes long; at most {bytes_max}", text.len());
        return Err(ServiceError::invalid(field, message));
    }
    // Postgres takes no NUL in a text.
    if text.contains('\0') {
        return Err(ServiceError::invalid(field, "contains a NUL character"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn a_version_is_a_number_or_latest() {
        assert_eq!(VersionRef::parse("version", "").unwrap(), VersionRef::Latest);
        assert_eq!(VersionRef::parse("version", "latest").unwrap(), VersionRef::Latest);
        assert_eq!(VersionRef::parse("version", "7").unwrap(), VersionRef::Number(7));
        for bad in ["0", "-1", "v1", "1.5", "99999999999999999999"] {
            assert_eq!(
                VersionRef::parse("version", bad).unwrap_err().field_name(),
                Some("version"),
                "{bad}"
            );
        }
    }

    #[test]
    fn texts_are_bounded() {
        assert!(check_description(&"x".repeat(10_000)).is_ok());
        assert!(check_description(&"x".repeat(10_001)).is_err());
        assert!(check_message("a\0b").is_err());
        let many = (0..65).map(|n| (n.to_string(), String::new())).collect();
        assert!(check_properties(&many).is_err());
        assert!(check_properties(&BTreeMap::from([(String::new(), "x".into())])).is_err());
    }
}
