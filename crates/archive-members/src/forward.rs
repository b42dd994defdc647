//! Bytes that are gone through once, forwards: of a file by seeking, of a
//! stream by reading.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};

/// What a tar is read from.
pub trait Forward: Read {
    /// Where the next byte is.
    fn at(&self) -> u64;

    /// How many bytes follow, where that is known.
    fn left(&self) -> Option<u64>;

    /// Passes over bytes; answers how many there were.
    fn pass(&mut self, count: u64) -> io::Result<u64>;
}

/// A file, whose bytes are passed over without being read.
pub struct Seeking<'a> {
    file: &'a mut File,
    at: u64,
    length: u64,
    is_there: bool,
}

impl<'a> Seeking<'a> {
    pub fn new(file: &'a mut File) -> io::Result<Self> {
        let length = file.metadata()?.len();
        Ok(Self { file, at: 0, length, is_there: false })
    }
}

impl Read for Seeking<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if !self.is_there {
            self.file.seek(SeekFrom::Start(self.at))?;
            self.is_there = true;
        }
        let count = self.file.read(buffer)?;
        self.at += count as u64;
        Ok(count)
    }
}

impl Forward for Seeking<'_> {
    fn at(&self) -> u64 {
        self.at
    }

    fn left(&self) -> Option<u64> {
        Some(self.length.saturating_sub(self.at))
    }

    fn pass(&mut self, count: u64) -> io::Result<u64> {
        let there = count.min(self.length.saturating_sub(self.at));
        self.at += there;
        self.is_there &= there == 0;
        Ok(there)
    }
}

/// A stream; `at` counts its own bytes, not those that it was packed into.
pub struct Streaming<R> {
    reader: R,
    at: u64,
}

impl<R: Read> Streaming<R> {
    pub fn new(reader: R) -> Self {
        Self { reader, at: 0 }
    }
}

impl<R: Read> Read for Streaming<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.reader.read(buffer)?;
        self.at += count as u64;
        Ok(count)
    }
}

impl<R: Read> Forward for Streaming<R> {
    fn at(&self) -> u64 {
        self.at
    }

    fn left(&self) -> Option<u64> {
        None
    }

    fn pass(&mut self, count: u64) -> io::Result<u64> {
        io::copy(&mut self.take(count), &mut io::sink())
    }
}
