//! Memory that is read here and there, in pages as large as the system gives.
//!
//! A walk reads some hundred rows that lie anywhere in hundreds of megabytes. In pages of 4 KiB
//! each of them misses the processor's table of pages first.

use std::io;
use std::ops::{Deref, DerefMut};
use std::slice;
use std::sync::atomic::AtomicU32;

use memmap2::MmapMut;

/// Bytes, zero at first, that begin at the start of a page.
#[derive(Debug)]
pub struct Pages(MmapMut);

impl Pages {
    /// # Errors
    /// The system's, which has no such memory.
    pub fn zeroed(bytes: usize) -> io::Result<Self> {
        // An empty mapping is refused by the system.
        let pages = MmapMut::map_anon(bytes.max(1))?;
        // Only a hint: where it is not taken, pages are small as before.
        #[cfg(target_os = "linux")]
        let _ = pages.advise(memmap2::Advice::HugePage);
        Ok(Self(pages))
    }
}

impl Deref for Pages {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl DerefMut for Pages {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.0
    }
}

/// Numbers, 0 at first, that threads change beside each other.
#[derive(Debug)]
pub struct AtomicWords {
    pages: MmapMut,
    count: usize,
}

impl AtomicWords {
    /// # Errors
    /// The system's, which has no such memory.
    pub fn zeroed(count: usize) -> io::Result<Self> {
        let bytes = count.checked_mul(size_of::<AtomicU32>()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Self { pages: Pages::zeroed(bytes)?.0, count })
    }
}

impl Deref for AtomicWords {
    type Target = [AtomicU32];

    fn deref(&self) -> &[AtomicU32] {
        // SAFETY: the mapping has room for `count` words, begins at a page and is all zeroes at
        // first, which are words; nobody reaches its bytes but through these atomics.
        unsafe { slice::from_raw_parts(self.pages.as_ptr().cast(), self.count) }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;

    use super::*;

    #[test]
    fn what_is_written_is_read() {
        for bytes in [0, 1, 4_096, 5 << 20] {
            let mut pages = Pages::zeroed(bytes).unwrap();
            assert!(pages.len() >= bytes && pages.iter().all(|byte| *byte == 0));
            if let Some(last) = pages.last_mut() {
                *last = 7;
            }
            assert_eq!(pages.last(), Some(&7));
        }
    }

    #[test]
    fn words_are_shared() {
        let words = AtomicWords::zeroed(1 << 20).unwrap();
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let words = &words;
                scope.spawn(move || {
                    for at in (thread..words.len()).step_by(4) {
                        words[at].store(at as u32, Ordering::Relaxed);
                    }
                });
            }
        });
        assert!(words.iter().enumerate().all(|(at, it)| it.load(Ordering::Relaxed) == at as u32));
        assert!(AtomicWords::zeroed(0).unwrap().is_empty());
    }
}
