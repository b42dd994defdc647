//! The fence of a branch, held while a bulk commit is made: taken after waiting for others,
//! prolonged meanwhile, and settled by the catalog if its holder is gone.

use std::time::{Duration, Instant};

use ids::UploadId;
use row_delta::{Busy, Fence, FenceKind, Place, Taken};
use service_error::{Code, ServiceError};
use tokio::task::JoinHandle;

use crate::app::App;
use crate::app::catalog::{by_id, ourselves};

/// Two looks at a fence that somebody holds.
const WAIT_MIN: Duration = Duration::from_millis(2);
const WAIT_MAX: Duration = Duration::from_millis(100);

/// A fence that is held here. Dropped unopened, it is settled.
pub struct HeldFence {
    app: App,
    fence: Fence,
    renewing: JoinHandle<()>,
    is_open: bool,
}

impl App {
    /// Takes a branch's fence for the commit of an upload.
    ///
    /// # Errors
    /// `Conflict` with reason `FENCE_BUSY` when others hold it for too long.
    pub async fn take_fence(
        &self,
        place: Place,
        kind: FenceKind,
        upload: UploadId,
        floor: i64,
    ) -> Result<HeldFence, ServiceError> {
        let lease = self.settings.delta.fence_lease_micros();
        let begun = Instant::now();
        let mut delay = WAIT_MIN;
        loop {
            let taken = self.delta.take_fence(place, kind, upload.uuid(), floor, lease).await?;
            match taken {
                Taken::Ours(fence) => return Ok(HeldFence::keep(self.clone(), fence, lease)),
                Taken::Theirs(busy) if busy.is_expired() => self.settle(place, &busy).await?,
                Taken::Theirs(_) if begun.elapsed() > self.settings.delta.fence_wait() => {
                    return Err(busy_error());
                }
                Taken::Theirs(_) => {
                    tokio::time::sleep(delay).await;
                    delay = (delay * 2).min(WAIT_MAX);
                }
            }
        }
    }

    /// Waits until writers may go on.
    ///
    /// # Errors
    /// As [`Self::take_fence`].
    pub async fn await_fence(&self, place: Place) -> Result<(), ServiceError> {
        let begun = Instant::now();
        let mut delay = WAIT_MIN;
        loop {
            match self.delta.state(place).await?.fence {
                Some(busy) if busy.kind == FenceKind::Exclusive => {
                    if busy.is_expired() {
                        self.settle(place, &busy).await?;
                    } else if begun.elapsed() > self.settings.delta.fence_wait() {
                        return Err(busy_error());
                    }
                }
                _ => return Ok(()),
            }
            tokio::time::sleep(delay).await;
            delay = (delay * 2).min(WAIT_MAX);
        }
    }

    /// Opens the fence of a holder that is gone. The catalog says whether its
    /// commit was made; if not, it never will be.
    pub async fn settle(&self, place: Place, busy: &Busy) -> Result<(), ServiceError> {
        self.catalog.settle(busy.upload).await?;
        // What the blocks hold is what the head says, whoever committed it.
        let head = self.catalog.head(&ourselves(), by_id(place.dataset), None).await;
        let absorbed = match head {
            Ok(head) => Some(head.watermark),
            Err(error) if error.code() == Code::NotFound => None,
            Err(error) => return Err(error),
        };
        tracing::info!(dataset = %place.dataset, upload = %busy.upload, "a fence was settled");
        self.delta.open_fence(place, busy, absorbed.filter(|watermark| *watermark > 0)).await
    }
}

fn busy_error() -> ServiceError {
    let message = "another bulk write to the dataset is under way; try again shortly";
    ServiceError::conflict(message).reason("FENCE_BUSY")
}

impl HeldFence {
    fn keep(app: App, fence: Fence, lease: i64) -> Self {
        let delta = app.delta.clone();
        let every = Duration::from_micros(u64::try_from(lease / 3).unwrap_or(1).max(1));
        let renewing = tokio::spawn(async move {
            loop {
                tokio::time::sleep(every).await;
                match delta.renew_fence(&fence, lease).await {
                    Ok(()) => {}
                    // Its commit will be refused: the upload was settled.
                    Err(error) if error.code() == Code::Conflict => return,
                    Err(error) => tracing::warn!(%error, "a fence could not be prolonged"),
                }
            }
        });
        Self { app, fence, renewing, is_open: false }
    }

    /// The seq up to which a commit absorbs.
    pub const fn barrier(&self) -> i64 {
        self.fence.held.barrier
    }

    /// Lets others in. `absorbed` is the watermark of the commit that was made.
    /// A database that is away is no failure of the commit: the lease ends.
    pub async fn open(mut self, absorbed: Option<i64>) {
        self.is_open = true;
        self.renewing.abort();
        let opened = self.app.delta.open_fence(self.fence.place, &self.fence.held, absorbed).await;
        if let Err(error) = opened {
            tracing::warn!(%error, "a fence could not be opened; it will be settled");
        }
    }
}

impl Drop for HeldFence {
    fn drop(&mut self) {
        self.renewing.abort();
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        if self.is_open {
            return;
        }
        let (app, place, held) = (self.app.clone(), self.fence.place, self.fence.held);
        runtime.spawn(async move {
            if let Err(error) = app.settle(place, &held).await {
                tracing::warn!(%error, "a fence could not be settled; its lease will end");
            }
        });
    }
}
