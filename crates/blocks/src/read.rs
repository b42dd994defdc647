//! The reader: its memory, its threads, and how blocks are opened.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use arrow::array::{ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::{DataType, SchemaRef};
use filter::Filter;
use futures::{StreamExt, TryStreamExt};
use object_store::ObjectStore;
use parquet::bloom_filter::Sbbf;
use service_error::ServiceError;
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::access::{Access, Group};
use crate::error::{arrow_error, decoding, parquet_error};
use crate::footer::{BlockFile, BlockLocation};
use crate::hot::{Hot, Place};
use crate::memory;
use crate::plan::GroupPlan;
use crate::rows::BlockRows;
use crate::tally::Tally;

/// The largest bloom filter that is read.
const BLOOM_BYTES_MAX: i32 = 16 << 20;
/// Footers that are read at once.
const OPENED_AT_ONCE: usize = 8;

/// What a reader may hold.
#[derive(Debug, Clone)]
pub struct ReaderSettings {
    /// Bytes of all that is kept of blocks: footers, page indexes, bloom
    /// filters, decoded columns, indexes. By default an eighth of the memory
    /// that the process may use, at least 512 MiB.
    pub cache_bytes: u64,
    /// Threads that decode at once.
    pub decoders: usize,
}

impl Default for ReaderSettings {
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
        Self { cache_bytes: memory::cache_bytes(), decoders: cores * 2 }
    }
}

/// What reads of one dataset have in common.
#[derive(Debug, Clone)]
pub struct Reading {
    /// The dataset's schema, which the filter was made for.
    pub schema: SchemaRef,
    /// Rows that do not pass are left out.
    pub filter: Option<Arc<Filter>>,
    /// Where costs are added up.
    pub tally: Arc<Tally>,
    /// Rows in memory, in the dataset's schema, that come after all blocks: as
    /// if they were one more.
    pub tail: Option<RecordBatch>,
}

impl Reading {
    /// Rows of a dataset, counted by a tally of their own.
    #[must_use]
    pub fn new(schema: SchemaRef, filter: Option<Arc<Filter>>) -> Self {
        Self { schema, filter, tally: Arc::default(), tail: None }
    }

    /// The rows of the tail that pass, ascending.
    pub(crate) fn tail_rows(&self) -> Result<Vec<u64>, ServiceError> {
        let Some(tail) = &self.tail else { return Ok(Vec::new()) };
        let Some(filter) = &self.filter else { return Ok((0..tail.num_rows() as u64).collect()) };
        let mask = filter.evaluate(tail).map_err(|error| arrow_error("in memory", error))?;
        Ok(mask.values().set_indices().map(|row| row as u64).collect())
    }
}

/// Reads blocks. Clones share the memory and the threads.
#[derive(Debug, Clone)]
pub struct BlockReader {
    store: Arc<dyn ObjectStore>,
    pub(crate) hot: Hot,
    slots: Arc<Semaphore>,
    /// Threads that one operation uses.
    workers: usize,
}

impl BlockReader {
    /// A reader of an object store.
    #[must_use]
    pub fn new(store: Arc<dyn ObjectStore>, settings: &ReaderSettings) -> Self {
        let decoders = settings.decoders.max(1);
        Self {
            store,
            hot: Hot::new(settings.cache_bytes),
            slots: Arc::new(Semaphore::new(decoders)),
            workers: decoders.div_ceil(2),
        }
    }

    /// Opens a block, or answers the open one.
    ///
    /// # Errors
    /// As [`BlockFile::open`].
    pub async fn open(
        &self,
        location: &BlockLocation,
        tally: &Tally,
    ) -> Result<Arc<BlockFile>, ServiceError> {
        if let Some(file) = self.hot.file(&location.object_key) {
            return Ok(file);
        }
        let store = Arc::clone(&self.store);
        let file = Arc::new(BlockFile::open(store, location.clone(), tally).await?);
        self.hot.put_file(&file);
        Ok(file)
    }

    /// Opens blocks, a few at once.
    pub(crate) async fn open_all(
        &self,
        blocks: &[&BlockRows],
        tally: &Tally,
    ) -> Result<Vec<Arc<BlockFile>>, ServiceError> {
        let known: Option<Vec<_>> =
            blocks.iter().map(|block| self.hot.file(&block.location.object_key)).collect();
        if let Some(known) = known {
            return Ok(known);
        }
        let locations: Vec<BlockLocation> =
            blocks.iter().map(|block| block.location.clone()).collect();
        futures::stream::iter(locations)
            .map(|location| async move { self.open(&location, tally).await })
            .buffered(OPENED_AT_ONCE)
            .try_collect()
            .await
    }

