//! What a job is, without a database.

use std::collections::BTreeMap;

use caller::{Caller, Secret};
use ids::{PrincipalId, TokenId};
use options_api::v1::Role;
use serde::Serialize;
use service_error::{Code, ServiceError};
use uuid::Uuid;

/// The states of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum State {
    /// Waits for a runner.
    Queued = 0,
    /// A runner holds its lease.
    Running = 1,
    /// Waits for `resume`.
    Paused = 2,
    /// Done.
    Completed = 3,
    /// Gave up; `retry` queues it again.
    Failed = 4,
    /// Given up by somebody; `retry` queues it again.
    Cancelled = 5,
}

impl State {
    /// Every state, by its number.
    pub const ALL: [Self; 6] =
        [Self::Queued, Self::Running, Self::Paused, Self::Completed, Self::Failed, Self::Cancelled];

    /// As stored.
    #[must_use]
    pub const fn number(self) -> i32 {
        self as i32
    }

    /// From the stored number.
    #[must_use]
    pub fn of(number: i32) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.number() == number)
    }

    /// Nothing happens any more by itself.
    #[must_use]
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Completed | Self::Failed | Self::Cancelled)
    }

    /// For messages.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }
}

/// What somebody asked a running job to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wanted {
    Nothing = 0,
    Pause = 1,
    Cancel = 2,
}

impl Wanted {
    pub fn of(number: i32) -> Self {
        match number {
            1 => Self::Pause,
            2 => Self::Cancel,
            _ => Self::Nothing,
        }
    }
}

/// For whom a job works: what is kept of a caller, to be checked at each step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    /// The principal.
    pub principal: PrincipalId,
    /// Its name when the job was made.
    pub name: String,
    /// Its global role when the job was made.
    pub role: Role,
    /// The token it came with, so that revoking it stops the job.
    pub token: Option<TokenId>,
    /// The principal is a platform role.
    pub service: bool,
}

impl Owner {
    /// The caller's part that is kept.
    #[must_use]
    pub fn of(caller: &Caller) -> Self {
        Self {
            principal: caller.principal,
            name: caller.name.clone(),
            role: caller.role,
            token: caller.token,
            service: caller.service,
        }
    }

    /// The owner as decisions take it. It has no token to call a neighbour with.
    #[must_use]
    pub fn caller(&self) -> Caller {
        Caller {
            principal: self.principal,
            name: self.name.clone(),
            role: self.role,
            read_only: false,
            token: self.token,
            actor: None,
            service: self.service,
            jwt: Secret::new(String::new()),
            expires_at: 0,
        }
    }
}

/// Work to be queued.
#[derive(Debug, Clone)]
pub struct NewJob {
    pub(crate) kind: String,
    pub(crate) title: String,
    pub(crate) owner: Owner,
    pub(crate) key: Option<String>,
    pub(crate) arguments: String,
}

impl NewJob {
    /// Work of a kind that the service's runner knows.
    #[must_use]
    pub fn new(kind: &str, owner: Owner) -> Self {
        Self {
            kind: kind.to_owned(),
            title: String::new(),
            owner,
            key: None,
            arguments: "null".to_owned(),
        }
    }

    /// What it is about, for people.
    #[must_use]
    pub fn title(mut self, title: impl Into<String>) -> Self {
        self.title = title.into();
        self
    }

    /// At most one unfinished job has this key.
    #[must_use]
    pub fn key(mut self, key: impl Into<String>) -> Self {
        self.key = Some(key.into());
        self
    }

    /// What the handler is given.
    ///
    /// # Errors
    /// Arguments that are no JSON.
    pub fn arguments<T: Serialize>(mut self, arguments: &T) -> Result<Self, ServiceError> {
        self.arguments = json(arguments)?;
        Ok(self)
    }
}

pub(crate) fn json<T: Serialize>(value: &T) -> Result<String, ServiceError> {
    serde_json::to_string(value)
        .map_err(|err| ServiceError::internal("a job's state is no JSON").caused_by(err))
}

/// How far a job is.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Progress {
    /// What it does now.
    pub phase: String,
    /// What is counted.
    pub unit: String,
    /// So many are done,
    pub done: i64,
    /// of so many, once it is known.
    pub total: Option<i64>,
    /// Smoothed.
    pub per_second: f64,
}

impl Progress {
    /// Seconds until it is done at this rate.
    #[must_use]
    pub fn remaining_seconds(&self) -> Option<i64> {
        let left = self.total?.checked_sub(self.done).filter(|left| *left >= 0)?;
        if self.per_second <= 0.0 {
            return None;
        }
        #[allow(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            reason = "an estimate"
        )]
        let seconds = (left as f64 / self.per_second).ceil() as i64;
        Some(seconds)
    }
}

/// Why a job failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The gRPC code's number.
    pub code: i32,
    /// The machine-readable reason.
    pub reason: String,
    /// For people.
    pub message: String,
}

impl Failure {
    pub(crate) fn of(error: &ServiceError) -> Self {
        let code = match error.code() {
            Code::Cancelled => 1,
            Code::InvalidArgument => 3,
            Code::DeadlineExceeded => 4,
            Code::NotFound => 5,
            Code::AlreadyExists => 6,
            Code::PermissionDenied => 7,
            Code::ResourceExhausted => 8,
            Code::FailedPrecondition => 9,
            Code::Conflict => 10,
            Code::Unimplemented => 12,
            Code::Internal => 13,
            Code::Unavailable => 14,
            Code::DataLoss => 15,
            Code::Unauthenticated => 16,
        };
        Self { code, reason: error.reason_text().to_owned(), message: error.message().to_owned() }
    }
}

/// One item that a job could not do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ItemError {
    /// E.g. a path.
    pub item: String,
    /// Why.
    pub message: String,
    /// When.
    pub at: i64,
}

/// A job as it stands.
#[derive(Debug, Clone, PartialEq)]
pub struct Job {
    /// Sorts by creation.
    pub id: Uuid,
    /// What the runner does.
    pub kind: String,
    /// What it is about.
    pub title: String,
    /// Where it stands.
    pub state: State,
    /// For whom.
    pub owner: Owner,
    /// JSON of the handler's arguments.
    pub arguments: String,
    /// JSON of the last step.
    pub checkpoint: Option<String>,
    /// How far it is.
    pub progress: Progress,
    /// Starts since its last checkpoint.
    pub attempt: i32,
    /// Of the lease that was last given.
    pub lease_epoch: i64,
    /// All failures of single items.
    pub item_errors: i64,
    /// A pause or a cancellation was asked for.
    pub stopping: bool,
    /// Why it failed.
    pub failure: Option<Failure>,
    /// Why it does not go on: nothing can be stored of it.
    pub waiting: Option<String>,
    /// Numbers it ended with.
    pub result: BTreeMap<String, i64>,
    /// Grows with each change.
    pub revision: i64,
    /// Microseconds.
    pub created_at: i64,
    /// First start.
    pub started_at: Option<i64>,
    /// When it ended.
    pub ended_at: Option<i64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_come_back_from_their_numbers() {
        for state in State::ALL {
            assert_eq!(State::of(state.number()), Some(state), "{}", state.word());
        }
        assert_eq!(State::of(6), None);
    }

    #[test]
    fn what_remains_is_known_once_total_and_rate_are() {
        let mut progress = Progress { done: 10, total: Some(40), ..Progress::default() };
        assert_eq!(progress.remaining_seconds(), None);
        progress.per_second = 4.0;
        assert_eq!(progress.remaining_seconds(), Some(8));
        progress.total = None;
        assert_eq!(progress.remaining_seconds(), None);
    }
}
