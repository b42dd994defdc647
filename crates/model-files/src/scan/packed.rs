//! Packed files: joblib's own, or what somebody packed. Loaders tell them by their
//! first bytes, whatever their name says, and so it is here.

use super::inflate::{Coding, Stream};
use super::kinds::{self, HDF5, HEAD_BYTES, NUMPY, PICKLES};
use super::pickle;
use super::{Notes, Place, Verdict, texts};
use crate::headers;
use crate::source::{Meter, Part, ReadError};

/// Names of packed pickles, as joblib and pandas write them.
const PACKED: &[&str] =
    &[".joblib", ".pkl", ".pickle", ".z", ".gz", ".gzip", ".bz2", ".xz", ".lzma", ".lz4", ".zst"];
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
        [0x28, 0xb5, 0x2f, 0xfd, ..] => Packing::Other("zstd"),
        _ => return None,
    })
}

fn bzip2(head: &[u8]) -> bool {
    let block = head.get(4..).unwrap_or_default();
    matches!(head.get(3), Some(b'1'..=b'9')) && BZIP2_BLOCKS.iter().any(|of| block.starts_with(of))
}

/// A header of LZMA alone, which has no magic bytes: judged as `liblzma` does.
fn lzma(head: &[u8]) -> bool {
    let (Some(dictionary), Some(size)) = (head.get(1..5), head.get(5..13)) else { return false };
    let dictionary = u32::from_le_bytes(dictionary.try_into().unwrap_or_default());
    let size = u64::from_le_bytes(size.try_into().unwrap_or_default());
    // 2^n, or 2^n and half as much, or all.
    let round = match dictionary.checked_next_power_of_two() {
        Some(above) => dictionary == above || u64::from(dictionary) * 4 == u64::from(above) * 3,
        None => dictionary == u32::MAX || dictionary == 3 << 30,
    };
    // The first byte of what is packed is 0.
    round && (size == LZMA_OPEN || size < LZMA_BYTES_MAX) && head.get(13) == Some(&0)
}

/// Looks into a packed file; nothing if it is none.
pub fn look(
    place: Place<'_>,
    head: &[u8],
    part: Part<'_>,
    meter: &Meter,
    notes: &mut Notes,
) -> Result<Option<&'static str>, ReadError> {
    let named = place.named(PACKED) || place.named(PICKLES);
    let (coding, format) = match packing(head, named) {
        None => return Ok(None),
        Some(Packing::Other(format)) => {
            let what = format!("packed by {format}");
            return Ok(Some(kinds::not_followed(place, format, &what, notes)));
        }
        Some(Packing::Gzip) => (Coding::Gzip, "gzip"),
        Some(Packing::Zlib) => (Coding::Zlib, "joblib"),
    };
    let stream = Stream { part, coding, begin: 0, meter };
    if !named && (place.depth > 0 || coding == Coding::Zlib) {
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

/// Looks at what can't be unpacked as a whole. Answers whether it is known what it
/// is: text is.
pub fn look_into(
    place: Place<'_>,
    stream: &Stream<'_>,
    notes: &mut Notes,
) -> Result<bool, ReadError> {
    let head = stream.head(usize::try_from(HEAD_BYTES).unwrap_or_default())?;
    if head.starts_with(NUMPY) {
        texts::numpy(place, stream, notes)?;
    } else if head.starts_with(HDF5) {
        texts::hdf5(place, stream, notes)?;
    } else if kinds::is_keras(place) {
        return Err(ReadError::Exhausted("its configuration is larger than is read"));
    } else if head.starts_with(b"PK\x03\x04") || kinds::is_tar(&head) {
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
