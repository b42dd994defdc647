//! Reads of large objects past the memory that caches files, as long as it does not hold them.
//! What was written so is not in it, and its read-ahead is no match for a disk that is asked for
//! some megabytes at once.
//!
//! A piece that is read so leaves its first page in the cache: it is the mark by which the next
//! read of the piece knows to go through the cache, and so fill it. What is read once displaces
//! nothing there, what is read again is kept; no list of either is.

use std::fs::{File, OpenOptions};
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use bytes::Bytes;

use crate::bulk::ALIGNED_BYTES;
use crate::writer::PART_BYTES;

/// What is smaller was never written past the cache.
pub const OBJECT_BYTES_MIN: u64 = PART_BYTES as u64;
/// Of a smaller piece the disk's own time counts, and that is the same.
pub const PIECE_BYTES_MIN: u64 = 1 << 20;

/// The bytes of a range of a large object's file, all of which lies within it.
///
/// # Errors
/// The file's.
pub fn read(file: &File, path: &Path, range: &Range<u64>) -> io::Result<Bytes> {
    let is_large = range.end.saturating_sub(range.start) >= PIECE_BYTES_MIN;
    if is_large
        && is_cold(file, range.start)
        && let Some(bytes) = read_direct(file, path, range)
    {
        return Ok(bytes);
    }
    let mut bytes = vec![0; length(range)?];
    file.read_exact_at(&mut bytes, range.start)?;
    Ok(bytes.into())
}

fn length(range: &Range<u64>) -> io::Result<usize> {
    usize::try_from(range.end.saturating_sub(range.start)).map_err(io::Error::other)
}

/// Nothing where the file's system does not read so, or not now: what fails there truly fails
/// through the cache too.
fn read_direct(file: &File, path: &Path, range: &Range<u64>) -> Option<Bytes> {
    let direct = open_direct(path, OpenOptions::new().read(true))?;
    mark(file, range.start);
    let sector = ALIGNED_BYTES as u64;
    let from = range.start / sector * sector;
    let before = length(&(from..range.start)).ok()?;
    let wanted = length(&(from..range.end)).ok()?;
    let room = wanted.next_multiple_of(ALIGNED_BYTES);
    let mut bytes = vec![0; room + ALIGNED_BYTES];
    let begin = bytes.as_ptr().align_offset(ALIGNED_BYTES);
    let sectors = bytes.get_mut(begin..begin.checked_add(room)?)?;
    // At the file's end there is less than the last sector.
    let read = direct.read_at(sectors, from).ok()?;
    (read >= wanted).then(|| Bytes::from(bytes).slice(begin + before..begin + wanted))
}

/// A file that is read or written past the memory that caches files, where its system can.
#[cfg(target_os = "linux")]
pub fn open_direct(path: &Path, options: &mut OpenOptions) -> Option<File> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let direct = rustix::fs::OFlags::DIRECT.bits().cast_signed();
    options.custom_flags(direct).open(path).ok()
}

/// Whether the page of a byte would have to come from the disk.
#[cfg(target_os = "linux")]
fn is_cold(file: &File, at: u64) -> bool {
    use rustix::io::{Errno, IoSliceMut, ReadWriteFlags, preadv2};
    let mut byte = [0];
    let read = preadv2(file, &mut [IoSliceMut::new(&mut byte)], at, ReadWriteFlags::NOWAIT);
    // A system that cannot tell has it: that is the way of old.
    matches!(read, Err(Errno::AGAIN))
}

/// Has the page of a byte fetched into the cache; nobody waits for it.
#[cfg(target_os = "linux")]
fn mark(file: &File, at: u64) {
    let length = std::num::NonZeroU64::MIN;
    // A mark that is missing costs the next reader its turn, no more.
    rustix::fs::fadvise(file, at, Some(length), rustix::fs::Advice::WillNeed).ok();
}

#[cfg(not(target_os = "linux"))]
pub fn open_direct(_: &Path, _: &mut OpenOptions) -> Option<File> {
    None
}

#[cfg(not(target_os = "linux"))]
fn is_cold(_: &File, _: u64) -> bool {
    false
}

#[cfg(not(target_os = "linux"))]
fn mark(_: &File, _: u64) {}

#[cfg(target_os = "linux")]
#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use std::time::{Duration, Instant};

    use rustix::fs::{Advice, fadvise};

    use super::*;

    /// A file of these bytes of which the cache holds nothing, where it lets go of it.
    fn forgotten(path: &Path, bytes: &[u8]) -> File {
        std::fs::write(path, bytes).unwrap();
        let file = File::open(path).unwrap();
        file.sync_all().unwrap();
        fadvise(&file, 0, None, Advice::DontNeed).unwrap();
        file
    }

    #[test]
    fn the_first_read_leaves_a_mark_and_the_second_fills_the_cache() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("object");
        let bytes: Vec<u8> = (0..4_u32 << 20).map(|at| at.to_le_bytes()[1]).collect();
        let file = forgotten(&path, &bytes);
        let (first, last) = (1_u64 << 20, (3 << 20) - 1);
        let has_direct = open_direct(&path, OpenOptions::new().read(true)).is_some();
        if !has_direct || !is_cold(&file, first) || !is_cold(&file, last) {
            // A system without direct reads, or whose cache keeps what it likes.
            return;
        }
        let file = forgotten(&path, &bytes);
        let range = first..last + 1;
        assert!(read(&file, &path, &range).unwrap() == bytes[1 << 20..3 << 20]);
        let begin = Instant::now();
        while is_cold(&file, first) {
            assert!(begin.elapsed() < Duration::from_secs(20), "its mark never came");
        }
        assert!(is_cold(&file, first + (1 << 20)), "what is read once is not kept");
        let again = File::open(&path).unwrap();
        assert!(read(&again, &path, &range).unwrap() == bytes[1 << 20..3 << 20]);
        assert!(!is_cold(&again, first + (1 << 20)), "what is read again is kept");
    }
}
