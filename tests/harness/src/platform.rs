//! A whole platform: which roles in which process, on which database.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tempfile::TempDir;

use crate::postgres::Postgres;
use crate::process::{Launch, Process};
use crate::replica::Replica;
use crate::session::Session;
use crate::wait::eventually;

/// Which roles share a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Topology {
    /// All of them, joined in memory.
    OneProcess,
    /// None: each has its own process and port.
    Split,
}

/// Where the rows of the control plane are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Database {
    /// Files in the data directory.
    Sqlite,
    /// A real Postgres 18 with one fresh database.
    Postgres,
}

/// A role, in the order in which they start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Users, tokens, grants.
    Identity,
    /// Namespaces, datasets, versions.
    Catalog,
    /// Rows.
    ItemStore,
    /// Spaces, points, similarity.
    VectorSearch,
    /// Files.
    FileIndexer,
    /// Models.
    ModelRegistry,
    /// The public door.
    Gateway,
}

impl Role {
    /// Every role, a neighbour before those who call it.
    pub const ALL: [Self; 7] = [
        Self::Identity,
        Self::Catalog,
        Self::ItemStore,
        Self::VectorSearch,
        Self::FileIndexer,
        Self::ModelRegistry,
        Self::Gateway,
    ];

    /// As `--roles` takes it.
    pub fn name(self) -> &'static str {
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

/// What a platform is to be like.
pub struct Setup {
    topology: Topology,
    database: Database,
    variables: BTreeMap<String, String>,
    has_bucket: bool,
}

/// The directory that stands for a bucket.
const BUCKET: &str = "bucket";

/// A running platform; all of its processes end when it is dropped.
pub struct Platform {
    topology: Topology,
    parts: Vec<Process>,
    /// Outlives the processes that use it.
    postgres: Option<Postgres>,
    dir: TempDir,
    admin_token: String,
    /// What a process that joins later is given.
    variables: BTreeMap<String, String>,
}

impl Setup {
    /// Defaults, on the given ground.
    pub fn new(topology: Topology, database: Database) -> Self {
        Self { topology, database, variables: BTreeMap::new(), has_bucket: false }
    }

    /// Adds a setting by its variable, e.g. `QUARRY_TELEMETRY__LEVEL`.
    #[must_use]
    pub fn variable(mut self, name: &str, value: &str) -> Self {
        self.variables.insert(name.to_owned(), value.to_owned());
        self
    }

    /// All objects in one directory for all processes, as a bucket is.
    #[must_use]
    pub const fn bucket(mut self) -> Self {
        self.has_bucket = true;
        self
    }

    /// Starts it and waits until it serves.
    pub async fn start(self) -> Platform {
        let dir = tempfile::Builder::new().prefix("quarry-test").tempdir().expect("a directory");
        let postgres = (self.database == Database::Postgres).then(Postgres::start);
        let mut variables = self.variables;
        if let Some(postgres) = &postgres {
            variables.insert("QUARRY_DATABASE_URL".into(), postgres.create_database());
        }
        if self.has_bucket {
            let url = format!("file://{}", dir.path().join(BUCKET).display());
            variables.insert("QUARRY_OBJECT_STORE_URL".into(), url);
        }
        let (parts, variables) = match self.topology {
            Topology::OneProcess => {
                (vec![one_process(dir.path(), variables.clone()).await], variables)
            }
            Topology::Split => split(dir.path(), variables).await,
        };
        let admin_token = admin_token(&parts, &data_dir(dir.path(), self.topology)).await;
        Platform { topology: self.topology, parts, postgres, dir, admin_token, variables }
    }
}

async fn one_process(dir: &Path, variables: BTreeMap<String, String>) -> Process {
    let mut process = Process::spawn(launch(dir, "all", variables));
    process.ready().await;
    process
}

/// Each role finds the ones before it by URL, and all share the secrets that identity made.
async fn split(
    dir: &Path,
    mut variables: BTreeMap<String, String>,
) -> (Vec<Process>, BTreeMap<String, String>) {
    let mut parts = Vec::new();
    let secrets = dir.join("service-tokens").display().to_string();
    variables.insert("QUARRY_SERVICE_TOKENS_DIR".into(), secrets);
    for role in Role::ALL {
        let process = role_process(dir, role, role.name(), &variables).await;
        // Nobody calls the gateway.
        if role != Role::Gateway {
            variables.insert(neighbour(role), format!("http://{}", process.listen()));
        }
        parts.push(process);
    }
    (parts, variables)
}

/// The variable by which others find a role.
pub(crate) fn neighbour(role: Role) -> String {
    format!("QUARRY_NEIGHBOURS__{}", role.name().to_uppercase().replace('-', "_"))
}

/// A process of one role, with a name of its own.
pub(crate) async fn role_process(
    dir: &Path,
    role: Role,
    name: &str,
    variables: &BTreeMap<String, String>,
) -> Process {
    let mut launch = launch(dir, name, variables.clone());
    launch.args.extend(["--roles".into(), role.name().into()]);
    let mut process = Process::spawn(launch);
    process.ready().await;
    process
}

fn launch(dir: &Path, name: &str, variables: BTreeMap<String, String>) -> Launch {
    let data_dir = dir.join(name).display().to_string();
    let door = "127.0.0.1:0";
    let args = ["serve", "--data-dir", &data_dir, "--listen", door, "--ops-listen", door];
    Launch {
        name: name.to_owned(),
        args: args.map(str::to_owned).to_vec(),
        variables,
        dir: dir.to_owned(),
    }
}

fn data_dir(dir: &Path, topology: Topology) -> PathBuf {
    dir.join(match topology {
        Topology::OneProcess => "all",
        Topology::Split => Role::Identity.name(),
    })
}

async fn admin_token(parts: &[Process], data_dir: &Path) -> String {
    let file = data_dir.join("admin-token");
    let token = eventually("an admin token", Duration::from_secs(5), async || {
        std::fs::read_to_string(&file).ok().filter(|token| !token.trim().is_empty())
    });
    let token = token.await.trim().to_owned();
    assert!(!parts.iter().any(|part| part.log().contains(&token)), "the log holds a secret");
    token
}

impl Platform {
    /// A platform with default settings.
    pub async fn start(topology: Topology, database: Database) -> Self {
        Setup::new(topology, database).start().await
    }

