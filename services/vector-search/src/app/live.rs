//! The indexes that this replica has in memory: loaded when they are first
//! asked for, kept up with the changes of their space, let go when memory is
//! needed.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use service_error::ServiceError;
use space_index::{SharedRoom, SpaceIndex, SpaceSettings};
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
    /// When it was last known to miss something that was acknowledged here.
    doubted_at: AtomicI64,
    used_at: AtomicI64,
}

/// What is known of a space's index.
#[derive(Debug, Clone)]
pub(super) enum Slot {
    /// It is being loaded.
    Loading(Loading),
    /// It is there.
    Ready(Arc<Live>),
    /// It does not fit.
    OverBudget(OverBudget),
}

/// An index that is being loaded.
#[derive(Debug, Clone)]
pub(super) struct Loading {
    /// Closes when that ends.
    done: watch::Receiver<()>,
    /// The newest change that was acknowledged here meanwhile.
    acknowledged: i64,
}

/// An index that does not fit.
#[derive(Debug, Clone, Copy)]
pub(super) struct OverBudget {
    /// When that was found.
    at: i64,
    /// Of itself, if it was in memory.
    measured: Measured,
}

/// Bytes that an index used, and points that it had.
type Measured = Option<(u64, u64)>;

/// Held by whoever opens or changes the files of a space's index.
type Files = Arc<tokio::sync::Mutex<()>>;

/// All of them.
#[derive(Debug)]
pub(super) struct Registry {
    dir: PathBuf,
    budget: u64,
    slots: Mutex<HashMap<Uuid, Slot>>,
    files: Mutex<HashMap<Uuid, Files>>,
    /// What its indexes ask before a search makes something that stays.
    room: Arc<SharedRoom>,
}

impl Registry {
    pub fn new(dir: PathBuf, budget: u64) -> Arc<Self> {
        Arc::new_cyclic(|registry: &Weak<Self>| {
            let registry = Weak::clone(registry);
            let used =
                move || registry.upgrade().map_or(u64::MAX, |registry| registry.roughly_used());
            let room = Arc::new(SharedRoom::new(budget, used));
            Self { dir, budget, slots: Mutex::default(), files: Mutex::default(), room }
        })
    }

    pub const fn budget(&self) -> u64 {
        self.budget
    }

    /// Where a space's files are.
    pub fn dir(&self, space: Uuid) -> PathBuf {
        self.dir.join(space.simple().to_string())
    }

