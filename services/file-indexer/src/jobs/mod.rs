//! Background work: scans and verifications, and what could not be finished.

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use jobs::Runner;
use service_channel::Job;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::app::Indexer;

const TIDY_INTERVAL: Duration = Duration::from_secs(5);

/// The file indexer's jobs, until `shutdown`.
pub fn all(indexer: &Indexer, shutdown: &CancellationToken) -> Vec<Job> {
    let asked = indexer.clone();
    let check: ::jobs::Check = Arc::new(move |job| {
        let (indexer, job) = (asked.clone(), job.clone());
        async move { indexer.may_go_on(&job).await }.boxed()
    });
    let (scanning, verifying, tidying) = (indexer.clone(), indexer.clone(), indexer.clone());
    let importing = indexer.clone();
    let runner = Runner::new(indexer.jobs().clone(), indexer.settings().runner(), check)
        .on("scan", move |work| {
            let indexer = scanning.clone();
            async move { indexer.run_scan(work).await }
        })
        .on("verify", move |work| {
            let indexer = verifying.clone();
            async move { indexer.run_verify(work).await }
        })
        .on("import", move |work| {
            let indexer = importing.clone();
            async move { indexer.run_import(work).await }
        });
    let (end, watching, unwatched) = (shutdown.clone(), indexer.clone(), shutdown.clone());
    vec![
        runner.start(shutdown.clone()),
        Job::new("file-indexer.tidy", async move {
            end.run_until_cancelled(tidy(tidying)).await;
        }),
        Job::new("file-indexer.watch", async move {
            unwatched.run_until_cancelled(watching.watch_locations()).await;
        }),
    ]
}

async fn tidy(indexer: Indexer) {
    let mut ticks = interval(TIDY_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        if let Err(error) = indexer.tidy_up().await {
            tracing::warn!(%error, "locations wait for identity, or to be forgotten");
        }
    }
}
