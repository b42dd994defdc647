//! Packed files: joblib's own, or what somebody packed. joblib tells them by their
//! first bytes, whatever their name says, and so it is here; pandas by their name,
//! which must not lie.

use super::inflate::{Coding, Stream};
use super::kinds::{self, HDF5, HEAD_BYTES, NUMPY, PICKLES};
use super::pickle;
use super::{Notes, Place, Verdict, texts};
use crate::headers;
use crate::source::{Meter, Part, ReadError};

/// Names of pickles that joblib and pandas may have packed.
const PACKED: &[&str] = &[".joblib", ".pkl", ".pickle"];
/// Names that promise a packed file: pandas unpacks by them alone.
const PACKINGS: &[&str] =
    &[".z", ".gz", ".gzip", ".tgz", ".bz2", ".xz", ".lzma", ".lz4", ".zst", ".zstd"];
/// joblib before 0.10: `ZF`, a size in hex as wide as this, zlib.
const OLD_SIZE_BYTES: usize = 19;
/// What follows `BZh` and a digit: the first block, or the end of none.
const BZIP2_BLOCKS: [&[u8]; 2] = [b"1AY&SY", b"\x17\x72\x45\x38\x50\x90"];
/// What LZMA alone says of its size where it does not know it.
const LZMA_OPEN: u64 = u64::MAX;
/// A file of that kind that is larger is none, for `liblzma`.
const LZMA_BYTES_MAX: u64 = 1 << 38;

/// How a file is packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Packing {
    Gzip,
    Zlib,
    /// zlib behind a size of so many bytes.
    OldJoblib(u64),
    /// One that is not unpacked here.
    Other(&'static str),
}

