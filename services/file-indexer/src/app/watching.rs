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
use tokio::time::Instant;

use super::locations::blocking;
use super::{Indexer, ScanArguments};
use crate::model::Location;

/// Locations that begin or cease to be watched are noticed so soon.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// A location that can't be watched is looked at so often, and one that is
/// watched too: a hint may be lost.
const WITHOUT_HINTS: Duration = Duration::from_secs(300);
/// A root that is watched is seen to have gone away, or to be another one, so soon.
const ROOT_EVERY: Duration = Duration::from_secs(5);
/// A root that is away is looked for after so long, then less often, to no less than this.
const BACK_FIRST: Duration = Duration::from_secs(1);
const BACK_LAST: Duration = Duration::from_secs(10);

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
            let root = self.root_when_there(&location).await;
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
            // While it is the same root: another one, or one that was away, is watched anew.
            while self.is_next_look(&location, root, watch.as_ref()).await {
                self.scan_for_watch(&location).await;
            }
        }
    }

    /// Waits for the root; one scan says that it is away.
    async fn root_when_there(&self, location: &Location) -> (i64, i64) {
        let mut wait = BACK_FIRST;
        loop {
            if let Some(root) = self.root_of(location).await {
                return root;
            }
            if wait == BACK_FIRST {
                self.scan_for_watch(location).await;
            }
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(BACK_LAST);
        }
    }

    async fn root_of(&self, location: &Location) -> Option<(i64, i64)> {
        self.source(location).await.ok().map(|source| source.identity())
    }

    /// Waits for a hint, or for the time to look without one; false when the root is not what it
    /// was.
    async fn is_next_look(
        &self,
        location: &Location,
        root: (i64, i64),
        watch: Option<&Watch>,
    ) -> bool {
        let at = Instant::now() + WITHOUT_HINTS;
        loop {
            let hint = async {
                match watch {
                    Some(watch) => watch.changed().await,
                    None => std::future::pending().await,
                }
            };
            let is_heard = tokio::time::timeout(ROOT_EVERY, hint).await.is_ok();
            if self.root_of(location).await != Some(root) {
                return false;
            }
            if is_heard || Instant::now() >= at {
                return true;
            }
        }
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
