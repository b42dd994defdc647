//! What the vector search can be told.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use embedder::EmbedderSettings;
use serde::{Deserialize, Serialize};
use sql_store::SqlSettings;

/// The section `[vectors]`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Where the rows are. Set by the process, not by this section.
    #[serde(skip)]
    pub sql: Option<SqlSettings>,
    /// Where snapshots are. Set by the process, not by this section.
    #[serde(skip)]
    pub object_store_url: String,
    /// Where this replica's segments are; unset: `<data-dir>/vectors-index`.
    pub index_dir: Option<PathBuf>,
    /// Bytes of memory that the indexes of all spaces together may use. Spaces beyond it are
    /// searched in their rows.
    pub memory_bytes_max: u64,
    /// Bytes of memory that one build may use.
    pub build_bytes_max: u64,
    /// Threads of a build.
    pub build_threads: usize,
    /// The newest points are compared one by one until there are so many.
    pub head_rows_max: usize,
    /// Milliseconds between two looks for changes that other replicas wrote.
    pub poll_ms: u64,
    /// Seconds for which an index answers without having heard from the database.
    pub stale_seconds: u64,
    /// Milliseconds that a search waits for a cold index before it goes to the rows.
    pub load_wait_ms: u64,
    /// Spaces of more points are not searched in their rows: such a search is refused.
    pub row_scan_points_max: u64,
    /// Seconds for which changes are kept for other replicas.
    pub change_seconds: u64,
    /// When Postgres gets an HNSW index of a space's rows.
    pub postgres_index: PostgresIndex,
    /// What makes vectors of texts and images, by the name that spaces keep.
    pub embedders: BTreeMap<String, EmbedderSettings>,
}

/// `postgres_index`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PostgresIndex {
    /// When a space is made: every write pays for it.
    Always,
    /// When the memory budget sends a space's searches to its rows.
    OverBudget,
    /// Never: rows are compared one by one.
    Never,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            sql: None,
            object_store_url: String::new(),
            index_dir: None,
            memory_bytes_max: 4 << 30,
            build_bytes_max: 4 << 30,
            build_threads: 2,
            head_rows_max: 20_000,
            poll_ms: 200,
            stale_seconds: 5,
            load_wait_ms: 1_500,
            row_scan_points_max: 2_000_000,
            change_seconds: 3_600,
            postgres_index: PostgresIndex::OverBudget,
            embedders: BTreeMap::new(),
        }
    }
}

impl Settings {
    pub(crate) fn poll(&self) -> Duration {
        Duration::from_millis(self.poll_ms.max(10))
    }

    pub(crate) fn load_wait(&self) -> Duration {
        Duration::from_millis(self.load_wait_ms)
    }

    pub(crate) fn upkeep(&self) -> ann::Upkeep {
        ann::Upkeep { head_rows_max: self.head_rows_max.max(1), ..ann::Upkeep::default() }
    }

    pub(crate) fn build_options(&self) -> ann::BuildOptions {
        ann::BuildOptions {
            threads: self.build_threads.max(1),
            memory_bytes_max: self.build_bytes_max,
        }
    }

    pub(crate) fn stale_micros(&self) -> i64 {
        micros(self.stale_seconds)
    }

    pub(crate) fn change_micros(&self) -> i64 {
        micros(self.change_seconds)
    }
}

fn micros(seconds: u64) -> i64 {
    i64::try_from(seconds).unwrap_or(i64::MAX).saturating_mul(1_000_000)
}