    /// Threads that one operation may use.
    #[must_use]
    pub const fn workers(&self) -> usize {
        self.workers
    }

    pub(crate) const fn hot(&self) -> &Hot {
        &self.hot
    }

    pub(crate) fn access(&self, tally: &Arc<Tally>) -> Access {
        Access { hot: self.hot.clone(), runtime: Handle::current(), tally: Arc::clone(tally) }
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

    /// Runs work on each item, on as many threads as one operation may use
    /// and are free; answers in the items' order.
    pub(crate) async fn spread<I, T, F>(
        &self,
        items: Vec<I>,
        work: F,
    ) -> Result<Vec<T>, ServiceError>
    where
        I: Send + Sync + 'static,
        T: Send + 'static,
        F: Fn(&I) -> Result<T, ServiceError> + Send + Sync + 'static,
    {
        if items.is_empty() {
            return Ok(Vec::new());
        }
        let workers = self.workers.min(items.len());
        let shared = Arc::new(Spread {
            items,
            work,
            next: AtomicUsize::new(0),
            failed: AtomicBool::new(false),
        });
        let mut running = Vec::with_capacity(workers);
        for worker in 0..workers {
            // The first waits for a thread, the others help if there are some.
            let slot = match worker {
                0 => self.slot().await?,
                _ => match Arc::clone(&self.slots).try_acquire_owned() {
                    Ok(slot) => slot,
                    Err(_) => break,
                },
            };
            let shared = Arc::clone(&shared);
            running.push(tokio::task::spawn_blocking(move || {
                let answers = shared.run();
                drop(slot);
                answers
            }));
        }
        let mut all = Vec::new();
        for worker in running {
            all.extend(worker.await.map_err(|error| decoding("of the read", error))??);
        }
        all.sort_unstable_by_key(|(at, _)| *at);
        Ok(all.into_iter().map(|(_, answer)| answer).collect())
    }
}

struct Spread<I, F> {
    items: Vec<I>,
    work: F,
    next: AtomicUsize,
    failed: AtomicBool,
}

impl<I, F> Spread<I, F> {
    fn run<T>(&self) -> Result<Vec<(usize, T)>, ServiceError>
    where
        F: Fn(&I) -> Result<T, ServiceError>,
    {
        let mut answers = Vec::new();
        while !self.failed.load(Ordering::Relaxed) {
            let at = self.next.fetch_add(1, Ordering::Relaxed);
            let Some(item) = self.items.get(at) else { break };
            match (self.work)(item) {
                Ok(answer) => answers.push((at, answer)),
                Err(error) => {
                    self.failed.store(true, Ordering::Relaxed);
                    return Err(error);
                }
            }
        }
        Ok(answers)
    }
}

impl Access {
    /// Whether a bloom filter says that no row of a row group passes.
    pub fn ruled_out(
        &self,
        file: &BlockFile,
        filter: &Filter,
        group: usize,
    ) -> Result<bool, ServiceError> {
        for (column, value) in filter.required_values() {
            if let Some(bloom) = self.bloom(file, column, group)?
                && bloom_lacks(&bloom, value)
            {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The bloom filter of a column in a row group, if it has one.
    pub fn bloom(
        &self,
        file: &BlockFile,
        column: &str,
        group: usize,
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
        // A leaf's number, which is as good as a column's.
        let place = Place { file: file.number(), group, column: index };
        if let Some(bloom) = self.hot.bloom(place) {
            return Ok(Some(bloom));
        }
        let length = u64::try_from(length).unwrap_or(0);
        let range = offset..offset.saturating_add(length);
        let bytes = self.runtime.block_on(file.fetch(&[range], &self.tally))?;
        let bytes = bytes.into_iter().next().unwrap_or_default();
        let bloom =
            Arc::new(Sbbf::from_bytes(&bytes).map_err(|error| parquet_error(file.key(), error))?);
        self.hot.put_bloom(place, Arc::clone(&bloom));
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

impl Group {
    /// The group of a plan.
    pub fn of(file: &Arc<BlockFile>, plan: &GroupPlan) -> Self {
        let rows = usize::try_from(plan.rows).unwrap_or(usize::MAX);
        Self { file: Arc::clone(file), index: plan.index, begin: plan.begin, rows }
    }
}
