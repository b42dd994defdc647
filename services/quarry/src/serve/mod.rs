//! `quarry serve`: the roles of this process, composed behind one address.

mod compose;
mod data_dir;
mod doors;
mod operations;
mod secrets;
pub mod settings;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use service_channel::{Job, Readiness};
use service_error::{Code, ServiceError};
use telemetry::Telemetry;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::{JoinHandle, JoinSet};
use tokio_util::sync::CancellationToken;

use ::operations::Process as ThisProcess;
use caller::Secret;
use compose::{Composed, Ends, Told, compose};
use data_dir::Reachable;
use doors::{Apps, Listeners, Open, bound, open};
use operations::OperationsDoor;
use settings::{Role, Settings};

pub use data_dir::{DataDir, SERVER_FILE};

/// Background work that has not ended by then is cut off.
const JOBS_END: Duration = Duration::from_secs(10);
/// Between two looks at whether every role is ready.
const READY_INTERVAL: Duration = Duration::from_millis(20);

/// Between two tries to start while something is away.
const WAIT_MIN: Duration = Duration::from_millis(250);
const WAIT_MAX: Duration = Duration::from_secs(5);

/// What the command line says about the server; `None` leaves a setting to the
/// file, the environment or its default.
#[derive(Debug, Clone, Default)]
pub struct ServeArgs {
    /// `quarry.toml`.
    pub config: Option<PathBuf>,
    /// Databases, objects and the admin token live here.
    pub data_dir: Option<PathBuf>,
    /// The public door, `host:port`; port 0 takes a free one.
    pub listen: Option<String>,
    /// The operations door, `host:port`.
    pub ops_listen: Option<String>,
    /// Roles of this process; empty: all.
    pub roles: Vec<String>,
    /// Written once the server answers.
    pub ready_file: Option<PathBuf>,
    /// Postgres instead of SQLite files.
    pub database_url: Option<String>,
    /// An object store instead of local files.
    pub object_store_url: Option<String>,
    /// Warnings and errors only; for commands that serve beside other output.
    pub quiet: bool,
}

/// A server that answers.
#[derive(Debug)]
pub struct Running {
    /// Where the public door really listens.
    pub public: SocketAddr,
    /// Where the operations door really listens.
    pub operations: SocketAddr,
    /// The directory in use.
    pub data_dir: PathBuf,
    /// Ends once the server has drained after `shutdown`.
    pub stopped: JoinHandle<Result<(), ServiceError>>,
}

/// Serves until SIGTERM or Ctrl-C, then drains.
///
/// # Errors
/// A setting, a database, a port or the data dir cannot be used.
pub async fn run(args: ServeArgs) -> Result<(), ServiceError> {
    let shutdown = CancellationToken::new();
    // Heard from the first moment: a process that is told to stop while it
    // still starts must stop too.
    let told = tokio::spawn(stop_when_told(shutdown.clone())?);
    let running = tokio::select! {
        () = shutdown.cancelled() => return Ok(()),
        running = start(args, shutdown.clone()) => running?,
    };
    let stopped = running.stopped.await;
    told.abort();
    stopped.map_err(|error| {
        ServiceError::internal("the server stopped by a defect").caused_by(error)
    })?
}

fn stop_when_told(shutdown: CancellationToken) -> Result<impl Future<Output = ()>, ServiceError> {
    let deaf = |error| ServiceError::internal("signals cannot be heard").caused_by(error);
    let mut terminate = signal(SignalKind::terminate()).map_err(deaf)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(deaf)?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        shutdown.cancel();
    })
}

/// Starts the roles and answers once they are ready; they drain when
/// `shutdown` fires.
///
/// # Errors
/// As [`run`].
pub async fn start(args: ServeArgs, shutdown: CancellationToken) -> Result<Running, ServiceError> {
    let (mut settings, origins) = Settings::load_with_origins(&args)?;
    if args.quiet {
        settings.telemetry.log = "warn".into();
    }
    let roles = settings.roles()?;
    let telemetry = telemetry::start(&settings.telemetry, &service_name(&roles))?;
    let data_dir = DataDir::open(&settings.data_dir, roles.iter().copied())?;
    let listeners = Listeners::bind(&settings).await?;
    let public = listeners.main.address()?;
    let operations = bound(&listeners.operations)?;

    // Alive before it is ready: migrations may take a while.
    let door = OperationsDoor::open(listeners.operations, &telemetry);
    let ends = Ends::default();
    let secrets = secrets::of_roles(&settings, &roles).await?;
    let names = roles.iter().map(ToString::to_string).collect();
    let listed = origins.list(&settings).unwrap_or_else(|error| {
        tracing::warn!(%error, "the settings cannot be listed");
        Vec::new()
    });
    let process = ThisProcess::new(env!("CARGO_PKG_VERSION"), names, listed);
    let told = Told { process: Arc::new(process), telemetry: telemetry.clone() };
    let composed = compose_patiently(&settings, &roles, &secrets, &ends, &told, &door).await?;
    doors::allowed(&settings, &roles, public, composed.admin_claimed).await?;
    door.ready_when(composed.readiness.clone());

    let jobs = spawn_all(composed.jobs);
    let is_public = composed.public.is_some();
    let apps = match composed.public {
        Some(app) => Apps { main: app, internal: Some(composed.internal) },
        None => Apps { main: composed.internal, internal: None },
    };
    if settings.start.share_ports {
        // Until then the process that is there goes on.
        shutdown.run_until_cancelled(wait_until_ready(&composed.readiness)).await;
    }
    let closing = CancellationToken::new();
    let open_doors =
        open((listeners.main, listeners.internal), apps, &settings, is_public, &closing)?;
    let process = Process { settings, data_dir, telemetry, door, ends, closing, open_doors, jobs };
    let reachable = Reachable { listen: public, ops_listen: operations, pid: std::process::id() };
    if let Err(error) =
        process.announce(&reachable, &composed.readiness, is_public, &shutdown).await
    {
        process.stop().await;
        return Err(error);
    }
    let data_dir = process.data_dir.path().to_owned();
    let stopped = tokio::spawn(async move {
        shutdown.cancelled().await;
        process.stop().await;
        Ok(())
    });
    Ok(Running { public, operations, data_dir, stopped })
}

