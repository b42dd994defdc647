//! The settings of a process: one documented struct, from `quarry.toml`,
//! `QUARRY_…` variables and flags.

use std::collections::BTreeSet;
use std::fmt;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use service_error::ServiceError;
use settings::{Origins, Secret};

use super::ServeArgs;

/// A part of the platform that a process can run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Users, tokens, grants, audit.
    Identity,
    /// Namespaces, datasets, versions, blocks.
    Catalog,
    /// Rows, Arrow Flight, media.
    ItemStore,
    /// Spaces, points, similarity.
    VectorSearch,
    /// Locations, files, duplicates.
    FileIndexer,
    /// Models and their versions.
    ModelRegistry,
    /// The public door.
    Gateway,
}

impl Role {
    /// Every role, in the order in which they are built.
    pub const ALL: [Self; 7] = [
        Self::Identity,
        Self::Catalog,
        Self::ItemStore,
        Self::VectorSearch,
        Self::FileIndexer,
        Self::ModelRegistry,
        Self::Gateway,
    ];

    /// As written in `--roles`, in tokens and in file names.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Identity => "identity",
            Self::Catalog => "catalog",
            Self::ItemStore => "item-store",
            Self::VectorSearch => "vector-search",
            Self::FileIndexer => "file-indexer",
            Self::ModelRegistry => "model-registry",
            Self::Gateway => "gateway",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Role {
    type Err = ServiceError;

    fn from_str(text: &str) -> Result<Self, ServiceError> {
        Self::ALL.into_iter().find(|role| role.name() == text).ok_or_else(|| {
            let names = Self::ALL.map(Self::name).join(", ");
            ServiceError::invalid(
                "roles",
                format!("there is no role {text:?}; the roles are {names}"),
            )
        })
    }
}

/// Everything a process can be told.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Databases, objects, secrets and the admin token live here.
    pub data_dir: PathBuf,
    /// The public door, or the door of the roles when the gateway runs elsewhere.
    pub listen: String,
    /// The operations door: health, readiness, metrics.
    pub ops_listen: String,
    /// Where this process's other roles are served to neighbours when the
    /// gateway is among its roles; unset: nowhere.
    pub internal_listen: Option<String>,
    /// Roles of this process; empty: all.
    pub roles: Vec<String>,
    /// `postgres://…`; unset: SQLite files in the data dir.
    pub database_url: Option<Secret>,
    /// Connections of each role's pool.
    pub database_connections: u32,
    /// `file://`, `s3://`, `gs://`, `az://`, `memory://`; unset: `<data-dir>/objects`.
    pub object_store_url: Option<String>,
    /// This role's secret; unset: `<data-dir>/service-tokens/<role>`.
    pub service_token_file: Option<PathBuf>,
    /// Where identity finds (or makes) the secrets of roles that run in other
    /// processes; unset: `<data-dir>/service-tokens`.
    pub service_tokens_dir: Option<PathBuf>,
    /// A token that claims the admin account.
    pub admin_token_file: Option<PathBuf>,
    /// Written, as JSON, once this process serves.
    pub ready_file: Option<PathBuf>,
    /// Roles that run in other processes, by URL.
    pub neighbours: NeighbourUrls,
    /// How the process stops.
    pub drain: Drain,
    /// How the process starts.
    pub start: Start,
    /// Logs, traces and metrics.
    pub telemetry: telemetry::TelemetrySettings,
    /// Users, tokens and grants.
    pub identity: identity::Settings,
    /// Uploads and commits.
    pub catalog: catalog::Settings,
    /// Blocks, Flight and pages.
    pub items: item_store::Settings,
    /// Indexes of vectors.
    pub vectors: vector_search::Settings,
    /// Scans of files.
    pub files: file_indexer::Settings,
    /// Paths of this machine that requests may name.
    pub paths: AllowedPaths,
    /// Models, their files and webhooks.
    pub models: model_registry::Settings,
    /// The public door's limits.
    pub gateway: gateway::Settings,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            data_dir: PathBuf::from("./quarry-data"),
            listen: "127.0.0.1:7070".into(),
            ops_listen: "127.0.0.1:7071".into(),
            internal_listen: None,
            roles: Vec::new(),
            database_url: None,
            database_connections: sql_store::SqlSettings::DEFAULT_MAX_CONNECTIONS,
            object_store_url: None,
            service_token_file: None,
            service_tokens_dir: None,
            admin_token_file: None,
            ready_file: None,
            neighbours: NeighbourUrls::default(),
            drain: Drain::default(),
            start: Start::default(),
            telemetry: telemetry::TelemetrySettings::default(),
            identity: identity::Settings::default(),
            catalog: catalog::Settings::default(),
            items: item_store::Settings::default(),
            vectors: vector_search::Settings::default(),
            files: file_indexer::Settings::default(),
            paths: AllowedPaths::default(),
            models: model_registry::Settings::default(),
            gateway: gateway::Settings::default(),
        }
    }
}

