//! A file as memory.

use std::fs::File;
use std::io;
use std::ops::Deref;

use memmap2::Mmap;

/// A file, mapped for reading. Its pages are the system's to keep or drop.
#[derive(Debug)]
pub struct Map(Mmap);

impl Map {
    /// Maps the whole file as it is now. The caller sees to it that nobody changes the bytes
    /// or shortens the file while it is mapped: write it under another name, rename it, and
    /// only ever unlink it.
    ///
    /// # Errors
    /// The system's.
    pub fn open(file: &File) -> io::Result<Self> {
        // SAFETY: the mapping is read-only and private to files that are written once, under
        // another name, and then only renamed or unlinked, which leaves mapped pages alone.
        unsafe { Mmap::map(file) }.map(Self)
    }

    /// Tells the system that the mapping will be read here and there, so that it reads no more
    /// than is asked for.
    pub fn expect_random_reads(&self) {
        // Only a hint: where it is not taken, reads are as before.
        let _ = self.0.advise(memmap2::Advice::Random);
    }
}

impl Deref for Map {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}
