//! What runs beside the calls.

mod delta;

use std::time::Duration;

use ::jobs::{Jobs, Runner, RunnerSettings};
use item_garbage::COLLECT_GARBAGE;
use service_channel::Job;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::app::App;

const KEYS_INTERVAL: Duration = Duration::from_secs(600);

/// The jobs of the item store, until `shutdown`.
#[must_use]
pub fn all(app: &App, sweep_seconds: u64, shutdown: &CancellationToken) -> Vec<Job> {
    let (sweeper, sweeping) = (app.clone(), shutdown.clone());
    let (keeper, keeping) = (app.clone(), shutdown.clone());
    let every = Duration::from_secs(sweep_seconds.max(1));
    let mut jobs = delta::jobs(app, shutdown);
    jobs.extend([
        Job::new("item-store.sweep", async move {
            sweeping.run_until_cancelled(sweep(sweeper, every)).await;
        }),
        Job::new("item-store.keys", async move {
            keeping.run_until_cancelled(rotate(keeper)).await;
        }),
    ]);
    jobs
}

/// What does durable jobs. Only admins and this role make them.
#[must_use]
pub fn runner(app: &App, durable: Jobs) -> Runner {
    let collecting = app.collector().clone();
    let (app, settings) = (app.clone(), RunnerSettings::default());
    let check = Runner::owner_check(move |owner| {
        let app = app.clone();
        async move { app.check_maintainer(&owner.caller()) }
    });
    Runner::new(durable, settings, check).on(COLLECT_GARBAGE, move |work| {
        let collector = collecting.clone();
        async move { collector.run(work).await }
    })
}

/// Collects garbage now and then; never at once, when a process starts.
#[must_use]
pub fn garbage(app: &App, durable: Jobs, shutdown: &CancellationToken) -> Job {
    let (app, shutdown) = (app.clone(), shutdown.clone());
    Job::new("item-store.garbage", async move {
        shutdown.run_until_cancelled(collect_garbage(app, durable)).await;
    })
}

async fn collect_garbage(app: App, durable: Jobs) {
    let Some(every) = app.garbage_interval() else { return };
    loop {
        tokio::time::sleep(every).await;
        if let Err(error) = app.collect_in_turn(&durable).await {
            tracing::warn!(%error, "a collection of garbage could not be queued");
        }
    }
}

async fn sweep(app: App, every: Duration) {
    let mut tick = interval(every);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        loop {
            match app.collector().sweep().await {
                Ok(0) => break,
                Ok(_) => {}
                Err(error) => {
                    tracing::warn!(%error, "abandoned uploads could not be swept");
                    break;
                }
            }
        }
    }
}

async fn rotate(app: App) {
    let mut tick = interval(KEYS_INTERVAL);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        if let Err(error) = app.rotate_keys().await {
            tracing::warn!(%error, "the sealing key could not be rotated");
        }
    }
}
