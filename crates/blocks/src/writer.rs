//! A stream of batches into blocks, in bounded memory.

use arrow::array::{Array, RecordBatch};
use arrow::datatypes::SchemaRef;
use blob_store::{BlobStore, Written};
use ids::BlockId;
use service_error::ServiceError;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::budget::{ByteBudget, Held};
use crate::encode::{Compression, Encoded, Layout, encode};
use crate::error::{decoding, parquet_error};
use crate::order::{Order, by_key};
use crate::sink::{PIECES_AHEAD, PieceSink};
use crate::statistics::{ColumnStats, of_block};

/// How blocks are cut and written.
#[derive(Debug, Clone)]
pub struct BlockOptions {
    /// Rows of a block at most.
    pub block_rows_max: usize,
    /// Bytes of a block's rows in memory at most.
    pub block_arrow_bytes_max: usize,
    /// Rows of a row group.
    pub row_group_rows: usize,
    /// How pages are compressed.
    pub compression: Compression,
    /// Threads that encode one block.
    pub threads: usize,
}

impl Default for BlockOptions {
    fn default() -> Self {
        Self {
            block_rows_max: 10_000_000,
            block_arrow_bytes_max: 256 << 20,
            row_group_rows: 131_072,
            compression: Compression::default(),
            threads: std::thread::available_parallelism().map_or(2, |n| n.get().min(4)),
        }
    }
}

/// A block that is in the object store, not yet committed.
#[derive(Debug, Clone)]
pub struct WrittenBlock {
    /// Its id, also in its name.
    pub id: BlockId,
    /// Its name in the object store.
    pub object_key: String,
    /// Rows.
    pub row_count: u64,
    /// Bytes of the file.
    pub byte_count: u64,
    /// Bytes at the end of the file that hold page index and footer.
    pub footer_length: u64,
    /// BLAKE3-256 of the file.
    pub content_hash: [u8; 32],
    /// By column, in the schema's order.
    pub columns: Vec<ColumnStats>,
}

/// Buffers batches, sorts them by key and writes a block each time enough are
/// there. One block is encoded while the next one fills.
#[derive(Debug)]
pub struct BlockWriter {
    store: BlobStore,
    budget: ByteBudget,
    options: BlockOptions,
    schema: SchemaRef,
    key: Option<usize>,
    blooms: Vec<String>,
    unique: Vec<String>,
    /// Below which blocks are named.
    prefix: String,
    buffer: Vec<RecordBatch>,
    rows: usize,
    bytes: usize,
    held: Option<Held>,
    encoding: Option<JoinHandle<Result<WrittenBlock, ServiceError>>>,
    written: Vec<WrittenBlock>,
}

impl BlockWriter {
    /// A writer of blocks named `<prefix>/<id>.parquet`. All batches must have
    /// `schema`; `key` is the column to sort by, `blooms` are columns that are
    /// looked up by value.
    ///
    /// # Errors
    /// No such key column.
    pub fn new(
        store: BlobStore,
        budget: ByteBudget,
        options: BlockOptions,
        schema: SchemaRef,
        key: Option<&str>,
        prefix: String,
    ) -> Result<Self, ServiceError> {
        let key = key
            .map(|name| {
                schema
                    .index_of(name)
                    .map_err(|_| ServiceError::invalid("key_column", format!("no column {name:?}")))
            })
            .transpose()?;
        let mut blooms: Vec<String> = vec!["external_id".to_owned(), "content_hash".to_owned()];
        blooms.extend(key.map(|key| schema.field(key).name().clone()));
        Ok(Self {
            store,
            budget,
            options,
            schema,
            key,
            blooms,
            unique: Vec::new(),
            prefix,
            buffer: Vec::new(),
            rows: 0,
            bytes: 0,
            held: None,
            encoding: None,
            written: Vec::new(),
        })
    }

    /// Blocks whose columns tell quickly that they lack many values.
    #[must_use]
    pub fn unique(mut self, columns: &[String]) -> Self {
        self.unique = columns.to_vec();
        self
    }

    /// Adds rows. Waits while a full block cannot be encoded yet, or while
    /// other writers hold the process's budget.
    ///
    /// # Errors
    /// A repeated or null key in a block that is full now, or an object store
    /// that fails.
    pub async fn write(&mut self, batch: RecordBatch) -> Result<(), ServiceError> {
        let mut rest = batch;
        while rest.num_rows() > 0 {
            let bytes = batch_bytes(&rest);
            let room_bytes = self.options.block_arrow_bytes_max.saturating_sub(self.bytes);
            let room_rows = self.options.block_rows_max.saturating_sub(self.rows);
            let fit = rows_that_fit(rest.num_rows(), bytes, room_bytes).min(room_rows);
            if fit == 0 && !self.buffer.is_empty() {
                self.flush().await?;
                continue;
            }
            let fit = fit.clamp(1, rest.num_rows());
            let piece = rest.slice(0, fit);
            rest = rest.slice(fit, rest.num_rows() - fit);
            self.add(piece).await?;
        }
        Ok(())
    }

    async fn add(&mut self, piece: RecordBatch) -> Result<(), ServiceError> {
        let bytes = batch_bytes(&piece);
        let held = match self.budget.try_take(bytes) {
            Some(held) => held,
            None => self.room(bytes).await?,
        };
        match &mut self.held {
            Some(all) => all.merge(held),
            None => self.held = Some(held),
        }
        self.rows += piece.num_rows();
        self.bytes += bytes;
        self.buffer.push(piece);
        Ok(())
    }

