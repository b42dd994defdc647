//! Locations of the server that are watched: a hint becomes a scan, which says
//! what is so.

use std::collections::HashMap;
use std::path::PathBuf;
use std::time::Duration;

use file_watch::Watch;
use jobs::{NewJob, Owner};
use options_api::v1::Role;
use service_error::ServiceError;
use tokio::task::JoinHandle;

use super::locations::blocking;
use super::{Indexer, ScanArguments};
use crate::model::Location;

/// Locations that begin or cease to be watched are noticed so soon.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// A location that can't be watched is looked at so often, and one that is
/// watched too: a hint may be lost.
const WITHOUT_HINTS: Duration = Duration::from_secs(300);

/// What watches one location; ends when it is dropped.
struct Watching(JoinHandle<()>);

impl Drop for Watching {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Indexer {
    /// Watches what is to be watched, for ever.
    pub async fn watch_locations(&self) {
        let mut watched: HashMap<i64, (String, Watching)> = HashMap::new();
        loop {
            match self.store.watched_locations().await {
                Ok(wanted) => {
                    watched.retain(|id, (path, watching)| {
                        let is_wanted = wanted.iter().any(|one| one.id == *id && one.path == *path);
                        is_wanted && !watching.0.is_finished()
                    });
                    for location in wanted {
                        watched.entry(location.id).or_insert_with(|| {
                            let (indexer, path) = (self.clone(), location.path.clone());
                            let watching = async move { indexer.watch_one(location).await };
                            (path, Watching(tokio::spawn(watching)))
                        });
                    }
                }
                Err(error) => tracing::warn!(%error, "watched locations can't be listed"),
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    async fn watch_one(&self, location: Location) {
        loop {
            if location.is_bucket() {
                // Nothing tells of it: it is looked at by the clock.
                self.scan_for_watch(&location).await;
                tokio::time::sleep(WITHOUT_HINTS).await;
                continue;
            }
            let path = PathBuf::from(&location.path);
            let begun = blocking(move || {
                Watch::begin(&path).map_err(|error| {
                    ServiceError::precondition(error.to_string()).reason("NOT_WATCHED")
                })
            });
            let watch = match begun.await {
                Ok(watch) => {
                    tracing::debug!(location = %location.uuid, way = ?watch.way(), "it is watched");
                    Some(watch)
                }
                Err(error) => {
                    tracing::warn!(location = %location.uuid, %error, "it is looked at by the clock");
                    None
                }
            };
            // What happened before the watch began is found by a scan.
            self.scan_for_watch(&location).await;
            let Some(watch) = watch else {
                tokio::time::sleep(WITHOUT_HINTS).await;
                continue;
            };
            while self.is_sound(&location).await {
                drop(tokio::time::timeout(WITHOUT_HINTS, watch.changed()).await);
                self.scan_for_watch(&location).await;
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// A root that is away has lost its watches: they are begun anew.
    async fn is_sound(&self, location: &Location) -> bool {
        self.source(location).await.is_ok()
    }

    /// One scan at a time: a hint while one is under way asks for another when
    /// it has ended.
    async fn scan_for_watch(&self, location: &Location) {
        let arguments = ScanArguments {
            location: location.id,
            mode: location.mode as i32,
            accept_removals: false,
        };
        let owner = Owner {
            principal: location.owner,
            name: String::new(),
            role: Role::User,
            token: None,
            service: false,
        };
        let job = NewJob::new("scan", owner)
            .title(&location.path)
            .key(format!("location:{}", location.id))
            .arguments(&arguments);
        let submitted = async {
            let job = self.jobs.submit(job?).await?;
            while self.jobs.find(job.id).await?.is_some_and(|job| !job.state.is_final()) {
                tokio::time::sleep(LOOK_EVERY / 4).await;
            }
            Ok::<_, ServiceError>(())
        };
        if let Err(error) = submitted.await {
            tracing::warn!(location = %location.uuid, %error, "a watched location was not scanned");
        }
    }
}
