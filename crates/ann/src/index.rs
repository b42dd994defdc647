//! The whole: segments, heads and what is deleted in them, searched together and swapped while
//! searches run.

use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use roaring::RoaringBitmap;

use crate::error::{Error, Result};
use crate::head::Head;
use crate::nearest::Nearest;
use crate::query::{Answer, Query};
use crate::segment::Segment;
use crate::settings::Settings;
use crate::upkeep::{Installed, Task, Work};
use crate::vector::{Exact, Row, Stored, Vector};

/// A segment and which of its rows are alive.
#[derive(Debug)]
pub(crate) struct Live {
    pub(crate) segment: Arc<Segment>,
    alive: RwLock<Arc<RoaringBitmap>>,
}

impl Live {
    fn new(segment: Arc<Segment>, alive: RoaringBitmap) -> Self {
        Self { segment, alive: RwLock::new(Arc::new(alive)) }
    }

    pub(crate) fn alive(&self) -> Arc<RoaringBitmap> {
        self.alive.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn delete(&self, numbers: &RoaringBitmap) -> u64 {
        let mut alive = self.alive.write().unwrap_or_else(PoisonError::into_inner);
        let gone = alive.intersection_len(numbers);
        if gone > 0 {
            *Arc::make_mut(&mut alive) -= numbers;
        }
        gone
    }
}

/// What is searched at one moment. The last head is the open one.
#[derive(Debug, Clone)]
pub(crate) struct State {
    pub(crate) segments: Vec<Arc<Live>>,
    pub(crate) heads: Vec<Arc<Head>>,
}

/// Bytes that an index uses.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Memory {
    /// Held by the heads.
    pub head_bytes: u64,
    /// Of the files, what is in memory: all but the exact vectors.
    pub resident_bytes: u64,
    /// The files.
    pub file_bytes: u64,
}

/// Vectors of one space. Everything takes `&self`; searches never wait for writers' work.
#[derive(Debug)]
pub struct Index {
    settings: Settings,
    state: RwLock<Arc<State>>,
    /// Held by whoever changes the state or a head.
    writing: Mutex<()>,
}

