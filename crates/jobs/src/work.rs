//! What a handler sees of the job it runs.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use serde::Serialize;
use serde::de::DeserializeOwned;
use service_error::ServiceError;
use sql_store::now_micros;
use tokio_util::sync::CancellationToken;

use crate::Jobs;
use crate::model::{ItemError, Job, Progress, Wanted};
use crate::runner::Check;
use crate::store::Beat;

/// Errors of single items between two beats.
const PENDING_ERRORS_MAX: usize = 1_000;
const MESSAGE_CHARS_MAX: usize = 500;
const ITEM_CHARS_MAX: usize = 4_200;

/// Numbers that a job ends with.
pub type JobResult = Result<BTreeMap<String, i64>, Interrupt>;

/// Why a handler ends before its work does.
#[derive(Debug)]
pub enum Interrupt {
    /// Somebody paused or cancelled the job, the process ends, or the lease is
    /// lost: the runner knows which.
    Stopped,
    /// It failed. A retryable error is tried again later.
    Failed(ServiceError),
}

impl From<ServiceError> for Interrupt {
    fn from(error: ServiceError) -> Self {
        Self::Failed(error)
    }
}

/// Why a run has to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stop {
    Pause,
    Cancel,
    Shutdown,
    Lost,
}

/// A running job. Clones are the same one.
#[derive(Clone)]
pub struct Work {
    inner: Arc<Inner>,
}

struct Inner {
    job: Job,
    jobs: Jobs,
    check: Check,
    lease_micros: i64,
    stopping: CancellationToken,
    told: Mutex<Told>,
}

struct Told {
    progress: Progress,
    /// What was done when, at the last beat: for the rate.
    last: (i64, i64),
    errors: Vec<ItemError>,
    uncounted: i64,
    stop: Option<Stop>,
}

impl std::fmt::Debug for Work {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Work").field("job", &self.inner.job.id).finish_non_exhaustive()
    }
}

impl Work {
    pub(crate) fn new(jobs: Jobs, job: Job, check: Check, lease_micros: i64) -> Self {
        let told = Told {
            progress: job.progress.clone(),
            last: (job.progress.done, now_micros()),
            errors: Vec::new(),
            uncounted: 0,
            stop: None,
        };
        let stopping = CancellationToken::new();
        Self {
            inner: Arc::new(Inner { job, jobs, check, lease_micros, stopping, told: told.into() }),
        }
    }

    /// The job as it was claimed.
    #[must_use]
    pub fn job(&self) -> &Job {
        &self.inner.job
    }

    /// The epoch of the lease, for `WHERE lease_epoch = mine`.
    #[must_use]
    pub fn epoch(&self) -> i64 {
        self.inner.job.lease_epoch
    }

    /// What the job was submitted with.
    ///
    /// # Errors
    /// Arguments of another shape: those of another version.
    pub fn arguments<T: DeserializeOwned>(&self) -> Result<T, ServiceError> {
        serde_json::from_str(&self.inner.job.arguments).map_err(|err| {
            ServiceError::precondition("the job was made by another version; submit it again")
                .reason("JOB_ARGUMENTS")
                .caused_by(err)
        })
    }

    /// What the last step left, unless this is the first run.
    ///
    /// # Errors
    /// A checkpoint of another shape.
    pub fn checkpoint<T: DeserializeOwned>(&self) -> Result<Option<T>, ServiceError> {
        let text = self.inner.job.checkpoint.as_deref();
        text.map(serde_json::from_str).transpose().map_err(|err| {
            ServiceError::precondition(
                "the job's checkpoint is of another version; submit it again",
            )
            .reason("JOB_CHECKPOINT")
            .caused_by(err)
        })
    }

    /// Names what is done now and what is counted.
    pub fn phase(&self, phase: &str, unit: &str) {
        let mut told = self.told();
        phase.clone_into(&mut told.progress.phase);
        unit.clone_into(&mut told.progress.unit);
        told.progress.done = 0;
        told.progress.total = None;
        told.progress.per_second = 0.0;
        told.last = (0, now_micros());
    }

    /// So many are done, of so many if it is known.
    pub fn progress(&self, done: i64, total: Option<i64>) {
        let mut told = self.told();
        told.progress.done = done;
        told.progress.total = total;
    }

