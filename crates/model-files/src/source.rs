//! A file that is read by range, and a cursor over a part of it.

use std::cell::Cell;
use std::io::{self, ErrorKind};

/// Read ahead at once.
const WINDOW_BYTES: u64 = 64 << 10;

/// A file whose bytes are had by range. Calls may block.
pub trait RangeReader {
    /// How many bytes it has.
    fn size(&self) -> u64;

    /// Fills `into` with the bytes from `offset` on.
    ///
    /// # Errors
    /// `UnexpectedEof` behind the end; the store's own otherwise.
    fn read_exact_at(&self, offset: u64, into: &mut [u8]) -> io::Result<()>;
}

impl RangeReader for [u8] {
    fn size(&self) -> u64 {
        self.len() as u64
    }

    fn read_exact_at(&self, offset: u64, into: &mut [u8]) -> io::Result<()> {
        let begin = usize::try_from(offset).map_err(|_| ErrorKind::UnexpectedEof)?;
        let end = begin.checked_add(into.len()).ok_or(ErrorKind::UnexpectedEof)?;
        into.copy_from_slice(self.get(begin..end).ok_or(ErrorKind::UnexpectedEof)?);
        Ok(())
    }
}

impl RangeReader for Vec<u8> {
    fn size(&self) -> u64 {
        self.as_slice().size()
    }

    fn read_exact_at(&self, offset: u64, into: &mut [u8]) -> io::Result<()> {
        self.as_slice().read_exact_at(offset, into)
    }
}

/// A part of a file, as if it were one.
#[derive(Clone, Copy)]
pub(crate) struct Part<'a> {
    pub source: &'a dyn RangeReader,
    pub begin: u64,
    pub bytes: u64,
}

impl<'a> Part<'a> {
    pub fn whole(source: &'a dyn RangeReader) -> Self {
        Self { source, begin: 0, bytes: source.size() }
    }

    /// A range of it, cut off at its end.
    pub fn range(self, begin: u64, bytes: u64) -> Self {
        let begin = begin.min(self.bytes);
        Self { begin: self.begin + begin, bytes: bytes.min(self.bytes - begin), ..self }
    }

    /// Its first bytes, fewer if it has no more.
    pub fn head(self, meter: &Meter, most: u64) -> Result<Vec<u8>, ReadError> {
        let count = most.min(self.bytes);
        meter.take_read(count)?;
        let mut head = vec![0; usize::try_from(count).unwrap_or_default()];
        self.source.read_exact_at(self.begin, &mut head)?;
        Ok(head)
    }
}

/// Why bytes could not be had.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReadError {
    #[error("the file ends in the middle")]
    Truncated,
    #[error("{0}")]
    Exhausted(&'static str),
    #[error("it unpacks to more than {0} times its size")]
    Bomb(u64),
    #[error("it could not be read: {0}")]
    Io(io::Error),
}

impl From<io::Error> for ReadError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            ErrorKind::UnexpectedEof => Self::Truncated,
            _ => Self::Io(error),
        }
    }
}

/// What may still be spent on a file.
#[derive(Debug)]
pub(crate) struct Meter {
    pub read_bytes: Cell<u64>,
    pub inflated_bytes: Cell<u64>,
    pub opcodes: Cell<u64>,
    pub members: Cell<u64>,
}

impl Meter {
    /// Notes bytes that are read.
    pub fn take_read(&self, count: u64) -> Result<(), ReadError> {
        take(&self.read_bytes, count, "more of it would have to be read than is")
    }

    /// Notes bytes that come out of a compressed stream.
    pub fn take_inflated(&self, count: u64) -> Result<(), ReadError> {
        take(&self.inflated_bytes, count, "it unpacks to more than is followed")
    }

    /// Notes opcodes, or what costs as much.
    pub fn take_opcodes(&self, count: u64) -> Result<(), ReadError> {
        take(&self.opcodes, count, "it has more opcodes than are followed")
    }

    /// Notes a member of an archive.
    pub fn take_member(&self) -> Result<(), ReadError> {
        take(&self.members, 1, "its archives have more members than are looked at")
    }
}

