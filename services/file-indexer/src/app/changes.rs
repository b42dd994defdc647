//! The change log of a location, in pages or as a stream.

use std::sync::Arc;
use std::time::{Duration, Instant};

use caller::Caller;
use futures::{Stream, stream};
use options_api::v1::Level;
use service_error::ServiceError;

use super::Indexer;
use crate::model::Location;
use crate::store::{Change, Log};

const LIST_ACTION: &str = "quarry.files.v1.ChangesService/ListChanges";
const WATCH_ACTION: &str = "quarry.files.v1.ChangesService/WatchChanges";
/// Changes of one message.
const AT_ONCE: u32 = 500;
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// Rights of a stream are looked at again.
const ALLOW_FOR: Duration = Duration::from_secs(4);

/// A page of the log.
#[derive(Debug)]
pub struct Changed {
    pub location: Location,
    pub changes: Vec<Change>,
    /// To go on after.
    pub next: i64,
    pub newest: i64,
    /// What lies before is not kept one by one.
    pub reset: bool,
}

impl Changed {
    fn of(location: Location, after: i64, log: Log) -> Self {
        match log {
            Log::Reset(newest) => {
                Self { location, changes: Vec::new(), next: newest, newest, reset: true }
            }
            Log::Changes(changes, newest) => {
                let next = changes.last().map_or(after, |last| last.seq);
                Self { location, changes, next, newest, reset: false }
            }
        }
    }
}

/// Where a stream is.
struct Watch {
    indexer: Indexer,
    caller: Arc<Caller>,
    location: Location,
    after: i64,
    allowed: Instant,
}

impl Indexer {
    /// Up to `limit` changes after a number.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn changes(
        &self,
        caller: &Caller,
        location: &str,
        after: i64,
        limit: u32,
    ) -> Result<Changed, ServiceError> {
        let location = self.location_for(caller, Level::Read, location, LIST_ACTION).await?;
        let log = self.store.changes(location.id, after, limit).await?;
        Ok(Changed::of(location, after, log))
    }

    /// Changes after a number, as they come; ends with the caller's right.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn watch_changes(
        &self,
        caller: Arc<Caller>,
        location: &str,
        after: i64,
    ) -> Result<impl Stream<Item = Result<Changed, ServiceError>> + Send + use<>, ServiceError>
    {
        let location = self.location_for(&caller, Level::Read, location, WATCH_ACTION).await?;
        let watch =
            Watch { indexer: self.clone(), caller, location, after, allowed: Instant::now() };
        Ok(stream::unfold(Some(watch), |watch| async move {
            let mut watch = watch?;
            match watch.next().await {
                Ok(changed) => Some((Ok(changed), Some(watch))),
                Err(error) => Some((Err(error), None)),
            }
        }))
    }
}

impl Watch {
    async fn next(&mut self) -> Result<Changed, ServiceError> {
        loop {
            if self.allowed.elapsed() > ALLOW_FOR {
                let (location, id) = (&self.location, self.location.uuid.to_string());
                self.indexer
                    .require(&self.caller, Level::Read, location, &id, WATCH_ACTION)
                    .await?;
                self.allowed = Instant::now();
            }
            let log = self.indexer.store.changes(self.location.id, self.after, AT_ONCE).await?;
            let changed = Changed::of(self.location.clone(), self.after, log);
            if changed.reset || !changed.changes.is_empty() {
                self.after = changed.next;
                return Ok(changed);
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
}
