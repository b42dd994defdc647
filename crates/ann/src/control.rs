//! Stopping long work and watching it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::error::{Error, Result};

/// What a piece of work is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Not begun.
    Waiting,
    /// Taking the vectors in.
    Collecting,
    /// Linking the graph: most of the time.
    Linking,
    /// Writing the file.
    Writing,
    /// Done.
    Done,
}

impl Phase {
    const ALL: [Self; 5] =
        [Self::Waiting, Self::Collecting, Self::Linking, Self::Writing, Self::Done];
}

/// How far a piece of work is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// What it is doing.
    pub phase: Phase,
    /// Vectors through this phase.
    pub done: u64,
    /// Vectors of this phase.
    pub total: u64,
    /// When this phase will be through, by its speed so far.
    pub eta: Option<Duration>,
}

#[derive(Debug)]
struct Shared {
    cancelled: AtomicBool,
    phase: AtomicU8,
    done: AtomicU64,
    total: AtomicU64,
    /// Microseconds after `begin` at which this phase began.
    phase_began_us: AtomicU64,
    begin: Instant,
}

/// Cancels work and tells its progress; clones are the same one.
#[derive(Debug, Clone)]
pub struct Control(Arc<Shared>);

impl Default for Control {
    fn default() -> Self {
        Self::new()
    }
}

impl Control {
    /// For one piece of work.
    #[must_use]
    pub fn new() -> Self {
        Self(Arc::new(Shared {
            cancelled: AtomicBool::new(false),
            phase: AtomicU8::new(0),
            done: AtomicU64::new(0),
            total: AtomicU64::new(0),
            phase_began_us: AtomicU64::new(0),
            begin: Instant::now(),
        }))
    }

    /// Makes the work return [`Error::Cancelled`] soon.
    pub fn cancel(&self) {
        self.0.cancelled.store(true, Ordering::Relaxed);
    }

    /// Whether [`Control::cancel`] was called.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.0.cancelled.load(Ordering::Relaxed)
    }

    /// How far the work is.
    #[must_use]
    pub fn progress(&self) -> Progress {
        let shared = &*self.0;
        let phase = Phase::ALL[usize::from(shared.phase.load(Ordering::Acquire)).min(4)];
        let (done, total) =
            (shared.done.load(Ordering::Relaxed), shared.total.load(Ordering::Relaxed));
        let began = Duration::from_micros(shared.phase_began_us.load(Ordering::Relaxed));
        let took = shared.begin.elapsed().saturating_sub(began);
        let left = total.saturating_sub(done);
        let eta = (done > 0).then(|| took.mul_f64(left as f64 / done as f64));
        Progress { phase, done, total, eta }
    }

    pub(crate) fn enter(&self, phase: Phase, total: u64) {
        let shared = &*self.0;
        shared.done.store(0, Ordering::Relaxed);
        shared.total.store(total, Ordering::Relaxed);
        let now = u64::try_from(shared.begin.elapsed().as_micros()).unwrap_or(u64::MAX);
        shared.phase_began_us.store(now, Ordering::Relaxed);
        shared.phase.store(phase as u8, Ordering::Release);
    }

    pub(crate) fn advance(&self, by: u64) -> Result<()> {
        self.0.done.fetch_add(by, Ordering::Relaxed);
        self.check()
    }

    pub(crate) fn check(&self) -> Result<()> {
        if self.is_cancelled() { Err(Error::Cancelled) } else { Ok(()) }
    }
}
