//! Checksums of a block by range, so that a read of a few pages is checked
//! without reading the file.
//!
//! Between the last row group and the page index lies a table: the CRC-32 of
//! every 64 KiB before it, and one of the table itself with all that follows.
//! Parquet readers go by offsets and never see it; the footer's key-value
//! metadata says where it is. The manifest's `footer_length` covers it, so the
//! footer is checked before any of it is parsed.

use std::io::{self, Write};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use crc32fast::Hasher;

/// Bytes that share a checksum.
pub(crate) const PIECE_BYTES: u64 = 64 << 10;
/// In the footer's key-value metadata: where the table begins.
pub(crate) const METADATA_KEY: &str = "quarry.checksums";

const MAGIC: &[u8; 8] = b"QRYCRC\x00\x01";
/// Magic, piece bytes, pieces, bytes before the table, checksum of the tail.
const HEADER_BYTES: usize = 8 + 4 + 4 + 8 + 4;
const TAIL_CRC_AT: usize = HEADER_BYTES - 4;

/// The table's length for so many bytes of data.
fn table_bytes(data_bytes: u64) -> u64 {
    HEADER_BYTES as u64 + data_bytes.div_ceil(PIECE_BYTES) * 4
}

/// The checksums of an open block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Checksums {
    data_bytes: u64,
    pieces: Vec<u32>,
}

impl Checksums {
    /// Reads and checks the end of a block; answers the checksums and what
    /// follows their table: page index and footer.
    pub fn open(tail: &Bytes, file_bytes: u64) -> Result<(Self, Bytes), String> {
        let header = tail.get(..HEADER_BYTES).ok_or("the end is too short for its checksums")?;
        if &header[..8] != MAGIC {
            return Err("there is no table of checksums where the manifest says".to_owned());
        }
        let number = |at: usize| {
            let mut bytes = [0; 4];
            bytes.copy_from_slice(&header[at..at + 4]);
            u32::from_le_bytes(bytes)
        };
        let mut wide = [0; 8];
        wide.copy_from_slice(&header[16..24]);
        let data_bytes = u64::from_le_bytes(wide);
        let length = table_bytes(data_bytes.min(file_bytes));
        let consistent = u64::from(number(8)) == PIECE_BYTES
            && u64::from(number(12)) == data_bytes.div_ceil(PIECE_BYTES)
            && data_bytes.checked_add(tail.len() as u64) == Some(file_bytes)
            && length <= tail.len() as u64;
        if !consistent {
            return Err("the table of checksums does not fit the file".to_owned());
        }
        let mut crc = Hasher::new();
        crc.update(&tail[..TAIL_CRC_AT]);
        crc.update(&tail[HEADER_BYTES..]);
        if crc.finalize() != number(TAIL_CRC_AT) {
            return Err("the footer's checksum is wrong".to_owned());
        }
        let length = usize::try_from(length).map_err(|error| error.to_string())?;
        let pieces = tail[HEADER_BYTES..length]
            .chunks_exact(4)
            .map(|bytes| u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]));
        Ok((Self { data_bytes, pieces: pieces.collect() }, tail.slice(length..)))
    }

    /// The whole pieces around each range, where ranges that touch the same
    /// piece become one.
    pub fn whole_pieces(&self, ranges: &[Range<u64>]) -> Vec<Range<u64>> {
        let mut sorted: Vec<&Range<u64>> = ranges.iter().filter(|r| r.start < r.end).collect();
        sorted.sort_unstable_by_key(|range| range.start);
        let mut whole: Vec<Range<u64>> = Vec::with_capacity(sorted.len());
        for range in sorted {
            let start = range.start / PIECE_BYTES * PIECE_BYTES;
            let end = (range.end.div_ceil(PIECE_BYTES) * PIECE_BYTES).min(self.data_bytes);
            match whole.last_mut() {
                Some(last) if start <= last.end => last.end = last.end.max(end),
                _ => whole.push(start..end),
            }
        }
        whole
    }

    /// Whether a range lies before the table, where checksums are.
    pub fn cover(&self, range: &Range<u64>) -> bool {
        range.start <= range.end && range.end <= self.data_bytes
    }

    /// Checks bytes that begin at a piece's begin and end at a piece's end.
    pub fn check(&self, begin: u64, bytes: &[u8]) -> Result<(), String> {
        let first = usize::try_from(begin / PIECE_BYTES).unwrap_or(usize::MAX);
        let known = self.pieces.get(first..).unwrap_or_default();
        let found = bytes.chunks(usize::try_from(PIECE_BYTES).unwrap_or(usize::MAX));
        if known.len() < found.len() {
            return Err("a read beyond the checksums".to_owned());
        }
        for (at, (piece, expected)) in found.zip(known).enumerate() {
            if crc32fast::hash(piece) != *expected {
                let from = begin + at as u64 * PIECE_BYTES;
                let to = from + piece.len() as u64;
                return Err(format!("the checksum of bytes {from} to {to} is wrong"));
            }
        }
        Ok(())
    }

    pub fn memory_bytes(&self) -> usize {
        self.pieces.len() * 4
    }
}

