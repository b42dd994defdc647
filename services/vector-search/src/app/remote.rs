//! Snapshots in the object store. A failure is logged: the rows are the truth, and the next
//! snapshot comes.

use space_index::SpaceIndex;
use uuid::Uuid;

use crate::app::App;
use crate::model::Space;

impl App {
    /// Copies the snapshot on this replica's disk to the object store.
    pub(super) async fn push_snapshot(&self, space: &Space, index: &SpaceIndex) {
        if index.snapshot_seq() == 0 {
            return;
        }
        if let Err(error) = self.store.push_snapshot(space.id, &self.live.dir(space.id)).await {
            tracing::warn!(space = %space.id, %error, "a snapshot did not reach the object store");
        }
    }

    /// Puts the object store's snapshot in the place of this replica's; whether there is one now.
    pub(super) async fn fetch_snapshot(&self, space: &Space) -> bool {
        match self.store.fetch_snapshot(space.id, &self.live.dir(space.id)).await {
            Ok(fetched) => fetched,
            Err(error) => {
                tracing::warn!(space = %space.id, %error, "the object store's snapshot could not be had");
                false
            }
        }
    }

    /// Removes a snapshot that cannot be believed, or whose space is gone.
    pub(super) async fn forget_snapshot(&self, space: Uuid) {
        if let Err(error) = self.store.forget_snapshot(space).await {
            tracing::warn!(%space, %error, "a snapshot could not be removed from the object store");
        }
    }
}
