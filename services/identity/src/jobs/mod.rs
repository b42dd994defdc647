//! Background work: following commits, writing denials, tidying.

use std::sync::Arc;
use std::time::Duration;

use service_channel::Job;
use service_error::ServiceError;
use tokio::time::{MissedTickBehavior, interval, sleep};
use tokio_util::sync::CancellationToken;

use crate::app::Identity;

const FLUSH_EVERY: Duration = Duration::from_secs(1);
const RELOAD_EVERY: Duration = Duration::from_secs(60);
const TIDY_EVERY: Duration = Duration::from_secs(3_600);
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Everything that runs beside the calls, until `shutdown`.
pub fn all(identity: &Arc<Identity>, shutdown: &CancellationToken) -> Vec<Job> {
    let of = || (Arc::clone(identity), shutdown.clone());
    let (follower, follower_end) = of();
    let (flusher, flusher_end) = of();
    let (reloader, reloader_end) = of();
    let (tidier, tidier_end) = of();
    vec![
        Job::new("identity.feed", follow(follower, follower_end)),
        Job::new("identity.denials", flush(flusher, flusher_end)),
        Job::new(
            "identity.keys",
            every(RELOAD_EVERY, reloader_end, async move || {
                said("reload the keys", reloader.reload_keys().await)
            }),
        ),
        Job::new(
            "identity.tidy",
            every(TIDY_EVERY, tidier_end, async move || said("tidy", tidier.tidy().await)),
        ),
    ]
}

async fn follow(identity: Arc<Identity>, shutdown: CancellationToken) {
    let work = async {
        loop {
            if let Err(error) = identity.follow_commits().await {
                said("follow the changes", Err(error));
                sleep(RETRY_AFTER).await;
            }
        }
    };
    shutdown.run_until_cancelled(work).await;
}

/// Flushes once more at the end, for what was denied last.
async fn flush(identity: Arc<Identity>, shutdown: CancellationToken) {
    let flusher = Arc::clone(&identity);
    every(FLUSH_EVERY, shutdown, async move || {
        said("write denials", flusher.flush_denials().await)
    })
    .await;
    said("write the last denials", identity.flush_denials().await);
}

async fn every(period: Duration, shutdown: CancellationToken, work: impl AsyncFn() + Send) {
    let mut ticks = interval(period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            _ = ticks.tick() => {}
        }
        work().await;
    }
}

fn said(what: &str, result: Result<(), ServiceError>) {
    if let Err(error) = result {
        tracing::warn!(
            error = &error as &dyn std::error::Error,
            "could not {what}; it is tried again"
        );
    }
}
