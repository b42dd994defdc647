//! What reads cost: for one operation, and for the process's metrics.
//!
//! `quarry_block_gets_total` and `quarry_block_bytes_total` count what went to
//! the object store, `quarry_block_cells_total{from}` the column pieces that
//! were decoded or found in memory.

use std::ops::Range;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use opentelemetry::KeyValue;
use opentelemetry::metrics::Counter;

/// Ranges this near are one request of an object store.
const COALESCED_BYTES: u64 = 1 << 20;

/// The cost of one operation; every part of it adds to the same.
#[derive(Debug, Default)]
pub struct Tally {
    gets: AtomicU64,
    bytes: AtomicU64,
    blocks_read: AtomicU64,
    blocks_skipped: AtomicU64,
    groups_read: AtomicU64,
    groups_skipped: AtomicU64,
    pages_read: AtomicU64,
    pages_skipped: AtomicU64,
    cells_decoded: AtomicU64,
    cells_hot: AtomicU64,
    indexes: AtomicU64,
}

/// A tally read off.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Cost {
    /// Requests to the object store.
    pub gets: u64,
    /// Bytes that they answered.
    pub bytes: u64,
    /// Blocks that were looked into.
    pub blocks_read: u64,
    /// Blocks that the manifest ruled out.
    pub blocks_skipped: u64,
    /// Row groups that were looked into.
    pub row_groups_read: u64,
    /// Row groups that statistics or bloom filters ruled out or answered.
    pub row_groups_skipped: u64,
    /// Pages of the filter's columns that had to be looked at.
    pub pages_read: u64,
    /// Pages of them that the page index ruled out.
    pub pages_skipped: u64,
    /// Pieces of columns that were decoded.
    pub cells_decoded: u64,
    /// Pieces of columns that were in memory.
    pub cells_hot: u64,
    /// Row groups that an index by value answered.
    pub indexes: u64,
}

fn add(counter: &AtomicU64, n: u64) {
    counter.fetch_add(n, Ordering::Relaxed);
}

impl Tally {
    /// Some blocks were looked into, others ruled out.
    pub fn blocks(&self, read: u64, skipped: u64) {
        add(&self.blocks_read, read);
        add(&self.blocks_skipped, skipped);
    }

    pub(crate) fn groups(&self, read: u64, skipped: u64) {
        add(&self.groups_read, read);
        add(&self.groups_skipped, skipped);
    }

    pub(crate) fn pages(&self, read: u64, skipped: u64) {
        add(&self.pages_read, read);
        add(&self.pages_skipped, skipped);
    }

    pub(crate) fn decoded(&self, cells: u64) {
        add(&self.cells_decoded, cells);
        instruments().cells.add(cells, &[KeyValue::new("from", "file")]);
    }

    pub(crate) fn hot(&self, cells: u64) {
        add(&self.cells_hot, cells);
        instruments().cells.add(cells, &[KeyValue::new("from", "memory")]);
    }

    pub(crate) fn index(&self) {
        add(&self.indexes, 1);
    }

    /// Ascending ranges went to the object store.
    pub(crate) fn fetched(&self, ranges: &[Range<u64>]) {
        let (mut gets, mut bytes, mut end) = (0, 0, None::<u64>);
        for range in ranges {
            let near = end.is_some_and(|end| range.start.saturating_sub(end) <= COALESCED_BYTES);
            gets += u64::from(!near);
            bytes += range.end - range.start;
            end = Some(range.end);
        }
        add(&self.gets, gets);
        add(&self.bytes, bytes);
        instruments().gets.add(gets, &[]);
        instruments().bytes.add(bytes, &[]);
    }

    /// What it came to so far.
    #[must_use]
    pub fn cost(&self) -> Cost {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Cost {
            gets: read(&self.gets),
            bytes: read(&self.bytes),
            blocks_read: read(&self.blocks_read),
            blocks_skipped: read(&self.blocks_skipped),
            row_groups_read: read(&self.groups_read),
            row_groups_skipped: read(&self.groups_skipped),
            pages_read: read(&self.pages_read),
            pages_skipped: read(&self.pages_skipped),
            cells_decoded: read(&self.cells_decoded),
            cells_hot: read(&self.cells_hot),
            indexes: read(&self.indexes),
        }
    }
}

struct Instruments {
    gets: Counter<u64>,
    bytes: Counter<u64>,
    cells: Counter<u64>,
}

/// Made on the first read, which is after telemetry has started.
fn instruments() -> &'static Instruments {
    static INSTRUMENTS: OnceLock<Instruments> = OnceLock::new();
    INSTRUMENTS.get_or_init(|| {
        let meter = opentelemetry::global::meter("quarry");
        Instruments {
            gets: meter
                .u64_counter("quarry_block_gets")
                .with_description("Requests to the object store for parts of blocks")
                .build(),
            bytes: meter
                .u64_counter("quarry_block_bytes")
                .with_description("Bytes of blocks that the object store answered")
                .build(),
            cells: meter
                .u64_counter("quarry_block_cells")
                .with_description("Pieces of columns decoded, or found in memory")
                .build(),
        }
    })
}
