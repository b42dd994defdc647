//! Runs jobs: claims them, beats while they work, ends them.

use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use service_channel::Job as Background;
use service_error::{Code, ServiceError};
use sql_store::now_micros;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use crate::Jobs;
use crate::model::{Failure, Job, Owner};
use crate::store::Ending;
use crate::work::{Interrupt, JobResult, Stop, Work};

/// Whether a job's owner still may have it done; asked before it starts and at
/// each step.
pub type Check = Arc<dyn Fn(&Job) -> BoxFuture<'static, Result<(), ServiceError>> + Send + Sync>;

type Handler = Arc<dyn Fn(Work) -> BoxFuture<'static, JobResult> + Send + Sync>;

const FORGET_INTERVAL: Duration = Duration::from_secs(3_600);
const END_TRIES: u32 = 5;

/// How jobs are run.
#[derive(Debug, Clone)]
pub struct RunnerSettings {
    /// Jobs at once in this process.
    pub at_once: usize,
    /// How long a job stays with a runner that says nothing.
    pub lease: Duration,
    /// How often a runner says how far it is.
    pub beat: Duration,
    /// How often it looks for jobs that other processes queued.
    pub poll: Duration,
    /// Starts without a checkpoint between them, before a job is given up.
    pub attempts_max: i32,
    /// How long a handler may go on after it was told to stop.
    pub grace: Duration,
    /// How long ended jobs are kept.
    pub keep: Duration,
}

impl Default for RunnerSettings {
    fn default() -> Self {
        Self {
            at_once: 2,
            lease: Duration::from_secs(15),
            beat: Duration::from_secs(1),
            poll: Duration::from_secs(1),
            attempts_max: 5,
            grace: Duration::from_secs(20),
            keep: Duration::from_secs(30 * 24 * 3_600),
        }
    }
}

/// The runner of one service.
pub struct Runner {
    jobs: Jobs,
    settings: RunnerSettings,
    check: Check,
    handlers: HashMap<&'static str, Handler>,
}

impl std::fmt::Debug for Runner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Runner").field("kinds", &self.handlers.keys()).finish_non_exhaustive()
    }
}

impl Runner {
    /// A runner without handlers. `check` says whether an owner still may.
    #[must_use]
    pub fn new(jobs: Jobs, settings: RunnerSettings, check: Check) -> Self {
        Self { jobs, settings, check, handlers: HashMap::new() }
    }

