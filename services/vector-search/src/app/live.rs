//! The indexes that this replica has in memory: loaded when they are first
//! asked for, kept up with the changes of their space, let go when memory is
//! needed.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use service_error::ServiceError;
use space_index::{SpaceIndex, SpaceSettings};
use sql_store::now_micros;
use tokio::sync::watch;
use uuid::Uuid;

use crate::app::App;
use crate::model::{Consistency, IndexFailure, Space};

/// Changes that are applied at once.
const CHANGES: u32 = 1_000;
/// Bytes of a point beside its vector: graph links, ids, a modest payload.
const POINT_BYTES: u64 = 400;
/// After a refusal for want of memory, how long nothing is tried.
const REFUSED_MICROS: i64 = 10_000_000;

/// An index that is loaded.
#[derive(Debug)]
pub(super) struct Live {
    pub space: Arc<Space>,
    pub index: Arc<SpaceIndex>,
    /// Held while changes are read and applied.
    following: tokio::sync::Mutex<()>,
    /// When it was last known to miss nothing.
    confirmed_at: AtomicI64,
    used_at: AtomicI64,
}

/// What is known of a space's index.
#[derive(Debug, Clone)]
pub(super) enum Slot {
    /// It is being loaded; the channel closes when that ends.
    Loading(watch::Receiver<()>),
    /// It is there.
    Ready(Arc<Live>),
    /// It does not fit, as found at this time.
    OverBudget(i64),
}

/// All of them.
#[derive(Debug)]
pub(super) struct Registry {
    dir: PathBuf,
    budget: u64,
    slots: Mutex<HashMap<Uuid, Slot>>,
}

impl Registry {
    pub fn new(dir: PathBuf, budget: u64) -> Self {
        Self { dir, budget, slots: Mutex::default() }
    }

    pub const fn budget(&self) -> u64 {
        self.budget
    }

    /// Where a space's files are.
    pub fn dir(&self, space: Uuid) -> PathBuf {
        self.dir.join(space.simple().to_string())
    }

    pub fn root(&self) -> &Path {
        &self.dir
    }

