//! `quarry agent`: reads locations of this machine for a platform elsewhere.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use files_agent::{Agent, Options};
use files_api::v1 as wire;
use service_error::{Code, ServiceError};
use telemetry::TelemetrySettings;
use tokio::task::JoinSet;

use super::Context;
use super::files::ModeArg;
use crate::client::Client;
use crate::failure::Failure;

const TRY_EVERY: Duration = Duration::from_millis(500);
/// With `--once` a platform that stays away ends it.
const ONCE_TRIES_MAX: usize = 20;

#[derive(Debug, Args)]
pub struct AgentCommand {
    /// Locations of this device: PATH, or PATH=DIR where the path is mounted at DIR here
    #[arg(required = true, value_name = "PATH[=DIR]")]
    places: Vec<String>,
    /// What this machine is called in its locations
    #[arg(long, env = "QUARRY_AGENT_DEVICE", value_name = "NAME")]
    device: String,
    /// Look for changes so often, in seconds; 0: only when somebody asks for a scan
    #[arg(long, env = "QUARRY_AGENT_EVERY", value_name = "SECONDS", default_value_t = 300)]
    every: u64,
    /// Directories and files that are read at once; 0: as many as there are cores
    #[arg(long, env = "QUARRY_AGENT_THREADS", value_name = "N", default_value_t = 0)]
    threads: usize,
    /// Make the location if there is none
    #[arg(long, env = "QUARRY_AGENT_ADD")]
    add: bool,
    /// How much is learnt of the files of a location that is made
    #[arg(long, env = "QUARRY_AGENT_MODE", value_enum, default_value = "content")]
    mode: ModeArg,
    /// Notice changes as they happen
    #[arg(long, env = "QUARRY_AGENT_WATCH")]
    watch: bool,
    /// End after one scan
    #[arg(long)]
    once: bool,
    /// Which lines are logged on stderr, e.g. info or warn,files_agent=debug
    #[arg(long, env = "QUARRY_TELEMETRY__LOG", value_name = "FILTER", default_value = "info")]
    log: String,
}

impl AgentCommand {
    /// Serves until Ctrl-C or SIGTERM.
    pub async fn run(self, context: &Context) -> Result<(), Failure> {
        let settings = TelemetrySettings { log: self.log.clone(), ..TelemetrySettings::default() };
        // Nothing else tells why an agent's stream broke.
        let _telemetry = telemetry::start(&settings, "quarry-agent")?;
        let client = context.client()?;
        let mut agents = JoinSet::new();
        for place in &self.places {
            let (path, root) = place.split_once('=').unwrap_or((place.as_str(), place.as_str()));
            let location = self.location(&client, path, &context.stop).await?;
            let options = Options {
                location,
                device: self.device.clone(),
                root: PathBuf::from(root),
                threads: self.threads,
                every: (self.every > 0).then(|| Duration::from_secs(self.every)),
                watch: self.watch,
                once: self.once,
            };
            context.output.hint(&format!("reading {root} as {path} of {}", self.device));
            agents.spawn(Agent::new(client.clone(), options).run(context.stop.clone()));
        }
        while let Some(ended) = agents.join_next().await {
            ended.map_err(|err| ServiceError::internal("an agent died").caused_by(err))??;
        }
        Ok(())
    }

    /// The id of a location of this device. A platform that is away is waited
    /// for: machines start in any order.
    async fn location(
        &self,
        client: &Client,
        path: &str,
        stop: &tokio_util::sync::CancellationToken,
    ) -> Result<String, Failure> {
        let mut tries = 0;
        loop {
            tries += 1;
            match self.find(client, path).await {
                Err(failure) if is_away(&failure) && (!self.once || tries < ONCE_TRIES_MAX) => {
                    tracing::warn!(error = %failure, "the platform does not answer yet");
                    tokio::select! {
                        () = tokio::time::sleep(TRY_EVERY) => {}
                        () = stop.cancelled() => return Err(Failure::interrupted("interrupted")),
                    }
                }
                found => return found,
            }
        }
    }

    async fn find(&self, client: &Client, path: &str) -> Result<String, Failure> {
        let request = wire::ListLocationsRequest {
            page_size: 1_000,
            holding: path.to_owned(),
            ..wire::ListLocationsRequest::default()
        };
        let found = client.locations().list_locations(request).await?.into_inner().locations;
        let is_it = |location: &&wire::Location| {
            location.device == self.device && location.path == path.trim_end_matches('/')
        };
        if let Some(location) = found.iter().find(is_it) {
            return Ok(location.id.clone());
        }
        if !self.add {
            return Err(ServiceError::not_found("location", format!("{path} of {}", self.device))
                .context("`quarry files location add PATH --device NAME` makes it, or --add")
                .into());
        }
        let request = wire::CreateLocationRequest {
            path: path.to_owned(),
            mode: wire::ScanMode::from(self.mode).into(),
            device: self.device.clone(),
            ..wire::CreateLocationRequest::default()
        };
        let made = client.locations().create_location(request).await?.into_inner().location;
        Ok(made.map(|location| location.id).unwrap_or_default())
    }
}

fn is_away(failure: &Failure) -> bool {
    matches!(failure.code(), Code::Unavailable | Code::Internal | Code::Cancelled)
}
