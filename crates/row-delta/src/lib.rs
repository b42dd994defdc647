//! The row delta: an append-only log of row images in SQL, group-committed, and
//! the fence that stands between it and bulk commits.

mod cache;
mod edits;
mod fence;
mod image;
mod key;
mod log;
pub mod migration;
mod rules;
mod trim;
mod turns;
mod writer;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use service_error::ServiceError;
use sql_store::SqlStore;
use uuid::Uuid;

pub use edits::{EditKey, Repeated};
pub use fence::{Busy, Fence, FenceKind, Taken, end_leases};
pub use image::{DeltaRow, decode_image, encode_image, tail};
pub use key::{key_bytes, keys_of};
pub use log::{Backlog, State};
pub use rules::latest;
pub use turns::Turn;
pub use writer::{Outcome, Write};

use cache::Cache;
use turns::Turns;
use writer::Writers;

/// A dataset's branch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Place {
    /// The dataset.
    pub dataset: Uuid,
    /// The branch; 0 is main.
    pub branch: i32,
}

impl Place {
    /// A dataset's main branch.
    #[must_use]
    pub const fn main(dataset: Uuid) -> Self {
        Self { dataset, branch: 0 }
    }
}

/// The log of one schema. Clones share connections, cache and writers.
#[derive(Debug, Clone)]
pub struct RowDelta {
    sql: SqlStore,
    cache: Arc<Cache>,
    writers: Writers,
    turns: Turns,
}

impl RowDelta {
    /// The log in a migrated schema; keeps about `cache_bytes` of it in memory.
    #[must_use]
    pub fn new(sql: SqlStore, cache_bytes: u64) -> Self {
        let (writers, cache) = (Writers::start(sql.clone()), Arc::new(Cache::new(cache_bytes)));
        Self { sql, cache, writers, turns: Turns::default() }
    }

    /// Rows with `from < seq <= to`, in order of seq.
    ///
    /// # Errors
    /// `FailedPrecondition` with reason `SNAPSHOT_GONE` if some of them were
    /// trimmed; else as the database fails.
    pub async fn rows(
        &self,
        place: Place,
        from: i64,
        to: i64,
    ) -> Result<Vec<DeltaRow>, ServiceError> {
        if to <= from {
            return Ok(Vec::new());
        }
        self.cache.rows(&self.sql, place, from, to).await
    }

    /// Writes rows, beside other writers.
    ///
    /// # Errors
    /// As the database fails; then the write may have happened or not.
    pub async fn write(&self, write: Write) -> Result<Outcome, ServiceError> {
        self.writers.write(write).await
    }

    /// Waits until it is the caller's turn on a branch, among those of this process that ask
    /// for one. It keeps nothing right: of writes that are computed from all rows only one can
    /// stand, and who waits computes his once.
    pub async fn turn(&self, place: Place) -> Turn {
        self.turns.of(place).await
    }
}
