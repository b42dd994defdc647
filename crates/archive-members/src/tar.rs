//! Tar: 512-byte headers, with GNU's and POSIX's ways to say long names.

use std::fs::File;
use std::io::{self, Read};

use crate::forward::{Forward, Seeking};
use crate::reading::exactly;
use crate::{ArchiveError, EXTENDED_BYTES_MAX, Member, NAME_BYTES_MAX, plain_path, shown};

const BLOCK: u64 = 512;

/// What an extended header says of the member that follows.
#[derive(Default)]
struct Said {
    path: Option<Vec<u8>>,
    size: Option<u64>,
}

/// What a tar is found to hold.
pub enum Step {
    /// A file or a directory.
    Member { member: Member, is_dir: bool },
    /// A file whose name is refused.
    Refused { offset: u64, name: Vec<u8> },
}

/// Takes a step and what reads the member's bytes; says whether to go on.
type Take<'a> = dyn FnMut(Step, &mut dyn Read) -> bool + 'a;

/// Reads a tar archive's headers and hands each regular file to `each`, which
/// says whether to go on.
///
/// # Errors
/// What is wrong with the archive, after the members before it were handed over.
pub fn tar_members(
    file: &mut File,
    members_max: u64,
    mut each: impl FnMut(Member) -> bool,
) -> Result<(), ArchiveError> {
    let (mut count, mut failed) = (0, None);
    walk_tar(&mut Seeking::new(file)?, &mut |step, _| match step {
        Step::Member { is_dir: true, .. } => true,
        Step::Member { member, .. } => {
            count += 1;
            if count > members_max {
                failed = Some(ArchiveError::TooMany(members_max));
                return false;
            }
            each(member)
        }
        Step::Refused { offset, name } => {
            failed = Some(ArchiveError::Name { offset, name: shown(&name) });
            false
        }
    })?;
    failed.map_or(Ok(()), Err)
}

/// Goes through a tar, header by header.
///
/// # Errors
/// What is wrong with it, after what came before was handed over.
pub fn walk_tar(input: &mut impl Forward, take: &mut Take<'_>) -> Result<(), ArchiveError> {
    let mut said = Said::default();
    loop {
        let at = input.at();
        let broken = |why| ArchiveError::Broken { offset: at, why };
        let mut header = [0; BLOCK as usize];
        if exactly(input, &mut header)? < header.len() {
            // Cut between two members it would look whole but for its end mark.
            return Err(broken("the archive ends without its end mark: it is cut off"));
        }
        if header.iter().all(|byte| *byte == 0) {
            return Ok(());
        }
        if !has_checksum(&header) {
            return Err(broken("no tar header is there: its checksum is wrong"));
        }
        let kind = header[156];
        let own = number(&header[124..136]).ok_or_else(|| broken("the size is no number"))?;
        let size = if is_file(kind) { said.size.unwrap_or(own) } else { own };
        if input.left().is_some_and(|left| size > left) {
            return Err(broken("the archive ends within this member"));
        }
        let ended = broken("the archive ends within this member");
        match kind {
            b'L' => {
                said.path = Some(
                    long_name(input, size).ok_or_else(|| broken("a long name that is none"))??,
                )
            }
            b'x' => {
                let read = extended(input, size, &mut said);
                read.ok_or_else(|| broken("an extended header that is too long"))??;
            }
            kind if is_file(kind) || kind == b'5' => {
                let goes_on = member(input, &header, at, std::mem::take(&mut said), size, take)?;
                if !goes_on {
                    return Ok(());
                }
            }
            b'g' | b'K' => {}
            _ => said = Said::default(),
        }
        // What was not read of it, and up to the next block.
        let rest = size - (input.at() - at - BLOCK).min(size);
        if input.pass(rest)? < rest {
            return Err(ended);
        }
        let padding = size.next_multiple_of(BLOCK) - size;
        input.pass(padding)?;
    }
}

