//! The directory at a zip's end, found backwards and read forwards.

use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};

use crate::reading::exactly;
use crate::{ArchiveError, NAME_BYTES_MAX};

const END: u32 = 0x0605_4b50;
const END_BYTES: u64 = 22;
const COMMENT_MAX: u64 = 0xffff;
const LOCATOR: u32 = 0x0706_4b50;
const LOCATOR_BYTES: u64 = 20;
const END64: u32 = 0x0606_4b50;
const END64_BYTES: u64 = 56;
const ENTRY: u32 = 0x0201_4b50;
const ENTRY_BYTES: usize = 46;
const UNIX: u8 = 3;
const FILE_TYPE: u32 = 0o170_000;
const LINK: u32 = 0o120_000;

/// What the directory says of a member.
#[derive(Debug, Clone)]
pub struct Header {
    pub offset: u64,
    pub packed: u64,
    pub size: u64,
    pub crc: u32,
    pub method: u16,
    pub is_encrypted: bool,
    pub is_link: bool,
    /// Seconds since 1970.
    pub modified: i64,
}

/// Where the directory is.
#[derive(Debug)]
pub struct End {
    /// Its first byte.
    pub begin: u64,
    bytes: u64,
    count: u64,
    /// What stands before the archive, such as a program that unpacks it.
    shift: u64,
}

pub fn u16_at(bytes: &[u8], at: usize) -> u16 {
    bytes.get(at..at + 2).map_or(0, |two| u16::from_le_bytes([two[0], two[1]]))
}

pub fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from(u16_at(bytes, at)) | u32::from(u16_at(bytes, at + 2)) << 16
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from(u32_at(bytes, at)) | u64::from(u32_at(bytes, at + 4)) << 32
}

fn read_at(file: &mut File, at: u64, count: u64) -> Result<Vec<u8>, ArchiveError> {
    let mut bytes = vec![0; usize::try_from(count).unwrap_or(0)];
    file.seek(SeekFrom::Start(at))?;
    file.read_exact(&mut bytes)?;
    Ok(bytes)
}

impl End {
    /// Looks for it.
    ///
    /// # Errors
    /// There is none.
    pub fn find(file: &mut File) -> Result<Self, ArchiveError> {
        let length = file.metadata()?.len();
        let broken = |why| ArchiveError::Broken { offset: length, why };
        let tail_bytes = length.min(END_BYTES + COMMENT_MAX);
        let tail_begin = length - tail_bytes;
        let tail = read_at(file, tail_begin, tail_bytes)?;
        let is_end = |at: &usize| {
            u32_at(&tail, *at) == END
                && at + END_BYTES as usize + usize::from(u16_at(&tail, at + 20)) <= tail.len()
        };
        let last = tail.len().checked_sub(END_BYTES as usize);
        let at = last.and_then(|last| (0..=last).rev().find(is_end));
        let at =
            at.ok_or_else(|| broken("no directory of a zip ends it: it is cut off, or no zip"))?;
        let end = &tail[at..];
        let at = tail_begin + at as u64;
        if u16_at(end, 4) != u16_at(end, 6) {
            return Err(broken("it is one part of a zip in several"));
        }
        let (mut count, mut bytes, mut offset) =
            (u64::from(u16_at(end, 10)), u64::from(u32_at(end, 12)), u64::from(u32_at(end, 16)));
        let mut ends_at = at;
        let is_large = count == 0xffff || bytes == 0xffff_ffff || offset == 0xffff_ffff;
        if is_large && let Some((at, large)) = large_end(file, at)? {
            (count, bytes, offset) = (u64_at(&large, 32), u64_at(&large, 40), u64_at(&large, 48));
            ends_at = at;
        }
        let begin = ends_at.checked_sub(bytes);
        let begin = begin.ok_or_else(|| broken("its directory is longer than the file"))?;
        let shift = begin.checked_sub(offset);
        let shift = shift.ok_or_else(|| broken("its directory is not where it says"))?;
        Ok(Self { begin, bytes, count, shift })
    }

