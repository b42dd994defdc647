//! The last images of deleted rows: in the log of small writes, or among the deleted rows of
//! the blocks.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, UInt32Array};
use arrow::compute::{concat_batches, take};
use blocks::{Position, Reading};
use caller::Caller;
use catalog_api::v1::get_head_request::At;
use row_delta::{DeltaRow, keys_of};
use service_error::{Code, ServiceError};

use super::App;
use super::fetch::ROWS_BYTES_MAX;
use super::rows::not_found;
use crate::app::catalog::by_id;
use crate::app::manifest::ManifestBlock;
use crate::app::reading::Opened;

/// Where a deleted row was last: the block's place in the manifest, and the row.
type Found = Option<Position>;

fn is_gone(error: &ServiceError) -> bool {
    matches!(error.code(), Code::NotFound | Code::FailedPrecondition)
}

impl App {
    /// The last image of each deleted row, in the order of the keys.
    ///
    /// A block holds what the log said up to the watermark of the commit that made it, so an
    /// image of the log is the newer one only beyond that.
    pub(super) async fn last_of(
        &self,
        caller: &Caller,
        opened: &Opened,
        (keys, texts): (&ArrayRef, &[&str]),
    ) -> Result<RecordBatch, ServiceError> {
        let wanted = keys_of(keys)?;
        let logged = self.logged(opened, &wanted).await?;
        // Deleted rows are there to be found again.
        let mut blocks = self.manifest(caller, opened).await?.as_ref().clone();
        for block in &mut blocks {
            block.rows.deleted = None;
        }
        let in_blocks = self.in_blocks(opened, &blocks, keys).await?;
        let mut watermarks: HashMap<i64, i64> = HashMap::new();
        let (mut from_log, mut from_blocks) = (Vec::new(), Vec::new());
        for (row, key) in wanted.iter().enumerate() {
            let (log, block) = (logged.get(key.as_slice()), in_blocks[row]);
            let newer = match (log, block) {
                (None, None) => return Err(not_found(opened, texts[row])),
                (Some(log), Some(position)) => {
                    let begin = blocks[position.block].begin;
                    let absorbed = match watermarks.get(&begin) {
                        Some(known) => *known,
                        None => {
                            let at = Some(At::Snapshot(begin));
                            let id = by_id(opened.dataset);
                            let watermark = match self.catalog.head(caller, id, at).await {
                                Ok(head) => head.watermark,
                                // Forgotten: older than anything that the log still has.
                                Err(error) if is_gone(&error) => i64::MIN,
                                Err(error) => return Err(error),
                            };
                            *watermarks.entry(begin).or_insert(watermark)
                        }
                    };
                    Some(log).filter(|log| log.seq > absorbed)
                }
                (log, _) => log,
            };
            match (newer, block) {
                (Some(log), _) => from_log.push((row, log.clone())),
                (None, Some(position)) => from_blocks.push((position, row)),
                (None, None) => return Err(not_found(opened, texts[row])),
            }
        }
        self.images(opened, &blocks, (from_log, from_blocks)).await
    }

    /// The newest live image of each key in the log.
    async fn logged(
        &self,
        opened: &Opened,
        keys: &[Vec<u8>],
    ) -> Result<HashMap<Arc<[u8]>, DeltaRow>, ServiceError> {
        let wanted: std::collections::HashSet<&[u8]> = keys.iter().map(Vec::as_slice).collect();
        let trimmed = self.delta.state(opened.place()).await?.trimmed;
        let log = self.delta.rows(opened.place(), trimmed, opened.ceiling).await?;
        let of_them = log.into_iter().filter(|row| row.live && wanted.contains(row.key.as_ref()));
        // In order of seq: the last one stays.
        Ok(of_them.map(|row| (Arc::clone(&row.key), row)).collect())
    }

    /// The newest row of each key in blocks; what was changed was written anew, so the newest
    /// block has it.
    async fn in_blocks(
        &self,
        opened: &Opened,
        blocks: &[ManifestBlock],
        keys: &ArrayRef,
    ) -> Result<Vec<Found>, ServiceError> {
        let mut found: Vec<Found> = vec![None; keys.len()];
        let mut left: Vec<u32> = (0..).take(keys.len()).collect();
        for (at, block) in blocks.iter().enumerate().rev() {
            if left.is_empty() {
                break;
            }
            let rest = take(keys, &UInt32Array::from(left.clone()), None)
                .map_err(|error| ServiceError::internal(format!("keys: {error}")))?;
            let here = self.locate(opened, std::slice::from_ref(block), &rest).await?;
            let mut missing = Vec::with_capacity(left.len());
            for (row, position) in left.into_iter().zip(here) {
                match position {
                    Some(position) => {
                        found[row as usize] = Some(Position { block: at, row: position.row });
                    }
                    None => missing.push(row),
                }
            }
            left = missing;
        }
        Ok(found)
    }

    /// The images themselves, in the order of the keys.
    async fn images(
        &self,
        opened: &Opened,
        blocks: &[ManifestBlock],
        (from_log, mut from_blocks): (Vec<(usize, DeltaRow)>, Vec<(Position, usize)>),
    ) -> Result<RecordBatch, ServiceError> {
        let failed = |error| ServiceError::internal(format!("restored rows: {error}"));
        from_blocks.sort_unstable();
        let positions: Vec<Position> = from_blocks.iter().map(|(position, _)| *position).collect();
        let (order, log): (Vec<usize>, Vec<DeltaRow>) = from_log.into_iter().unzip();
        let mut read = Vec::new();
        if !log.is_empty() {
            read.push(row_delta::tail(&log, &opened.schema)?);
        }
        let reading = Reading::new(Arc::clone(&opened.schema), None);
        read.extend(
            self.reader.rows(blocks, &positions, &opened.schema, &reading, ROWS_BYTES_MAX).await?,
        );
        let all = concat_batches(&opened.schema, &read).map_err(failed)?;
        let order: Vec<usize> =
            order.into_iter().chain(from_blocks.into_iter().map(|(_, row)| row)).collect();
        if all.num_rows() < order.len() {
            let message = "the rows are too large to be restored at once; name fewer keys";
            return Err(ServiceError::exhausted(message).reason("EDIT_TOO_LARGE").field("keys"));
        }
        let mut places: Vec<usize> = (0..order.len()).collect();
        places.sort_unstable_by_key(|place| order[*place]);
        crate::app::merge::taken(&all, &places)
    }
}