    /// What to hold while a space's files are opened or changed.
    pub fn files(&self, space: Uuid) -> Files {
        let mut files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        files.retain(|_, held| Arc::strong_count(held) > 1);
        Arc::clone(files.entry(space).or_default())
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

    /// Whether searches have this very index.
    pub fn is_serving(&self, live: &Arc<Live>) -> bool {
        matches!(self.slot(live.space.id), Some(Slot::Ready(now)) if Arc::ptr_eq(&now, live))
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
            let (end, done) = watch::channel(());
            slots.insert(space, Slot::Loading(Loading { done, acknowledged: 0 }));
            Some(end)
        })
    }

    pub fn set(&self, space: Uuid, slot: Slot) {
        self.with(|slots| slots.insert(space, slot));
    }

    /// Lets searches have an index that was loaded, unless a change that was acknowledged
    /// meanwhile is not in it: then that change's number.
    fn finish(&self, live: &Arc<Live>) -> Option<i64> {
        self.with(|slots| {
            if let Some(Slot::Loading(loading)) = slots.get(&live.space.id)
                && loading.acknowledged > live.index.cursor()
            {
                return Some(loading.acknowledged);
            }
            live.index.keep_within(Arc::clone(&self.room) as _);
            slots.insert(live.space.id, Slot::Ready(Arc::clone(live)));
            None
        })
    }

    /// Lets searches have an index in the place of one that serves, unless that has newer changes:
    /// then the newest's number. One that was let go meanwhile has no place: whoever asks next
    /// loads the new one's files.
    pub fn replace(&self, old: &Arc<Live>, new: &Arc<Live>) -> Option<i64> {
        self.with(|slots| {
            let slot = slots.get_mut(&old.space.id)?;
            if !matches!(slot, Slot::Ready(now) if Arc::ptr_eq(now, old)) {
                return None;
            }
            let newest = old.index.cursor();
            if newest > new.index.cursor() {
                return Some(newest);
            }
            new.doubted_at.fetch_max(old.doubted_at.load(Ordering::Acquire), Ordering::AcqRel);
            new.index.keep_within(Arc::clone(&self.room) as _);
            *slot = Slot::Ready(Arc::clone(new));
            None
        })
    }

    /// The index that must see a change before it is acknowledged, if it is there and has not; one
    /// that is being loaded is told.
    fn acknowledging(&self, space: Uuid, seq: i64) -> Option<Arc<Live>> {
        self.with(|slots| match slots.get_mut(&space) {
            Some(Slot::Ready(live)) => (live.index.cursor() < seq).then(|| Arc::clone(live)),
            Some(Slot::Loading(loading)) => {
                loading.acknowledged = loading.acknowledged.max(seq);
                None
            }
            _ => None,
        })
    }

    /// Lets go what was not used the longest until all keep to the budget: they grow with what
    /// is written. One that is over the budget by itself is searched in its rows; those spaces.
    pub fn keep_to_budget(&self) -> Vec<Arc<Space>> {
        let mut over = Vec::new();
        for live in self.ready() {
            let summary = live.index.summary();
            if summary.memory_bytes > self.budget {
                let measured = Some((summary.memory_bytes, summary.points));
                let slot = Slot::OverBudget(OverBudget { at: now_micros(), measured });
                self.set(live.space.id, slot);
                over.push(Arc::clone(&live.space));
            }
        }
        self.make_room(0);
        over
    }

    pub fn forget(&self, space: Uuid) -> Option<Slot> {
        self.with(|slots| slots.remove(&space))
    }

    /// Bytes that all indexes use.
    pub fn used(&self) -> u64 {
        self.ready().iter().map(|live| live.index.summary().memory_bytes).sum()
    }

    /// The same without waiting for any of them.
    fn roughly_used(&self) -> u64 {
        self.ready().iter().map(|live| live.index.memory_bytes()).sum()
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
        used += self.room.taken();
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
            doubted_at: AtomicI64::new(0),
            used_at: AtomicI64::new(now_micros()),
        }
    }

    fn confirm(&self, at: i64) {
        self.confirmed_at.fetch_max(at, Ordering::AcqRel);
    }

    /// It misses something: no search may have it before it has followed.
    fn doubt(&self) {
        self.doubted_at.fetch_max(now_micros(), Ordering::AcqRel);
    }

    /// Whether it was known to miss nothing not long ago.
    fn is_fresh(&self, stale_micros: i64) -> bool {
        let confirmed = self.confirmed_at.load(Ordering::Acquire);
        confirmed > self.doubted_at.load(Ordering::Acquire)
            && now_micros() - confirmed <= stale_micros
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
                if !live.is_fresh(self.settings.stale_micros()) {
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
                Some(Slot::OverBudget(over)) if now_micros() - over.at < REFUSED_MICROS => {
                    return Ok(None);
                }
                Some(Slot::Loading(loading)) => loading.done,
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
        let measured = self.live.slot(space.id);
        let Some(done) = self.live.begin(space.id) else { return };
        let measured = match measured {
            Some(Slot::OverBudget(over)) => over.measured,
            _ => None,
        };
        let (app, space) = (self.clone(), Arc::clone(space));
        tokio::spawn(async move {
            match app.load_to_end(&space, measured).await {
                Ok(true) => {}
                Ok(false) => {
                    let over = OverBudget { at: now_micros(), measured };
                    app.live.set(space.id, Slot::OverBudget(over));
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

    /// Loads an index and lets searches have it once it has every change that was acknowledged
    /// here; whether it fits.
    async fn load_to_end(
        &self,
        space: &Arc<Space>,
        measured: Measured,
    ) -> Result<bool, ServiceError> {
        let _files = self.live.files(space.id).lock_owned().await;
        let Some(live) = self.load_index(space, measured).await? else { return Ok(false) };
        while let Some(acknowledged) = self.live.finish(&live) {
            self.follow(&live, acknowledged).await?;
        }
        Ok(true)
    }

    /// Loads from this replica's disk, else from the object store, else from the rows; nothing
    /// if it would not fit.
    async fn load_index(
        &self,
        space: &Arc<Space>,
        measured: Measured,
    ) -> Result<Option<Arc<Live>>, ServiceError> {
        let Some(row) = self.store.space(space.id).await? else {
            return Err(ServiceError::not_found("space", &space.name));
        };
        let points = u64::try_from(row.points).unwrap_or(0);
        let codes = space.vectors.row_bytes() as u64 / 4;
        let head = self.settings.head_rows_max as u64 * space.vectors.row_bytes() as u64;
        let guessed =
            points * (codes + POINT_BYTES) + head.min(points * space.vectors.row_bytes() as u64);
        let known = measured.map_or(0, |(bytes, of)| bytes.div_ceil(of.max(1)) * points);
        let needed = guessed.max(known);
        if !self.live.make_room(needed) {
            tracing::warn!(space = %space.id, points, needed, "its index is over the memory budget: its rows are searched");
            return Ok(None);
        }
        if let Some(live) = self.load_snapshot(space, row.snapshot_seq).await? {
            return Ok(Some(live));
        }
        let live = self.load_rows(space, self.settings.head_rows_max).await?;
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

    /// Makes the index from the rows. Up to `few` stay in memory, more become a segment.
    pub(super) async fn load_rows(
        &self,
        space: &Arc<Space>,
        few: usize,
    ) -> Result<Arc<Live>, ServiceError> {
        let index = self.index_from_rows(space, few).await?;
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
        // Another one may take its place meanwhile.
        while let Some(live) = self.live.acknowledging(space.id, seq) {
            if let Err(error) = self.follow(&live, seq).await {
                live.doubt();
                if let Some(Slot::Ready(now)) = self.live.slot(space.id) {
                    now.doubt();
                }
                return self.not_followed(&live, &error);
            }
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

    fn not_followed(&self, live: &Arc<Live>, error: &ServiceError) {
        tracing::warn!(space = %live.space.id, %error, "its index could not follow");
        if error.code() != service_error::Code::Unavailable && self.live.is_serving(live) {
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::model::Owner;

    fn space() -> Space {
        let owner = Owner {
            namespace: Uuid::nil(),
            dataset: None,
            namespace_name: "ns".into(),
            dataset_name: String::new(),
            public: false,
        };
        let vectors = ann::Settings::new(ann::Metric::L2, ann::Element::F32, 2).unwrap();
        Space {
            id: Uuid::from_u128(7),
            owner,
            name: "s".into(),
            vectors,
            embedder: String::new(),
            points: 0,
            seq: 0,
            epoch: 0,
            snapshot_seq: 0,
            sql_indexed: false,
            created_at: 0,
            created_by: Uuid::nil(),
        }
    }

    /// A deletion that is acknowledged between the loader's last look and the moment at which
    /// searches have the index.
    #[test]
    fn an_index_that_misses_what_was_acknowledged_is_not_searched() {
        let registry = Registry::new(PathBuf::from("."), 1 << 20);
        let space = Arc::new(space());
        let _loading = registry.begin(space.id).unwrap();
        let index = SpaceIndex::empty(space_settings(&space), Path::new("."));
        index.advance(4);
        let live = Arc::new(Live::new(Arc::clone(&space), index, 0));
        assert!(registry.acknowledging(space.id, 5).is_none(), "it is still loaded");
        assert_eq!(registry.finish(&live), Some(5));
        assert!(matches!(registry.slot(space.id), Some(Slot::Loading(_))));
        live.index.advance(5);
        assert_eq!(registry.finish(&live), None);
        assert!(registry.acknowledging(space.id, 6).is_some(), "it follows before the answer");
    }

    #[test]
    fn what_misses_something_is_fresh_again_only_after_a_later_look() {
        let space = Arc::new(space());
        let index = SpaceIndex::empty(space_settings(&space), Path::new("."));
        let before = now_micros();
        let live = Live::new(space, index, before);
        assert!(live.is_fresh(60_000_000));
        live.doubt();
        live.confirm(before);
        assert!(!live.is_fresh(60_000_000), "that look was before");
        live.confirm(now_micros() + 1);
        assert!(live.is_fresh(60_000_000));
    }
}
