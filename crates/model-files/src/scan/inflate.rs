//! Compressed streams, inflated as far as they are wanted and no further.

use std::io::{self, Read};

use flate2::read::{DeflateDecoder, MultiGzDecoder, ZlibDecoder};

use crate::source::{Cursor, Input, Meter, Part, ReadError};

/// Inflated at once.
const PIECE_BYTES: usize = 64 << 10;
/// From here on the ratio counts.
const RATIO_FROM_BYTES: u64 = 64 << 20;
/// Deflate itself can't do more than 1,032; zeros of a sparse model come near 200.
const RATIO_MAX: u64 = 200;

/// How a part of a file is packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Coding {
    Plain,
    Deflate,
    Zlib,
    Gzip,
}

/// A part of a file that can be read from its begin as often as is needed.
#[derive(Clone, Copy)]
pub struct Stream<'a> {
    pub part: Part<'a>,
    pub coding: Coding,
    /// Where it begins, in unpacked bytes of the part.
    pub begin: u64,
    pub meter: &'a Meter,
}

impl<'a> Stream<'a> {
    /// A part as it is.
    pub fn plain(part: Part<'a>, meter: &'a Meter) -> Self {
        Self { part, coding: Coding::Plain, begin: 0, meter }
    }

    /// Its bytes, unpacked.
    pub fn open(&self) -> Result<Box<dyn Input + 'a>, ReadError> {
        let mut input = self.unpack();
        input.skip(self.begin)?;
        Ok(input)
    }

    fn unpack(&self) -> Box<dyn Input + 'a> {
        let packed = Packed(Cursor::new(self.part, self.meter));
        let reader: Box<dyn Read + 'a> = match self.coding {
            Coding::Plain => return Box::new(packed.0),
            Coding::Deflate => Box::new(DeflateDecoder::new(packed)),
            Coding::Zlib => Box::new(ZlibDecoder::new(packed)),
            Coding::Gzip => Box::new(MultiGzDecoder::new(packed)),
        };
        Box::new(Inflated {
            reader,
            meter: self.meter,
            packed_bytes: self.part.bytes,
            total: 0,
            buffer: Vec::new(),
            begin: 0,
            at: 0,
        })
    }

    /// Its first bytes, fewer if it has no more.
    pub fn head(&self, most: usize) -> Result<Vec<u8>, ReadError> {
        self.open()?.take_most(most)
    }

    /// All of it, if it is no more than so many bytes.
    pub fn all(&self, most: u64) -> Result<Vec<u8>, ReadError> {
        let mut input = self.open()?;
        let mut all = Vec::new();
        loop {
            let more = input.take_most(PIECE_BYTES)?;
            if more.is_empty() {
                return Ok(all);
            }
            all.extend(more);
            if all.len() as u64 > most {
                return Err(ReadError::Exhausted("it unpacks to more than is kept in memory"));
            }
        }
    }
}

/// The packed bytes, for a decoder.
struct Packed<'a>(Cursor<'a>);

impl Read for Packed<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.0.left()).unwrap_or(usize::MAX);
        let count = into.len().min(left).min(PIECE_BYTES);
        let bytes = self.0.take(count).map_err(io::Error::other)?;
        into[..count].copy_from_slice(bytes);
        Ok(count)
    }
}

struct Inflated<'a> {
    reader: Box<dyn Read + 'a>,
    meter: &'a Meter,
    packed_bytes: u64,
    /// Bytes that came out.
    total: u64,
    buffer: Vec<u8>,
    /// What of the buffer is behind.
    begin: usize,
    at: u64,
}

impl Inflated<'_> {
    /// Has at least so many bytes ahead.
    fn fill(&mut self, count: usize) -> Result<(), ReadError> {
        if self.buffer.len() - self.begin >= count {
            return Ok(());
        }
        self.buffer.drain(..self.begin);
        self.begin = 0;
        while self.buffer.len() < count {
            let old = self.buffer.len();
            self.buffer.resize(old + PIECE_BYTES, 0);
            let read = self.reader.read(&mut self.buffer[old..]);
            let read = match read {
                Ok(read) => read,
                Err(error) => {
                    self.buffer.truncate(old);
                    return Err(damaged(error));
                }
            };
            self.buffer.truncate(old + read);
            if read == 0 {
                return Err(ReadError::Truncated);
            }
            self.meter.take_inflated(read as u64)?;
            self.total += read as u64;
            let most = self.packed_bytes.saturating_mul(RATIO_MAX);
            if self.total > RATIO_FROM_BYTES && self.total > most {
                return Err(ReadError::Bomb(RATIO_MAX));
            }
        }
        Ok(())
    }
}

/// A stream that breaks off is truncated; one that breaks its own rules says so.
fn damaged(error: io::Error) -> ReadError {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => ReadError::Truncated,
        _ => ReadError::Io(error),
    }
}

impl Input for Inflated<'_> {
    fn take(&mut self, count: usize) -> Result<&[u8], ReadError> {
        self.fill(count)?;
        let begin = self.begin;
        self.begin += count;
        self.at += count as u64;
        Ok(&self.buffer[begin..begin + count])
    }

    fn skip(&mut self, count: u64) -> Result<(), ReadError> {
        let mut left = count;
        while left > 0 {
            self.fill(1)?;
            let here = (self.buffer.len() - self.begin) as u64;
            let step = here.min(left);
            self.begin += usize::try_from(step).unwrap_or_default();
            self.at += step;
            left -= step;
        }
        Ok(())
    }

    fn at(&self) -> u64 {
        self.at
    }
}
