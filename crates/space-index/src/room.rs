//! Memory that the indexes of a process share.

use std::fmt;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use ann::Room;

use crate::index::lock;

/// After a refusal, how long nobody is let in: every search asks again.
const REFUSED: Duration = Duration::from_secs(1);

/// A bound of the bytes that several indexes use together.
pub struct SharedRoom {
    bytes_max: u64,
    /// Bytes that they use.
    used: Box<dyn Fn() -> u64 + Send + Sync>,
    /// Bytes of what is being made.
    taken: AtomicU64,
    refused: Mutex<Option<Instant>>,
}

impl fmt::Debug for SharedRoom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedRoom").field("taken", &self.taken).finish_non_exhaustive()
    }
}

impl SharedRoom {
    /// Of indexes that use so many bytes, which is asked while one of them is searched.
    pub fn new(bytes_max: u64, used: impl Fn() -> u64 + Send + Sync + 'static) -> Self {
        let (used, taken) = (Box::new(used), AtomicU64::new(0));
        Self { bytes_max, used, taken, refused: Mutex::new(None) }
    }

    /// Bytes of what is being made, which no index counts yet.
    #[must_use]
    pub fn taken(&self) -> u64 {
        self.taken.load(Ordering::SeqCst)
    }
}

impl Room for SharedRoom {
    fn take(&self, bytes: u64) -> bool {
        if lock(&self.refused).is_some_and(|at| at.elapsed() < REFUSED) {
            return false;
        }
        // Counted first: of two that ask at once at most one gets the last room.
        let taken = self.taken.fetch_add(bytes, Ordering::SeqCst) + bytes;
        if (self.used)().saturating_add(taken) <= self.bytes_max {
            return true;
        }
        self.give_back(bytes);
        *lock(&self.refused) = Some(Instant::now());
        false
    }

    fn give_back(&self, bytes: u64) {
        self.taken.fetch_sub(bytes, Ordering::SeqCst);
    }
}
