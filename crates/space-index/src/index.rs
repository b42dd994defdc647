//! Changes in, answers out.

use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{
    Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock, RwLockReadGuard, TryLockError,
};

use ann::{Answer, Index, Query, Room, Vector};
use filter::Filter;
use payload_index::{ColumnType, Payload, PayloadIndex};
use roaring::RoaringBitmap;
use uuid::Uuid;

use crate::{IndexError, Manifest};

/// Points that become live at once; readers wait for so many.
const SWAPPED: usize = 64;
/// Bitmaps of filters that are kept until the next change.
const FILTERS_KEPT: usize = 64;

/// Which space, and what its vectors are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SpaceSettings {
    /// The space.
    pub space: Uuid,
    /// Of its rows.
    pub epoch: i64,
    /// Metric, element, dimension.
    pub vectors: ann::Settings,
}

/// A point as its row has it.
#[derive(Debug, Clone, PartialEq)]
pub struct Point {
    /// Space-wide, given once.
    pub number: u32,
    /// Whose it is.
    pub item_id: String,
    /// As stored: elements, little-endian.
    pub vector: Vec<u8>,
    /// What it can be filtered by.
    pub payload: Payload,
}

/// One change of the space.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    /// Its number; changes are applied in order.
    pub seq: i64,
    /// The number that is no longer there.
    pub removed: Option<u32>,
    /// The point that is there now; nothing for a deletion, or when a later change replaced it.
    pub point: Option<Point>,
}

/// The numbers that pass a filter; shared while nothing changes.
pub type Passing = Arc<RoaringBitmap>;

/// A nearest-neighbour question.
#[derive(Debug, Clone, Copy)]
pub struct Search<'a> {
    /// Near to what.
    pub vector: Vector<'a>,
    /// How many.
    pub k: usize,
    /// Breadth of the walk.
    pub ef: Option<usize>,
    /// Compare with all.
    pub exact: bool,
    /// Nothing farther.
    pub distance_max: Option<f32>,
}

/// Counts of an index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Summary {
    /// Points that are there.
    pub points: u64,
    /// In segments, deleted ones among them.
    pub segment_rows: u64,
    /// In segments and deleted.
    pub deleted: u64,
    /// Segments.
    pub segments: u64,
    /// Bytes that should stay in memory.
    pub memory_bytes: u64,
}

/// The index of one space. Everything takes `&self`.
#[derive(Debug)]
pub struct SpaceIndex {
    pub(crate) settings: SpaceSettings,
    pub(crate) dir: PathBuf,
    pub(crate) vectors: Index,
    pub(crate) payload: RwLock<PayloadIndex>,
    /// Held by whoever applies changes, or wants none applied.
    pub(crate) applying: Mutex<()>,
    pub(crate) cursor: AtomicI64,
    pub(crate) snapshot: Mutex<Option<Manifest>>,
    revision: AtomicU64,
    filters: Mutex<(u64, VecDeque<(String, Passing)>)>,
    /// What the payload took at a revision: to add it up is a walk over all values.
    payload_bytes: Mutex<(u64, u64)>,
    room: OnceLock<Arc<dyn Room>>,
}

impl SpaceIndex {
    /// An empty one whose files will be in `dir`.
    #[must_use]
    pub fn empty(settings: SpaceSettings, dir: &Path) -> Self {
        Self::of(settings, dir, Index::new(settings.vectors), PayloadIndex::default(), 0)
    }

    /// An empty one that knows these columns already.
    #[must_use]
    pub fn with_columns(
        settings: SpaceSettings,
        dir: &Path,
        columns: &BTreeMap<String, ColumnType>,
    ) -> Self {
        let payload = PayloadIndex::with_columns(columns);
        Self::of(settings, dir, Index::new(settings.vectors), payload, 0)
    }

    pub(crate) fn of(
        settings: SpaceSettings,
        dir: &Path,
        vectors: Index,
        payload: PayloadIndex,
        seq: i64,
    ) -> Self {
        Self {
            settings,
            dir: dir.to_owned(),
            vectors,
            payload: RwLock::new(payload),
            applying: Mutex::new(()),
            cursor: AtomicI64::new(seq),
            snapshot: Mutex::new(None),
            revision: AtomicU64::new(0),
            filters: Mutex::default(),
            payload_bytes: Mutex::default(),
            room: OnceLock::new(),
        }
    }