    /// The first admin's session.
    pub fn admin(&self) -> Session {
        self.session(&self.admin_token)
    }

    /// A session with any token.
    pub fn session(&self, token: &str) -> Session {
        Session::new(self.process(Role::Gateway).listen(), Some(token))
    }

    /// A session without a token.
    pub fn anonymous(&self) -> Session {
        Session::new(self.process(Role::Gateway).listen(), None)
    }

    /// What its processes are given, whichever role they have.
    pub const fn variables(&self) -> &BTreeMap<String, String> {
        &self.variables
    }

    /// The first admin's token, from its file.
    pub fn admin_token(&self) -> &str {
        &self.admin_token
    }

    /// The public door as a URL.
    pub fn url(&self) -> String {
        format!("http://{}", self.process(Role::Gateway).listen())
    }

    /// The operations door of the process that runs a role, as a URL.
    pub fn operations_url(&self, role: Role) -> String {
        format!("http://{}", self.process(role).operations())
    }

    /// The data directory of the process that runs a role.
    pub fn data_dir(&self, role: Role) -> PathBuf {
        self.dir.path().join(match self.topology {
            Topology::OneProcess => "all",
            Topology::Split => role.name(),
        })
    }

    /// A directory for the test's own files.
    pub fn scratch(&self) -> PathBuf {
        let dir = self.dir.path().join("scratch");
        std::fs::create_dir_all(&dir).expect("a directory");
        dir
    }

    /// Where all objects are, after [`Setup::bucket`].
    pub fn bucket_dir(&self) -> PathBuf {
        self.dir.path().join(BUCKET)
    }

    /// Another item store on the same database and bucket, behind a door of its own.
    pub async fn join_replica(&self) -> Replica {
        Replica::join(self.dir.path(), &self.variables, &self.admin_token).await
    }

    /// The process that runs a role.
    pub fn process(&self, role: Role) -> &Process {
        &self.parts[self.place(role)]
    }

    /// The same, to kill or restart it.
    pub fn process_mut(&mut self, role: Role) -> &mut Process {
        let place = self.place(role);
        &mut self.parts[place]
    }

    fn place(&self, role: Role) -> usize {
        match self.topology {
            Topology::OneProcess => 0,
            Topology::Split => role as usize,
        }
    }

    /// `kill -9` of every process.
    pub fn kill9(&mut self) {
        for part in &mut self.parts {
            part.kill9();
        }
    }

    /// Starts every killed process again, neighbours first.
    pub async fn restart(&mut self) {
        for part in &mut self.parts {
            part.restart().await;
        }
    }

    /// Everything that any process has logged.
    pub fn logs(&self) -> String {
        self.parts.iter().map(Process::log).collect()
    }

    /// The database server, where there is one.
    pub fn postgres(&mut self) -> Option<&mut Postgres> {
        self.postgres.as_mut()
    }
}