    fn with<T>(&self, work: impl FnOnce(&mut HashMap<Uuid, Slot>) -> T) -> T {
        work(&mut self.slots.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub fn slot(&self, space: Uuid) -> Option<Slot> {
        self.with(|slots| slots.get(&space).cloned())
    }

    pub fn ready(&self) -> Vec<Arc<Live>> {
        self.with(|slots| {
            let ready = slots.values().filter_map(|slot| match slot {
                Slot::Ready(live) => Some(Arc::clone(live)),
                _ => None,
            });
            ready.collect()
        })
    }

    /// Notes that a space is being loaded, unless somebody else has or it is there: then nothing.
    fn begin(&self, space: Uuid) -> Option<watch::Sender<()>> {
        self.with(|slots| {
            if let Some(Slot::Loading(_) | Slot::Ready(_)) = slots.get(&space) {
                return None;
            }
            let (done, loading) = watch::channel(());
            slots.insert(space, Slot::Loading(loading));
            Some(done)
        })
    }

    pub fn set(&self, space: Uuid, slot: Slot) {
        self.with(|slots| slots.insert(space, slot));
    }

    pub fn forget(&self, space: Uuid) -> Option<Slot> {
        self.with(|slots| slots.remove(&space))
    }

    /// Bytes that all indexes use.
    pub fn used(&self) -> u64 {
        self.ready().iter().map(|live| live.index.summary().memory_bytes).sum()
    }

    /// Makes room for `needed` bytes by letting go what was not used the longest; whether there
    /// is room then.
    fn make_room(&self, needed: u64) -> bool {
        if needed > self.budget {
            return false;
        }
        let mut ready = self.ready();
        ready.sort_by_key(|live| live.used_at.load(Ordering::Relaxed));
        let mut used: u64 = ready.iter().map(|live| live.index.summary().memory_bytes).sum();
        for live in ready {
            if used + needed <= self.budget {
                break;
            }
            used -= live.index.summary().memory_bytes.min(used);
            tracing::info!(space = %live.space.id, "its index makes room for another");
            self.forget(live.space.id);
        }
        used + needed <= self.budget
    }
}

impl Live {
    fn new(space: Arc<Space>, index: SpaceIndex, confirmed_at: i64) -> Self {
        Self {
            space,
            index: Arc::new(index),
            following: tokio::sync::Mutex::new(()),
            confirmed_at: AtomicI64::new(confirmed_at),
            used_at: AtomicI64::new(now_micros()),
        }
    }

    fn confirm(&self, at: i64) {
        self.confirmed_at.fetch_max(at, Ordering::AcqRel);
    }
}

impl App {
    /// The space's index, as fresh as asked for; nothing while it is cold or does not fit.
    pub(super) async fn index_at(
        &self,
        space: &Arc<Space>,
        consistency: Consistency,
    ) -> Result<Option<Arc<SpaceIndex>>, ServiceError> {
        let Some(live) = self.live_index(space).await? else { return Ok(None) };
        live.used_at.store(now_micros(), Ordering::Relaxed);
        let at_least = match consistency {
            Consistency::Eventual => {
                let age = now_micros() - live.confirmed_at.load(Ordering::Acquire);
                if age > self.settings.stale_micros() {
                    // The poll may only be late; the database itself says.
                    self.follow(&live, 0).await.map_err(|error| stale(&error))?;
                }
                return Ok(Some(Arc::clone(&live.index)));
            }
            Consistency::AtLeast(seq) => seq,
            Consistency::Strong => self.store.newest(space).await?,
        };
        if live.index.cursor() < at_least {
            self.follow(&live, at_least).await?;
        }
        if live.index.cursor() < at_least {
            let message = format!(
                "no change {at_least} in space {} yet; its newest is {}",
                space.name,
                live.index.cursor()
            );
            return Err(
                ServiceError::invalid("consistency.at_least", message).reason("TOKEN_UNKNOWN")
            );
        }
        Ok(Some(Arc::clone(&live.index)))
    }

    async fn live_index(&self, space: &Arc<Space>) -> Result<Option<Arc<Live>>, ServiceError> {
        loop {
            let mut loading = match self.live.slot(space.id) {
                Some(Slot::Ready(live)) => return Ok(Some(live)),
                Some(Slot::OverBudget(at)) if now_micros() - at < REFUSED_MICROS => {
                    return Ok(None);
                }
                Some(Slot::Loading(loading)) => loading,
                _ => {
                    self.begin_loading(space);
                    continue;
                }
            };
            let waited = tokio::time::timeout(self.settings.load_wait(), loading.changed()).await;
            match (waited, self.live.slot(space.id)) {
                // The sender is gone: loading ended, well or not.
                (Ok(_), Some(Slot::Ready(live))) => return Ok(Some(live)),
                (Ok(_), Some(Slot::Loading(_))) => {}
                _ => return Ok(None),
            }
        }
    }

    fn begin_loading(&self, space: &Arc<Space>) {
        let Some(done) = self.live.begin(space.id) else { return };
        let (app, space) = (self.clone(), Arc::clone(space));
        tokio::spawn(async move {
            let loaded = app.load_index(&space).await;
            match loaded {
                Ok(Some(live)) => app.live.set(space.id, Slot::Ready(live)),
                Ok(None) => {
                    app.live.set(space.id, Slot::OverBudget(now_micros()));
                    app.index_rows(&space).await;
                }
                Err(error) => {
                    tracing::warn!(space = %space.id, %error, "its index could not be loaded");
                    app.live.forget(space.id);
                }
            }
            drop(done);
        });
    }

    /// Loads from this replica's disk, else from the object store, else from the rows; nothing
    /// if it would not fit.
    async fn load_index(&self, space: &Arc<Space>) -> Result<Option<Arc<Live>>, ServiceError> {
        let Some(row) = self.store.space(space.id).await? else {
            return Err(ServiceError::not_found("space", &space.name));
        };
        let points = u64::try_from(row.points).unwrap_or(0);
        let codes = space.vectors.row_bytes() as u64 / 4;
        let head = self.settings.head_rows_max as u64 * space.vectors.row_bytes() as u64;
        let needed =
            points * (codes + POINT_BYTES) + head.min(points * space.vectors.row_bytes() as u64);
        if !self.live.make_room(needed) {
            tracing::warn!(space = %space.id, points, needed, "its index is over the memory budget: its rows are searched");
            return Ok(None);
        }
        if let Some(live) = self.load_snapshot(space, row.snapshot_seq).await? {
            return Ok(Some(live));
        }
        let live = self.load_rows(space).await?;
        Ok(Some(live))
    }

    async fn load_snapshot(
        &self,
        space: &Arc<Space>,
        snapshot_seq: i64,
    ) -> Result<Option<Arc<Live>>, ServiceError> {
        for fetched in [false, true] {
            if fetched && (snapshot_seq == 0 || !self.fetch_snapshot(space).await) {
                continue;
            }
            let (settings, dir) = (space_settings(space), self.live.dir(space.id));
            let opened = super::blocking(move || SpaceIndex::open(settings, &dir)).await?;
            match opened {
                Ok(Some(index)) => {
                    let live = Arc::new(Live::new(Arc::clone(space), index, 0));
                    match self.follow(&live, 0).await {
                        Ok(()) => return Ok(Some(live)),
                        Err(error) if error.reason_is("CHANGES_FORGOTTEN") => {
                            tracing::info!(space = %space.id, "its snapshot is too old to follow");
                        }
                        Err(error) => return Err(error),
                    }
                }
                Ok(None) => {}
                Err(error) => {
                    tracing::error!(space = %space.id, %error, "its snapshot is damaged and is made anew");
                }
            }
        }
        Ok(None)
    }

    /// Makes the index from the rows.
    pub(super) async fn load_rows(&self, space: &Arc<Space>) -> Result<Arc<Live>, ServiceError> {
        let index = self.index_from_rows(space).await?;
        let live = Arc::new(Live::new(Arc::clone(space), index, 0));
        self.follow(&live, 0).await?;
        Ok(live)
    }

    /// Applies what is new, at least up to a change if that is there.
    ///
    /// # Errors
    /// The database's; reason `CHANGES_FORGOTTEN` when changes between are gone.
    pub(super) async fn follow(&self, live: &Live, at_least: i64) -> Result<(), ServiceError> {
        let _following = live.following.lock().await;
        if at_least > 0 && live.index.cursor() >= at_least {
            return Ok(());
        }
        loop {
            let asked_at = now_micros();
            let newest = self.store.newest(&live.space).await?;
            if live.index.cursor() >= newest {
                live.confirm(asked_at);
                return Ok(());
            }
            let after = live.index.cursor();
            let changes = self.store.changes_after(&live.space, after, CHANGES).await?;
            if changes.first().is_none_or(|first| first.seq != after + 1) {
                return Err(ServiceError::conflict("changes between are forgotten")
                    .reason("CHANGES_FORGOTTEN"));
            }
            live.index.apply(&changes).map_err(|error| ServiceError::from(IndexFailure(&error)))?;
        }
    }

    /// Lets this replica's index see a write before it is acknowledged. A write is done whatever
    /// happens here; the poll brings it then.
    pub(super) async fn applied(&self, space: &Space, seq: i64) {
        let Some(Slot::Ready(live)) = self.live.slot(space.id) else { return };
        if let Err(error) = self.follow(&live, seq).await {
            self.not_followed(&live, &error);
        }
    }

    /// Follows all indexes: what other replicas wrote, and spaces that were deleted.
    ///
    /// # Errors
    /// The database's.
    pub async fn poll(&self) -> Result<(), ServiceError> {
        let ready = self.live.ready();
        for some in ready.chunks(500) {
            let ids: Vec<Uuid> = some.iter().map(|live| live.space.id).collect();
            let asked_at = now_micros();
            let newest = self.store.newest_of(&ids).await?;
            for live in some {
                match newest.get(&live.space.id) {
                    None => self.forget_index(live.space.id).await,
                    Some(newest) if live.index.cursor() >= *newest => live.confirm(asked_at),
                    Some(newest) => {
                        if let Err(error) = self.follow(live, *newest).await {
                            self.not_followed(live, &error);
                        }
                    }
                }
            }
        }
        Ok(())
    }

    fn not_followed(&self, live: &Live, error: &ServiceError) {
        tracing::warn!(space = %live.space.id, %error, "its index could not follow");
        if error.code() != service_error::Code::Unavailable {
            // Loaded anew when it is asked for.
            self.live.forget(live.space.id);
        }
    }

    /// Forgets an index and its files.
    pub(super) async fn forget_index(&self, space: Uuid) {
        self.live.forget(space);
        let dir = self.live.dir(space);
        let removed = super::blocking(move || std::fs::remove_dir_all(dir)).await;
        if let Ok(Err(error)) = removed
            && error.kind() != std::io::ErrorKind::NotFound
        {
            tracing::warn!(%space, %error, "an index's files could not be removed");
        }
    }
}

/// What the index must know of a space.
pub(super) fn space_settings(space: &Space) -> SpaceSettings {
    SpaceSettings { space: space.id, epoch: space.epoch, vectors: space.vectors }
}

fn stale(error: &ServiceError) -> ServiceError {
    ServiceError::unavailable(format!(
        "the index has not heard from the database for some seconds ({error}); try again"
    ))
    .reason("INDEX_STALE")
}
