//! The same behaviour on both databases.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod leases;
mod life;
mod surface;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use caller::{Caller, Secret};
use ids::PrincipalId;
use options_api::v1::Role;
use sea_orm_migration::prelude::{MigrationTrait, MigratorTrait, async_trait};
use sql_store::{SqlSettings, SqlStore, testing};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::model::{Job, NewJob, Owner, State};
use crate::{Check, Jobs, Runner, RunnerSettings, Work};

struct Sample;

#[async_trait::async_trait]
impl MigratorTrait for Sample {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        vec![Box::new(crate::Migration)]
    }
}

async fn on_each<F: Future<Output = ()>>(case: impl Fn(Jobs) -> F) {
    let dir = tempfile::tempdir().unwrap();
    for settings in testing::databases(dir.path()).await.unwrap() {
        case(jobs(&settings).await).await;
    }
}

async fn jobs(settings: &SqlSettings) -> Jobs {
    let sql = SqlStore::open(settings, "sample").await.unwrap();
    sql.migrate::<Sample>().await.unwrap();
    Jobs::new(sql, "sample")
}

fn somebody(role: Role) -> Caller {
    Caller {
        principal: PrincipalId::new(),
        name: "ada".to_owned(),
        role,
        read_only: false,
        token: None,
        actor: None,
        service: false,
        jwt: Secret::new("jwt"),
        expires_at: 0,
    }
}

fn new_job() -> NewJob {
    NewJob::new("count", Owner::of(&somebody(Role::User))).title("to ten")
}

/// Beats and looks often.
fn hasty() -> RunnerSettings {
    RunnerSettings {
        lease: Duration::from_secs(5),
        beat: Duration::from_millis(20),
        poll: Duration::from_millis(20),
        attempts_max: 3,
        ..RunnerSettings::default()
    }
}

/// A handler that counts to its argument, a step each time it is let.
async fn count(work: Work, mut let_on: mpsc::Receiver<()>) -> crate::JobResult {
    let to: i64 = work.arguments()?;
    let mut at: i64 = work.checkpoint()?.unwrap_or(0);
    work.phase("counting", "numbers");
    while at < to {
        let stopping = work.stopping();
        tokio::select! {
            _ = let_on.recv() => {}
            () = stopping.cancelled() => {}
        }
        if !work.is_stopping() {
            at += 1;
        }
        work.progress(at, Some(to));
        work.step(&at).await?;
    }
    Ok([("counted".to_owned(), at)].into())
}

/// A running runner, and the string that lets its handler go a step on.
struct Running {
    step: mpsc::Sender<()>,
    shutdown: CancellationToken,
    ended: JoinHandle<()>,
}

impl Running {
    fn start(jobs: &Jobs, check: Check) -> Self {
        let (step, steps) = mpsc::channel(1_000);
        let steps = Arc::new(std::sync::Mutex::new(Some(steps)));
        let runner = Runner::new(jobs.clone(), hasty(), check).on("count", move |work| {
            let steps = steps.lock().unwrap().take().unwrap_or_else(|| mpsc::channel(1).1);
            count(work, steps)
        });
        let shutdown = CancellationToken::new();
        let ended = tokio::spawn(runner.start(shutdown.clone()).run);
        Self { step, shutdown, ended }
    }

    async fn stop(self) {
        self.shutdown.cancel();
        self.ended.await.unwrap();
    }

    /// As `kill -9` leaves it.
    async fn kill(self) {
        self.ended.abort();
        drop(self.ended.await);
    }
}

/// Waits until a job is as it should be.
async fn until(jobs: &Jobs, id: Uuid, wanted: impl Fn(&Job) -> bool) -> Job {
    let mut changed = jobs.changed();
    let waiting = async {
        loop {
            let job = jobs.find(id).await.unwrap().unwrap();
            if wanted(&job) {
                return job;
            }
            drop(tokio::time::timeout(Duration::from_millis(50), changed.changed()).await);
        }
    };
    match tokio::time::timeout(Duration::from_secs(20), waiting).await {
        Ok(job) => job,
        Err(_) => panic!("never: {:?}", jobs.find(id).await.unwrap()),
    }
}

async fn until_state(jobs: &Jobs, id: Uuid, state: State) -> Job {
    until(jobs, id, |job| job.state == state).await
}
