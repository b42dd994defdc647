//! `quarry jobs`: long work of every service.

use std::collections::BTreeSet;

use clap::{Subcommand, ValueEnum};
use ops_api::v1 as wire;
use ops_api::v1::JobState;
use serde_json::{Value as Json, json};

use super::{Context, Page};
use crate::client::Client;
use crate::client::progress::Progress;
use crate::failure::{Exit, Failure};
use crate::output::{Column, Format, column, message_json};
use service_channel::is_going;
use service_error::ServiceError;
use tonic::Status;

const COLUMNS: [Column; 8] = [
    column("name", "name"),
    column("kind", "kind"),
    column("about", "title"),
    column("state", "state"),
    column("phase", "progress.phase"),
    column("done", "progress.done"),
    column("total", "progress.total"),
    column("errors", "item_error_count"),
];

#[derive(Debug, Subcommand)]
pub enum JobsCommand {
    /// Jobs of all services, newest first
    List {
        /// Of this service alone, e.g. file-indexer
        #[arg(long, value_name = "NAME")]
        service: Option<String>,
        /// In this state; may be repeated
        #[arg(long, value_enum)]
        state: Vec<StateArg>,
        #[command(flatten)]
        page: Page,
    },
    /// One job, with its first errors of single items
    Show {
        /// SERVICE/ID
        name: String,
    },
    /// Follow a job until it ends
    Watch {
        /// SERVICE/ID
        name: String,
    },
    /// Stop a job for now
    Pause {
        /// SERVICE/ID
        name: String,
    },
    /// Let a paused job go on
    Resume {
        /// SERVICE/ID
        name: String,
    },
    /// Stop a job for good; what is done stays
    Cancel {
        /// SERVICE/ID
        name: String,
    },
    /// Queue a failed or cancelled job again
    Retry {
        /// SERVICE/ID
        name: String,
    },
}

/// `--state`.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum StateArg {
    /// Waits for a runner
    Queued,
    /// Under way
    Running,
    /// Waits for resume
    Paused,
    /// Done
    Completed,
    /// Gave up
    Failed,
    /// Given up by somebody
    Cancelled,
}

impl From<StateArg> for JobState {
    fn from(state: StateArg) -> Self {
        match state {
            StateArg::Queued => Self::Queued,
            StateArg::Running => Self::Running,
            StateArg::Paused => Self::Paused,
            StateArg::Completed => Self::Completed,
            StateArg::Failed => Self::Failed,
            StateArg::Cancelled => Self::Cancelled,
        }
    }
}

impl JobsCommand {
    /// Asks the services, through the door.
    pub async fn run(self, context: &Context) -> Result<(), Failure> {
        let client = context.client()?;
        let mut jobs = client.jobs();
        let job = match self {
            Self::List { service, state, page } => {
                return list(context, &client, service, state, page).await;
            }
            Self::Show { name } => {
                let answer = jobs.get(wire::JobsGetRequest { name }).await?.into_inner();
                let json = message_json("quarry.ops.v1.JobsGetResponse", &answer)?;
                context.output.message(&json, "job", &COLUMNS)?;
                hint_waiting(context, answer.job.iter());
                for error in answer.item_errors {
                    context.output.text(&format!("{}: {}", error.item, error.message))?;
                }
                return Ok(());
            }
            Self::Watch { name } => {
                let job = follow(context, &client, &name).await?;
                context.output.message(&json!({ "job": job_json(&job)? }), "job", &COLUMNS)?;
                return outcome(&job);
            }
            Self::Pause { name } => {
                jobs.pause(wire::JobsPauseRequest { name }).await?.into_inner().job
            }
            Self::Resume { name } => {
                jobs.resume(wire::JobsResumeRequest { name }).await?.into_inner().job
            }
            Self::Cancel { name } => {
                jobs.cancel(wire::JobsCancelRequest { name }).await?.into_inner().job
            }
            Self::Retry { name } => {
                jobs.retry(wire::JobsRetryRequest { name }).await?.into_inner().job
            }
        };
        let job = job_json(&job.unwrap_or_default())?;
        context.output.message(&json!({ "job": job }), "job", &COLUMNS)
    }
}

/// A job as JSON.
pub fn job_json(job: &wire::Job) -> Result<Json, Failure> {
    message_json("quarry.ops.v1.Job", job)
}

async fn list(
    context: &Context,
    client: &Client,
    service: Option<String>,
    states: Vec<StateArg>,
    page: Page,
) -> Result<(), Failure> {
    let (page_size, page_token) = page.parts();
    let states = states.into_iter().map(|state| JobState::from(state).into()).collect();
    let service = service.unwrap_or_default();
    let request = wire::JobsListRequest { page_size, page_token, service, states };
    let answer = client.jobs().list(request).await?.into_inner();
    let json = message_json("quarry.ops.v1.JobsListResponse", &answer)?;
    context.output.message(&json, "jobs", &COLUMNS)?;
    hint_waiting(context, answer.jobs.iter());
    if !answer.unreachable.is_empty() {
        let missing = answer.unreachable.join(", ");
        context.output.hint(&format!("Did not answer: {missing}; their jobs are not shown."));
    }
    Ok(())
}

/// Says why jobs don't go on, each reason once.
fn hint_waiting<'a>(context: &Context, jobs: impl Iterator<Item = &'a wire::Job>) {
    let waiting: BTreeSet<&str> = jobs.map(|job| job.waiting.as_str()).collect();
    for why in waiting.into_iter().filter(|why| !why.is_empty()) {
        context.output.hint(&format!("Waiting: {why}"));
    }
}

/// Shows a job's progress until it ends, and answers how it ended.
pub async fn follow(context: &Context, client: &Client, name: &str) -> Result<wire::Job, Failure> {
    let bar = (context.output.format == Format::Table).then(|| Progress::new(name, None));
    loop {
        match follow_once(client, name, bar.as_ref()).await {
            // The server is being restarted: the next one knows the job as well.
            Err(status) if is_going(&status) => {}
            last => return last?.ok_or_else(|| ServiceError::not_found("job", name).into()),
        }
    }
}

async fn follow_once(
    client: &Client,
    name: &str,
    bar: Option<&Progress>,
) -> Result<Option<wire::Job>, Status> {
    let request = wire::JobsWatchRequest { name: name.to_owned() };
    let mut changes = client.jobs().watch(request).await?.into_inner();
    let mut last: Option<wire::Job> = None;
    while let Some(change) = changes.message().await? {
        let Some(job) = change.job else { continue };
        if let (Some(bar), Some(progress)) = (bar, &job.progress) {
            bar.told(&progress.phase, progress.done, progress.total);
            let is_told = last.as_ref().is_some_and(|last| last.waiting == job.waiting);
            if !is_told && !job.waiting.is_empty() {
                bar.note(&format!("Waiting: {}", job.waiting));
            }
        }
        last = Some(job);
    }
    Ok(last)
}

/// A job that did not complete is a failure of the command.
pub fn outcome(job: &wire::Job) -> Result<(), Failure> {
    match job.state() {
        JobState::Failed => {
            let failure = job.failure.clone().unwrap_or_default();
            let code = tonic::Code::from_i32(failure.code);
            let message = format!("job {} failed: {}", job.name, failure.message);
            Err(ServiceError::new(code.into(), message).reason(failure.reason).into())
        }
        JobState::Cancelled => {
            let message = format!("job {} was cancelled", job.name);
            let error = ServiceError::precondition(message).reason("JOB_CANCELLED");
            Err(Failure::with_exit(Exit::Failed, error))
        }
        _ => Ok(()),
    }
}
