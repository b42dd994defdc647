//! Look-ups, pages and counts.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::compute::concat_batches;
use arrow::datatypes::{DataType, Schema, SchemaRef};
use filter::Filter;
use moka::sync::Cache;
use object_store::ObjectStore;
use parquet::bloom_filter::Sbbf;
use service_error::ServiceError;
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::error::{arrow_error, decoding, parquet_error};
use crate::footer::{BlockFile, BlockLocation};
use crate::plan::{GroupPlan, plan, selection};
use crate::scan::{BlockScan, Pass, slice_bytes};

/// Memory of a batch of filter columns.
const FILTER_BATCH_BYTES: usize = 1 << 20;
/// Memory of a step of a page.
const PAGE_STEP_BYTES: usize = 1 << 20;
/// The largest bloom filter that is read.
const BLOOM_BYTES_MAX: i32 = 16 << 20;

/// What a reader may hold.
#[derive(Debug, Clone)]
pub struct ReaderSettings {
    /// Bytes of footers and page indexes that are kept.
    pub footer_cache_bytes: u64,
    /// Bytes of bloom filters that are kept.
    pub bloom_cache_bytes: u64,
    /// Threads that decode at once.
    pub decoders: usize,
}

impl Default for ReaderSettings {
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
        Self { footer_cache_bytes: 256 << 20, bloom_cache_bytes: 64 << 20, decoders: cores * 2 }
    }
}

/// Reads blocks. Clones share the caches.
#[derive(Debug, Clone)]
pub struct BlockReader {
    store: Arc<dyn ObjectStore>,
    footers: Cache<String, Arc<BlockFile>>,
    blooms: Cache<(String, usize, usize), Arc<Sbbf>>,
    slots: Arc<Semaphore>,
    decoders: usize,
}

/// Rows of one block from a position on.
#[derive(Debug)]
pub struct Page {
    /// The rows, in storage order.
    pub batch: RecordBatch,
    /// Where the next page begins; `None` at the end of the block.
    pub next: Option<u64>,
}

/// A question to a block.
#[derive(Debug, Clone)]
struct Question {
    file: Arc<BlockFile>,
    filter: Option<Arc<Filter>>,
    dataset_schema: SchemaRef,
    runtime: Handle,
}

impl BlockReader {
    /// A reader of an object store.
    #[must_use]
    pub fn new(store: Arc<dyn ObjectStore>, settings: &ReaderSettings) -> Self {
        let footers = Cache::builder()
            .max_capacity(settings.footer_cache_bytes)
            .weigher(|_: &String, file: &Arc<BlockFile>| {
                u32::try_from(file.memory_bytes()).unwrap_or(u32::MAX)
            })
            .build();
        let blooms = Cache::builder()
            .max_capacity(settings.bloom_cache_bytes)
            .weigher(|_: &(String, usize, usize), bloom: &Arc<Sbbf>| {
                u32::try_from(bloom.num_blocks() * 32).unwrap_or(u32::MAX)
            })
            .build();
        let decoders = settings.decoders.max(1);
        Self { store, footers, blooms, slots: Arc::new(Semaphore::new(decoders)), decoders }
    }

    /// Opens a block, or answers the open one.
    ///
    /// # Errors
    /// As [`BlockFile::open`].
    pub async fn open(&self, location: &BlockLocation) -> Result<Arc<BlockFile>, ServiceError> {
        if let Some(file) = self.footers.get(&location.object_key) {
            return Ok(file);
        }
        let file = Arc::new(BlockFile::open(Arc::clone(&self.store), location.clone()).await?);
        self.footers.insert(location.object_key.clone(), Arc::clone(&file));
        Ok(file)
    }

    /// Threads that decode at once.
    #[must_use]
    pub const fn decoders(&self) -> usize {
        self.decoders
    }

    pub(crate) async fn slot(&self) -> Result<OwnedSemaphorePermit, ServiceError> {
        let slot = Arc::clone(&self.slots).acquire_owned().await;
        slot.map_err(|_| ServiceError::internal("the decoders are closed"))
    }

    /// Runs decoding work on a blocking thread.
    pub(crate) async fn work<T, F>(&self, key: &str, work: F) -> Result<T, ServiceError>
    where
        T: Send + 'static,
        F: FnOnce() -> Result<T, ServiceError> + Send + 'static,
    {
        let slot = self.slot().await?;
        let done = tokio::task::spawn_blocking(move || {
            let answer = work();
            drop(slot);
            answer
        });
        done.await.map_err(|error| decoding(key, error))?
    }

    /// At most `rows_max` passing rows from position `begin` on, at least one
    /// if there is one, and about `bytes_max` of memory.
    ///
    /// # Errors
    /// `DataLoss` for a damaged block, or as the object store fails.
    pub async fn page(
        &self,
        location: &BlockLocation,
        begin: u64,
        limits: (usize, usize),
        filter: Option<Arc<Filter>>,
        (schema, dataset_schema): (SchemaRef, SchemaRef),
    ) -> Result<Page, ServiceError> {
        let file = self.open(location).await?;
        let question = Question { file, filter, dataset_schema, runtime: Handle::current() };
        let reader = self.clone();
        let key = location.object_key.clone();
        self.work(&key, move || question.page(&reader, begin, limits, &schema)).await
    }

