//! Models.

use std::collections::BTreeMap;
use std::fmt;

use ids::{ModelId, NamespaceId, PrincipalId};

/// A model by the names that a request gives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelPath {
    pub namespace: String,
    pub name: String,
}

impl ModelPath {
    /// Of a namespace and a name in it.
    pub fn new(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }
}

/// `namespace/name`, for messages.
impl fmt::Display for ModelPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// A name that points to a version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alias {
    pub name: String,
    pub number: i64,
    /// Moved by admins of the model only.
    pub protected: bool,
    /// Microseconds UTC.
    pub set_at: i64,
    pub set_by: PrincipalId,
}

/// A model as a caller sees it. Times are microseconds UTC.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Model {
    pub id: ModelId,
    pub namespace_id: NamespaceId,
    pub namespace: String,
    pub name: String,
    pub description: String,
    pub tags: BTreeMap<String, String>,
    pub aliases: Vec<Alias>,
    /// 0 until there is a version.
    pub latest_version: i64,
    /// The newest version of each stage that has one, by stage.
    pub latest_by_stage: Vec<(String, i64)>,
    pub version_count: i64,
    pub byte_count: i64,
    pub created_at: i64,
    pub updated_at: i64,
    pub created_by: PrincipalId,
    pub deleted_at: Option<i64>,
}

impl Model {
    /// Its names.
    #[must_use]
    pub fn path(&self) -> ModelPath {
        ModelPath::new(&self.namespace, &self.name)
    }
}

/// Markdown about a model or a version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Card {
    pub markdown: String,
    pub updated_at: i64,
    pub updated_by: PrincipalId,
}

/// Counts and sizes over models.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Statistics {
    pub models: i64,
    pub versions: i64,
    pub bytes: i64,
    pub deployments: i64,
}

impl Statistics {
    /// Bytes per version; 0 without versions.
    #[must_use]
    #[allow(clippy::cast_precision_loss, reason = "an average needs no more digits")]
    pub fn average_bytes(&self) -> f64 {
        if self.versions == 0 { 0.0 } else { self.bytes as f64 / self.versions as f64 }
    }
}
