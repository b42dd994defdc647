//! What the item store can be told.

use std::time::Duration;

use blocks::{BlockOptions, Compression, ReaderSettings};
use item_garbage::settings::GarbageSettings;
use serde::{Deserialize, Serialize};
use sql_engine::EngineSettings;
use sql_store::SqlSettings;

/// The section `[items]`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Where the rows are. Set by the process, not by this section.
    #[serde(skip)]
    pub sql: Option<SqlSettings>,
    /// Where the objects are. Set by the process, not by this section.
    #[serde(skip)]
    pub object_store_url: String,
    /// Arrow Flight.
    pub flight: FlightSettings,
    /// How blocks are cut and written.
    pub blocks: BlockSettings,
    /// Bytes of all that is kept of blocks for reads: footers, page indexes, bloom
    /// filters, decoded columns, indexes.
    pub cache_bytes: u64,
    /// Small writes beside the blocks.
    pub delta: DeltaSettings,
    /// How blocks are merged.
    pub compaction: CompactionSettings,
    /// SQL.
    pub query: QuerySettings,
    /// Bytes of manifests that are kept.
    pub manifest_cache_bytes: u64,
    /// How what nothing names is collected.
    pub garbage: GarbageSettings,
    /// Seconds between two sweeps of abandoned uploads.
    pub sweep_seconds: u64,
    /// The largest media file, in bytes.
    pub media_bytes_max: u64,
    /// Seconds that a thumbnail may take, the bucket and its turn included.
    pub picture_seconds: u64,
}

/// `[items.flight]`
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct FlightSettings {
    /// The largest message of a put; a larger one is refused with advice.
    pub message_bytes_max: usize,
    /// Bytes of messages that all puts may have in decode at once.
    pub decode_bytes_max: usize,
    /// About how large a message of a get is.
    pub batch_bytes: usize,
    /// Rows of one endpoint of a flight: a client reads endpoints in parallel.
    pub endpoint_rows: u64,
    /// Seconds for which tickets and page tokens are good; at most an hour.
    pub ticket_seconds: u64,
    /// Seconds that a put may pause in the middle of a message.
    pub stall_seconds: u64,
}

/// `[items.blocks]`
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BlockSettings {
    /// Rows of a block at most.
    pub rows_max: usize,
    /// Bytes of a block's rows in memory at most.
    pub arrow_bytes_max: usize,
    /// Rows of a row group.
    pub row_group_rows: usize,
    /// `lz4`, `snappy`, `zstd` or `none`.
    pub compression: Compression,
    /// Bytes of rows that all writers may hold at once.
    pub buffer_bytes_max: usize,
}

/// `[items.delta]`
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DeltaSettings {
    /// Small writes that wait before a dataset's delta is flushed.
    pub flush_rows: i64,
    /// Bytes of them.
    pub flush_bytes: i64,
    /// Seconds that the oldest of them waits.
    pub flush_seconds: u64,
    /// With so many bytes waiting, small writes are refused until a flush.
    pub pending_bytes_max: i64,
    /// Bytes of small writes that are kept in memory, a dataset.
    pub cache_bytes: u64,
    /// Seconds after which a bulk write that stopped is given up.
    pub fence_lease_seconds: u64,
    /// Seconds that a write waits for a bulk write to end.
    pub fence_wait_seconds: u64,
}

/// `[items.compaction]`
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CompactionSettings {
    /// Seconds between two looks at all datasets; 0: blocks are never merged.
    pub seconds: u64,
    /// Bytes of blocks that one step merges at most.
    pub bytes_max: u64,
}

impl Default for DeltaSettings {
    fn default() -> Self {
        Self {
            flush_rows: 10_000,
            flush_bytes: 16 << 20,
            flush_seconds: 300,
            pending_bytes_max: 256 << 20,
            cache_bytes: 64 << 20,
            fence_lease_seconds: 30,
            fence_wait_seconds: 60,
        }
    }
}

/// `[items.query]`: bounds of SQL.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct QuerySettings {
    /// Bytes of memory that all queries' operators may hold; beyond, they spill.
    pub memory_bytes_max: usize,
    /// Bytes on disk that they may spill.
    pub spill_bytes_max: u64,
    /// Where they spill to; empty: the system's directory for temporary files.
    pub spill_dir: String,
    /// Queries that run at once; others wait. One principal has at most half as many under way,
    /// those included whose rows it does not read.
    pub queries_max: usize,
    /// Seconds that a query may take, its client's reading included.
    pub seconds_max: u64,
    /// Threads that compute; 0: as many as there are cores.
    pub threads: usize,
}

