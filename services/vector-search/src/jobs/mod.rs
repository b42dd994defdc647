//! Background work: following changes, upkeep of indexes, sweeping.

use std::time::Duration;

use ::jobs::{Job as Durable, Jobs, Runner, RunnerSettings};
use futures::FutureExt;
use service_channel::Job;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::app::{App, EMBED, LOAD};

const UPKEEP_INTERVAL: Duration = Duration::from_millis(500);
const SWEEP_INTERVAL: Duration = Duration::from_secs(5);
const FORGET_INTERVAL: Duration = Duration::from_secs(300);

/// The vector search's jobs, until `shutdown`.
pub fn all(app: &App, poll: Duration, shutdown: &CancellationToken) -> Vec<Job> {
    let (polling, keeping, sweeping, forgetting) =
        (app.clone(), app.clone(), app.clone(), app.clone());
    let end = || shutdown.clone();
    let (poll_end, upkeep_end, sweep_end, forget_end) = (end(), end(), end(), end());
    vec![
        Job::new("vectors.poll", async move {
            poll_end.run_until_cancelled(follow(polling, poll)).await;
        }),
        Job::new("vectors.upkeep", async move {
            upkeep_end.run_until_cancelled(keep_up(keeping)).await;
        }),
        Job::new("vectors.sweep", async move {
            sweep_end.run_until_cancelled(sweep(sweeping)).await;
        }),
        Job::new("vectors.forget", async move {
            forget_end.run_until_cancelled(forget(forgetting)).await;
        }),
    ]
}

/// What does durable jobs.
pub fn runner(app: &App, durable: Jobs) -> Runner {
    let (checking, loading, embedding) = (app.clone(), app.clone(), app.clone());
    let check = move |job: &Durable| {
        let (app, job) = (checking.clone(), job.clone());
        async move { app.check_job(&job).await }.boxed()
    };
    Runner::new(durable, RunnerSettings::default(), std::sync::Arc::new(check))
        .on(LOAD, move |work| {
            let app = loading.clone();
            async move { app.run_load(work).await }
        })
        .on(EMBED, move |work| {
            let app = embedding.clone();
            async move { app.run_embed(work).await }
        })
}

async fn follow(app: App, poll: Duration) {
    let mut ticks = interval(poll);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        if let Err(error) = app.poll().await {
            tracing::debug!(%error, "changes could not be looked for");
        }
    }
}

async fn keep_up(app: App) {
    let mut ticks = interval(UPKEEP_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        app.upkeep().await;
    }
}

async fn sweep(app: App) {
    let mut ticks = interval(SWEEP_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        if let Err(error) = app.cascade().await {
            tracing::debug!(%error, "owners of spaces could not be looked for");
        }
        if let Err(error) = app.purge_deleted().await {
            tracing::warn!(%error, "deleted spaces could not be removed");
        }
    }
}

async fn forget(app: App) {
    let mut ticks = interval(FORGET_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        match app.forget_changes().await {
            Ok(0) => {}
            Ok(changes) => tracing::info!(changes, "old changes were forgotten"),
            Err(error) => tracing::warn!(%error, "old changes could not be forgotten"),
        }
    }
}