    /// Reads the directory, name by name.
    ///
    /// # Errors
    /// What is wrong with it; what `each` says.
    pub fn each(
        &self,
        file: &mut File,
        mut each: impl FnMut(Vec<u8>, Header) -> Result<(), ArchiveError>,
    ) -> Result<(), ArchiveError> {
        file.seek(SeekFrom::Start(self.begin))?;
        let mut reader = BufReader::new(file).take(self.bytes);
        let mut count = 0;
        loop {
            let broken = |why| ArchiveError::Broken { offset: self.begin, why };
            let mut fixed = [0; ENTRY_BYTES];
            match exactly(&mut reader, &mut fixed)? {
                0 => break,
                ENTRY_BYTES if u32_at(&fixed, 0) == ENTRY => {}
                _ => return Err(broken("its directory holds what is no member")),
            }
            let lengths = [28, 30, 32].map(|at| usize::from(u16_at(&fixed, at)));
            let mut rest = vec![0; lengths.iter().sum()];
            if exactly(&mut reader, &mut rest)? < rest.len() {
                return Err(broken("its directory is cut off"));
            }
            let extra = rest[lengths[0]..lengths[0] + lengths[1]].to_vec();
            rest.truncate(lengths[0].min(NAME_BYTES_MAX as usize + 1));
            let mut header = header(&fixed, &extra);
            header.offset = header.offset.saturating_add(self.shift);
            count += 1;
            each(rest, header)?;
        }
        if count != self.count {
            let why = "its directory holds another number of members than it says";
            return Err(ArchiveError::Broken { offset: self.begin, why });
        }
        Ok(())
    }
}

/// The end of a zip of more than 65,535 members or 4 GiB, and where it is.
fn large_end(file: &mut File, end: u64) -> Result<Option<(u64, Vec<u8>)>, ArchiveError> {
    let Some(at) = end.checked_sub(LOCATOR_BYTES) else { return Ok(None) };
    let locator = read_at(file, at, LOCATOR_BYTES)?;
    if u32_at(&locator, 0) != LOCATOR {
        return Ok(None);
    }
    // As it says, or, after a program that unpacks it, right before the locator.
    for at in [Some(u64_at(&locator, 8)), at.checked_sub(END64_BYTES)].into_iter().flatten() {
        if at.checked_add(END64_BYTES).is_none_or(|last| last > end) {
            continue;
        }
        let large = read_at(file, at, END64_BYTES)?;
        if u32_at(&large, 0) == END64 {
            return Ok(Some((at, large)));
        }
    }
    Ok(None)
}

fn header(fixed: &[u8; ENTRY_BYTES], extra: &[u8]) -> Header {
    let attributes = u32_at(fixed, 38) >> 16;
    let mut header = Header {
        offset: u32_at(fixed, 42).into(),
        packed: u32_at(fixed, 20).into(),
        size: u32_at(fixed, 24).into(),
        crc: u32_at(fixed, 16),
        method: u16_at(fixed, 10),
        is_encrypted: u16_at(fixed, 8) & 1 != 0,
        is_link: fixed[5] == UNIX && attributes & FILE_TYPE == LINK,
        modified: dos_time(u16_at(fixed, 14), u16_at(fixed, 12)),
    };
    let mut rest = extra;
    while rest.len() >= 4 {
        let (kind, length) = (u16_at(rest, 0), usize::from(u16_at(rest, 2)));
        let Some(field) = rest.get(4..4 + length) else { break };
        match kind {
            // What did not fit into 32 bits, in this order.
            1 => {
                let mut at = 0;
                for value in [&mut header.size, &mut header.packed, &mut header.offset] {
                    if *value == 0xffff_ffff && field.len() >= at + 8 {
                        *value = u64_at(field, at);
                        at += 8;
                    }
                }
            }
            // Unix times; the first is that of the content.
            0x5455 if field.len() >= 5 && field[0] & 1 != 0 => {
                header.modified = i64::from(u32_at(field, 1).cast_signed());
            }
            _ => {}
        }
        rest = &rest[4 + length..];
    }
    header
}

/// Seconds since 1970 of a time without a zone, as if it were UTC.
fn dos_time(date: u16, time: u16) -> i64 {
    let (year, month, day) = (
        1980 + i64::from(date >> 9),
        i64::from(date >> 5 & 15).clamp(1, 12),
        i64::from(date & 31).max(1),
    );
    let (hour, minute, second) =
        (i64::from(time >> 11), i64::from(time >> 5 & 63), i64::from(time & 31) * 2);
    // Days since 1970, by years that begin in March.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days =
        year * 365 + year / 4 - year / 100 + year / 400 + (month * 153 + 2) / 5 + day - 1 - 719_468;
    days * 86_400 + hour * 3_600 + minute * 60 + second
}

#[cfg(test)]
mod tests {
    use super::dos_time;

    #[test]
    fn a_time_without_a_zone_is_utc() {
        // 1 January 1980 and 29 February 2024, 13:37:42.
        assert_eq!(dos_time(1 << 5 | 1, 0), 315_532_800);
        assert_eq!(dos_time(44 << 9 | 2 << 5 | 29, 13 << 11 | 37 << 5 | 21), 1_709_213_862);
    }
}