impl Default for QuerySettings {
    fn default() -> Self {
        let engine = EngineSettings::default();
        Self {
            memory_bytes_max: engine.memory_bytes_max,
            spill_bytes_max: engine.spill_bytes_max,
            spill_dir: String::new(),
            queries_max: engine.queries_max,
            seconds_max: engine.time_max.as_secs(),
            threads: 0,
        }
    }
}

impl Default for CompactionSettings {
    fn default() -> Self {
        Self { seconds: 60, bytes_max: 128 << 20 }
    }
}

impl DeltaSettings {
    /// Whether a branch is to be flushed.
    #[must_use]
    pub fn is_due(&self, state: &row_delta::State, now: i64) -> bool {
        let age = i64::try_from(self.flush_seconds).unwrap_or(i64::MAX).saturating_mul(1_000_000);
        state.pending_rows > 0
            && (state.pending_rows >= self.flush_rows
                || state.pending_bytes >= self.flush_bytes
                || now - state.oldest_at >= age)
    }

    /// Microseconds after which a fence that nobody prolongs may be settled.
    #[must_use]
    pub fn fence_lease_micros(&self) -> i64 {
        i64::try_from(self.fence_lease_seconds.clamp(1, 3_600)).unwrap_or(30) * 1_000_000
    }

    /// How long a write waits for a fence.
    #[must_use]
    pub const fn fence_wait(&self) -> Duration {
        Duration::from_secs(self.fence_wait_seconds)
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            sql: None,
            object_store_url: String::new(),
            flight: FlightSettings::default(),
            blocks: BlockSettings::default(),
            cache_bytes: ReaderSettings::default().cache_bytes,
            delta: DeltaSettings::default(),
            compaction: CompactionSettings::default(),
            query: QuerySettings::default(),
            manifest_cache_bytes: 64 << 20,
            garbage: GarbageSettings::default(),
            sweep_seconds: 60,
            media_bytes_max: 16 << 30,
            picture_seconds: 30,
        }
    }
}

impl Default for FlightSettings {
    fn default() -> Self {
        Self {
            message_bytes_max: 256 << 20,
            decode_bytes_max: 257 << 20,
            batch_bytes: 2 << 20,
            endpoint_rows: 10_000_000,
            ticket_seconds: 3_600,
            stall_seconds: 60,
        }
    }
}

impl Default for BlockSettings {
    fn default() -> Self {
        let options = BlockOptions::default();
        Self {
            rows_max: options.block_rows_max,
            arrow_bytes_max: options.block_arrow_bytes_max,
            row_group_rows: options.row_group_rows,
            compression: options.compression,
            buffer_bytes_max: 448 << 20,
        }
    }
}

impl Settings {
    /// How blocks are written.
    #[must_use]
    pub fn block_options(&self) -> BlockOptions {
        BlockOptions {
            block_rows_max: self.blocks.rows_max.max(1),
            block_arrow_bytes_max: self.blocks.arrow_bytes_max.max(1 << 20),
            row_group_rows: self.blocks.row_group_rows.clamp(1, 1 << 20),
            compression: self.blocks.compression,
            ..BlockOptions::default()
        }
    }

    /// How long a thumbnail may take.
    #[must_use]
    pub fn picture_time(&self) -> Duration {
        Duration::from_secs(self.picture_seconds.clamp(1, 600))
    }

    /// How blocks are read.
    #[must_use]
    pub fn reader_settings(&self) -> ReaderSettings {
        ReaderSettings { cache_bytes: self.cache_bytes, ..ReaderSettings::default() }
    }

    /// Microseconds for which what a snapshot sees is kept after its end: longer
    /// than any token, ticket or stream lives.
    #[must_use]
    pub const fn snapshot_lease_micros() -> i64 {
        2 * 3_600 * 1_000_000
    }

    /// How SQL is bounded.
    #[must_use]
    pub fn engine_settings(&self) -> EngineSettings {
        let query = &self.query;
        let cores = EngineSettings::default().threads;
        EngineSettings {
            memory_bytes_max: query.memory_bytes_max,
            spill_bytes_max: query.spill_bytes_max,
            spill_dir: Some(&query.spill_dir).filter(|dir| !dir.is_empty()).map(Into::into),
            queries_max: query.queries_max,
            time_max: Duration::from_secs(query.seconds_max.clamp(1, 3_600)),
            threads: if query.threads == 0 { cores } else { query.threads },
        }
    }

    /// Microseconds for which tickets and page tokens are good.
    #[must_use]
    pub fn ticket_micros(&self) -> i64 {
        i64::try_from(self.flight.ticket_seconds.clamp(1, 3_600)).unwrap_or(3_600) * 1_000_000
    }
}
