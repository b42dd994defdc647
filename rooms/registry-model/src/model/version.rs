//! Versions of models.

use std::collections::BTreeMap;
use std::fmt;

use ids::{DatasetId, ModelId, ModelVersionId, NamespaceId, PrincipalId, UploadId};
use service_error::ServiceError;

use super::name::check_alias;

/// The stage of a version that was never moved.
pub const STAGE_NONE: &str = "None";

/// Where a version stands with its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VersionStatus {
    Pending = 1,
    Ready = 2,
    Failed = 3,
}

/// The worst that the scanner said of a version's files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ScanVerdict {
    /// Nothing was scanned.
    None = 1,
    Clean = 2,
    Suspicious = 3,
    Dangerous = 4,
    /// A file could not be followed to its end.
    Unreadable = 5,
    /// A file names what is on no list.
    Unknown = 6,
}

impl ScanVerdict {
    /// How bad it is, from clean on: what was not looked at is not clean.
    #[must_use]
    pub const fn rank(self) -> u8 {
        match self {
            Self::None => 1,
            Self::Clean => 0,
            Self::Unknown => 2,
            Self::Suspicious => 3,
            Self::Unreadable => 4,
            Self::Dangerous => 5,
        }
    }
}

/// One point of a metric.
#[derive(Debug, Clone, PartialEq)]
pub struct MetricPoint {
    pub key: String,
    /// May be NaN.
    pub value: f64,
    pub step: i64,
    /// Microseconds UTC.
    pub at: i64,
}

/// A version as a caller sees it. Times are microseconds UTC.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelVersion {
    pub id: ModelVersionId,
    pub model_id: ModelId,
    pub namespace_id: NamespaceId,
    pub namespace: String,
    pub model: String,
    pub number: i64,
    pub label: Option<String>,
    pub description: String,
    pub status: VersionStatus,
    pub status_message: String,
    pub stage: String,
    pub source: String,
    pub run_id: String,
    pub run_link: String,
    pub logged_model_id: String,
    pub flavors: Vec<String>,
    pub tags: BTreeMap<String, String>,
    pub aliases: Vec<String>,
    pub byte_count: i64,
    pub file_count: i64,
    /// SHA-256 over the manifest of its files.
    pub digest: Option<Vec<u8>>,
    pub scan: ScanVerdict,
    pub signed: bool,
    pub created_at: i64,
    pub updated_at: i64,
    pub created_by: PrincipalId,
    pub deleted_at: Option<i64>,
}

/// A dataset version that a version was made from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DatasetVersion {
    pub id: DatasetId,
    /// `namespace/dataset`, as it was called then.
    pub name: String,
    pub version: i64,
    /// `training`, `validation`, …
    pub context: String,
}

/// A model version that a version was made from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BaseModel {
    pub id: ModelId,
    /// `namespace/model`, as it was called then.
    pub name: String,
    pub version: i64,
    /// `finetune`, `adapter`, …
    pub relation: String,
}

/// A version to be registered.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct NewVersion {
    /// Above every number that the model ever gave; `None`: the next one.
    pub number: Option<i64>,
    pub label: Option<String>,
    pub description: String,
    pub source: String,
    pub run_id: String,
    pub run_link: String,
    pub logged_model_id: String,
    pub flavors: Vec<String>,
    pub tags: BTreeMap<String, String>,
    pub metrics: Vec<MetricPoint>,
    pub params: BTreeMap<String, String>,
    pub datasets: Vec<DatasetVersion>,
    pub base_models: Vec<BaseModel>,
    /// A committed upload of the caller's, whose files become the version's.
    pub upload: Option<UploadId>,
    /// A version whose files become this one's too.
    pub copy_from: Option<ModelVersionId>,
    /// Files below this path of the namespace's tree become the version's.
    pub tree: Option<(NamespaceId, String)>,
}

/// Which version of a model a request means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VersionRef {
    Number(i64),
    Latest,
    Alias(String),
    /// The newest in a stage.
    Stage(String),
}

impl VersionRef {
    /// Reads a number, `latest`, `@alias` or `stage:NAME`; nothing means the latest.
    ///
    /// # Errors
    /// A text that is none of them.
    pub fn parse(field: &str, text: &str) -> Result<Self, ServiceError> {
        if text.is_empty() || text == "latest" {
            return Ok(Self::Latest);
        }
        if let Some(alias) = text.strip_prefix('@') {
            check_alias(alias)?;
            return Ok(Self::Alias(alias.to_owned()));
        }
        if let Some(stage) = text.strip_prefix("stage:").filter(|stage| !stage.is_empty()) {
            return Ok(Self::Stage(stage.to_owned()));
        }
        match text.parse() {
            Ok(number) if number > 0 => Ok(Self::Number(number)),
            _ => {
                let shown: String = text.chars().take(64).collect();
                let message = format!(
                    "{shown:?} is no version: write its number, \"latest\", \"@alias\" or \"stage:NAME\""
                );
                Err(ServiceError::invalid(field, message))
            }
        }
    }
}

impl fmt::Display for VersionRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => number.fmt(f),
            Self::Latest => f.write_str("latest"),
            Self::Alias(alias) => write!(f, "@{alias}"),
            Self::Stage(stage) => write!(f, "stage:{stage}"),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn a_version_is_a_number_latest_an_alias_or_a_stage() {
        let parse = |text| VersionRef::parse("version", text);
        assert_eq!(parse("").unwrap(), VersionRef::Latest);
        assert_eq!(parse("7").unwrap(), VersionRef::Number(7));
        assert_eq!(parse("@prod").unwrap(), VersionRef::Alias("prod".into()));
        assert_eq!(parse("@20240115").unwrap(), VersionRef::Alias("20240115".into()));
        assert_eq!(parse("20240115").unwrap(), VersionRef::Number(20_240_115));
        assert_eq!(parse("stage:Staging").unwrap(), VersionRef::Stage("Staging".into()));
        for bad in ["0", "-1", "v1", "@latest", "@v2", "stage:", "1.5", "99999999999999999999"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