    /// How many rows pass.
    ///
    /// # Errors
    /// `DataLoss` for a damaged block, or as the object store fails.
    pub async fn count(
        &self,
        location: &BlockLocation,
        filter: Arc<Filter>,
        dataset_schema: SchemaRef,
    ) -> Result<u64, ServiceError> {
        let file = self.open(location).await?;
        let question =
            Question { file, filter: Some(filter), dataset_schema, runtime: Handle::current() };
        let reader = self.clone();
        let key = location.object_key.clone();
        self.work(&key, move || question.count(&reader)).await
    }

    /// Whether a bloom filter says that no row of a row group passes.
    pub(crate) fn ruled_out(
        &self,
        file: &BlockFile,
        filter: &Filter,
        group: usize,
        runtime: &Handle,
    ) -> Result<bool, ServiceError> {
        for (column, value) in filter.required_values() {
            if let Some(bloom) = self.bloom(file, column, group, runtime)?
                && bloom_lacks(&bloom, value)
            {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The bloom filter of a column in a row group, if it has one.
    pub(crate) fn bloom(
        &self,
        file: &BlockFile,
        column: &str,
        group: usize,
        runtime: &Handle,
    ) -> Result<Option<Arc<Sbbf>>, ServiceError> {
        let row_group = file.metadata().metadata().row_group(group);
        let found =
            row_group.columns().iter().position(|chunk| chunk.column_path().string() == column);
        let Some(index) = found else { return Ok(None) };
        let chunk = row_group.column(index);
        let (Some(offset), Some(length)) =
            (chunk.bloom_filter_offset(), chunk.bloom_filter_length())
        else {
            return Ok(None);
        };
        let (Ok(offset), 1..=BLOOM_BYTES_MAX) = (u64::try_from(offset), length) else {
            return Ok(None);
        };
        let key = (file.key().to_owned(), group, index);
        if let Some(bloom) = self.blooms.get(&key) {
            return Ok(Some(bloom));
        }
        let length = u64::try_from(length).unwrap_or(0);
        let range = offset..offset.saturating_add(length);
        let bytes = runtime.block_on(file.fetch(&[range]))?;
        let bytes = bytes.into_iter().next().unwrap_or_default();
        let bloom =
            Arc::new(Sbbf::from_bytes(&bytes).map_err(|error| parquet_error(file.key(), error))?);
        self.blooms.insert(key, Arc::clone(&bloom));
        Ok(Some(bloom))
    }
}

/// The bloom filter holds Parquet's plain bytes of each value.
pub(crate) fn bloom_lacks(bloom: &Sbbf, value: &ArrayRef) -> bool {
    match value.data_type() {
        DataType::Utf8 => !bloom.check(value.as_string::<i32>().value(0)),
        DataType::LargeUtf8 => !bloom.check(value.as_string::<i64>().value(0)),
        DataType::Utf8View => !bloom.check(value.as_string_view().value(0)),
        DataType::FixedSizeBinary(_) => !bloom.check(value.as_fixed_size_binary().value(0)),
        DataType::Int64 => {
            !bloom.check(&value.as_primitive::<arrow::datatypes::Int64Type>().value(0))
        }
        DataType::Int32 => {
            !bloom.check(&value.as_primitive::<arrow::datatypes::Int32Type>().value(0))
        }
        _ => false,
    }
}

/// The columns that a filter looks at, as the dataset has them.
pub(crate) fn filter_schema(
    filter: &Filter,
    dataset: &SchemaRef,
) -> Result<SchemaRef, ServiceError> {
    let fields: Result<Vec<_>, _> =
        filter.columns().iter().map(|name| dataset.field_with_name(name).cloned()).collect();
    let fields = fields
        .map_err(|error| ServiceError::internal(format!("the filter does not fit: {error}")))?;
    Ok(Arc::new(Schema::new(fields)))
}

impl Question {
    fn plan(
        &self,
        reader: &BlockReader,
        range: Range<u64>,
    ) -> Result<Vec<GroupPlan>, ServiceError> {
        let mut kept = Vec::new();
        for group in plan(&self.file, self.filter.as_deref(), range)? {
            let out = match &self.filter {
                Some(filter) if !group.all => {
                    reader.ruled_out(&self.file, filter, group.index, &self.runtime)?
                }
                _ => false,
            };
            if !out {
                kept.push(group);
            }
        }
        Ok(kept)
    }

    fn count(&self, reader: &BlockReader) -> Result<u64, ServiceError> {
        let mut count = 0;
        for group in self.plan(reader, 0..self.file.location().row_count)? {
            if group.all {
                count += group.row_count();
                continue;
            }
            self.judge(&group, |mask, _| {
                count += mask.true_count() as u64;
                true
            })?;
        }
        Ok(count)
    }

    /// Evaluates the filter over a group and shows each mask with the position
    /// of each of its rows, until `f` says that it is enough.
    fn judge<F>(&self, group: &GroupPlan, mut f: F) -> Result<(), ServiceError>
    where
        F: FnMut(&arrow::array::BooleanArray, &mut dyn Iterator<Item = u64>) -> bool,
    {
        let Some(filter) = &self.filter else { return Ok(()) };
        let failed = |error| arrow_error(self.file.key(), error);
        let pass = Pass {
            row_groups: vec![group.index],
            selection: group.selection(),
            schema: filter_schema(filter, &self.dataset_schema)?,
            filter: None,
            batch_bytes: FILTER_BATCH_BYTES,
        };
        let mut scan = BlockScan::new(Arc::clone(&self.file), pass, self.runtime.clone())?;
        let mut positions = group.ranges.iter().flat_map(Clone::clone);
        while let Some(batch) = scan.next_batch()? {
            let mask = filter.evaluate(&batch).map_err(failed)?;
            let mut here = positions.by_ref().take(mask.len());
            let more = f(&mask, &mut here);
            here.by_ref().for_each(drop);
            if !more {
                break;
            }
        }
        Ok(())
    }

    /// The first passing rows from `begin` on, at most `limit`.
    fn matches(
        &self,
        reader: &BlockReader,
        begin: u64,
        limit: usize,
    ) -> Result<Vec<u64>, ServiceError> {
        let mut found = Vec::new();
        for group in self.plan(reader, begin..self.file.location().row_count)? {
            if group.all {
                found.extend(group.ranges.iter().flat_map(Clone::clone).take(limit - found.len()));
            } else {
                self.judge(&group, |mask, positions| {
                    let passing = positions.zip(mask.values().iter()).filter(|(_, pass)| *pass);
                    found.extend(passing.map(|(row, _)| row).take(limit - found.len()));
                    found.len() < limit
                })?;
            }
            if found.len() >= limit {
                break;
            }
        }
        Ok(found)
    }

    fn page(
        &self,
        reader: &BlockReader,
        begin: u64,
        (rows_max, bytes_max): (usize, usize),
        schema: &SchemaRef,
    ) -> Result<Page, ServiceError> {
        let total = self.file.location().row_count;
        let rows: Vec<u64> = match self.filter {
            Some(_) => self.matches(reader, begin, rows_max)?,
            None => (begin..total.min(begin.saturating_add(rows_max as u64))).collect(),
        };
        let batch = self.rows(&rows, bytes_max, schema)?;
        let taken = batch.num_rows();
        let exhausted = taken == rows.len() && rows.len() < rows_max;
        let next = match rows.get(taken.wrapping_sub(1)) {
            Some(last) if !exhausted && last + 1 < total => Some(last + 1),
            _ => None,
        };
        Ok(Page { batch, next })
    }

    /// Reads single rows, ascending, until `bytes_max` is passed.
    fn rows(
        &self,
        rows: &[u64],
        bytes_max: usize,
        schema: &SchemaRef,
    ) -> Result<RecordBatch, ServiceError> {
        let mut batches = Vec::new();
        if let (Some(first), Some(last)) = (rows.first(), rows.last()) {
            let touched: Vec<GroupPlan> = plan(&self.file, None, *first..last + 1)?
                .into_iter()
                .filter(|group| {
                    let from = rows.partition_point(|row| *row < group.begin);
                    rows.get(from).is_some_and(|row| *row < group.begin + group.rows)
                })
                .collect();
            let mut selectors = Vec::new();
            for group in &touched {
                let end = group.begin + group.rows;
                let own = rows.partition_point(|row| *row < group.begin)
                    ..rows.partition_point(|row| *row < end);
                let chosen = selection(&consecutive(&rows[own]), group.begin, group.rows);
                selectors.extend(chosen.iter().copied());
            }
            let pass = Pass {
                row_groups: touched.iter().map(|group| group.index).collect(),
                selection: Some(selectors.into()),
                schema: Arc::clone(schema),
                filter: None,
                batch_bytes: PAGE_STEP_BYTES,
            };
            let mut scan = BlockScan::new(Arc::clone(&self.file), pass, self.runtime.clone())?;
            let mut bytes = 0;
            while let Some(batch) = scan.next_batch()? {
                bytes += slice_bytes(&batch);
                batches.push(batch);
                if bytes >= bytes_max {
                    break;
                }
            }
        }
        concat_batches(schema, &batches).map_err(|error| arrow_error(self.file.key(), error))
    }
}

/// Runs of neighbouring numbers.
fn consecutive(rows: &[u64]) -> Vec<Range<u64>> {
    let mut ranges: Vec<Range<u64>> = Vec::new();
    for row in rows {
        match ranges.last_mut() {
            Some(last) if last.end == *row => last.end += 1,
            _ => ranges.push(*row..row + 1),
        }
    }
    ranges
}