/// Hands a file or directory over, with a reader of its bytes alone.
fn member(
    input: &mut impl Forward,
    header: &[u8; BLOCK as usize],
    offset: u64,
    said: Said,
    size: u64,
    take: &mut Take<'_>,
) -> Result<bool, ArchiveError> {
    let name = said.path.unwrap_or_else(|| own_name(header));
    let is_dir = header[156] == b'5' || name.ends_with(b"/");
    // The directory that everything lies in is no member.
    if is_dir && name.iter().all(|byte| matches!(byte, b'.' | b'/')) && !name.starts_with(b"..") {
        return Ok(true);
    }
    let Some(path) = plain_path(&name) else {
        return Ok(take(Step::Refused { offset, name }, &mut io::empty()));
    };
    let modified = number(&header[136..148]).unwrap_or(0).try_into().unwrap_or(0);
    let size = if is_dir { 0 } else { size };
    let member = Member { path, offset: offset + BLOCK, size, modified };
    let mut bytes = Whole { reader: input.by_ref().take(size), left: size };
    Ok(take(Step::Member { member, is_dir }, &mut bytes))
}

/// A member's bytes, all of them.
struct Whole<R> {
    reader: R,
    left: u64,
}

impl<R: Read> Read for Whole<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.reader.read(buffer)?;
        if count == 0 && self.left > 0 && !buffer.is_empty() {
            let why = "the archive ends within this member";
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, why));
        }
        self.left = self.left.saturating_sub(count as u64);
        Ok(count)
    }
}

const fn is_file(kind: u8) -> bool {
    matches!(kind, b'0' | 0 | b'7')
}

fn long_name(input: &mut impl Read, size: u64) -> Option<Result<Vec<u8>, ArchiveError>> {
    if size > NAME_BYTES_MAX + 1 {
        return None;
    }
    Some(bytes(input, size).map(|mut name| {
        name.truncate(name.iter().position(|byte| *byte == 0).unwrap_or(name.len()));
        name
    }))
}

/// `<length> <key>=<value>\n`, again and again.
fn extended(input: &mut impl Read, size: u64, said: &mut Said) -> Option<Result<(), ArchiveError>> {
    if size > EXTENDED_BYTES_MAX {
        return None;
    }
    let read = match bytes(input, size) {
        Ok(read) => read,
        Err(error) => return Some(Err(error)),
    };
    let mut rest = read.as_slice();
    while let Some(space) = rest.iter().position(|byte| *byte == b' ') {
        let length =
            std::str::from_utf8(&rest[..space]).ok().and_then(|text| text.parse::<usize>().ok());
        let Some(record) = length
            .filter(|length| *length > space + 1)
            .and_then(|length| rest.get(space + 1..length))
        else {
            break;
        };
        rest = &rest[space + 1 + record.len()..];
        let record = record.strip_suffix(b"\n").unwrap_or(record);
        if let Some(path) = record.strip_prefix(b"path=") {
            said.path = Some(path.to_vec());
        } else if let Some(size) = record.strip_prefix(b"size=") {
            said.size = std::str::from_utf8(size).ok().and_then(|text| text.parse().ok());
        }
    }
    Some(Ok(()))
}

fn bytes(input: &mut impl Read, size: u64) -> Result<Vec<u8>, ArchiveError> {
    let mut read = vec![0; usize::try_from(size).unwrap_or(0)];
    input.read_exact(&mut read)?;
    Ok(read)
}

fn own_name(header: &[u8; BLOCK as usize]) -> Vec<u8> {
    let text = |field: &[u8]| {
        field[..field.iter().position(|byte| *byte == 0).unwrap_or(field.len())].to_vec()
    };
    let (name, prefix) = (text(&header[..100]), text(&header[345..500]));
    if &header[257..262] != b"ustar" || prefix.is_empty() || header[257..265] == *b"ustar  \0" {
        return name;
    }
    [prefix, name].join(&b'/')
}

fn has_checksum(header: &[u8; BLOCK as usize]) -> bool {
    let sum: u64 = header
        .iter()
        .enumerate()
        .map(|(at, byte)| if (148..156).contains(&at) { 32 } else { u64::from(*byte) })
        .sum();
    number(&header[148..156]) == Some(sum)
}

/// Octal text, or GNU's big-endian number with the highest bit set.
fn number(field: &[u8]) -> Option<u64> {
    if field[0] & 0x80 != 0 {
        let mut value = u64::from(field[0] & 0x7f);
        for byte in &field[1..] {
            value = value.checked_mul(256)?.checked_add(u64::from(*byte))?;
        }
        return Some(value);
    }
    let text = std::str::from_utf8(field).ok()?.trim_matches(['\0', ' ']);
    if text.is_empty() { Some(0) } else { u64::from_str_radix(text, 8).ok() }
}