/// Cuts the asked ranges out of the whole pieces that were read.
pub(crate) fn cut(ranges: &[Range<u64>], whole: &[Range<u64>], read: &[Bytes]) -> Vec<Bytes> {
    let one = |range: &Range<u64>| {
        if range.start >= range.end {
            return Bytes::new();
        }
        let at = whole.partition_point(|piece| piece.end <= range.start);
        let (Some(piece), Some(bytes)) = (whole.get(at), read.get(at)) else {
            return Bytes::new();
        };
        let place = |n: u64| usize::try_from(n - piece.start).unwrap_or(usize::MAX);
        bytes.slice(place(range.start)..place(range.end))
    };
    ranges.iter().map(one).collect()
}

/// A writer that sums what passes, and keeps what comes after the data until
/// the table before it is known.
#[derive(Debug)]
pub(crate) struct SummingWriter<W> {
    inner: W,
    crc: Hasher,
    in_piece: u64,
    pieces: Vec<u32>,
    written: u64,
    /// Where the data ends; unknown while row groups are written.
    data_end: Arc<AtomicU64>,
    tail: Vec<u8>,
}

/// Tells a [`SummingWriter`] below other writers where the data ends.
#[derive(Debug, Clone)]
pub(crate) struct DataEnd(Arc<AtomicU64>);

impl DataEnd {
    /// The data ends after so many bytes. Answers the room that the table
    /// takes, to be written next.
    pub fn set(&self, data_bytes: u64) -> Vec<u8> {
        self.0.store(data_bytes, Ordering::Release);
        vec![0; usize::try_from(table_bytes(data_bytes)).unwrap_or(0)]
    }
}

impl<W: Write> SummingWriter<W> {
    pub fn new(inner: W) -> (Self, DataEnd) {
        let data_end = Arc::new(AtomicU64::new(u64::MAX));
        let writer = Self {
            inner,
            crc: Hasher::new(),
            in_piece: 0,
            pieces: Vec::new(),
            written: 0,
            data_end: Arc::clone(&data_end),
            tail: Vec::new(),
        };
        (writer, DataEnd(data_end))
    }

    fn sum(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let room = usize::try_from(PIECE_BYTES - self.in_piece).unwrap_or(usize::MAX);
            let (piece, rest) = bytes.split_at(room.min(bytes.len()));
            self.crc.update(piece);
            self.in_piece += piece.len() as u64;
            if self.in_piece == PIECE_BYTES {
                self.end_piece();
            }
            bytes = rest;
        }
    }

    fn end_piece(&mut self) {
        self.pieces.push(std::mem::take(&mut self.crc).finalize());
        self.in_piece = 0;
    }

    /// Writes the table and what was kept; answers how many bytes that is.
    pub fn finish(mut self) -> io::Result<u64> {
        if self.in_piece > 0 {
            self.end_piece();
        }
        let room = HEADER_BYTES + self.pieces.len() * 4;
        if self.tail.len() < room || self.data_end.load(Ordering::Acquire) != self.written {
            return Err(io::Error::other("the checksums have no place"));
        }
        let pieces = u32::try_from(self.pieces.len()).map_err(io::Error::other)?;
        let piece_bytes = u32::try_from(PIECE_BYTES).map_err(io::Error::other)?;
        let mut table = Vec::with_capacity(room);
        table.extend_from_slice(MAGIC);
        table.extend_from_slice(&piece_bytes.to_le_bytes());
        table.extend_from_slice(&pieces.to_le_bytes());
        table.extend_from_slice(&self.written.to_le_bytes());
        table.extend_from_slice(&[0; 4]);
        for piece in &self.pieces {
            table.extend_from_slice(&piece.to_le_bytes());
        }
        self.tail[..room].copy_from_slice(&table);
        let mut crc = Hasher::new();
        crc.update(&self.tail[..TAIL_CRC_AT]);
        crc.update(&self.tail[HEADER_BYTES..]);
        self.tail[TAIL_CRC_AT..HEADER_BYTES].copy_from_slice(&crc.finalize().to_le_bytes());
        self.inner.write_all(&self.tail)?;
        self.inner.flush()?;
        Ok(self.tail.len() as u64)
    }
}

