//! What a read sees: the blocks of a snapshot without deleted rows, then the
//! rows of the delta up to a ceiling, as one batch.
//!
//! A row that the delta changed is a deleted row of its block, and its image
//! stands in the tail: where it will stand after the flush.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch};
use arrow::compute::concat;
use arrow::datatypes::SchemaRef;
use blocks::Position;
use caller::Caller;
use moka::sync::Cache;
use roaring::RoaringBitmap;
use row_delta::{DeltaRow, Place, latest, tail};
use service_error::ServiceError;
use tokio::sync::Mutex;

use crate::app::App;
use crate::app::edits::projected;
use crate::app::manifest::{Manifest, ManifestBlock};
use crate::app::merge::taken;
use crate::app::reading::Opened;

/// Branches whose views are kept.
const PLACES_MAX: u64 = 1_000;
const BLOCK_BYTES: usize = 256;

/// The rows of a snapshot with the delta over it. Nothing in it changes.
#[derive(Debug, Clone, Default)]
pub struct View {
    /// In storage order; rows that the delta changed are deleted there.
    pub blocks: Manifest,
    /// Rows of the delta in the dataset's schema, after all blocks.
    pub tail: Option<RecordBatch>,
    /// Rows that are there.
    pub row_count: u64,
    /// What the delta says of a key: the row of the tail, or that it is gone.
    pub changed: Arc<HashMap<Arc<[u8]>, Option<usize>>>,
}

impl View {
    fn memory_bytes(&self) -> usize {
        let tail = self.tail.as_ref().map_or(0, RecordBatch::get_array_memory_size);
        tail + self.blocks.len() * BLOCK_BYTES + self.changed.len() * 128
    }

    /// The tail's rows that pass a filter, ascending; all without one.
    pub fn tail_rows(&self, filter: Option<&filter::Filter>) -> Result<Vec<usize>, ServiceError> {
        let Some(tail) = &self.tail else { return Ok(Vec::new()) };
        let Some(filter) = filter else { return Ok((0..tail.num_rows()).collect()) };
        let mask = filter.evaluate(tail).map_err(|error| {
            ServiceError::internal(format!("the filter does not fit the delta: {error}"))
        })?;
        Ok(mask.values().set_indices().collect())
    }
}

impl View {
    /// The tail's rows from one on that pass, in the columns of a schema; `None`:
    /// there are none.
    pub fn tail_batch(
        &self,
        filter: Option<&filter::Filter>,
        schema: &SchemaRef,
        from: u64,
    ) -> Result<Option<RecordBatch>, ServiceError> {
        let mut rows = self.tail_rows(filter)?;
        rows.retain(|row| *row as u64 >= from);
        let Some(tail) = self.tail.as_ref().filter(|_| !rows.is_empty()) else {
            return Ok(None);
        };
        projected(&taken(tail, &rows)?, schema).map(Some)
    }
}

/// Where the delta's keys are in the blocks of the newest snapshot.
#[derive(Debug, Default)]
struct Located {
    snapshot: i64,
    places: HashMap<Arc<[u8]>, Option<Position>>,
}

/// Views by branch, snapshot and ceiling, and what it takes to make the next.
#[derive(Debug)]
pub struct Views {
    made: Cache<(Place, i64, i64), Arc<View>>,
    located: Cache<Place, Arc<Mutex<Located>>>,
}

impl Views {
    pub fn new(bytes: u64) -> Self {
        let weigh = |_: &(Place, i64, i64), view: &Arc<View>| {
            u32::try_from(view.memory_bytes() + 64).unwrap_or(u32::MAX)
        };
        Self {
            made: Cache::builder().max_capacity(bytes).weigher(weigh).build(),
            located: Cache::builder().max_capacity(PLACES_MAX).build(),
        }
    }
}

