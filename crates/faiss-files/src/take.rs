//! Taking fields off a file, none beyond its end.

use std::io::{Read, Seek, SeekFrom};

use crate::{Error, Result};

/// A file and how long it is.
#[derive(Debug)]
pub(crate) struct Take<R> {
    reader: R,
    at: u64,
    length: u64,
}

/// An array in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) at: u64,
    pub(crate) bytes: u64,
}

impl<R: Read + Seek> Take<R> {
    pub(crate) fn new(mut reader: R) -> Result<Self> {
        let length = reader.seek(SeekFrom::End(0))?;
        reader.seek(SeekFrom::Start(0))?;
        Ok(Self { reader, at: 0, length })
    }

    pub(crate) fn malformed(&self, what: impl Into<String>) -> Error {
        Error::Malformed { at: self.at, what: what.into() }
    }

    fn bytes<const N: usize>(&mut self) -> Result<[u8; N]> {
        let mut bytes = [0; N];
        if self.length - self.at < N as u64 {
            return Err(self.malformed("the file ends within a field"));
        }
        self.reader.read_exact(&mut bytes)?;
        self.at += N as u64;
        Ok(bytes)
    }

    pub(crate) fn u8(&mut self) -> Result<u8> {
        Ok(self.bytes::<1>()?[0])
    }

    pub(crate) fn i32(&mut self) -> Result<i32> {
        Ok(i32::from_le_bytes(self.bytes()?))
    }

    pub(crate) fn u64(&mut self) -> Result<u64> {
        Ok(u64::from_le_bytes(self.bytes()?))
    }

    pub(crate) fn f32(&mut self) -> Result<f32> {
        Ok(f32::from_le_bytes(self.bytes()?))
    }

    /// Four letters.
    pub(crate) fn kind(&mut self) -> Result<[u8; 4]> {
        self.bytes()
    }

    /// A number that is no less than 0 as FAISS writes it, signed.
    pub(crate) fn count(&mut self, what: &'static str, max: u64) -> Result<u64> {
        let value = i64::from_le_bytes(self.bytes()?);
        let value = u64::try_from(value)
            .map_err(|_| self.malformed(format!("{what} is negative: {value}")))?;
        if value > max {
            return Err(Error::TooLarge { what, value, max });
        }
        Ok(value)
    }

    /// Passes over `count` elements of `size` bytes that must be there.
    pub(crate) fn skip(&mut self, count: u64, size: u64) -> Result<Span> {
        let bytes = count.checked_mul(size).filter(|bytes| *bytes <= self.length - self.at);
        let Some(bytes) = bytes else {
            let left = self.length - self.at;
            let what = format!("{count} elements of {size} bytes, and {left} bytes are left");
            return Err(self.malformed(what));
        };
        let span = Span { at: self.at, bytes };
        self.at += bytes;
        self.reader.seek(SeekFrom::Start(self.at))?;
        Ok(span)
    }

    /// Passes over a vector: its count, then as many elements of `size` bytes.
    pub(crate) fn vector(&mut self, size: u64) -> Result<Span> {
        let count = self.u64()?;
        self.skip(count, size)
    }

    /// The bytes of a span that was passed over.
    pub(crate) fn read(&mut self, span: Span) -> Result<Vec<u8>> {
        let length = usize::try_from(span.bytes).map_err(|_| self.malformed("too long"))?;
        let mut bytes = vec![0; length];
        self.reader.seek(SeekFrom::Start(span.at))?;
        let read = self.reader.read_exact(&mut bytes);
        self.reader.seek(SeekFrom::Start(self.at))?;
        read?;
        Ok(bytes)
    }

    pub(crate) fn floats(&mut self, span: Span) -> Result<Vec<f32>> {
        let bytes = self.read(span)?;
        Ok(bytes.as_chunks::<4>().0.iter().map(|chunk| f32::from_le_bytes(*chunk)).collect())
    }

    pub(crate) fn words(&mut self, span: Span) -> Result<Vec<i64>> {
        let bytes = self.read(span)?;
        Ok(bytes.as_chunks::<8>().0.iter().map(|chunk| i64::from_le_bytes(*chunk)).collect())
    }
}
