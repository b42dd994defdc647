//! Readers that stop where somebody lied.

use std::io::{self, Read};

use flate2::Crc;

/// The mark of an error that is a bomb's.
#[derive(Debug, thiserror::Error)]
#[error("it unpacks to more than {0} bytes")]
pub struct TooMuch(pub u64);

/// Ends with an error after so many bytes.
pub struct Bounded<R> {
    reader: R,
    left: u64,
    max: u64,
}

impl<R> Bounded<R> {
    pub const fn new(reader: R, max: u64) -> Self {
        Self { reader, left: max, max }
    }
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.reader.read(buffer)?;
        match self.left.checked_sub(count as u64) {
            Some(left) => self.left = left,
            None => return Err(io::Error::other(TooMuch(self.max))),
        }
        Ok(count)
    }
}

/// Bytes that must be as many as were said, and have the sum that was said.
pub struct Checked<R> {
    reader: R,
    left: u64,
    sum: Option<(Crc, u32)>,
    is_done: bool,
}

impl<R> Checked<R> {
    pub fn new(reader: R, size: u64, crc: Option<u32>) -> Self {
        Self { reader, left: size, sum: crc.map(|crc| (Crc::new(), crc)), is_done: false }
    }
}

impl<R: Read> Read for Checked<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.is_done || buffer.is_empty() {
            return Ok(0);
        }
        let lied = |why: &str| io::Error::new(io::ErrorKind::InvalidData, why.to_owned());
        let count = self.reader.read(buffer)?;
        if count > 0 {
            self.left = self
                .left
                .checked_sub(count as u64)
                .ok_or_else(|| lied("it unpacks to more bytes than the archive says"))?;
            if let Some((sum, _)) = &mut self.sum {
                sum.update(&buffer[..count]);
            }
            return Ok(count);
        }
        self.is_done = true;
        if self.left > 0 {
            return Err(lied("it ends before the size that the archive says"));
        }
        match &self.sum {
            Some((sum, said)) if sum.sum() != *said => {
                Err(lied("its bytes do not have the checksum that the archive says"))
            }
            _ => Ok(0),
        }
    }
}