    /// One item could not be done; the job goes on.
    pub fn item_failed(&self, item: &str, message: &str) {
        let mut told = self.told();
        if told.errors.len() >= PENDING_ERRORS_MAX {
            told.uncounted += 1;
            return;
        }
        let cut = |text: &str, max: usize| -> String {
            text.chars().map(|c| if c == '\0' { '\u{fffd}' } else { c }).take(max).collect()
        };
        let (item, message) = (cut(item, ITEM_CHARS_MAX), cut(message, MESSAGE_CHARS_MAX));
        told.errors.push(ItemError { item, message, at: now_micros() });
    }

    /// Whether to stop soon: go to the next [`Self::step`].
    #[must_use]
    pub fn is_stopping(&self) -> bool {
        self.inner.stopping.is_cancelled()
    }

    /// Fires when the run has to stop.
    #[must_use]
    pub fn stopping(&self) -> CancellationToken {
        self.inner.stopping.clone()
    }

    /// Makes what is done durable, checks that the owner still may, and says
    /// when to stop: the end of one step of the job. `checkpoint` is what a
    /// later run begins with.
    ///
    /// # Errors
    /// [`Interrupt::Stopped`] for a pause, a cancellation, the end of the
    /// process or a lost lease; the owner's denial; the database's.
    pub async fn step<T: Serialize>(&self, checkpoint: &T) -> Result<(), Interrupt> {
        let text = crate::model::json(checkpoint)?;
        self.beat(Some(text)).await?;
        if self.is_stopping() {
            return Err(Interrupt::Stopped);
        }
        (self.inner.check)(&self.inner.job).await?;
        Ok(())
    }

    /// Renews the lease and hears what is wanted.
    pub(crate) async fn beat(&self, checkpoint: Option<String>) -> Result<(), ServiceError> {
        let now = now_micros();
        let (progress, errors, errors_uncounted) = {
            let mut told = self.told();
            told.measure(now);
            let errors = std::mem::take(&mut told.errors);
            (told.progress.clone(), errors, std::mem::take(&mut told.uncounted))
        };
        let beat = Beat {
            id: self.inner.job.id,
            epoch: self.inner.job.lease_epoch,
            lease_until: now + self.inner.lease_micros,
            progress: &progress,
            errors,
            errors_uncounted,
            checkpoint,
        };
        match self.inner.jobs.beat(beat).await? {
            None => self.stop(Stop::Lost),
            Some(Wanted::Pause) => self.stop(Stop::Pause),
            Some(Wanted::Cancel) => self.stop(Stop::Cancel),
            Some(Wanted::Nothing) => {}
        }
        Ok(())
    }

    /// Asks the run to stop. Losing the lease outweighs all; else the first
    /// reason stays, but that a cancellation outweighs a pause.
    pub(crate) fn stop(&self, stop: Stop) {
        let mut told = self.told();
        let outweighs = match told.stop {
            None => true,
            Some(Stop::Lost) => false,
            Some(_) => stop == Stop::Lost || stop == Stop::Cancel,
        };
        if outweighs {
            told.stop = Some(stop);
        }
        drop(told);
        self.inner.stopping.cancel();
    }

    pub(crate) fn why_stopped(&self) -> Option<Stop> {
        self.told().stop
    }

    fn told(&self) -> std::sync::MutexGuard<'_, Told> {
        self.inner.told.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Told {
    /// The rate since the last beat, smoothed over some of them.
    fn measure(&mut self, now: i64) {
        const FRESH: f64 = 0.3;
        const LEAST_MICROS: i64 = 200_000;
        let (done, at) = self.last;
        if now - at < LEAST_MICROS {
            return;
        }
        #[allow(clippy::cast_precision_loss, reason = "an estimate")]
        let rate = (self.progress.done - done) as f64 * 1e6 / (now - at) as f64;
        let known = self.progress.per_second;
        self.progress.per_second =
            if known > 0.0 { known * (1.0 - FRESH) + rate.max(0.0) * FRESH } else { rate.max(0.0) };
        self.last = (self.progress.done, now);
    }
}