/// Paths of this machine that requests may name, section `[paths]`.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AllowedPaths {
    /// Whoever may make a location may name what lies below these. Beside them
    /// an admin may name any path while the server listens on loopback only.
    pub allowed: Vec<PathBuf>,
}

/// URLs of roles in other processes, `http://host:port`.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "snake_case")]
pub struct NeighbourUrls {
    /// Of identity.
    pub identity: Option<String>,
    /// Of the catalog.
    pub catalog: Option<String>,
    /// Of the item store.
    #[serde(alias = "item-store")]
    pub item_store: Option<String>,
    /// Of the vector search.
    #[serde(alias = "vector-search")]
    pub vector_search: Option<String>,
    /// Of the file indexer.
    #[serde(alias = "file-indexer")]
    pub file_indexer: Option<String>,
    /// Of the model registry.
    #[serde(alias = "model-registry")]
    pub model_registry: Option<String>,
}

impl NeighbourUrls {
    /// The URL of a role, if one is set.
    pub fn of(&self, role: Role) -> Option<&str> {
        match role {
            Role::Identity => self.identity.as_deref(),
            Role::Catalog => self.catalog.as_deref(),
            Role::ItemStore => self.item_store.as_deref(),
            Role::VectorSearch => self.vector_search.as_deref(),
            Role::FileIndexer => self.file_indexer.as_deref(),
            Role::ModelRegistry => self.model_registry.as_deref(),
            Role::Gateway => None,
        }
    }
}

/// How a process stops after SIGTERM.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Drain {
    /// Seconds between "not ready" and the first refused connection, for load
    /// balancers to notice.
    pub delay_seconds: u64,
    /// Seconds that open streams may go on.
    pub grace_seconds: u64,
}

impl Default for Drain {
    fn default() -> Self {
        Self { delay_seconds: 0, grace_seconds: 25 }
    }
}

impl Drain {
    pub fn delay(self) -> Duration {
        Duration::from_secs(self.delay_seconds)
    }

    pub fn grace(self) -> Duration {
        Duration::from_secs(self.grace_seconds)
    }
}

/// How a process starts, section `[start]`.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Start {
    /// Seconds that a database or an object store that is away is waited for;
    /// the operations door says meanwhile what is missing.
    pub wait_seconds: u64,
    /// The next process, on another data dir, may listen on the same `listen`
    /// and `internal_listen`: started first and ready, it takes over when this
    /// one is told to stop, and no client finds the door closed.
    pub share_ports: bool,
}

impl Default for Start {
    fn default() -> Self {
        Self { wait_seconds: 300, share_ports: false }
    }
}

impl Start {
    pub fn wait(self) -> Duration {
        Duration::from_secs(self.wait_seconds)
    }
}

/// The flags, in the shape of the settings that they override.
#[derive(Serialize)]
struct Overrides<'a> {
    data_dir: &'a Option<PathBuf>,
    listen: &'a Option<String>,
    ops_listen: &'a Option<String>,
    roles: Option<&'a Vec<String>>,
    ready_file: &'a Option<PathBuf>,
    database_url: &'a Option<String>,
    object_store_url: &'a Option<String>,
}

impl Settings {
    /// The settings of a process that was started with `args`.
    ///
    /// # Errors
    /// A key, a value or a role that does not exist, named with its source.
    pub fn load(args: &ServeArgs) -> Result<Self, ServiceError> {
        Ok(Self::load_with_origins(args)?.0)
    }

