//! A file that stays mapped, whoever cuts it.

use std::fmt;
use std::fs::File;
use std::io;
use std::ops::Deref;

use memmap2::Mmap;

#[cfg(target_os = "linux")]
use crate::kept::Kept;

/// A file, mapped for reading. Where a page of it is gone, zeros are read, and from then on it is not whole: who reads
/// asks afterwards. Elsewhere than on Linux such a read ends the process.
pub struct Mapped {
    // Given back before the mapping goes.
    #[cfg(target_os = "linux")]
    kept: Option<Kept>,
    map: Mmap,
    /// The last bytes when it was mapped: of the page in which a file ends what is cut reads as zeros without a signal.
    end: [u8; Self::END],
}

impl Mapped {
    const END: usize = 4;

    /// Maps the whole file as it is now. It is written once, under another name, and only renamed or unlinked from then
    /// on; its last four bytes are not all zero.
    ///
    /// # Errors
    /// The system's.
    pub fn open(file: &File) -> io::Result<Self> {
        // SAFETY: read-only, of a file that nobody is to write to. If somebody does, readers meet other bytes, which are
        // bytes, and checksums are theirs to hold them to; where somebody cuts it, the handler puts zeros.
        let map = unsafe { Mmap::map(file) }?;
        #[cfg(target_os = "linux")]
        let mut mapped = {
            const PAGE: usize = 4_096;
            let begin = map.as_ptr().addr();
            let kept = Kept::new(begin, begin + map.len().next_multiple_of(PAGE));
            Self { kept, map, end: [0; Self::END] }
        };
        #[cfg(not(target_os = "linux"))]
        let mut mapped = Self { map, end: [0; Self::END] };
        mapped.end = mapped.last();
        Ok(mapped)
    }

    fn last(&self) -> [u8; Self::END] {
        let bytes = self.map.last_chunk().unwrap_or(&[0; Self::END]);
        // SAFETY: four bytes of the mapping; read anew each time, since others may have changed or cut the file.
        unsafe { std::ptr::from_ref(bytes).read_volatile() }
    }

    /// Whether all that was read until now was the file's, which is as long as it was. The end is touched: a cut
    /// anywhere is seen even if only what stands before it was read.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        let is_there = self.last() == self.end;
        #[cfg(target_os = "linux")]
        return is_there && self.kept.as_ref().is_none_or(|kept| !kept.is_broken());
        #[cfg(not(target_os = "linux"))]
        is_there
    }
}

impl fmt::Debug for Mapped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mapped").field("bytes", &self.map.len()).finish_non_exhaustive()
    }
}

impl Deref for Mapped {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.map
    }
}
