//! Reading a segment's vectors for another one.

use crate::error::Result;
use crate::segment::Segment;
use crate::segment::format::BLOCK_BYTES;

/// The vectors of a segment by ascending number. Each block is copied, and the copy held to its checksum, whatever a
/// search has seen before: a file may be damaged since, and new checksums would make that sound.
#[derive(Debug)]
pub(crate) struct Copied<'a> {
    segment: &'a Segment,
    /// The block that `bytes` begin with.
    first: usize,
    bytes: Vec<u8>,
}

impl<'a> Copied<'a> {
    pub(crate) const fn of(segment: &'a Segment) -> Self {
        Self { segment, first: 0, bytes: Vec::new() }
    }

    /// The stored bytes of a vector, if its number is here.
    pub(crate) fn vector(&mut self, number: u32) -> Result<Option<&[u8]>> {
        let Ok(row) = self.segment.numbers().binary_search(&number) else { return Ok(None) };
        let width = self.segment.settings().row_bytes();
        let (begin, end) = (row * width, (row + 1) * width);
        self.forget(begin / BLOCK_BYTES);
        let (section, sums) = self.segment.stored();
        let mut next = self.first + self.bytes.len().div_ceil(BLOCK_BYTES);
        while next * BLOCK_BYTES < end {
            let at = self.bytes.len();
            let to = section.len().min((next + 1) * BLOCK_BYTES);
            self.bytes.extend_from_slice(&section[next * BLOCK_BYTES..to]);
            if sums.get(next) != Some(&crc32fast::hash(&self.bytes[at..])) {
                return Err(self.segment.damaged("section Rows: a checksum does not hold"));
            }
            next += 1;
        }
        let skipped = self.first * BLOCK_BYTES;
        Ok(Some(&self.bytes[begin - skipped..end - skipped]))
    }

    /// Lets go of the blocks before `first`.
    fn forget(&mut self, first: usize) {
        let gone = first.saturating_sub(self.first) * BLOCK_BYTES;
        self.bytes.drain(..gone.min(self.bytes.len()));
        self.first = first;
    }
}
