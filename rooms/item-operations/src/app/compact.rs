//! Compaction: small blocks, and blocks of which much is deleted, become one.
//! It changes no row, so it takes no fence: whoever touched one of the blocks
//! meanwhile makes its commit fail.

use std::sync::Arc;

use blocks::{ScanPlan, ScanRange};
use caller::Caller;
use catalog_api::v1::{BlockRemoval, CommitMode, CommitVersionRequest, ListDatasetsRequest};
use futures::TryStreamExt;
use ids::UploadId;
use row_delta::Place;
use service_error::ServiceError;
use uuid::Uuid;

use crate::app::App;
use crate::app::catalog::{by_id, ourselves};
use crate::app::commit::block_of;
use crate::app::manifest::ManifestBlock;
use crate::app::reading::Opened;

const DATASETS_PAGE: i32 = 100;
/// Memory of a batch that is carried over.
const BATCH_BYTES: usize = 4 << 20;
/// So many small blocks are worth a merge.
const SMALL_MIN: usize = 8;
/// A block of which so much is deleted is written anew, in per cent.
const DELETED_PERCENT: u64 = 20;
/// A block is small below this part of the bytes that one compaction reads.
const SMALL_PART: u64 = 8;

/// Which blocks to merge: at most `bytes_max` of them. A worn block that is larger alone is
/// written anew by itself: as its rows stream through a writer, it takes no more memory.
fn chosen(blocks: &[ManifestBlock], bytes_max: u64) -> Vec<usize> {
    let bytes = |at: &usize| blocks[*at].rows.location.byte_count;
    let is_worn = |block: &ManifestBlock| {
        let rows = block.rows.location.row_count;
        (rows - block.live_rows()) * 100 >= rows * DELETED_PERCENT
    };
    let is_small = |block: &ManifestBlock| block.rows.location.byte_count < bytes_max / SMALL_PART;
    let of = |pick: &dyn Fn(&ManifestBlock) -> bool| -> Vec<usize> {
        (0..blocks.len()).filter(|at| pick(&blocks[*at])).collect()
    };
    let within = |candidates: Vec<usize>| {
        let (first, mut sum) = (candidates.first().copied(), 0);
        candidates
            .into_iter()
            .take_while(|at| {
                sum += bytes(at);
                sum <= bytes_max || Some(*at) == first
            })
            .collect::<Vec<_>>()
    };
    let mut small = of(&is_small);
    if small.len() >= SMALL_MIN {
        // The smallest first: each row is carried over few times.
        small.sort_by_key(bytes);
        let mut picked = within(small);
        picked.sort_unstable();
        return picked;
    }
    within(of(&is_worn))
}

impl App {
    /// Merges blocks of a dataset once. False: there is nothing worth it, or another
    /// replica is at it.
    ///
    /// # Errors
    /// As the catalog and the object store fail; a conflict with a commit that
    /// touched the same blocks.
    pub async fn compact(&self, dataset: Uuid) -> Result<bool, ServiceError> {
        let us = ourselves();
        let head = self.catalog.head(&us, by_id(dataset), None).await?;
        let opened = Opened::of(&head)?;
        let blocks = self.manifest(&us, &opened).await?;
        let picked = chosen(&blocks, self.settings.compaction.bytes_max);
        if picked.is_empty() {
            return Ok(false);
        }
        // Where there is nothing to do, there is nothing to lease.
        let merging = self.merge_blocks(&us, &opened, &blocks, &picked);
        let merged = self.alone(&format!("compact:{dataset}"), merging).await?;
        Ok(merged.is_some())
    }

    /// Makes some blocks one.
    async fn merge_blocks(
        &self,
        us: &Caller,
        opened: &Opened,
        blocks: &[ManifestBlock],
        picked: &[usize],
    ) -> Result<(), ServiceError> {
        let mut lease = self.leased(us, opened.dataset).await?;
        let request = self.carry_over(opened, blocks, picked, lease.upload()).await?;
        self.commit_patiently(us, request).await?;
        lease.done();
        Ok(())
    }

    /// Writes the live rows of blocks anew.
    async fn carry_over(
        &self,
        opened: &Opened,
        blocks: &[ManifestBlock],
        picked: &[usize],
        upload: UploadId,
    ) -> Result<CommitVersionRequest, ServiceError> {
        let ranges = picked.iter().map(|at| ScanRange {
            location: blocks[*at].rows.location.clone(),
            rows: 0..blocks[*at].rows.location.row_count,
            deleted: blocks[*at].rows.deleted.clone(),
        });
        let plan = ScanPlan {
            ranges: ranges.collect(),
            schema: Arc::clone(&opened.schema),
            dataset_schema: Arc::clone(&opened.schema),
            filter: None,
            limit: None,
            batch_bytes: BATCH_BYTES,
            tally: Arc::default(),
            table_rows: None,
        };
        let mut rows = std::pin::pin!(self.reader.scan(plan));
        let mut writer = self.block_writer(opened, upload)?;
        while let Some(batch) = rows.try_next().await? {
            writer.write(batch).await?;
        }
        let written = writer.finish().await?;
        let removals = picked.iter().map(|at| BlockRemoval {
            block_id: blocks[*at].id.clone(),
            deletion_revision: blocks[*at].revision,
        });
        let added: Result<Vec<_>, ServiceError> = written.iter().map(block_of).collect();
        Ok(CommitVersionRequest {
            upload_id: upload.to_string(),
            mode: CommitMode::Merge as i32,
            blocks: added?,
            removals: removals.collect(),
            base_snapshot: opened.snapshot,
            unnamed: true,
            unique_columns: opened.unique.clone(),
            ..CommitVersionRequest::default()
        })
    }