    /// Room for bytes when there was none: first what this writer's own encoder
    /// gives back, so that blocks stay whole; then, with nothing in hand but
    /// what the encoder will give back, what others do. Two writers that waited
    /// with full hands would wait for each other.
    async fn room(&mut self, bytes: usize) -> Result<Held, ServiceError> {
        self.settle().await?;
        if let Some(held) = self.budget.try_take(bytes) {
            return Ok(held);
        }
        self.flush().await?;
        self.budget.take(bytes).await
    }

    /// Hands the buffer to the encoder, after the block before it.
    async fn flush(&mut self) -> Result<(), ServiceError> {
        self.settle().await?;
        if self.buffer.is_empty() {
            return Ok(());
        }
        let work = Work {
            store: self.store.clone(),
            id: BlockId::new(),
            prefix: self.prefix.clone(),
            layout: Layout {
                schema: self.schema.clone(),
                key: self.key,
                blooms: self.blooms.clone(),
                unique: self.unique.clone(),
                row_group_rows: self.options.row_group_rows,
                compression: self.options.compression,
                threads: self.options.threads.max(1),
            },
            batches: std::mem::take(&mut self.buffer),
            held: self.held.take(),
        };
        (self.rows, self.bytes) = (0, 0);
        self.encoding = Some(tokio::spawn(work.run()));
        Ok(())
    }

    async fn settle(&mut self) -> Result<(), ServiceError> {
        if let Some(encoding) = self.encoding.take() {
            let block = encoding.await.map_err(|error| decoding("in memory", error))??;
            self.written.push(block);
        }
        Ok(())
    }

    /// Writes what is buffered and answers all blocks, in the order of arrival.
    ///
    /// # Errors
    /// As [`BlockWriter::write`].
    pub async fn finish(mut self) -> Result<Vec<WrittenBlock>, ServiceError> {
        self.flush().await?;
        self.settle().await?;
        Ok(std::mem::take(&mut self.written))
    }
}

impl Drop for BlockWriter {
    fn drop(&mut self) {
        if let Some(encoding) = &self.encoding {
            encoding.abort();
        }
    }
}

/// One block on its way.
struct Work {
    store: BlobStore,
    id: BlockId,
    prefix: String,
    layout: Layout,
    batches: Vec<RecordBatch>,
    held: Option<Held>,
}

struct Sealed {
    encoded: Encoded,
    columns: Vec<ColumnStats>,
}

impl Work {
    async fn run(self) -> Result<WrittenBlock, ServiceError> {
        let object_key = format!("{}/{}.parquet", self.prefix, self.id);
        let id = self.id;
        let (pieces, mut arriving) = mpsc::channel(PIECES_AHEAD);
        let mut object = self.store.writer(&object_key).await?;
        let encoding = tokio::task::spawn_blocking(move || self.encode(pieces));
        let mut stored = Ok(());
        while let Some(piece) = arriving.recv().await {
            stored = object.write(piece).await;
            if stored.is_err() {
                break;
            }
        }
        drop(arriving);
        let sealed = encoding.await.map_err(|error| decoding(&object_key, error))?;
        // The store's failure is the cause of the encoder's broken pipe.
        let sealed = match (stored, sealed) {
            (Err(error), _) | (Ok(()), Err(error)) => {
                object.abort().await;
                return Err(error);
            }
            (Ok(()), Ok(sealed)) => sealed,
        };
        let Written { bytes, blake3 } = object.finish().await?;
        let rows = sealed.encoded.metadata.file_metadata().num_rows();
        Ok(WrittenBlock {
            id,
            object_key,
            row_count: u64::try_from(rows).unwrap_or(0),
            byte_count: bytes,
            footer_length: sealed.encoded.tail_bytes,
            content_hash: blake3,
            columns: sealed.columns,
        })
    }

    fn encode(self, pieces: mpsc::Sender<bytes::Bytes>) -> Result<Sealed, ServiceError> {
        let failed = |error| parquet_error("in memory", error);
        let order = match self.layout.key {
            Some(key) => by_key(&self.batches, key)?,
            None => Order::Arrival,
        };
        let mut sink = PieceSink::new(pieces);
        let encoded = encode(&self.batches, &order, &self.layout, &mut sink).map_err(failed)?;
        let columns = of_block(&self.layout.schema, &encoded.metadata, &self.batches);
        // Rows and their budget go before the object store is waited for.
        drop((self.batches, self.held));
        sink.finish().map_err(|error| failed(error.into()))?;
        Ok(Sealed { encoded, columns })
    }
}

fn batch_bytes(batch: &RecordBatch) -> usize {
    let bytes = |column: &dyn Array| {
        column.to_data().get_slice_memory_size().unwrap_or_else(|_| column.get_array_memory_size())
    };
    batch.columns().iter().map(|column| bytes(column)).sum::<usize>().max(1)
}

fn rows_that_fit(rows: usize, bytes: usize, room: usize) -> usize {
    if bytes <= room {
        return rows;
    }
    let per_row = (bytes / rows).max(1);
    (room / per_row).min(rows)
}
