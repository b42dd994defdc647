//! Mappings that stay: which there are, for the handler, and which of them missed a page.

use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicUsize, Ordering, fence};
use std::sync::{Mutex, PoisonError};

use crate::guard;

/// Places that are made at once.
const SOME: usize = 64;

/// Where one mapping is; its end is 0 while there is none.
struct Place {
    /// Odd while the range is changed: a handler passes over it.
    version: AtomicUsize,
    begin: AtomicUsize,
    end: AtomicUsize,
    is_broken: AtomicBool,
}

/// Some places; what was made stays, so that a handler may look at any time.
struct Places {
    some: [Place; SOME],
    next: AtomicPtr<Self>,
}

impl Places {
    const fn new() -> Self {
        let next = AtomicPtr::new(std::ptr::null_mut());
        Self { some: [const { Place::new() }; SOME], next }
    }

    fn next(&self) -> Option<&'static Self> {
        // SAFETY: null, or of a box that was leaked, whole, before it was stored.
        unsafe { self.next.load(Ordering::Acquire).as_ref() }
    }
}

static FIRST: Places = Places::new();
/// Held by whoever takes a place or gives one back.
static CHANGING: Mutex<()> = Mutex::new(());

fn all() -> impl Iterator<Item = &'static Places> {
    std::iter::successors(Some(&FIRST), |places| places.next())
}

impl Place {
    const fn new() -> Self {
        Self {
            version: AtomicUsize::new(0),
            begin: AtomicUsize::new(0),
            end: AtomicUsize::new(0),
            is_broken: AtomicBool::new(false),
        }
    }

    fn change(&self, begin: usize, end: usize) {
        self.version.fetch_add(1, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        self.begin.store(begin, Ordering::Relaxed);
        self.end.store(end, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        self.version.fetch_add(1, Ordering::Release);
    }

    /// The range, as it was at one moment.
    fn range(&self) -> Option<(usize, usize)> {
        let version = self.version.load(Ordering::Acquire);
        let range = (self.begin.load(Ordering::Relaxed), self.end.load(Ordering::Relaxed));
        fence(Ordering::SeqCst);
        (version.is_multiple_of(2) && self.version.load(Ordering::Relaxed) == version)
            .then_some(range)
    }
}

/// A place that is taken, until it is dropped.
pub(crate) struct Kept(&'static Place);

impl Kept {
    /// For a range of whole pages; none if the signal can't be asked for.
    pub(crate) fn new(begin: usize, end: usize) -> Option<Self> {
        if !guard::is_watching() {
            return None;
        }
        let _changing = CHANGING.lock().unwrap_or_else(PoisonError::into_inner);
        let is_free = |place: &&Place| place.end.load(Ordering::Relaxed) == 0;
        let free = all().flat_map(|places| &places.some).find(is_free);
        let place = free.or_else(|| {
            let more: &'static mut Places = Box::leak(Box::new(Places::new()));
            let last = all().last()?;
            last.next.store(more, Ordering::Release);
            last.next()?.some.first()
        })?;
        place.is_broken.store(false, Ordering::Relaxed);
        place.change(begin, end);
        Some(Self(place))
    }

    pub(crate) fn is_broken(&self) -> bool {
        self.0.is_broken.load(Ordering::Acquire)
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        let _changing = CHANGING.lock().unwrap_or_else(PoisonError::into_inner);
        self.0.change(0, 0);
    }
}

/// Runs in the handler: puts zeros in the place of the mapping in which the address lies, if it is one of these. It is
/// live: the thread that touched it holds it, and its place with it, so that only others' may be changing now.
pub(crate) fn mend(address: usize) -> bool {
    for place in all().flat_map(|places| &places.some) {
        let Some((begin, end)) = place.range() else { continue };
        if (begin..end).contains(&address) {
            place.is_broken.store(true, Ordering::Release);
            // SAFETY: who touched the address holds the mapping, of which its place says all; who reads it takes any
            // bytes and asks afterwards whether they were the file's.
            return unsafe { guard::put_zeros(begin, end) };
        }
    }
    false
}
