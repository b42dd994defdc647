//! Background work: what waits for identity and for webhooks, and what nobody
//! needs any more.

use std::sync::Arc;
use std::time::Duration;

use ::jobs::{Job as Durable, Runner, RunnerSettings};
use futures::FutureExt;
use service_channel::Job;
use tokio::time::{MissedTickBehavior, interval, sleep};
use tokio_util::sync::CancellationToken;

use crate::app::{COLLECT_JOB, Collected, Registry, SCAN_JOB};

const OUTBOX_INTERVAL: Duration = Duration::from_secs(1);
const WEBHOOK_INTERVAL: Duration = Duration::from_millis(500);
const GARBAGE_INTERVAL: Duration = Duration::from_secs(900);
const OUTBOX_DELAY_MAX: Duration = Duration::from_secs(30);

/// The registry's jobs, until `shutdown`.
pub fn jobs(registry: &Registry, shutdown: &CancellationToken) -> Vec<Job> {
    let (delivering, end) = (registry.clone(), shutdown.clone());
    let (sending, send_end) = (registry.clone(), shutdown.clone());
    let (collecting, collect_end) = (registry.clone(), shutdown.clone());
    vec![
        Job::new("model-registry.outbox", async move {
            end.run_until_cancelled(deliver_outbox(delivering)).await;
        }),
        Job::new("model-registry.webhooks", async move {
            send_end.run_until_cancelled(send_webhooks(sending)).await;
        }),
        Job::new("model-registry.garbage", async move {
            collect_end.run_until_cancelled(collect_garbage(collecting)).await;
        }),
    ]
}

/// What does durable jobs.
#[must_use]
pub fn runner(registry: &Registry) -> Runner {
    let (checking, scanning, collecting) = (registry.clone(), registry.clone(), registry.clone());
    let check = move |job: &Durable| {
        let (registry, job) = (checking.clone(), job.clone());
        async move { registry.check_job(&job).await }.boxed()
    };
    Runner::new(registry.jobs().clone(), RunnerSettings::default(), Arc::new(check))
        .on(SCAN_JOB, move |work| {
            let registry = scanning.clone();
            async move { registry.run_scan(work).await }
        })
        .on(COLLECT_JOB, move |work| {
            let registry = collecting.clone();
            async move { registry.run_collection(work).await }
        })
}

/// Sends events to webhooks as they are due.
async fn send_webhooks(registry: Registry) {
    loop {
        match registry.send_due().await {
            Ok(true) => {}
            Ok(false) => sleep(WEBHOOK_INTERVAL).await,
            Err(error) => {
                tracing::warn!(%error, "webhooks could not be sent; tried again soon");
                sleep(OUTBOX_DELAY_MAX).await;
            }
        }
    }
}

/// Removes what nobody needs, each quarter of an hour.
async fn collect_garbage(registry: Registry) {
    let mut ticks = interval(GARBAGE_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        match registry.collect_garbage(None).await {
            Ok(done) if done == Collected::default() => {}
            Ok(done) => tracing::info!(?done, "garbage was collected"),
            Err(error) => tracing::warn!(%error, "garbage could not be collected; later again"),
        }
        match registry.leave_gone_namespaces().await {
            Ok(0) => {}
            Ok(models) => tracing::warn!(models, "models of namespaces that are gone"),
            Err(error) => tracing::warn!(%error, "namespaces could not be compared; later again"),
        }
        if let Err(error) = registry.sweep_tree_uploads().await {
            tracing::warn!(%error, "ended uploads could not be swept; later again");
        }
        if let Err(error) = registry.forget_old().await {
            tracing::warn!(%error, "old deliveries could not be forgotten; later again");
        }
    }
}

/// Tries each second; while identity is away, ever more rarely.
async fn deliver_outbox(registry: Registry) {
    let mut delay = OUTBOX_INTERVAL;
    loop {
        sleep(delay).await;
        delay = match registry.deliver_outbox().await {
            Ok(()) => OUTBOX_INTERVAL,
            Err(error) => {
                tracing::warn!(%error, "models wait for identity");
                (delay * 2).min(OUTBOX_DELAY_MAX)
            }
        };
    }
}
