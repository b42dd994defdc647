//! What the item store reads: heads, and the blocks of a snapshot.

use caller::Caller;
use ids::DatasetId;
use options_api::v1::Level;
use service_error::ServiceError;

use crate::app::Catalog;
use crate::model::{BlockCursor, DatasetRef, Head, ManifestEntry, VersionRef};
use crate::store::BlockRange;

/// Which blocks to list.
#[derive(Debug, Clone, Copy)]
pub struct BlockPage {
    pub dataset: DatasetId,
    pub snapshot: i64,
    /// Only blocks that were added after this snapshot; 0: all.
    pub added_after: i64,
    pub with_statistics: bool,
    pub cursor: Option<BlockCursor>,
    pub limit: u32,
}

impl Catalog {
    /// A dataset that the caller may read, at its head, a version or a snapshot.
    ///
    /// # Errors
    /// `NotFound` for the dataset, the version or the snapshot.
    pub async fn get_head(
        &self,
        caller: &Caller,
        dataset: &DatasetRef,
        at: VersionRef,
    ) -> Result<Head, ServiceError> {
        let action = "quarry.catalog.v1.ManifestService/GetHead";
        let head = self.dataset_for(caller, Level::Read, dataset, action).await?;
        self.head_at(head, at).await
    }

    /// Up to `limit` blocks of a snapshot, in storage order.
    ///
    /// # Errors
    /// `NotFound` for the dataset or the snapshot.
    pub async fn list_blocks(
        &self,
        caller: &Caller,
        page: BlockPage,
    ) -> Result<Vec<ManifestEntry>, ServiceError> {
        let action = "quarry.catalog.v1.ManifestService/ListBlocks";
        let head =
            self.dataset_for(caller, Level::Read, &DatasetRef::Id(page.dataset), action).await?;
        self.snapshot_of(&head, page.snapshot).await?;
        let range = BlockRange {
            dataset: page.dataset,
            snapshot: page.snapshot,
            added_after: page.added_after,
            cursor: page.cursor,
            limit: page.limit,
        };
        let mut entries = self.store.list_blocks(range).await?;
        if page.with_statistics {
            self.store.load_statistics(&mut entries).await?;
        }
        Ok(entries)
    }
}
