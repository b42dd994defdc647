//! What a registry holds, whatever keeps it, page by page.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use quarry_client::failure::Failure;
use service_error::ServiceError;
use settings::Secret;

use crate::json::JsonFile;
use crate::place::Roots;
use crate::server::Server;
use crate::store::{MlflowDatabase, RawRegistry};

/// Rows of a page.
pub const PAGE_ROWS: u32 = 500;

/// A model as its source has it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SourceModel {
    pub name: String,
    pub description: String,
    pub tags: BTreeMap<String, String>,
    /// Each with the version that it points to.
    pub aliases: Vec<(String, String)>,
}

/// Where a version's files are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Files {
    /// It has none.
    #[default]
    None,
    /// On this machine, as its row says: still to be looked for.
    Local(PathBuf),
    /// Below this path of an MLflow server's artifacts.
    Proxied(String),
    /// Where an import does not reach.
    Elsewhere(String),
}

/// A last point of a metric.
#[derive(Debug, Clone, PartialEq)]
pub struct SourceMetric {
    pub key: String,
    pub value: f64,
    pub step: i64,
    /// Milliseconds since the epoch; 0: unknown.
    pub at_ms: i64,
}

/// A version as its source has it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct SourceVersion {
    /// As its source writes it: `3`, `1.2.0`.
    pub version: String,
    pub description: String,
    /// When it was made, in the source's own words.
    pub created: String,
    pub source: String,
    pub run_id: String,
    pub run_link: String,
    /// Empty: in none.
    pub stage: String,
    pub tags: BTreeMap<String, String>,
    pub params: BTreeMap<String, String>,
    pub metrics: Vec<SourceMetric>,
    pub files: Files,
    /// What the source says that its files have.
    pub bytes: Option<u64>,
}

impl SourceVersion {
    /// Its number, where its source numbers versions as we do.
    pub fn number(&self) -> Option<i64> {
        let plain = self.version.bytes().all(|byte| byte.is_ascii_digit());
        let number = self.version.parse::<i32>().ok().filter(|number| plain && *number > 0)?;
        (number.to_string() == self.version).then(|| i64::from(number))
    }
}

/// Rows and where the next ones begin; an empty `next`: there are no more.
#[derive(Debug)]
pub struct Page<T> {
    pub rows: Vec<T>,
    pub next: String,
}

/// How a source is opened.
#[derive(Debug, Default)]
pub struct Opening {
    /// Folders from below which files may be taken.
    pub folders: Vec<PathBuf>,
    /// Of MLflow's workspaces; empty: `default`.
    pub workspace: String,
    /// For a server that asks for one.
    pub token: Option<Secret>,
}

/// A registry that is read.
#[derive(Debug)]
pub enum Source {
    /// The small registry's SQLite file.
    Raw(RawRegistry),
    /// The small registry's JSON file.
    Json(JsonFile),
    /// MLflow's database.
    Mlflow(MlflowDatabase),
    /// A running MLflow server.
    Server(Server),
}

impl Source {
    /// Opens what `place` names: a file, a Postgres URL, a server's URL.
    ///
    /// # Errors
    /// What is not there, is damaged, or holds no registry that is known.
    pub async fn open(place: &str, opening: Opening) -> Result<Self, Failure> {
        if place.starts_with("http://") || place.starts_with("https://") {
            return Server::open(place, opening).await.map(Self::Server);
        }
        if place.starts_with("postgres://") || place.starts_with("postgresql://") {
            return MlflowDatabase::open_postgres(place, opening).await.map(Self::Mlflow);
        }
        let path = PathBuf::from(place.strip_prefix("sqlite:///").unwrap_or(place));
        let head = head_of(&path)?;
        if head.starts_with(b"SQLite format 3\0") {
            return crate::store::open_sqlite(&path, opening).await;
        }
        let first = head.iter().find(|byte| !byte.is_ascii_whitespace());
        if first == Some(&b'{') {
            return JsonFile::open(&path, opening).map(Self::Json);
        }
        Err(unknown(&path, "it is neither a SQLite database nor JSON"))
    }

    /// What it is, for people.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Raw(_) => "sqlite-registry",
            Self::Json(_) => "json-registry",
            Self::Mlflow(_) => "mlflow-database",
            Self::Server(_) => "mlflow-server",
        }
    }

    /// Names the registry in the tag that every version carries: the same
    /// whether it is read from its database or from its server.
    pub const fn origin(&self) -> &'static str {
        match self {
            Self::Raw(_) | Self::Json(_) => "registry",
            Self::Mlflow(_) | Self::Server(_) => "mlflow",
        }
    }

    /// Models by name, after those of the page before.
    ///
    /// # Errors
    /// The source's.
    pub async fn models(&self, token: &str) -> Result<Page<SourceModel>, Failure> {
        match self {
            Self::Raw(source) => source.models(token).await,
            Self::Json(source) => Ok(source.models(token)),
            Self::Mlflow(source) => source.models(token).await,
            Self::Server(source) => source.models(token).await,
        }
    }

    /// Versions of a model: numbers ascending, then those that are no numbers.
    ///
    /// # Errors
    /// The source's.
    pub async fn versions(&self, model: &str, token: &str) -> Result<Page<SourceVersion>, Failure> {
        match self {
            Self::Raw(source) => source.versions(model, token).await,
            Self::Json(source) => Ok(source.versions(model, token)),
            Self::Mlflow(source) => source.versions(model, token).await,
            Self::Server(source) => source.versions(model, token).await,
        }
    }

    /// Adds to a version what takes further questions: where its files are, what
    /// its run logged.
    ///
    /// # Errors
    /// The source's.
    pub async fn complete(&self, model: &str, version: &mut SourceVersion) -> Result<(), Failure> {
        match self {
            Self::Raw(_) | Self::Json(_) => Ok(()),
            Self::Mlflow(source) => source.complete(version).await,
            Self::Server(source) => source.complete(model, version).await,
        }
    }

    /// Where files may be taken from.
    pub const fn roots(&self) -> &Roots {
        match self {
            Self::Raw(source) => source.roots(),
            Self::Json(source) => source.roots(),
            Self::Mlflow(source) => source.roots(),
            Self::Server(source) => source.roots(),
        }
    }
}

fn head_of(path: &Path) -> Result<Vec<u8>, Failure> {
    use std::io::Read;
    let unread =
        |err: std::io::Error| ServiceError::invalid("source", format!("{}: {err}", path.display()));
    let meta = std::fs::metadata(path).map_err(unread)?;
    if !meta.is_file() {
        return Err(unknown(path, "it is no file"));
    }
    let mut head = Vec::new();
    std::fs::File::open(path)
        .map_err(unread)?
        .take(4_096)
        .read_to_end(&mut head)
        .map_err(unread)?;
    Ok(head)
}

/// A source that is none.
pub fn unknown(path: &Path, why: &str) -> Failure {
    let message = format!(
        "{} is no registry: {why}. Name a SQLite file or a registry.json of the small registry, MLflow's database \
         (a SQLite file or postgres://…), or an MLflow server (http://…)",
        path.display()
    );
    ServiceError::invalid("source", message).reason("UNKNOWN_REGISTRY").into()
}

/// A source that cannot be read to its end.
pub fn damaged(what: &str, why: impl std::fmt::Display) -> Failure {
    let message = format!("{what} is damaged or cut: {why}");
    ServiceError::invalid("source", message).reason("DAMAGED_REGISTRY").into()
}