fn take(left: &Cell<u64>, count: u64, what: &'static str) -> Result<(), ReadError> {
    match left.get().checked_sub(count) {
        Some(rest) => {
            left.set(rest);
            Ok(())
        }
        None => Err(ReadError::Exhausted(what)),
    }
}

/// Bytes that are had one after another.
pub(crate) trait Input {
    /// The next bytes, which are then behind.
    fn take(&mut self, count: usize) -> Result<&[u8], ReadError>;

    /// Leaves bytes out.
    fn skip(&mut self, count: u64) -> Result<(), ReadError>;

    /// How many bytes are behind.
    fn at(&self) -> u64;

    /// The next bytes, fewer if there are no more, or if what is behind them is
    /// damaged: a loader runs what comes before that.
    fn take_most(&mut self, most: usize) -> Result<Vec<u8>, ReadError> {
        let mut all = Vec::new();
        let mut step = most;
        while all.len() < most && step > 0 {
            match self.take(step.min(most - all.len())) {
                Ok(bytes) => all.extend_from_slice(bytes),
                Err(ReadError::Truncated) => step /= 2,
                Err(ReadError::Io(error)) if damaged(&error) && (step > 1 || !all.is_empty()) => {
                    step /= 2;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(all)
    }
}

/// Whether bytes are there that break the rules of their format: no store's error.
fn damaged(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::InvalidInput | ErrorKind::InvalidData)
}

/// An input over a part of a file. What is skipped is not read.
pub(crate) struct Cursor<'a> {
    part: Part<'a>,
    meter: &'a Meter,
    at: u64,
    ahead: u64,
    window: Vec<u8>,
    window_begin: u64,
}

impl<'a> Cursor<'a> {
    pub fn new(part: Part<'a>, meter: &'a Meter) -> Self {
        Self::ahead(part, meter, WINDOW_BYTES)
    }

    /// One that reads so many bytes at once.
    pub fn ahead(part: Part<'a>, meter: &'a Meter, ahead: u64) -> Self {
        Self { part, meter, at: 0, ahead, window: Vec::new(), window_begin: 0 }
    }

    /// How many bytes are left.
    pub fn left(&self) -> u64 {
        self.part.bytes - self.at
    }
}

impl Input for Cursor<'_> {
    fn take(&mut self, count: usize) -> Result<&[u8], ReadError> {
        if count as u64 > self.left() {
            return Err(ReadError::Truncated);
        }
        let inside = self.at - self.window_begin;
        if self.at < self.window_begin || inside + count as u64 > self.window.len() as u64 {
            let wanted = self.left().min(self.ahead.max(count as u64));
            self.meter.take_read(wanted)?;
            self.window.resize(usize::try_from(wanted).map_err(|_| ReadError::Truncated)?, 0);
            self.window_begin = self.at;
            self.part.source.read_exact_at(self.part.begin + self.at, &mut self.window)?;
        }
        let begin = usize::try_from(self.at - self.window_begin).unwrap_or_default();
        self.at += count as u64;
        Ok(&self.window[begin..begin + count])
    }

    fn skip(&mut self, count: u64) -> Result<(), ReadError> {
        if count > self.left() {
            return Err(ReadError::Truncated);
        }
        self.at += count;
        Ok(())
    }

    fn at(&self) -> u64 {
        self.at
    }
}

/// Little-endian numbers and texts of an input.
pub(crate) trait Numbers: Input {
    fn u8(&mut self) -> Result<u8, ReadError> {
        Ok(self.take(1)?[0])
    }

    fn u16(&mut self) -> Result<u16, ReadError> {
        let bytes = self.take(2)?;
        Ok(u16::from_le_bytes([bytes[0], bytes[1]]))
    }

    fn u32(&mut self) -> Result<u32, ReadError> {
        let mut bytes = [0; 4];
        bytes.copy_from_slice(self.take(4)?);
        Ok(u32::from_le_bytes(bytes))
    }

    fn u64(&mut self) -> Result<u64, ReadError> {
        let mut bytes = [0; 8];
        bytes.copy_from_slice(self.take(8)?);
        Ok(u64::from_le_bytes(bytes))
    }
}

impl<T: Input + ?Sized> Numbers for T {}
