//! A zip's central directory, read from its end as its loaders do. Nothing is
//! trusted that the local headers can say otherwise.

use std::collections::BTreeMap;
use std::ops::Range;

use memchr::memmem;

use crate::source::{Cursor, Input, Meter, Numbers, Part, ReadError};

/// Members of one archive that are looked at.
const MEMBERS_MAX: u64 = 10_000;
const DIRECTORY_BYTES_MAX: u64 = 16 << 20;
const END_BYTES: u64 = 22;
/// One more than fits its length: Python looks there, too.
const COMMENT_BYTES_MAX: u64 = 65_536;
const END: [u8; 4] = *b"PK\x05\x06";
const END_64: [u8; 4] = *b"PK\x06\x06";
const LOCATOR_64: [u8; 4] = *b"PK\x06\x07";
const ENTRY: [u8; 4] = *b"PK\x01\x02";
const LOCAL: [u8; 4] = *b"PK\x03\x04";
/// The extra field that holds a name in UTF-8.
const UNICODE_NAME: u16 = 0x7075;

/// A member as the directory has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    pub name: String,
    pub method: u16,
    pub encrypted: bool,
    pub packed_bytes: u64,
    pub bytes: u64,
    /// Some readers know it by another name.
    pub alias: bool,
    header_begin: u64,
}

/// The members of an archive.
#[derive(Debug)]
pub struct Directory {
    pub members: Vec<Member>,
    /// There are more than are looked at.
    pub cut: bool,
    /// Why some readers would find another directory.
    pub doubt: Option<&'static str>,
    /// Where it begins.
    begin: u64,
    /// Bytes before the archive's own begin.
    prefix: u64,
}

/// Where a member's bytes are.
pub struct Place<'a> {
    pub part: Part<'a>,
    /// The header before its bytes has another name than the directory.
    pub renamed: bool,
    /// All that is the member's, with the header before its bytes.
    pub whole: Range<u64>,
}

struct End {
    entries: u64,
    bytes: u64,
    begin: u64,
    /// Where the directory ends in the file.
    at: u64,
    doubt: Option<&'static str>,
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
    let mut doubt = end.doubt;
    // Some readers go by the offset alone.
    if prefix > 0 && part.range(end.begin, 4).head(meter, 4)? == ENTRY {
        doubt = Some("its directory is another by its offset than by its distance from the end");
    }
    Ok(Some(Directory { members, cut, doubt, begin, prefix }))
}

fn end(part: Part<'_>, meter: &Meter) -> Result<Option<End>, ReadError> {
    if part.bytes < END_BYTES {
        return Ok(None);
    }
    let tail_bytes = part.bytes.min(END_BYTES + COMMENT_BYTES_MAX);
    let tail_begin = part.bytes - tail_bytes;
    let tail = part.range(tail_begin, tail_bytes).head(meter, tail_bytes)?;
    let last = tail.len() - 22;
    let Some(found) = memmem::rfind(&tail[..last + 4], &END) else { return Ok(None) };
    let mut input = Cursor::new(part.range(tail_begin + found as u64 + 4, 18), meter);
    input.skip(6)?;
    let entries = u64::from(input.u16()?);
    let bytes = u64::from(input.u32()?);
    let begin = u64::from(input.u32()?);
    let at = tail_begin + found as u64;
    let doubt = in_comment(&tail, found)
        .then_some("its comment holds what some readers take for the end of its directory");
    let plain = End { entries, bytes, begin, at, doubt };
    Ok(Some(end_64(part, meter, &plain)?.unwrap_or(plain)))
}

/// Whether the end that was found stands in the comment of another one, or has
/// further marks in its own.
fn in_comment(tail: &[u8], found: usize) -> bool {
    let comment = &tail[found + 22..];
    let marks = [END, END_64, LOCATOR_64];
    marks.iter().any(|mark| memmem::find(comment, mark).is_some())
        || memmem::find_iter(&tail[..found], &END).any(|at| {
            let said = usize::from(u16::from_le_bytes([tail[at + 20], tail[at + 21]]));
            at + 22 + said == tail.len()
        })
}