    /// The same, and where each that was set came from.
    ///
    /// # Errors
    /// As [`Settings::load`].
    pub fn load_with_origins(args: &ServeArgs) -> Result<(Self, Origins), ServiceError> {
        let overrides = Overrides {
            data_dir: &args.data_dir,
            listen: &args.listen,
            ops_listen: &args.ops_listen,
            roles: Some(&args.roles).filter(|roles| !roles.is_empty()),
            ready_file: &args.ready_file,
            database_url: &args.database_url,
            object_store_url: &args.object_store_url,
        };
        let (mut settings, origins): (Self, _) =
            settings::load_with_origins(args.config.as_deref(), overrides)?;
        settings.data_dir = std::path::absolute(&settings.data_dir).map_err(|error| {
            ServiceError::invalid("data_dir", format!("{}: {error}", settings.data_dir.display()))
        })?;
        Ok((settings, origins))
    }

    /// The roles of this process, in the order in which they are built.
    ///
    /// # Errors
    /// A role that does not exist.
    pub fn roles(&self) -> Result<BTreeSet<Role>, ServiceError> {
        if self.roles.is_empty() {
            return Ok(Role::ALL.into());
        }
        self.roles.iter().map(|name| name.parse()).collect()
    }

    /// Where a role's rows are.
    pub fn sql(&self) -> sql_store::SqlSettings {
        sql_store::SqlSettings {
            database_url: self.database_url.as_ref().map(|url| url.expose().to_owned()),
            data_dir: self.data_dir.clone(),
            max_connections: self.database_connections,
        }
    }

    /// Where the objects are, as a URL.
    pub fn objects(&self) -> String {
        self.object_store_url
            .clone()
            .unwrap_or_else(|| format!("file://{}", self.data_dir.join("objects").display()))
    }

    /// Where the secrets of roles in other processes are.
    pub fn tokens_dir(&self) -> PathBuf {
        self.service_tokens_dir.clone().unwrap_or_else(|| self.data_dir.join("service-tokens"))
    }
}

/// The socket address of a door.
///
/// # Errors
/// A text that is no `host:port`, or a host that does not resolve.
pub fn address(field: &'static str, text: &str) -> Result<SocketAddr, ServiceError> {
    let wrong = |why: String| {
        ServiceError::invalid(
            field,
            format!("{text:?} is no address to listen on ({why}); write host:port"),
        )
    };
    let mut addresses = text.to_socket_addrs().map_err(|error| wrong(error.to_string()))?;
    addresses.next().ok_or_else(|| wrong("it resolves to nothing".into()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn roles_are_named_or_all() {
        assert_eq!(Settings::default().roles().unwrap().len(), Role::ALL.len());
        let some =
            Settings { roles: vec!["gateway".into(), "item-store".into()], ..Settings::default() };
        assert_eq!(
            some.roles().unwrap().into_iter().collect::<Vec<_>>(),
            [Role::ItemStore, Role::Gateway]
        );
        let wrong = Settings { roles: vec!["items".into()], ..Settings::default() };
        let error = wrong.roles().unwrap_err();
        assert_eq!(error.field_name(), Some("roles"));
        assert!(error.message().contains("item-store"), "{error}");
    }

    #[test]
    fn flags_win_and_the_data_dir_is_absolute() {
        let args = ServeArgs {
            data_dir: Some("some/dir".into()),
            listen: Some("127.0.0.1:0".into()),
            ..ServeArgs::default()
        };
        let settings = Settings::load(&args).unwrap();
        assert!(settings.data_dir.is_absolute() && settings.data_dir.ends_with("some/dir"));
        assert_eq!(settings.listen, "127.0.0.1:0");
        assert!(settings.objects().ends_with("some/dir/objects"));
    }

    #[test]
    fn an_address_needs_host_and_port() {
        assert!(address("listen", "127.0.0.1:0").is_ok());
        for wrong in ["7070", "127.0.0.1", "no.such.host.invalid:1"] {
            assert_eq!(
                address("listen", wrong).unwrap_err().field_name(),
                Some("listen"),
                "{wrong}"
            );
        }
    }
}