impl App {
    /// What a read of an opened dataset sees. Every read begins here.
    pub async fn view(&self, caller: &Caller, opened: &Opened) -> Result<Arc<View>, ServiceError> {
        let blocks = self.manifest(caller, opened).await?;
        if opened.ceiling <= opened.watermark {
            let row_count = u64::try_from(opened.row_count).unwrap_or(0);
            return Ok(Arc::new(View { blocks, row_count, ..View::default() }));
        }
        let place = opened.place();
        let key = (place, opened.snapshot, opened.ceiling);
        if let Some(view) = self.views.made.get(&key) {
            return Ok(view);
        }
        // One makes it, the others wait for it.
        let located = self.views.located.get_with(place, Arc::default);
        let mut located = located.lock().await;
        if let Some(view) = self.views.made.get(&key) {
            return Ok(view);
        }
        let rows = latest(self.delta.rows(place, opened.watermark, opened.ceiling).await?);
        if located.snapshot != opened.snapshot {
            *located = Located { snapshot: opened.snapshot, places: HashMap::new() };
        }
        self.locate_new(opened, &blocks, &rows, &mut located.places).await?;
        let view = Arc::new(overlaid(opened, &blocks, &rows, &located.places)?);
        self.views.made.insert(key, Arc::clone(&view));
        Ok(view)
    }

    /// Finds the keys that have not been looked for yet.
    async fn locate_new(
        &self,
        opened: &Opened,
        blocks: &Manifest,
        rows: &[DeltaRow],
        places: &mut HashMap<Arc<[u8]>, Option<Position>>,
    ) -> Result<(), ServiceError> {
        let new: Vec<&DeltaRow> =
            rows.iter().filter(|row| !places.contains_key(&row.key)).collect();
        if new.is_empty() {
            return Ok(());
        }
        let keys = keys_of_rows(&new, opened)?;
        let found = self.locate(opened, blocks, &keys).await?;
        places.extend(new.iter().map(|row| Arc::clone(&row.key)).zip(found));
        Ok(())
    }

    /// Where keys are in blocks, each key's one live row.
    pub async fn locate(
        &self,
        opened: &Opened,
        blocks: &[ManifestBlock],
        keys: &ArrayRef,
    ) -> Result<Vec<Option<Position>>, ServiceError> {
        let field = opened.key_field()?;
        let keyed: Vec<blocks::KeyedBlock> =
            blocks.iter().map(|block| block.keyed(&opened.key)).collect();
        blocks::locate(&self.reader, &keyed, keys, field).await
    }
}

/// The keys of delta rows as one array of the key column's type.
pub fn keys_of_rows(rows: &[&DeltaRow], opened: &Opened) -> Result<ArrayRef, ServiceError> {
    let data_type = opened.key_field()?.data_type().clone();
    let failed = |error| ServiceError::data_loss(format!("a key of the delta: {error}"));
    let mut parts = Vec::with_capacity(rows.len());
    for row in rows {
        let column = row.batch.column_by_name(&opened.key);
        let column = column.ok_or_else(|| ServiceError::data_loss("a row image lacks its key"))?;
        let part = column.slice(row.row, 1);
        parts.push(if part.data_type() == &data_type {
            part
        } else {
            arrow::compute::cast(&part, &data_type).map_err(failed)?
        });
    }
    let parts: Vec<&dyn Array> = parts.iter().map(AsRef::as_ref).collect();
    concat(&parts).map_err(failed)
}

/// Blocks without the rows that the delta changed, and its rows after them.
fn overlaid(
    opened: &Opened,
    blocks: &Manifest,
    rows: &[DeltaRow],
    places: &HashMap<Arc<[u8]>, Option<Position>>,
) -> Result<View, ServiceError> {
    let mut replaced: HashMap<usize, RoaringBitmap> = HashMap::new();
    let mut count = u64::try_from(opened.row_count).unwrap_or(0);
    for position in rows.iter().filter_map(|row| places.get(&row.key).copied().flatten()) {
        let row = u32::try_from(position.row)
            .map_err(|_| ServiceError::data_loss("a block of more than 4 billion rows"))?;
        if replaced.entry(position.block).or_default().insert(row) {
            count = count.saturating_sub(1);
        }
    }
    let mut blocks = blocks.as_ref().clone();
    for (block, positions) in replaced {
        if let Some(block) = blocks.get_mut(block) {
            block.hide(positions);
        }
    }
    let tail = tail(rows, &opened.schema)?;
    let mut changed = HashMap::with_capacity(rows.len());
    let mut at = 0;
    for row in rows {
        changed.insert(Arc::clone(&row.key), row.live.then_some(at));
        at += usize::from(row.live);
    }
    Ok(View {
        blocks: Arc::new(blocks),
        row_count: count + tail.num_rows() as u64,
        tail: Some(tail).filter(|tail| tail.num_rows() > 0),
        changed: Arc::new(changed),
    })
}