    /// How jobs of a kind are done.
    #[must_use]
    pub fn on<F, Fut>(mut self, kind: &'static str, handler: F) -> Self
    where
        F: Fn(Work) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = JobResult> + Send + 'static,
    {
        self.handlers.insert(kind, Arc::new(move |work| handler(work).boxed()));
        self
    }

    /// Runs until `shutdown`; what runs then is queued again from its last step.
    #[must_use]
    pub fn start(self, shutdown: CancellationToken) -> Background {
        Background::new("jobs.runner", async move { self.run(shutdown).await })
    }

    async fn run(self, shutdown: CancellationToken) {
        if let Err(error) = self.jobs.release_of_the_dead().await {
            tracing::warn!(%error, "jobs of the process before this one wait for their leases");
        }
        let runner = Arc::new(self);
        let places = Arc::new(Semaphore::new(runner.settings.at_once.max(1)));
        let mut running = JoinSet::new();
        let mut forget_at = Instant::now();
        let mut asked = runner.jobs.asked();
        while !shutdown.is_cancelled() {
            while running.try_join_next().is_some() {}
            if Instant::now() >= forget_at {
                forget_at += FORGET_INTERVAL;
                runner.forget().await;
            }
            asked.mark_unchanged();
            if let Some((job, place)) = runner.next(&places).await {
                let (runner, shutdown) = (Arc::clone(&runner), shutdown.clone());
                running.spawn(async move {
                    runner.attend(job, &shutdown).await;
                    drop(place);
                });
                continue;
            }
            tokio::select! {
                () = shutdown.cancelled() => {}
                _ = asked.changed() => {}
                () = sleep(runner.settings.poll) => {}
            }
        }
        while running.join_next().await.is_some() {}
    }

    async fn next(&self, places: &Arc<Semaphore>) -> Option<(Job, OwnedSemaphorePermit)> {
        let place = Arc::clone(places).try_acquire_owned().ok()?;
        let kinds: Vec<&str> = self.handlers.keys().copied().collect();
        match self.jobs.claim(&kinds, micros(self.settings.lease)).await {
            Ok(job) => Some((job?, place)),
            Err(error) => {
                tracing::warn!(%error, "no job could be claimed");
                None
            }
        }
    }

    async fn forget(&self) {
        match self.jobs.forget(now_micros() - micros(self.settings.keep)).await {
            Ok(0) => {}
            Ok(jobs) => tracing::info!(jobs, "old jobs were forgotten"),
            Err(error) => tracing::warn!(%error, "old jobs could not be forgotten"),
        }
    }

    async fn attend(&self, job: Job, shutdown: &CancellationToken) {
        let (id, epoch, attempt) = (job.id, job.lease_epoch, job.attempt);
        let lease = micros(self.settings.lease);
        let work = Work::new(self.jobs.clone(), job, Arc::clone(&self.check), lease);
        let outcome = if attempt > self.settings.attempts_max {
            Err(Interrupt::Failed(
                ServiceError::internal(format!(
                    "given up after {} starts that reached no checkpoint",
                    attempt - 1
                ))
                .reason("JOB_ATTEMPTS"),
            ))
        } else {
            self.work(&work, shutdown).await
        };
        // What was told since the last beat is not lost.
        if let Err(error) = work.beat(None).await {
            tracing::warn!(job = %id, %error, "a job's last progress is not stored");
        }
        let Some(ending) = self.ending(&work, outcome) else {
            tracing::warn!(job = %id, "the lease of a job was lost");
            return;
        };
        self.end(id, epoch, ending).await;
    }

    async fn work(&self, work: &Work, shutdown: &CancellationToken) -> JobResult {
        (self.check)(work.job()).await?;
        let Some(handler) = self.handlers.get(work.job().kind.as_str()) else {
            return Err(ServiceError::internal("no handler of its kind").into());
        };
        let handled = AssertUnwindSafe(handler(work.clone())).catch_unwind();
        tokio::pin!(handled);
        let outcome = tokio::select! {
            outcome = &mut handled => Some(outcome),
            () = self.attendance(work, shutdown) => timeout(self.settings.grace, handled).await.ok(),
        };
        match outcome {
            Some(Ok(outcome)) => outcome,
            Some(Err(_)) => Err(ServiceError::internal("the job panicked").into()),
            None => Err(Interrupt::Stopped),
        }
    }

    /// Beats until the run has to stop.
    async fn attendance(&self, work: &Work, shutdown: &CancellationToken) {
        let mut asked = self.jobs.asked();
        let stopping = work.stopping();
        let mut last_heard = Instant::now();
        let mut beat_at = Instant::now() + self.settings.beat;
        loop {
            tokio::select! {
                () = stopping.cancelled() => return,
                () = shutdown.cancelled() => return work.stop(Stop::Shutdown),
                _ = asked.changed() => {}
                () = sleep_until(beat_at) => {}
            }
            beat_at = Instant::now() + self.settings.beat;
            match work.beat(None).await {
                Ok(()) => last_heard = Instant::now(),
                // Without an answer for as long as the lease, another one may have it.
                Err(_) if last_heard.elapsed() > self.settings.lease => {
                    return work.stop(Stop::Lost);
                }
                Err(error) => tracing::warn!(%error, "a job's lease could not be renewed"),
            }
        }
    }

    fn ending(&self, work: &Work, outcome: JobResult) -> Option<Ending> {
        let stop = work.why_stopped();
        if stop == Some(Stop::Lost) {
            return None;
        }
        Some(match (outcome, stop) {
            (Ok(result), _) => Ending::Completed(result),
            (Err(Interrupt::Stopped), Some(Stop::Pause)) => Ending::Paused,
            (Err(Interrupt::Stopped), Some(Stop::Cancel)) => Ending::Cancelled,
            (Err(Interrupt::Stopped), _) => Ending::Again(0),
            (Err(Interrupt::Failed(_)), Some(Stop::Cancel)) => Ending::Cancelled,
            (Err(Interrupt::Failed(error)), _) => self.failed(work.job(), &error),
        })
    }

    fn failed(&self, job: &Job, error: &ServiceError) -> Ending {
        let again = matches!(error.code(), Code::Unavailable | Code::Conflict)
            && job.attempt < self.settings.attempts_max;
        if again {
            let delay = Duration::from_millis(500 << job.attempt.clamp(0, 7));
            tracing::info!(job = %job.id, %error, "a job is tried again");
            return Ending::Again(now_micros() + micros(delay));
        }
        if matches!(error.code(), Code::Internal | Code::DataLoss) {
            let cause = std::error::Error::source(error).map(ToString::to_string);
            tracing::error!(job = %job.id, %error, cause, "a job failed");
        }
        Ending::Failed(Failure::of(error))
    }

    async fn end(&self, id: uuid::Uuid, epoch: i64, ending: Ending) {
        let mut ending = Some(ending);
        for attempt in 0..END_TRIES {
            let Some(this) = ending.take() else { return };
            let again = this.clone();
            match self.jobs.end(id, epoch, this).await {
                Ok(_) => return,
                Err(error) => {
                    tracing::warn!(job = %id, %error, "a job's end is not stored yet");
                    ending = Some(again);
                    sleep(Duration::from_millis(200 << attempt)).await;
                }
            }
        }
    }
}

impl Runner {
    /// A check that lets every owner pass, for a service whose jobs are its own.
    #[must_use]
    pub fn anybody() -> Check {
        Arc::new(|_| async { Ok(()) }.boxed())
    }

    /// A check of the owner alone: what it is asked about, as a caller.
    #[must_use]
    pub fn owner_check<F, Fut>(check: F) -> Check
    where
        F: Fn(Owner) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), ServiceError>> + Send + 'static,
    {
        Arc::new(move |job| check(job.owner.clone()).boxed())
    }
}

fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}
