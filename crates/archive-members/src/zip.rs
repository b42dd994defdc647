//! Zip: the directory at the end says what is there, and is not believed.

mod directory;

use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};

use flate2::bufread::DeflateDecoder;

use crate::bounded::Checked;
use crate::reading::{Meter, Visit};
use crate::{ArchiveError, Offered, Passed, plain_path, shown};

use directory::{End, Header};

const LOCAL: u32 = 0x0403_4b50;
const LOCAL_BYTES: u64 = 30;
const STORED: u16 = 0;
const DEFLATED: u16 = 8;

/// A member that may be offered.
struct Known {
    path: Vec<u8>,
    is_dir: bool,
    header: Header,
}

/// Goes through a zip in the order of its bytes.
///
/// # Errors
/// A directory that is none, lies about what there is, or describes a bomb:
/// then nothing is offered.
pub fn read_zip(
    file: &mut File,
    unpacked_max: u64,
    meter: &mut Meter<'_>,
    visit: &mut Visit<'_>,
) -> Result<Passed, ArchiveError> {
    let end = End::find(file)?;
    let (mut passed, mut known, mut unpacked) = (Passed::default(), Vec::new(), 0_u64);
    end.each(file, |name, header| {
        if header.is_link {
            return Ok(());
        }
        unpacked = unpacked.saturating_add(header.size);
        if unpacked > unpacked_max {
            return Err(ArchiveError::Bomb(unpacked_max));
        }
        let is_dir = name.ends_with(b"/");
        match plain_path(&name) {
            Some(path) => {
                meter.take(&path)?;
                known.push(Known { path, is_dir, header });
            }
            None => passed.note(&name),
        }
        Ok(())
    })?;
    known.sort_by_key(|known| known.header.offset);
    refuse_overlaps(&known, end.begin)?;
    for at in 0..known.len() {
        let next = known.get(at + 1).map_or(end.begin, |next| next.header.offset);
        let one = &known[at];
        let offered = Offered {
            path: one.path.clone(),
            is_dir: one.is_dir,
            size: if one.is_dir { 0 } else { one.header.size },
            modified: one.header.modified,
            crc: (!one.is_dir).then_some(one.header.crc),
        };
        let mut bytes = Bytes::Closed { file: &mut *file, header: &one.header, end: next };
        if !visit(offered, &mut bytes) {
            break;
        }
    }
    Ok(passed)
}

/// Each member's bytes are its own: bombs of a high ratio share them.
fn refuse_overlaps(known: &[Known], begin: u64) -> Result<(), ArchiveError> {
    let least = |known: &Known| {
        let header = &known.header;
        header.offset.saturating_add(LOCAL_BYTES).saturating_add(header.packed)
    };
    for pair in known.windows(2) {
        if least(&pair[0]) > pair[1].header.offset {
            return Err(ArchiveError::Overlap { a: shown(&pair[0].path), b: shown(&pair[1].path) });
        }
    }
    match known.last() {
        Some(last) if least(last) > begin => Err(ArchiveError::Broken {
            offset: last.header.offset,
            why: "a member reaches into the directory of the zip",
        }),
        _ => Ok(()),
    }
}

/// A member's bytes: looked for when they are first read.
enum Bytes<'a> {
    Closed {
        file: &'a mut File,
        header: &'a Header,
        end: u64,
    },
    Stored(Checked<io::Take<&'a mut File>>),
    Deflated(Box<Checked<DeflateDecoder<BufReader<io::Take<&'a mut File>>>>>),
    /// It could not be opened.
    Refused,
}

impl Read for Bytes<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if matches!(self, Self::Closed { .. }) {
            let Self::Closed { file, header, end } = std::mem::replace(self, Self::Refused) else {
                return Ok(0);
            };
            *self = open(file, header, end)?;
        }
        match self {
            Self::Stored(reader) => reader.read(buffer),
            Self::Deflated(reader) => reader.read(buffer),
            Self::Closed { .. } | Self::Refused => Err(lied("it can't be opened")),
        }
    }
}

fn lied(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why.to_owned())
}

fn open<'a>(file: &'a mut File, header: &Header, end: u64) -> io::Result<Bytes<'a>> {
    if header.is_encrypted {
        return Err(io::Error::new(io::ErrorKind::Unsupported, "it is encrypted"));
    }
    file.seek(SeekFrom::Start(header.offset))?;
    let mut local = [0; LOCAL_BYTES as usize];
    file.read_exact(&mut local)?;
    if directory::u32_at(&local, 0) != LOCAL {
        return Err(lied("no member is where the zip's directory says"));
    }
    let more = u64::from(directory::u16_at(&local, 26)) + u64::from(directory::u16_at(&local, 28));
    let begin = header.offset + LOCAL_BYTES + more;
    if begin.checked_add(header.packed).is_none_or(|last| last > end) {
        return Err(lied("its bytes reach into the next member"));
    }
    file.seek(SeekFrom::Start(begin))?;
    let packed = file.take(header.packed);
    let crc = Some(header.crc);
    match header.method {
        STORED => Ok(Bytes::Stored(Checked::new(packed, header.size, crc))),
        DEFLATED => {
            let decoder = DeflateDecoder::new(BufReader::new(packed));
            Ok(Bytes::Deflated(Box::new(Checked::new(decoder, header.size, crc))))
        }
        other => {
            let why =
                format!("it is packed by method {other}; stored and deflated members are read");
            Err(io::Error::new(io::ErrorKind::Unsupported, why))
        }
    }
}
