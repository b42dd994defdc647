//! A zip's central directory, read from its end as its loaders do. Nothing is
//! trusted that the local headers can say otherwise.

use crate::source::{Cursor, Input, Meter, Numbers, Part, ReadError};

/// Members of one archive that are looked at.
const MEMBERS_MAX: u64 = 10_000;
const DIRECTORY_BYTES_MAX: u64 = 16 << 20;
const END_BYTES: u64 = 22;
const COMMENT_BYTES_MAX: u64 = 65_535;
const END: [u8; 4] = *b"PK\x05\x06";
const END_64: [u8; 4] = *b"PK\x06\x06";
const LOCATOR_64: [u8; 4] = *b"PK\x06\x07";
const ENTRY: [u8; 4] = *b"PK\x01\x02";
const LOCAL: [u8; 4] = *b"PK\x03\x04";

/// A member as the directory has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    pub name: String,
    pub method: u16,
    pub encrypted: bool,
    pub packed_bytes: u64,
    pub bytes: u64,
    header_begin: u64,
}

/// The members of an archive.
#[derive(Debug)]
pub struct Directory {
    pub members: Vec<Member>,
    /// There are more than are looked at.
    pub cut: bool,
    /// Bytes before the archive's own begin.
    prefix: u64,
}

/// Where a member's bytes are.
pub struct Place<'a> {
    pub part: Part<'a>,
    /// The header before its bytes has another name than the directory.
    pub renamed: bool,
}

struct End {
    entries: u64,
    bytes: u64,
    begin: u64,
    /// Where the directory ends in the file.
    at: u64,
}

/// The directory of a part of a file; nothing if it has none.
pub fn directory(part: Part<'_>, meter: &Meter) -> Result<Option<Directory>, ReadError> {
    let Some(end) = end(part, meter)? else { return Ok(None) };
    if end.bytes > DIRECTORY_BYTES_MAX {
        return Err(ReadError::Exhausted("its directory is larger than is read"));
    }
    // What stands before the archive moves all offsets.
    let begin = end.at.checked_sub(end.bytes).ok_or(ReadError::Truncated)?;
    let prefix = begin.checked_sub(end.begin).ok_or(ReadError::Truncated)?;
    let mut input = Cursor::new(part.range(begin, end.bytes), meter);
    let mut members = Vec::new();
    while input.left() >= 46 && (members.len() as u64) < MEMBERS_MAX {
        if input.take(4)? != ENTRY {
            break;
        }
        members.push(entry(&mut input)?);
    }
    let cut = end.entries > members.len() as u64 || input.left() >= 46;
    Ok(Some(Directory { members, cut, prefix }))
}

fn end(part: Part<'_>, meter: &Meter) -> Result<Option<End>, ReadError> {
    if part.bytes < END_BYTES {
        return Ok(None);
    }
    let tail_bytes = part.bytes.min(END_BYTES + COMMENT_BYTES_MAX);
    let tail_begin = part.bytes - tail_bytes;
    let tail = part.range(tail_begin, tail_bytes).head(meter, tail_bytes)?;
    let last = tail.len() - 22;
    let Some(found) = (0..=last).rev().find(|at| tail[*at..*at + 4] == END) else {
        return Ok(None);
    };
    let mut input = Cursor::new(part.range(tail_begin + found as u64 + 4, 18), meter);
    input.skip(6)?;
    let entries = u64::from(input.u16()?);
    let bytes = u64::from(input.u32()?);
    let begin = u64::from(input.u32()?);
    let at = tail_begin + found as u64;
    let wide = entries == 0xffff || bytes == 0xffff_ffff || begin == 0xffff_ffff;
    if wide && let Some(end) = end_64(part, meter, at)? {
        return Ok(Some(end));
    }
    Ok(Some(End { entries, bytes, begin, at }))
}

fn end_64(part: Part<'_>, meter: &Meter, at: u64) -> Result<Option<End>, ReadError> {
    let Some(locator) = at.checked_sub(20) else { return Ok(None) };
    let mut input = Cursor::new(part.range(locator, 20), meter);
    if input.take(4)? != LOCATOR_64 {
        return Ok(None);
    }
    // Where it says that its record is may be off by what stands before the
    // archive; the record is 56 bytes and stands before the locator.
    let Some(record) = locator.checked_sub(56) else { return Ok(None) };
    let mut input = Cursor::new(part.range(record, 56), meter);
    if input.take(4)? != END_64 {
        return Err(ReadError::Truncated);
    }
    input.skip(28)?;
    let entries = input.u64()?;
    let bytes = input.u64()?;
    let begin = input.u64()?;
    Ok(Some(End { entries, bytes, begin, at: record }))
}

/// An entry behind its mark.
fn entry(input: &mut Cursor<'_>) -> Result<Member, ReadError> {
    input.skip(4)?;
    let flags = input.u16()?;
    let method = input.u16()?;
    input.skip(8)?;
    let mut packed_bytes = u64::from(input.u32()?);
    let mut bytes = u64::from(input.u32()?);
    let name_bytes = usize::from(input.u16()?);
    let extra_bytes = usize::from(input.u16()?);
    let comment_bytes = u64::from(input.u16()?);
    input.skip(8)?;
    let mut header_begin = u64::from(input.u32()?);
    let name = String::from_utf8_lossy(input.take(name_bytes)?).into_owned();
    let extra = input.take(extra_bytes)?.to_vec();
    input.skip(comment_bytes)?;
    let mut wide = wide_fields(&extra);
    for field in [&mut bytes, &mut packed_bytes, &mut header_begin] {
        if *field == 0xffff_ffff
            && let Some(value) = wide.next()
        {
            *field = value;
        }
    }
    Ok(Member { name, method, encrypted: flags & 1 == 1, packed_bytes, bytes, header_begin })
}

/// The 64-bit numbers of an entry's extra fields, in their order.
fn wide_fields(extra: &[u8]) -> impl Iterator<Item = u64> + use<> {
    let mut rest = extra;
    let mut found = Vec::new();
    while let [a, b, c, d, tail @ ..] = rest {
        let (id, bytes) = (u16::from_le_bytes([*a, *b]), usize::from(u16::from_le_bytes([*c, *d])));
        let Some(field) = tail.get(..bytes) else { break };
        if id == 1 {
            let numbers = field.chunks_exact(8).filter_map(|bytes| bytes.try_into().ok());
            found.extend(numbers.map(u64::from_le_bytes));
            break;
        }
        rest = &tail[bytes..];
    }
    found.into_iter()
}

impl Directory {
    /// The packed bytes of a member.
    pub fn place<'a>(
        &self,
        member: &Member,
        part: Part<'a>,
        meter: &Meter,
    ) -> Result<Place<'a>, ReadError> {
        let begin = self.prefix.checked_add(member.header_begin).ok_or(ReadError::Truncated)?;
        if begin > part.bytes {
            return Err(ReadError::Truncated);
        }
        let mut input = Cursor::ahead(part.range(begin, u64::MAX), meter, 512);
        if input.take(4)? != LOCAL {
            return Err(ReadError::Truncated);
        }
        input.skip(22)?;
        let name_bytes = usize::from(input.u16()?);
        let extra_bytes = u64::from(input.u16()?);
        let renamed = String::from_utf8_lossy(input.take(name_bytes)?) != member.name;
        input.skip(extra_bytes)?;
        if member.packed_bytes > input.left() {
            return Err(ReadError::Truncated);
        }
        let part = part.range(begin + input.at(), member.packed_bytes);
        Ok(Place { part, renamed })
    }
}