/// Builds the roles; waits for a database or an object store that is away, and
/// says so.
async fn compose_patiently(
    settings: &Settings,
    roles: &BTreeSet<Role>,
    secrets: &BTreeMap<Role, Secret>,
    ends: &Ends,
    told: &Told,
    door: &OperationsDoor,
) -> Result<Composed, ServiceError> {
    let deadline = Instant::now() + settings.start.wait();
    let mut pause = WAIT_MIN;
    let mut said = String::new();
    loop {
        let error = match compose(settings, roles, secrets, ends, told).await {
            Err(error) if may_pass(settings, &error) => error,
            composed => return composed,
        };
        if Instant::now() + pause > deadline {
            let waited = settings.start.wait_seconds;
            return Err(error.context(format!("gave up after {waited} s (start.wait_seconds)")));
        }
        door.waiting_for(&format!("waiting: {}", error.message()));
        if said != error.message() {
            tracing::warn!(missing = error.message(), "waiting");
            error.message().clone_into(&mut said);
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(WAIT_MAX);
    }
}

/// Whether somebody else may mend it while this process waits: what is away comes
/// back, a bucket's policy is changed, the right program is rolled out. Ending at
/// once would only be started again and again, with nobody at the door to say why.
fn may_pass(settings: &Settings, error: &ServiceError) -> bool {
    let bucket = || !settings.objects().starts_with("file://");
    error.code() == Code::Unavailable
        || error.reason_is("SCHEMA_UNKNOWN")
        || (error.reason_is("OBJECT_STORE_REFUSED") && bucket())
}

fn service_name(roles: &BTreeSet<Role>) -> String {
    match roles.len() {
        1 => roles.iter().map(|role| format!("quarry-{role}")).collect(),
        _ => "quarry".to_owned(),
    }
}

fn spawn_all(jobs: Vec<Job>) -> JoinSet<()> {
    let mut running = JoinSet::new();
    for job in jobs {
        running.spawn(async move {
            tracing::debug!(job = job.name, "began");
            job.run.await;
            tracing::debug!(job = job.name, "ended");
        });
    }
    running
}

/// Everything that must end in order.
struct Process {
    settings: Settings,
    data_dir: DataDir,
    telemetry: Telemetry,
    door: OperationsDoor,
    ends: Ends,
    /// The doors stop taking connections.
    closing: CancellationToken,
    open_doors: Vec<Open>,
    jobs: JoinSet<()>,
}

impl Process {
    /// Waits until every role is ready and then says where the process is.
    async fn announce(
        &self,
        reachable: &Reachable,
        readiness: &[Readiness],
        is_public: bool,
        shutdown: &CancellationToken,
    ) -> Result<(), ServiceError> {
        let ready = shutdown.run_until_cancelled(wait_until_ready(readiness)).await;
        if ready.is_none() {
            return Ok(());
        }
        if let Err(error) = startup_memory::release() {
            tracing::debug!(%error, "what only the start needed stays in memory");
        }
        if is_public {
            reachable.write(&self.data_dir.path().join(SERVER_FILE))?;
        }
        if let Some(path) = &self.settings.ready_file {
            reachable.write(path)?;
        }
        tracing::info!(listen = %reachable.listen, ops_listen = %reachable.ops_listen, "serving");
        Ok(())
    }

    /// Not ready → load balancers notice → connections are told to go → what lasts
    /// on them ends → doors finish their other streams → jobs end → telemetry is flushed.
    async fn stop(mut self) {
        tracing::info!("draining");
        self.door.drain();
        self.ends.draining.cancel();
        tokio::time::sleep(self.settings.drain.delay()).await;
        self.closing.cancel();
        for door in &self.open_doors {
            door.parted.cancelled().await;
        }
        self.ends.parted.cancel();
        for door in self.open_doors.drain(..) {
            if let Err(error) = door.served.await {
                tracing::error!(%error, "a door ended by a defect");
            }
        }
        self.ends.stopped.cancel();
        let ended = tokio::time::timeout(JOBS_END, async {
            while self.jobs.join_next().await.is_some() {}
        });
        if ended.await.is_err() {
            tracing::warn!(after = ?JOBS_END, "background work was cut off");
        }
        tracing::info!("stopped");
        self.door.close().await;
        self.telemetry.flush().await;
    }
}

async fn wait_until_ready(readiness: &[Readiness]) {
    let mut told: Option<String> = None;
    loop {
        let Some(missing) = first_missing(readiness).await else { return };
        if told.as_ref() != Some(&missing) {
            tracing::info!(%missing, "waiting");
            told = Some(missing);
        }
        tokio::time::sleep(READY_INTERVAL).await;
    }
}

async fn first_missing(readiness: &[Readiness]) -> Option<String> {
    for check in readiness {
        if let Err(why) = check.check().await {
            return Some(format!("{}: {why}", check.name));
        }
    }
    None
}
