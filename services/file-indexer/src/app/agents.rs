//! The other end of an agent's stream. What an agent says is checked before it
//! is believed; no path of it is ever opened here.

mod checks;
mod session;

use std::sync::Arc;
use std::time::Duration;

use caller::Caller;
use file_scan::{Content, Listing, MediaFacts};
use futures::Stream;
use jobs::{JobResult, Work};
use options_api::v1::Level;
use service_error::ServiceError;
use tokio::sync::mpsc;

use super::scan::Pace;
use super::{Indexer, ScanArguments};
use crate::model::{Location, Mode};
use crate::store::ToHash;

use session::Session;

const ACTION: &str = "quarry.files.v1.AgentService/Connect";
/// Messages that an agent may have on their way.
pub const CREDITS: i32 = 8;
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// An agent that was not heard of for so long is away.
const AWAY_AFTER_MICROS: i64 = 30_000_000;

/// How a location's problem begins when its agent's scan met what will not pass by itself.
const GIVEN_UP: &str = "the scan was given up: ";

/// How an agent begins.
#[derive(Debug, Clone)]
pub struct Hello {
    pub location: String,
    pub device: String,
    /// Device and inode of the root.
    pub root: (i64, i64),
    /// Of the scan that it goes on with; 0: none.
    pub generation: i64,
}

/// A directory, or a part of it.
#[derive(Debug, Clone)]
pub struct Part {
    pub listing: Listing,
    /// More of its entries follow.
    pub continues: bool,
}

/// What became of a file that was to be hashed.
#[derive(Debug, Clone)]
pub enum AgentOutcome {
    Hashed(Box<(Content, Option<MediaFacts>)>),
    Moved,
    Failed(String),
}

/// What an agent says.
#[derive(Debug)]
pub enum Said {
    Hello(Hello),
    Batch { seq: i64, parts: Vec<Part> },
    WalkEnd { seq: i64, root: (i64, i64) },
    Hashes { seq: i64, outcomes: Vec<(i64, AgentOutcome)> },
    Wish,
    Ping,
}

/// What an agent is told.
#[derive(Debug)]
pub enum Told {
    Welcome { path: String, rules: Vec<String>, generation: i64, deep: bool },
    Scan { generation: i64, deep: bool },
    Ack { seq: i64 },
    Need(Vec<ToHash>),
    Done(AgentDone),
    Pong,
}

/// What a scan came to.
#[derive(Debug, Clone, Default)]
pub struct AgentDone {
    pub generation: i64,
    pub added: i64,
    pub changed: i64,
    pub moved: i64,
    pub removed: i64,
    pub hashed: i64,
    pub problem: String,
}

impl Indexer {
    /// Serves an agent's stream to its end.
    ///
    /// # Errors
    /// What the agent may not, or should not have said.
    pub async fn serve_agent(
        &self,
        caller: Arc<Caller>,
        said: impl Stream<Item = Result<Said, ServiceError>> + Send,
        told: mpsc::Sender<Result<Told, ServiceError>>,
    ) -> Result<(), ServiceError> {
        let mut said = std::pin::pin!(said);
        let hello = match futures::StreamExt::next(&mut said).await {
            Some(Ok(Said::Hello(hello))) => hello,
            Some(Err(error)) => return Err(error),
            _ => return Err(checks::out_of_order("the first message of a stream is its hello")),
        };
        let location = self.location_for(&caller, Level::Write, &hello.location, ACTION).await?;
        if location.device.is_empty() || location.device != hello.device {
            let message = format!(
                "device: {} is on {}, not on {:?}",
                location.path,
                if location.device.is_empty() {
                    "the server".to_owned()
                } else {
                    format!("{:?}", location.device)
                },
                hello.device
            );
            return Err(ServiceError::denied(message)
                .reason("LOCATION_NOT_OF_DEVICE")
                .field("device"));
        }
        let mut session = Session::begin(self.clone(), caller, location, hello, told).await?;
        session.run(said).await
    }

    /// Whether a stream's caller still may.
    async fn may_serve(&self, caller: &Caller, location: &Location) -> Result<(), ServiceError> {
        if caller::Refused::refused(&self.grants, caller) {
            return Err(ServiceError::unauthenticated("the agent's token was revoked"));
        }
        self.require(caller, Level::Write, location, &location.uuid.to_string(), ACTION).await
    }

    /// A scan's job on a location of another device: its agent is asked, and
    /// waited for.
    pub(super) async fn run_agent_scan(
        &self,
        work: &Work,
        location: &Location,
        arguments: &ScanArguments,
    ) -> JobResult {
        let mode = Mode::of(arguments.mode);
        // A job that goes on after a kill waits for the wish that it made.
        let wish = match work.checkpoint::<Waiting>()? {
            Some(waiting) => waiting.wish,
            None => self.store.want_scan(location.id, mode, arguments.accept_removals).await?,
        };
        work.phase("waiting for the agent", "entries");
        let mut pace = Pace::new(work, location.generation);
        work.step(&Waiting { wish }).await?;
        loop {
            let wanted = self.store.wanted(location.id).await?;
            if wanted.fulfilled >= wish {
                break;
            }
            let silent = sql_now() - wanted.agent_seen;
            if silent > AWAY_AFTER_MICROS {
                let message = format!(
                    "no agent reads {} on {:?}; what is known of it stays as it is: start `quarry agent` there",
                    location.path, location.device
                );
                self.store.set_problem(location.id, &message).await?;
                return Err(ServiceError::precondition(message).reason("AGENT_AWAY").into());
            }
            tokio::select! {
                () = tokio::time::sleep(LOOK_EVERY) => {}
                () = work_stopping(work) => {}
            }
            pace.step_with(&Waiting { wish }).await?;
        }
        let now = self.store.location(location.id).await?;
        let now = now.ok_or_else(|| ServiceError::not_found("location", &location.path))?;
        if now.problem.starts_with(GIVEN_UP) {
            return Err(ServiceError::internal(now.problem).reason("SCAN_CONFLICT").into());
        }
        Ok([("entries", now.entries), ("files", now.files), ("missing", now.missing)]
            .map(|(name, number)| (name.to_owned(), number))
            .into())
    }
}

/// What a waiting job goes on with.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
struct Waiting {
    wish: i64,
}

fn sql_now() -> i64 {
    let elapsed = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    elapsed.map_or(0, |elapsed| i64::try_from(elapsed.as_micros()).unwrap_or(i64::MAX))
}

async fn work_stopping(work: &Work) {
    work.stopping().cancelled().await;
}
