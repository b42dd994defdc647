//! Background work: events that wait for identity, and what is old enough to
//! be forgotten.

use std::time::Duration;

use service_channel::Job;
use tokio::time::{MissedTickBehavior, interval, sleep};
use tokio_util::sync::CancellationToken;

use crate::app::Catalog;

const OUTBOX_INTERVAL: Duration = Duration::from_secs(1);
const OUTBOX_DELAY_MAX: Duration = Duration::from_secs(30);
const FORGET_INTERVAL: Duration = Duration::from_secs(3_600);

/// The catalog's jobs, until `shutdown`.
pub fn jobs(catalog: &Catalog, shutdown: &CancellationToken) -> Vec<Job> {
    let (delivering, forgetting) = (catalog.clone(), catalog.clone());
    let (deliver_end, forget_end) = (shutdown.clone(), shutdown.clone());
    vec![
        Job::new("catalog.outbox", async move {
            deliver_end.run_until_cancelled(deliver_outbox(delivering)).await;
        }),
        Job::new("catalog.forget", async move {
            forget_end.run_until_cancelled(forget_old(forgetting)).await;
        }),
    ]
}

/// Tries each second; while identity is away, ever more rarely.
async fn deliver_outbox(catalog: Catalog) {
    let mut delay = OUTBOX_INTERVAL;
    loop {
        sleep(delay).await;
        delay = match catalog.deliver_outbox().await {
            Ok(()) => OUTBOX_INTERVAL,
            Err(error) => {
                tracing::warn!(%error, "events wait for identity");
                (delay * 2).min(OUTBOX_DELAY_MAX)
            }
        };
    }
}

async fn forget_old(catalog: Catalog) {
    let mut ticks = interval(FORGET_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        match catalog.forget_old().await {
            Ok(0) => {}
            Ok(rows) => tracing::info!(rows, "old uploads, keys and events were forgotten"),
            Err(error) => {
                tracing::warn!(%error, "old rows could not be forgotten; tried again in an hour")
            }
        }
    }
}