    /// Compacts every dataset that needs it, one step each. Answers how many.
    ///
    /// # Errors
    /// A catalog that is away; what fails for one dataset is logged.
    pub async fn compact_all(&self) -> Result<usize, ServiceError> {
        let us = ourselves();
        let (mut compacted, mut page_token) = (0, String::new());
        loop {
            let request = ListDatasetsRequest {
                namespace: String::new(),
                page_size: DATASETS_PAGE,
                page_token,
            };
            let page = self.catalog.datasets(&us, request).await?;
            for dataset in &page.datasets {
                let Ok(id) = Uuid::try_parse(&dataset.id) else { continue };
                match self.compact(id).await {
                    Ok(done) => compacted += usize::from(done),
                    Err(error) if error.reason_is("BLOCK_TOUCHED") => {
                        tracing::debug!(%id, "a compaction was overtaken");
                    }
                    Err(error) => tracing::warn!(%id, %error, "a dataset could not be compacted"),
                }
            }
            if page.next_page_token.is_empty() {
                return Ok(compacted);
            }
            page_token = page.next_page_token;
        }
    }

    /// Flushes every branch whose delta is large or old, and settles fences
    /// whose holders are gone.
    ///
    /// # Errors
    /// A database that is away; what fails for one branch is logged.
    pub async fn flush_due(&self) -> Result<usize, ServiceError> {
        let settings = &self.settings.delta;
        let (mut flushed, mut after): (usize, Option<Place>) = (0, None);
        loop {
            let page = self.delta.backlog(after, 100).await?;
            for of in &page {
                if let Some(busy) = of.state.fence.filter(|busy| busy.is_expired()) {
                    self.settle(of.place, &busy).await?;
                }
                if !settings.is_due(&of.state, sql_store::now_micros()) {
                    continue;
                }
                let Place { dataset, branch } = of.place;
                let work = format!("flush:{dataset}:{branch}");
                match self.alone(&work, self.flush(of.place)).await {
                    Ok(done) => flushed += usize::from(done == Some(true)),
                    Err(error) if error.code() == service_error::Code::NotFound => {
                        // The dataset is gone, and what it held with it.
                        self.delta.purge(of.place.dataset).await?;
                    }
                    Err(error) => {
                        tracing::warn!(dataset = %of.place.dataset, %error, "a flush failed; tried again");
                    }
                }
            }
            match page.last() {
                Some(last) if page.len() == 100 => after = Some(last.place),
                _ => return Ok(flushed),
            }
        }
    }

    /// Deletes changes that the blocks have held for longer than any snapshot is
    /// read, and forgets old edits.
    ///
    /// # Errors
    /// A database that is away.
    pub async fn trim_delta(&self) -> Result<u64, ServiceError> {
        self.delta.forget_edits().await?;
        let lease = crate::settings::Settings::snapshot_lease_micros();
        self.delta.trim(sql_store::now_micros() - lease).await
    }

    /// Has a branch looked at soon, if it may be due.
    pub fn wake_flush(&self, opened: &Opened) {
        let waiting = opened.ceiling - opened.watermark;
        if waiting >= self.settings.delta.flush_rows {
            self.flush_wanted.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use catalog_api::v1::Block;

    fn block(bytes: i64, rows: i64, deleted: u32) -> ManifestBlock {
        let mut deletions = Vec::new();
        let gone: roaring::RoaringBitmap = (0..deleted).collect();
        gone.serialize_into(&mut deletions).unwrap();
        let block = Block {
            row_count: rows,
            byte_count: bytes,
            deleted_count: i64::from(deleted),
            deletions,
            ..Block::default()
        };
        ManifestBlock::of(&block, &arrow::datatypes::Schema::empty()).unwrap()
    }

    #[test]
    fn small_blocks_and_worn_ones_are_chosen_within_the_bound() {
        assert!(chosen(&[], 1_000).is_empty());
        let few: Vec<_> = (0..7).map(|_| block(10, 10, 0)).collect();
        assert!(chosen(&few, 1_000).is_empty(), "not worth it");
        let mut many: Vec<_> = (0..9).map(|n| block(100 - n, 10, 0)).collect();
        many.push(block(900, 10, 0));
        let picked = chosen(&many, 1_000);
        let bytes: u64 = picked.iter().map(|at| many[*at].rows.location.byte_count).sum();
        assert!(picked.len() >= 2 && bytes <= 1_000 && !picked.contains(&9), "{picked:?}");
        let worn = [block(900, 10, 1), block(900, 10, 2), block(2_000, 10, 9)];
        assert_eq!(chosen(&worn, 1_000), [1], "not worn enough, and too large beside another");
        assert_eq!(chosen(&worn[2..], 1_000), [0], "larger than the bound, and by itself");
        assert!(chosen(&[block(2_000, 10, 1)], 1_000).is_empty());
    }
}
