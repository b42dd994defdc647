//! The flush of what waits, compaction, and the end of what the blocks have held
//! for long enough.

use std::time::Duration;

use service_channel::Job;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::app::App;

/// Branches are looked at this often, and whenever a writer asks for it.
const FLUSH_INTERVAL: Duration = Duration::from_secs(1);
const TRIM_INTERVAL: Duration = Duration::from_secs(300);

/// The jobs of the row delta, until `shutdown`.
pub fn jobs(app: &App, shutdown: &CancellationToken) -> Vec<Job> {
    let (flusher, flushing) = (app.clone(), shutdown.clone());
    let (trimmer, trimming) = (app.clone(), shutdown.clone());
    let (compactor, compacting) = (app.clone(), shutdown.clone());
    vec![
        Job::new("item-store.flush", async move {
            flushing.run_until_cancelled(flush(flusher)).await;
        }),
        Job::new("item-store.trim", async move {
            trimming.run_until_cancelled(trim(trimmer)).await;
        }),
        Job::new("item-store.compact", async move {
            compacting.run_until_cancelled(compact(compactor)).await;
        }),
    ]
}

async fn flush(app: App) {
    let mut tick = interval(FLUSH_INTERVAL);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = tick.tick() => {}
            () = app.flush_asked_for() => {}
        }
        if let Err(error) = app.flush_due().await {
            tracing::warn!(%error, "the row delta could not be looked at; tried again");
        }
    }
}

async fn trim(app: App) {
    let mut tick = interval(TRIM_INTERVAL);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        match app.trim_delta().await {
            Ok(0) => {}
            Ok(rows) => tracing::debug!(rows, "absorbed changes were trimmed"),
            Err(error) => tracing::warn!(%error, "the row delta could not be trimmed"),
        }
    }
}

async fn compact(app: App) {
    let Some(every) = app.compaction_interval() else { return };
    let mut tick = interval(every);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        // As long as there is something worth it.
        loop {
            match app.compact_all().await {
                Ok(0) => break,
                Ok(datasets) => tracing::info!(datasets, "blocks were merged"),
                Err(error) => {
                    tracing::warn!(%error, "no dataset could be compacted; tried again later");
                    break;
                }
            }
        }
    }
}
