//! Tar: 512-byte headers, with GNU's and POSIX's ways to say long names.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};

use crate::{ArchiveError, EXTENDED_BYTES_MAX, Member, NAME_BYTES_MAX, plain_path};

const BLOCK: u64 = 512;

/// What an extended header says of the member that follows.
#[derive(Default)]
struct Said {
    path: Option<Vec<u8>>,
    size: Option<u64>,
}

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
    let length = file.metadata()?.len();
    let (mut at, mut count, mut said) = (0, 0, Said::default());
    while at + BLOCK <= length {
        let mut header = [0; BLOCK as usize];
        file.seek(SeekFrom::Start(at))?;
        file.read_exact(&mut header)?;
        if header.iter().all(|byte| *byte == 0) {
            return Ok(());
        }
        let broken = |why| ArchiveError::Broken { offset: at, why };
        if !has_checksum(&header) {
            return Err(broken("no tar header is there: its checksum is wrong"));
        }
        let kind = header[156];
        let own = number(&header[124..136]).ok_or_else(|| broken("the size is no number"))?;
        let size = if is_file(kind) { said.size.unwrap_or(own) } else { own };
        let begin = at + BLOCK;
        if size > length - begin {
            return Err(broken("the archive ends within this member"));
        }
        match kind {
            b'L' => {
                said.path = Some(
                    long_name(file, begin, size)
                        .ok_or_else(|| broken("a long name that is none"))??,
                )
            }
            b'x' => extended(file, begin, size, &mut said)
                .ok_or_else(|| broken("an extended header that is too long"))??,
            kind if is_file(kind) => {
                count += 1;
                if count > members_max {
                    return Err(ArchiveError::TooMany(members_max));
                }
                let name = said.path.take().unwrap_or_else(|| own_name(&header));
                let path = plain_path(&name).ok_or_else(|| ArchiveError::Name {
                    offset: at,
                    name: String::from_utf8_lossy(&name).chars().take(200).collect(),
                })?;
                let modified = number(&header[136..148]).unwrap_or(0).try_into().unwrap_or(0);
                if !each(Member { path, offset: begin, size, modified }) {
                    return Ok(());
                }
                said = Said::default();
            }
            b'g' | b'K' => {}
            _ => said = Said::default(),
        }
        at = begin + size.div_ceil(BLOCK) * BLOCK;
    }
    // Cut between two members it would look whole but for its end mark.
    Err(ArchiveError::Broken {
        offset: at,
        why: "the archive ends without its end mark: it is cut off",
    })
}

const fn is_file(kind: u8) -> bool {
    matches!(kind, b'0' | 0 | b'7')
}

fn long_name(file: &mut File, begin: u64, size: u64) -> Option<Result<Vec<u8>, ArchiveError>> {
    if size > NAME_BYTES_MAX + 1 {
        return None;
    }
    Some(bytes(file, begin, size).map(|mut name| {
        name.truncate(name.iter().position(|byte| *byte == 0).unwrap_or(name.len()));
        name
    }))
}

/// `<length> <key>=<value>\n`, again and again.
fn extended(
    file: &mut File,
    begin: u64,
    size: u64,
    said: &mut Said,
) -> Option<Result<(), ArchiveError>> {
    if size > EXTENDED_BYTES_MAX {
        return None;
    }
    let read = match bytes(file, begin, size) {
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

fn bytes(file: &mut File, begin: u64, size: u64) -> Result<Vec<u8>, ArchiveError> {
    let mut read = vec![0; usize::try_from(size).unwrap_or(0)];
    file.seek(SeekFrom::Start(begin))?;
    file.read_exact(&mut read)?;
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