/// The 64-bit record, if a locator stands before the end: Python and torch follow
/// it whatever the plain record says.
fn end_64(part: Part<'_>, meter: &Meter, plain: &End) -> Result<Option<End>, ReadError> {
    let Some(locator) = plain.at.checked_sub(20) else { return Ok(None) };
    let mut input = Cursor::new(part.range(locator, 20), meter);
    if input.take(4)? != LOCATOR_64 {
        return Ok(None);
    }
    input.skip(4)?;
    let said = input.u64()?;
    // Where it says that its record is may be off by what stands before the
    // archive; the record is 56 bytes and stands before the locator.
    let record = locator.checked_sub(56).ok_or(ReadError::Truncated)?;
    let mut input = Cursor::new(part.range(record, 56), meter);
    if input.take(4)? != END_64 {
        return Err(ReadError::Truncated);
    }
    input.skip(28)?;
    let (entries, bytes, begin) = (input.u64()?, input.u64()?, input.u64()?);
    let mut doubt = plain.doubt;
    if said != record && part.range(said, 4).head(meter, 4)? == END_64 {
        doubt = Some("it has two 64-bit records of its directory");
    }
    let agree = |plain: u64, most: u64, wide: u64| plain == most || plain == wide;
    if !(agree(plain.entries, 0xffff, entries)
        && agree(plain.bytes, 0xffff_ffff, bytes)
        && agree(plain.begin, 0xffff_ffff, begin))
    {
        doubt = Some("its directory is another by its 64-bit record than by its plain one");
    }
    Ok(Some(End { entries, bytes, begin, at: record, doubt }))
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
    let raw = input.take(name_bytes)?.to_vec();
    let name = String::from_utf8_lossy(&raw).into_owned();
    let extra = input.take(extra_bytes)?.to_vec();
    input.skip(comment_bytes)?;
    // Python ends a name at its first NUL.
    let alias = raw.contains(&0) || other_name(&extra, &raw);
    let mut wide = wide_fields(&extra);
    for field in [&mut bytes, &mut packed_bytes, &mut header_begin] {
        if *field == 0xffff_ffff
            && let Some(value) = wide.next()
        {
            *field = value;
        }
    }
    let encrypted = flags & 1 == 1;
    Ok(Member { name, method, encrypted, packed_bytes, bytes, alias, header_begin })
}

/// The 64-bit numbers of an entry's extra fields, in their order.
fn wide_fields(extra: &[u8]) -> impl Iterator<Item = u64> + use<'_> {
    let first = fields(extra).find(|(id, _)| *id == 1).map_or(&[][..], |(_, field)| field);
    let numbers = first.chunks_exact(8).filter_map(|bytes| bytes.try_into().ok());
    numbers.map(u64::from_le_bytes)
}

/// The extra fields of an entry, as number and bytes.
fn fields(extra: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    let mut rest = extra;
    std::iter::from_fn(move || {
        let [a, b, c, d, tail @ ..] = rest else { return None };
        let bytes = usize::from(u16::from_le_bytes([*c, *d]));
        let field = tail.get(..bytes)?;
        rest = &tail[bytes..];
        Some((u16::from_le_bytes([*a, *b]), field))
    })
}

/// Whether Info-ZIP's field gives another name. It is there for names that are not
/// ASCII: those differ in their encoding only, and in no ending.
fn other_name(extra: &[u8], name: &[u8]) -> bool {
    let ending = |name: &[u8]| name.rsplit(|byte| *byte == b'.').next().map(<[u8]>::to_vec);
    let names = fields(extra).filter(|(id, _)| *id == UNICODE_NAME);
    names.filter_map(|(_, field)| field.get(5..)).any(|other| {
        let encoded = !name.is_ascii() && !other.is_ascii() && ending(name) == ending(other);
        other != name && !encoded
    })
}

/// What of an archive is some member's.
#[derive(Debug, Default)]
pub struct Taken(BTreeMap<u64, u64>);

impl Taken {
    /// All that no member may have.
    pub fn new(directory: &Directory) -> Self {
        Self(BTreeMap::from([(directory.begin, u64::MAX)]))
    }

    /// Takes a range; not if some of it is taken.
    pub fn take(&mut self, range: Range<u64>) -> bool {
        let before = self.0.range(..range.end).next_back();
        if before.is_some_and(|(_, end)| *end > range.start) {
            return false;
        }
        self.0.insert(range.start, range.end);
        true
    }
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
        let extra_bytes = usize::from(input.u16()?);
        let name = input.take(name_bytes)?.to_vec();
        let other = other_name(input.take(extra_bytes)?, &name);
        let renamed = String::from_utf8_lossy(&name) != member.name || other;
        if member.packed_bytes > input.left() {
            return Err(ReadError::Truncated);
        }
        let bytes_begin = begin + input.at();
        let whole = begin..bytes_begin + member.packed_bytes;
        Ok(Place { part: part.range(bytes_begin, member.packed_bytes), renamed, whole })
    }
}