    /// From now on searches ask whether there is room for what they would make. The first who
    /// says so is asked.
    pub fn keep_within(&self, room: Arc<dyn Room>) {
        let _ = self.room.set(room);
    }

    /// Which space it is of.
    #[must_use]
    pub const fn settings(&self) -> &SpaceSettings {
        &self.settings
    }

    /// Points that are there.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.payload().live().len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.payload().live().is_empty()
    }

    /// The newest change that searches see.
    #[must_use]
    pub fn cursor(&self) -> i64 {
        self.cursor.load(Ordering::Acquire)
    }

    /// The change up to which there is a snapshot; 0 if there is none.
    #[must_use]
    pub fn snapshot_seq(&self) -> i64 {
        lock(&self.snapshot).as_ref().map_or(0, |manifest| manifest.seq)
    }

    /// Applies changes in order. Those that were applied before change nothing.
    ///
    /// A replaced point is live in exactly one of its versions at any moment, though for a moment
    /// both are found: whoever answers keeps to [`PayloadIndex::live`].
    ///
    /// # Errors
    /// A vector that is not the space's: the row is damaged.
    pub fn apply(&self, changes: &[Change]) -> Result<(), IndexError> {
        let _applying = lock(&self.applying);
        let cursor = self.cursor();
        for some in changes.chunks(SWAPPED) {
            let new: Vec<&Change> = some.iter().filter(|change| change.seq > cursor).collect();
            for point in new.iter().filter_map(|change| change.point.as_ref()) {
                self.insert_vector(point)?;
            }
            let gone: RoaringBitmap = new.iter().filter_map(|change| change.removed).collect();
            let mut payload = self.payload.write().unwrap_or_else(PoisonError::into_inner);
            for change in &new {
                if let Some(point) = &change.point {
                    payload.insert(point.number, &point.item_id, &point.payload);
                }
            }
            gone.iter().for_each(|number| payload.remove(number));
            // While nobody reads, so that no filter is answered as of before.
            self.revision.fetch_add(1, Ordering::AcqRel);
            drop(payload);
            self.vectors.delete(&gone);
        }
        if let Some(last) = changes.last() {
            self.cursor.fetch_max(last.seq, Ordering::AcqRel);
        }
        Ok(())
    }

    /// Takes in points that were read as rows, not as changes.
    ///
    /// # Errors
    /// As [`Self::apply`].
    pub fn load(&self, points: &[Point]) -> Result<(), IndexError> {
        let _applying = lock(&self.applying);
        for some in points.chunks(SWAPPED) {
            some.iter().try_for_each(|point| self.insert_vector(point))?;
            let mut payload = self.payload.write().unwrap_or_else(PoisonError::into_inner);
            for point in some {
                payload.insert(point.number, &point.item_id, &point.payload);
            }
            self.revision.fetch_add(1, Ordering::AcqRel);
        }
        Ok(())
    }

    /// Everything up to this change has been taken in.
    pub fn advance(&self, seq: i64) {
        self.cursor.fetch_max(seq, Ordering::AcqRel);
    }

    fn insert_vector(&self, point: &Point) -> Result<(), IndexError> {
        with_vector(&self.settings.vectors, &point.vector, |vector| {
            self.vectors.insert(point.number, vector)
        })?;
        Ok(())
    }

    /// What it knows beside vectors.
    pub fn payload(&self) -> RwLockReadGuard<'_, PayloadIndex> {
        self.payload.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// The points that pass a filter.
    ///
    /// # Errors
    /// A filter of another schema.
    pub fn passing(&self, filter: &Filter) -> Result<Passing, IndexError> {
        self.passing_as(filter.canonical(), filter)
    }

    /// The points that pass the filter of a text, if nothing has changed since it was kept.
    #[must_use]
    pub fn kept(&self, text: &str) -> Option<Passing> {
        let kept = lock(&self.filters);
        if kept.0 != self.revision.load(Ordering::Acquire) {
            return None;
        }
        kept.1.iter().find(|(known, _)| known == text).map(|(_, found)| Arc::clone(found))
    }

    /// The points that pass a filter, kept under its text until the next change.
    ///
    /// # Errors
    /// A filter of another schema.
    pub fn passing_as(&self, text: &str, filter: &Filter) -> Result<Passing, IndexError> {
        if let Some(found) = self.kept(text) {
            return Ok(found);
        }
        let revision = self.revision.load(Ordering::Acquire);
        let found = Arc::new(self.payload().passing(filter)?);
        let mut kept = lock(&self.filters);
        if kept.0 != revision {
            *kept = (revision, VecDeque::new());
        }
        if kept.1.len() == FILTERS_KEPT {
            kept.1.pop_front();
        }
        kept.1.push_back((text.to_owned(), Arc::clone(&found)));
        Ok(found)
    }

    /// The nearest of those allowed.
    ///
    /// # Errors
    /// A vector that is not the space's; damage.
    pub fn search(
        &self,
        search: &Search<'_>,
        allowed: Option<&RoaringBitmap>,
    ) -> Result<Answer, IndexError> {
        Ok(self.vectors.search(&self.query(search, allowed))?)
    }

    fn query<'a>(&'a self, search: &Search<'a>, allowed: Option<&'a RoaringBitmap>) -> Query<'a> {
        Query {
            ef: search.ef,
            allowed,
            exact: search.exact,
            distance_max: search.distance_max,
            room: self.room.get().map(|room| &**room),
            ..Query::new(search.vector, search.k)
        }
    }

    /// Many questions on several threads.
    pub fn search_batch(
        &self,
        searches: &[Search<'_>],
        allowed: Option<&RoaringBitmap>,
        threads: usize,
    ) -> Vec<Result<Answer, IndexError>> {
        let queries: Vec<Query<'_>> =
            searches.iter().map(|search| self.query(search, allowed)).collect();
        let answers = self.vectors.search_batch(&queries, threads);
        answers.into_iter().map(|answer| answer.map_err(IndexError::from)).collect()
    }

    /// The coordinates of a point's vector.
    ///
    /// # Errors
    /// Damage.
    pub fn vector(&self, number: u32) -> Result<Option<Vec<f32>>, IndexError> {
        Ok(self.vectors.vector(number)?)
    }

    /// Counts.
    #[must_use]
    pub fn summary(&self) -> Summary {
        let segments = self.vectors.segments();
        let payload = self.payload();
        Summary {
            points: payload.live().len(),
            segment_rows: segments.iter().map(|segment| u64::from(segment.rows())).sum(),
            deleted: self.vectors.deleted().len(),
            segments: segments.len() as u64,
            memory_bytes: self.vector_bytes() + self.payload_bytes(&payload),
        }
    }

    /// Bytes that should stay in memory; while the payload changes, as it was, without waiting.
    #[must_use]
    pub fn memory_bytes(&self) -> u64 {
        let payload = match self.payload.try_read() {
            Ok(payload) => self.payload_bytes(&payload),
            Err(TryLockError::Poisoned(payload)) => self.payload_bytes(&payload.into_inner()),
            Err(TryLockError::WouldBlock) => lock(&self.payload_bytes).1,
        };
        self.vector_bytes() + payload
    }

    fn vector_bytes(&self) -> u64 {
        let memory = self.vectors.memory();
        memory.head_bytes + memory.resident_bytes
    }

    fn payload_bytes(&self, payload: &PayloadIndex) -> u64 {
        let revision = self.revision.load(Ordering::Acquire);
        let mut known = lock(&self.payload_bytes);
        if known.0 != revision || known.1 == 0 {
            *known = (revision, payload.memory_bytes() as u64);
        }
        known.1
    }
}

/// Stored bytes as the vector that they are of.
pub(crate) fn with_vector<T>(
    settings: &ann::Settings,
    bytes: &[u8],
    work: impl FnOnce(Vector<'_>) -> Result<T, ann::Error>,
) -> Result<T, ann::Error> {
    match settings.element() {
        ann::Element::Bit => {
            let used = settings.dimension().div_ceil(8) as usize;
            work(Vector::Bits(&bytes[..bytes.len().min(used)]))
        }
        _ => work(Vector::Floats(&settings.floats(bytes))),
    }
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
