//! The last images of deleted rows: in the log of small writes, or in the blocks of the newest
//! snapshot that saw them.

use std::collections::{HashMap, HashSet};
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
use crate::app::merge::taken;
use crate::app::reading::Opened;

/// Snapshots that are looked through for a row; older rows are found while their blocks live.
const SNAPSHOTS_MAX: i64 = 64;

/// Keys of deleted rows, and what the log says of each.
struct Sought<'a> {
    keys: &'a ArrayRef,
    bytes: Vec<Vec<u8>>,
    /// The newest live image by key.
    logged: HashMap<Arc<[u8]>, DeltaRow>,
}

impl Sought<'_> {
    fn in_log(&self, row: u32) -> Option<&DeltaRow> {
        self.logged.get(self.bytes.get(row as usize)?.as_slice())
    }
}

/// Images that were found, each with its key's place.
#[derive(Default)]
struct Images {
    read: Vec<RecordBatch>,
    order: Vec<usize>,
    log: Vec<(usize, DeltaRow)>,
}

/// The snapshot is forgotten.
fn is_gone(error: &ServiceError) -> bool {
    matches!(error.code(), Code::NotFound | Code::FailedPrecondition)
}

impl App {
    /// The last image of each deleted row, in the order of the keys.
    ///
    /// The newest snapshot that saw a row has its last image in the blocks; the log has a newer
    /// one only beyond that snapshot's watermark. A block without rows is in no later snapshot.
    pub(super) async fn last_of(
        &self,
        caller: &Caller,
        opened: &Opened,
        (keys, texts): (&ArrayRef, &[&str]),
    ) -> Result<RecordBatch, ServiceError> {
        let bytes = keys_of(keys)?;
        let logged = self.logged(opened, &bytes).await?;
        let sought = Sought { keys, bytes, logged };
        let mut images = Images::default();
        let mut left: Vec<u32> = (0..).take(keys.len()).collect();
        let oldest = (opened.snapshot - SNAPSHOTS_MAX).max(0);
        for snapshot in (oldest + 1..=opened.snapshot).rev() {
            if left.is_empty() {
                break;
            }
            let at = Some(At::Snapshot(snapshot));
            let head = match self.catalog.head(caller, by_id(opened.dataset), at).await {
                Err(error) if is_gone(&error) => break,
                head => head?,
            };
            let then = Opened::of(&head)?;
            let blocks = self.manifest(caller, &then).await?;
            let seen = (blocks.as_slice(), then.watermark);
            left = self.seen(opened, seen, (&sought, left), &mut images).await?;
        }
        if !left.is_empty() {
            // Deleted longer ago: the newest block first, as what was changed was written anew.
            for block in self.manifest(caller, opened).await?.iter().rev() {
                let mut whole = block.clone();
                whole.rows.deleted = None;
                let seen = (std::slice::from_ref(&whole), i64::MIN);
                left = self.seen(opened, seen, (&sought, left), &mut images).await?;
            }
        }
        for row in left {
            let logged = sought.in_log(row);
            let logged = logged.ok_or_else(|| not_found(opened, texts[row as usize]))?;
            images.log.push((row as usize, logged.clone()));
        }
        images.in_order(opened)
    }

    /// The newest live image of each key in the log.
    async fn logged(
        &self,
        opened: &Opened,
        keys: &[Vec<u8>],
    ) -> Result<HashMap<Arc<[u8]>, DeltaRow>, ServiceError> {
        let wanted: HashSet<&[u8]> = keys.iter().map(Vec::as_slice).collect();
        let trimmed = self.delta.state(opened.place()).await?.trimmed;
        let log = self.delta.rows(opened.place(), trimmed, opened.ceiling).await?;
        let of_them = log.into_iter().filter(|row| row.live && wanted.contains(row.key.as_ref()));
        // In order of seq: the last one stays.
        Ok(of_them.map(|row| (Arc::clone(&row.key), row)).collect())
    }

    /// Takes the images of keys that some blocks hold, or the log's beyond their watermark;
    /// answers the keys that they do not hold.
    async fn seen(
        &self,
        opened: &Opened,
        (blocks, watermark): (&[ManifestBlock], i64),
        (sought, left): (&Sought<'_>, Vec<u32>),
        images: &mut Images,
    ) -> Result<Vec<u32>, ServiceError> {
        let rest = take(sought.keys, &UInt32Array::from(left.clone()), None)
            .map_err(|error| ServiceError::internal(format!("keys: {error}")))?;
        let here = self.locate(opened, blocks, &rest).await?;
        let (mut missing, mut found) = (Vec::with_capacity(left.len()), Vec::new());
        for (row, position) in left.into_iter().zip(here) {
            let Some(position) = position else {
                missing.push(row);
                continue;
            };
            match sought.in_log(row).filter(|log| log.seq > watermark) {
                Some(log) => images.log.push((row as usize, log.clone())),
                None => found.push((position, row as usize)),
            }
        }
        found.sort_unstable();
        let (positions, rows): (Vec<Position>, Vec<usize>) = found.into_iter().unzip();
        let (schema, reading) = (&opened.schema, Reading::new(Arc::clone(&opened.schema), None));
        let read = self.reader.rows(blocks, &positions, schema, &reading, ROWS_BYTES_MAX).await?;
        if read.iter().map(RecordBatch::num_rows).sum::<usize>() < rows.len() {
            let message = "the rows are too large to be restored at once; name fewer keys";
            return Err(ServiceError::exhausted(message).reason("EDIT_TOO_LARGE").field("keys"));
        }
        images.read.extend(read);
        images.order.extend(rows);
        Ok(missing)
    }
}

impl Images {
    /// In the order of the keys.
    fn in_order(mut self, opened: &Opened) -> Result<RecordBatch, ServiceError> {
        let (rows, log): (Vec<usize>, Vec<DeltaRow>) = self.log.into_iter().unzip();
        if !log.is_empty() {
            self.read.push(row_delta::tail(&log, &opened.schema)?);
            self.order.extend(rows);
        }
        let all = concat_batches(&opened.schema, &self.read)
            .map_err(|error| ServiceError::internal(format!("restored rows: {error}")))?;
        let mut places: Vec<usize> = (0..self.order.len()).collect();
        places.sort_unstable_by_key(|place| self.order[*place]);
        taken(&all, &places)
    }
}