impl Index {
    /// An empty one.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        let state = State { segments: Vec::new(), heads: vec![Arc::new(Head::new(settings))] };
        Self { settings, state: RwLock::new(Arc::new(state)), writing: Mutex::new(()) }
    }

    /// One of these segments, less the deleted numbers.
    ///
    /// # Errors
    /// A segment of another space, or two that hold the same number.
    pub fn open(
        settings: Settings,
        segments: Vec<Arc<Segment>>,
        deleted: &RoaringBitmap,
    ) -> Result<Self> {
        let mut seen = RoaringBitmap::new();
        for segment in &segments {
            if !segment.settings().same_space(&settings) {
                return Err(segment.damaged("it belongs to a space of other settings"));
            }
            if !seen.is_disjoint(segment.all()) {
                return Err(segment.damaged("another segment holds some of its numbers"));
            }
            seen |= segment.all();
        }
        let live = segments.into_iter().map(|segment| {
            let alive = segment.all() - deleted;
            Arc::new(Live::new(segment, alive))
        });
        let state = State { segments: live.collect(), heads: vec![Arc::new(Head::new(settings))] };
        Ok(Self { settings, state: RwLock::new(Arc::new(state)), writing: Mutex::new(()) })
    }

    /// What its vectors are.
    #[must_use]
    pub const fn settings(&self) -> &Settings {
        &self.settings
    }

    pub(crate) fn state(&self) -> Arc<State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn swap(&self, state: State) {
        *self.state.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(state);
    }

    /// Adds a vector under a number that was never used before. A number that the index knows,
    /// alive or deleted, changes nothing and gives false, so a change may be applied again.
    ///
    /// # Errors
    /// As [`Settings::store`].
    pub fn insert(&self, number: u32, vector: Vector<'_>) -> Result<bool> {
        let stored = self.settings.store(vector)?;
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let state = self.state();
        let known = state.segments.iter().any(|live| live.segment.all().contains(number))
            || state.heads.iter().any(|head| head.knows(number));
        if known {
            return Ok(false);
        }
        match state.heads.last() {
            Some(head) => head.insert(number, &stored).map(|()| true),
            None => Ok(false),
        }
    }

    /// Marks numbers as deleted, as many as were alive. Searches that begin later don't find
    /// them.
    pub fn delete(&self, numbers: &RoaringBitmap) -> u64 {
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let state = self.state();
        let segments: u64 = state.segments.iter().map(|live| live.delete(numbers)).sum();
        segments + state.heads.iter().map(|head| head.delete(numbers)).sum::<u64>()
    }

    /// Vectors that are alive.
    #[must_use]
    pub fn len(&self) -> u64 {
        let state = self.state();
        let segments: u64 = state.segments.iter().map(|live| live.alive().len()).sum();
        segments + state.heads.iter().map(|head| head.alive().len()).sum::<u64>()
    }

    /// Whether none is alive.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The numbers that are alive.
    #[must_use]
    pub fn alive(&self) -> RoaringBitmap {
        let state = self.state();
        let mut all = RoaringBitmap::new();
        state.segments.iter().for_each(|live| all |= &*live.alive());
        state.heads.iter().for_each(|head| all |= &*head.alive());
        all
    }

    /// Numbers that segments still hold and that are deleted: what a snapshot keeps beside the
    /// files, for [`Index::open`].
    #[must_use]
    pub fn deleted(&self) -> RoaringBitmap {
        let mut all = RoaringBitmap::new();
        for live in &self.state().segments {
            all |= live.segment.all() - &*live.alive();
        }
        all
    }

    /// The segments, in no order.
    #[must_use]
    pub fn segments(&self) -> Vec<Arc<Segment>> {
        self.state().segments.iter().map(|live| live.segment.clone()).collect()
    }

    /// The coordinates of a vector that is alive, as numbers; of bits, 0 and 1.
    ///
    /// # Errors
    /// [`Error::Damaged`] if the stored bytes are not what was written.
    pub fn vector(&self, number: u32) -> Result<Option<Vec<f32>>> {
        let state = self.state();
        for live in state.segments.iter().filter(|live| live.alive().contains(number)) {
            if let Some(bytes) = live.segment.vector(number)? {
                let floats = self.settings.floats(bytes);
                live.segment.expect_whole()?;
                return Ok(Some(floats));
            }
        }
        Ok(state.heads.iter().find_map(|head| head.bytes(number)).map(|b| self.settings.floats(&b)))
    }

    /// Bytes that the index uses.
    #[must_use]
    pub fn memory(&self) -> Memory {
        let state = self.state();
        let head_bytes = state.heads.iter().map(|head| head.memory_bytes()).sum();
        let mut memory = Memory { head_bytes, ..Memory::default() };
        for live in &state.segments {
            memory.resident_bytes += live.segment.resident_bytes();
            memory.file_bytes += live.segment.file_bytes();
        }
        memory
    }

    /// Finds the nearest.
    ///
    /// # Errors
    /// A query out of bounds, cancellation, or [`Error::Damaged`] that names the file to rebuild.
    pub fn search(&self, query: &Query<'_>) -> Result<Answer> {
        query.check()?;
        let exact = Exact::new(&self.settings, &self.settings.store(query.vector)?);
        let state = self.state();
        let mut nearest = Nearest::new(query.k, query.distance_max);
        let mut parts = Vec::with_capacity(state.segments.len() + state.heads.len());
        for live in &state.segments {
            parts.push(live.segment.search(query, &exact, &live.alive(), &mut nearest)?);
        }
        for head in &state.heads {
            parts.push(head.search(query, &exact, &mut nearest)?);
        }
        Ok(Answer::of(nearest.into_sorted(), parts))
    }

    /// Answers many queries on `threads` threads, in their order.
    pub fn search_batch(&self, queries: &[Query<'_>], threads: usize) -> Vec<Result<Answer>> {
        let threads = threads.clamp(1, queries.len().max(1));
        if threads == 1 {
            return queries.iter().map(|query| self.search(query)).collect();
        }
        let next = AtomicUsize::new(0);
        let work = || {
            let mut answers = Vec::new();
            while let Some((at, query)) = {
                let at = next.fetch_add(1, Ordering::Relaxed);
                queries.get(at).map(|query| (at, query))
            } {
                answers.push((at, self.search(query)));
            }
            answers
        };
        let mut answers: Vec<(usize, Result<Answer>)> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
            threads.into_iter().flat_map(|thread| thread.join().unwrap_or_default()).collect()
        });
        answers.sort_by_key(|(at, _)| *at);
        answers.into_iter().map(|(_, answer)| answer).collect()
    }

    /// Begins a task: its sources stay searched and open to deletion until [`Index::install`].
    ///
    /// # Errors
    /// [`Error::Stale`] if a source is gone.
    pub fn begin(&self, task: &Task) -> Result<Work> {
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut state = State::clone(&self.state());
        let named = |path: &PathBuf| {
            state.segments.iter().find(|live| live.segment.path() == path).cloned()
        };
        let segments: Option<Vec<_>> = task.segments.iter().map(named).collect();
        let segments = segments.ok_or(Error::Stale("a segment"))?;
        let heads = if task.heads { state.heads.clone() } else { Vec::new() };
        if task.heads {
            state.heads.push(Arc::new(Head::new(self.settings)));
            self.swap(state);
        }
        Ok(Work { settings: self.settings, segments, heads })
    }

    /// Puts a built segment in the place of its sources, less what was deleted meanwhile.
    /// The sources' files are the caller's to remove, once nothing durable names them.
    ///
    /// # Errors
    /// [`Error::Stale`] if a source was replaced meanwhile; nothing is changed then.
    pub fn install(&self, work: Work, built: Option<Arc<Segment>>) -> Result<Installed> {
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut state = State::clone(&self.state());
        let mut alive = RoaringBitmap::new();
        for source in &work.segments {
            let at = state.segments.iter().position(|live| Arc::ptr_eq(live, source));
            state.segments.swap_remove(at.ok_or(Error::Stale("a segment"))?);
            alive |= &*source.alive();
        }
        for source in &work.heads {
            let at = state.heads.iter().position(|head| Arc::ptr_eq(head, source));
            state.heads.remove(at.ok_or(Error::Stale("a head"))?);
            alive |= &*source.alive();
        }
        if let Some(built) = &built {
            let alive = built.all() & &alive;
            state.segments.push(Arc::new(Live::new(built.clone(), alive)));
        }
        self.swap(state);
        let replaced = work.segments.iter().map(|live| live.segment.path().to_owned()).collect();
        Ok(Installed { added: built, replaced })
    }
}

impl Settings {
    /// Stored bytes as numbers; of bits, 0 and 1.
    #[must_use]
    pub fn floats(&self, bytes: &[u8]) -> Vec<f32> {
        let stored = Stored::new(&bytes[..bytes.len().min(self.row_bytes())]);
        let row = Row::of(self, stored.bytes());
        let mut floats = Vec::with_capacity(self.dimension() as usize);
        match row {
            Row::Bit(words) => floats.extend((0..self.dimension() as usize).map(|at| {
                let word = words.get(at / 64).copied().unwrap_or_default();
                (word >> (at % 64) & 1) as f32
            })),
            row => row.write_floats(&mut floats),
        }
        floats
    }
}