/// Tells how a file is packed by its first bytes. A name that promises it makes up
/// for bytes that are missing or damaged.
fn packing(head: &[u8], named: bool) -> Option<Packing> {
    Some(match head {
        [0x1f, 0x8b, ..] if named => Packing::Gzip,
        [0x1f, 0x8b, 8, ..] => Packing::Gzip,
        // Its check: the two bytes as a number are a multiple of 31.
        [0x78, 0x01 | 0x5e | 0x9c | 0xda, ..] => Packing::Zlib,
        [b'B', b'Z', b'h', ..] if named || bzip2(head) => Packing::Other("bzip2"),
        [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Packing::Other("xz"),
        [0x5d, 0, ..] if named || lzma(head) => Packing::Other("lzma"),
        [0x04, 0x22, 0x4d, 0x18, ..] => Packing::Other("lz4"),
        // A frame, or one that is to be left out.
        [0x28, 0xb5, 0x2f, 0xfd, ..] => Packing::Other("zstd"),
        [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Packing::Other("zstd"),
        [b'Z', b'F', rest @ ..] => old_joblib(rest)?,
        _ => return None,
    })
}

fn bzip2(head: &[u8]) -> bool {
    let block = head.get(4..).unwrap_or_default();
    matches!(head.get(3), Some(b'1'..=b'9')) && BZIP2_BLOCKS.iter().any(|of| block.starts_with(of))
}

/// Python reads the size by `int(…, 16)`, and leaves out a space behind it.
fn old_joblib(rest: &[u8]) -> Option<Packing> {
    let size = rest.get(..OLD_SIZE_BYTES)?;
    let written =
        |of: &u8| of.is_ascii_hexdigit() || of.is_ascii_whitespace() || b"xX_+-L".contains(of);
    let space = rest.get(OLD_SIZE_BYTES) == Some(&b' ');
    let begin = 2 + OLD_SIZE_BYTES as u64 + u64::from(space);
    size.iter().all(written).then_some(Packing::OldJoblib(begin))
}

/// A header of LZMA alone, which has no magic bytes: judged as `liblzma` does. It
/// is lenient for joblib, which has no other mark: any size of a dictionary will
/// do if what is packed begins as a pickle can.
fn lzma(head: &[u8]) -> bool {
    let (Some(dictionary), Some(size)) = (head.get(1..5), head.get(5..13)) else { return false };
    let dictionary = u32::from_le_bytes(dictionary.try_into().unwrap_or_default());
    let size = u64::from_le_bytes(size.try_into().unwrap_or_default());
    // 2^n, or 2^n and half as much, or all.
    let round = match dictionary.checked_next_power_of_two() {
        Some(above) => dictionary == above || u64::from(dictionary) * 4 == u64::from(above) * 3,
        None => dictionary == u32::MAX || dictionary == 3 << 30,
    };
    let sound = round && (size == LZMA_OPEN || size < LZMA_BYTES_MAX);
    // The first byte of what is packed is 0.
    let packed = head.get(13..).and_then(|packed| packed.split_first());
    packed.is_some_and(|(zero, code)| {
        *zero == 0 && (sound || !small_numbers(code) && lzma_first(code).is_some_and(may_begin))
    })
}

/// Whether bytes are rather numbers of 16 bits, each less than 256: nothing packed
/// goes on like that for long.
fn small_numbers(bytes: &[u8]) -> bool {
    bytes.len() >= 64 && bytes.iter().skip(1).step_by(2).all(|byte| *byte == 0)
}

/// Opcodes with which a pickle can begin.
fn may_begin(opcode: u8) -> bool {
    matches!(opcode, 0x80 | 0x82..=0x84 | 0x88..=0x8f | 0x95 | 0x96)
        || b"NIJKMLFGSVUTXCB(c}])P".contains(&opcode)
}

/// The first byte that LZMA unpacks to: nothing has been learned by then, and each
/// bit is as likely as the other.
fn lzma_first(code: &[u8]) -> Option<u8> {
    let (begin, mut rest) = code.split_first_chunk::<4>()?;
    let (mut code, mut range) = (u32::from_be_bytes(*begin), u32::MAX);
    let mut byte = 0_u32;
    // The first bit says that a byte follows, and no copy of what was before.
    for bit in 0..9 {
        if range < 1 << 24 {
            let (next, behind) = rest.split_first()?;
            (range, code, rest) = (range << 8, code << 8 | u32::from(*next), behind);
        }
        let half = (range >> 11) << 10;
        let one = code >= half;
        (range, code) = if one { (range - half, code - half) } else { (half, code) };
        if bit == 0 && one {
            return None;
        }
        byte = byte << 1 | u32::from(one);
    }
    u8::try_from(byte).ok()
}

/// Looks into a packed file; nothing if it is none.
pub fn look(
    place: Place<'_>,
    head: &[u8],
    part: Part<'_>,
    meter: &Meter,
    notes: &mut Notes,
) -> Result<Option<&'static str>, ReadError> {
    let promised = place.named(PACKINGS);
    let named = promised || place.named(PACKED) || place.named(PICKLES);
    let mut begin = 0;
    let (coding, format) = match packing(head, named) {
        None => {
            if promised {
                let message = "its name promises a packed file, which its bytes are not";
                notes.say(place, Verdict::Unreadable, "NOT_KNOWN", message);
            }
            return Ok(None);
        }
        Some(Packing::Other(format)) => {
            let what = format!("packed by {format}");
            return Ok(Some(kinds::not_followed(place, format, &what, notes)));
        }
        Some(Packing::Gzip) => (Coding::Gzip, "gzip"),
        Some(Packing::Zlib) => (Coding::Zlib, "joblib"),
        Some(Packing::OldJoblib(size_bytes)) => {
            begin = size_bytes;
            (Coding::Zlib, "joblib")
        }
    };
    let part = part.range(begin, u64::MAX);
    let stream = Stream { part, coding, begin: 0, meter };
    if !named && begin == 0 && (place.depth > 0 || coding == Coding::Zlib) {
        // So few bytes are there by chance, too: in a raw tensor of an archive, or
        // where they are two.
        match stream.head(1) {
            Ok(first) if !first.is_empty() => {}
            Ok(_) | Err(ReadError::Io(_) | ReadError::Truncated) => return Ok(None),
            Err(error) => return Err(error),
        }
    }
    // What it unpacks to is a file of its own, not a member.
    let place = Place { depth: 0, ..place };
    if !look_into(place, &stream, notes)? {
        let message = "what it unpacks to is nothing that is known here, and no text";
        notes.say(place, Verdict::Unknown, "NOT_KNOWN", message);
    }
    Ok(Some(format))
}

/// Looks into a file of another kind that may be packed, too. Few bytes are there
/// by chance: what can be unpacked counts if it is dangerous.
pub fn look_besides(
    place: Place<'_>,
    head: &[u8],
    stream: &Stream<'_>,
    notes: &mut Notes,
) -> Result<(), ReadError> {
    let mut found = Notes::default();
    let least = match packing(head, false) {
        None => return Ok(()),
        Some(Packing::Other(_)) => Verdict::Unreadable,
        Some(_) => Verdict::Dangerous,
    };
    // What it unpacks to has no name of its own.
    let unnamed = Place { path: "", ..place };
    match look(unnamed, head, stream.part, stream.meter, &mut found) {
        Err(ReadError::Exhausted(what)) => Err(ReadError::Exhausted(what)),
        _ => {
            found.findings.retain(|finding| finding.severity >= least);
            notes.adopt(found);
            Ok(())
        }
    }
}

/// Looks at what can't be unpacked as a whole. Answers whether it is known what it
/// is: text is.
pub fn look_into(
    place: Place<'_>,
    stream: &Stream<'_>,
    notes: &mut Notes,
) -> Result<bool, ReadError> {
    let head = stream.head(usize::try_from(HEAD_BYTES).unwrap_or_default())?;
    if kinds::is_tar(&head) {
        kinds::not_followed(place, "", "an archive inside a packed file", notes);
    } else if head.starts_with(NUMPY) {
        texts::numpy(place, stream, notes)?;
    } else if head.starts_with(&HDF5) {
        texts::hdf5(place, stream, notes)?;
    } else if kinds::is_keras(place) {
        return Err(ReadError::Exhausted("its configuration is larger than is read"));
    } else if head.starts_with(b"PK\x03\x04") {
        kinds::not_followed(place, "", "an archive inside a packed file", notes);
    } else if packing(&head, false).is_some() {
        kinds::not_followed(place, "", "a packed file inside a packed one", notes);
    } else if let Some(format) =
        headers::sniff(place.path, &head).filter(|_| !pickle::begins(&head))
    {
        let what = format!("a {} file inside a packed one", format.name());
        kinds::not_followed(place, "", &what, notes);
    } else {
        return Ok(!kinds::code(place, &head, stream, notes).is_empty() || is_text(&head));
    }
    Ok(true)
}

/// Whether a file's first bytes are those of a text.
fn is_text(head: &[u8]) -> bool {
    let text = match std::str::from_utf8(head) {
        Ok(text) => text,
        // A letter is cut in two by the end of the head.
        Err(error) if error.error_len().is_none() => {
            std::str::from_utf8(&head[..error.valid_up_to()]).unwrap_or_default()
        }
        Err(_) => return false,
    };
    !text.chars().any(|of| of.is_control() && !matches!(of, '\t' | '\n' | '\r' | '\x0c'))
}