impl<W: Write> Write for SummingWriter<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // Bytes beyond the data's end are handed down after it is known.
        let end = self.data_end.load(Ordering::Acquire);
        let data = usize::try_from(end - self.written).unwrap_or(usize::MAX).min(bytes.len());
        if data == 0 {
            self.tail.extend_from_slice(bytes);
            return Ok(bytes.len());
        }
        self.inner.write_all(&bytes[..data])?;
        self.sum(&bytes[..data]);
        self.written += data as u64;
        Ok(data)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn file(data: &[u8], footer: &[u8]) -> (Vec<u8>, u64) {
        let mut file = Vec::new();
        let (mut writer, end) = SummingWriter::new(&mut file);
        writer.write_all(data).unwrap();
        let room = end.set(data.len() as u64);
        writer.write_all(&room).unwrap();
        writer.write_all(footer).unwrap();
        let tail = writer.finish().unwrap();
        (file, tail)
    }

    fn opened(file: &[u8], tail: u64) -> Result<(Checksums, Bytes), String> {
        let from = file.len() - usize::try_from(tail).unwrap();
        Checksums::open(&Bytes::copy_from_slice(&file[from..]), file.len() as u64)
    }

    #[test]
    fn pieces_around_ranges_are_checked_and_cut() {
        let data: Vec<u8> = (0..200_000u32).flat_map(u32::to_le_bytes).collect();
        let (file, tail) = file(&data, b"footer");
        let (sums, footer) = opened(&file, tail).unwrap();
        assert_eq!(footer, b"footer".as_slice());
        let ranges = [70_000..70_010, 5..10, 65_530..65_540, 799_990..800_000, 7..7];
        let whole = sums.whole_pieces(&ranges);
        assert_eq!(whole, [0..131_072, 786_432..800_000]);
        let read: Vec<Bytes> = whole
            .iter()
            .map(|r| Bytes::copy_from_slice(&file[r.start as usize..r.end as usize]))
            .collect();
        for (range, bytes) in whole.iter().zip(&read) {
            sums.check(range.start, bytes).unwrap();
        }
        for (range, bytes) in ranges.iter().zip(cut(&ranges, &whole, &read)) {
            assert_eq!(bytes, data[range.start as usize..range.end as usize]);
        }
    }

    #[test]
    fn every_flipped_bit_is_found() {
        let data: Vec<u8> = (0..150_000u32).map(|n| (n % 251) as u8).collect();
        let (file, tail) = file(&data, b"some footer");
        for at in (0..file.len()).step_by(997).chain(file.len() - tail as usize..file.len()) {
            let mut broken = file.clone();
            broken[at] ^= 1 << (at % 8);
            let found =
                opened(&broken, tail).and_then(|(sums, _)| sums.check(0, &broken[..data.len()]));
            assert!(found.is_err(), "byte {at}");
        }
    }

    #[test]
    fn a_table_that_lies_about_its_size_is_refused() {
        let (file, tail) = file(&[7; 1_000], b"x");
        for (at, value) in [(8, 1u32), (12, u32::MAX), (16, u32::MAX), (20, 1)] {
            let mut broken = file.clone();
            broken[1_000 + at..1_000 + at + 4].copy_from_slice(&value.to_le_bytes());
            assert!(opened(&broken, tail).is_err(), "field at {at}");
        }
        assert!(Checksums::open(&Bytes::new(), 0).is_err());
    }
}
