//! Use cases: who may do what with which rows, and in what order things happen.

mod analysis;
mod answers;
mod bulk;
mod commit;
mod compact;
mod edits;
mod export;
mod fence;
mod flight;
mod items;
mod kept;
mod lease;
mod looking;
mod media;
mod merge;
mod ordered;
mod pages;
mod partial;
mod put;
mod reading;
mod saved_filters;
mod sealing;
mod sql;
mod sql_catalog;
mod sql_snapshot;
mod stored;
mod thumbnails;
mod unique;
mod upkeep;
mod view;
mod watched;

use std::sync::Arc;

use access::GrantReplica;
use blocks::{BlockReader, ByteBudget};
use caller::TokenSource;
use item_garbage::Collector;
use item_manifests::{catalog, manifest, values};
use moka::sync::Cache;
use row_delta::RowDelta;
use service_channel::Transport;
use service_error::ServiceError;
use sql_engine::Engine;
use tokio::sync::{Notify, Semaphore};
use uuid::Uuid;

use crate::model::Address;
use crate::settings::Settings;
use crate::store::Store;

pub use edits::{Cells, Edit, Edited, Repeatable, RowChange, RowEdit};
pub use export::{Export, ExportRequest};
pub use flight::Flight;
pub use items::{ListRequest, RowsRequest};
pub use media::{MediaBytes, MediaName, MediaUpload};
pub use put::{PlacedPut, Put, PutDone};
pub use saved_filters::FilterChange;
pub use sql::{QueryRows, SqlFlight, SqlScan};
pub use watched::Batches;

use catalog::Catalog;
use kept::Kept;
use manifest::Manifests;
use sealing::Sealing;
use view::Views;

const DATASET_IDS_MAX: u64 = 10_000;
/// Summaries of whole datasets may take this part of what blocks may take.
const KEPT_SHARE: u64 = 8;

/// The item store's use cases. Clones share everything.
#[derive(Clone)]
pub struct App {
    inner: Arc<Inner>,
}

#[doc(hidden)]
pub struct Inner {
    settings: Settings,
    catalog: Catalog,
    access: GrantReplica,
    store: Store,
    reader: BlockReader,
    buffers: ByteBudget,
    manifests: Manifests,
    sealing: Sealing,
    /// Summaries of whole datasets.
    kept: Kept,
    delta: RowDelta,
    views: Views,
    /// Datasets by the names they had last.
    dataset_ids: Cache<Address, Uuid>,
    /// A writer found that a flush may be due.
    flush_wanted: Notify,
    sql: Engine,
    garbage: Collector,
    /// Pictures that are decoded at the moment.
    decoding: Arc<Semaphore>,
    /// Files of pictures in memory.
    pictures: ByteBudget,
}

impl std::fmt::Debug for App {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("App").finish_non_exhaustive()
    }
}

impl std::ops::Deref for App {
    type Target = Inner;

    fn deref(&self) -> &Inner {
        &self.inner
    }
}

impl App {
    /// The use cases over a store and a catalog.
    ///
    /// # Errors
    /// A database that does not give the key ring.
    pub async fn new(
        settings: Settings,
        catalog: Transport,
        tokens: TokenSource,
        access: GrantReplica,
        store: Store,
    ) -> Result<Self, ServiceError> {
        let delta = store.delta(settings.delta.cache_bytes);
        let garbage = Collector::new(
            catalog.clone(),
            tokens.clone(),
            store.clone(),
            delta.clone(),
            settings.garbage.clone(),
        );
        let catalog = Catalog::new(catalog, tokens);
        let reader = BlockReader::new(store.blobs().inner(), &settings.reader_settings());
        let inner = Inner {
            catalog,
            access,
            reader,
            buffers: ByteBudget::new(settings.blocks.buffer_bytes_max),
            manifests: Manifests::new(settings.manifest_cache_bytes),
            delta,
            garbage,
            kept: Kept::new(settings.cache_bytes / KEPT_SHARE),
            views: Views::new(settings.delta.cache_bytes),
            dataset_ids: Cache::builder().max_capacity(DATASET_IDS_MAX).build(),
            flush_wanted: Notify::new(),
            decoding: Arc::new(Semaphore::new(thumbnails::DECODED_AT_ONCE)),
            pictures: ByteBudget::new(thumbnails::FILES_BYTES_MAX),
            sealing: Sealing::open(store.clone()).await?,
            sql: Engine::new(&settings.engine_settings())?,
            store,
            settings,
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Returns when a writer found that a flush may be due.
    pub async fn flush_asked_for(&self) {
        self.flush_wanted.notified().await;
    }

    /// How often garbage is collected unasked; `None`: never.
    #[must_use]
    pub fn garbage_interval(&self) -> Option<std::time::Duration> {
        self.settings.garbage.interval()
    }

    /// What deletes what nothing names.
    #[must_use]
    pub fn collector(&self) -> &Collector {
        &self.garbage
    }

    /// How often blocks are looked at; `None`: never.
    #[must_use]
    pub fn compaction_interval(&self) -> Option<std::time::Duration> {
        let seconds = self.settings.compaction.seconds;
        (seconds > 0).then(|| std::time::Duration::from_secs(seconds))
    }

    /// Makes a new sealing key when the newest is old.
    ///
    /// # Errors
    /// A database that is away.
    pub async fn rotate_keys(&self) -> Result<(), ServiceError> {
        self.sealing.rotate().await
    }
}
