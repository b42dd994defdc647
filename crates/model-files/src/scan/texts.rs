//! Small formats with a place for code: `.npy`, HDF5 and Keras's configuration.

use memchr::{memchr_iter, memmem};
use serde_json::Value as Json;

use super::globals::grade;
use super::inflate::Stream;
use super::kinds::HDF5;
use super::pickle::{self, Sure};
use super::{Finding, Notes, Place, Verdict};
use crate::source::{Meter, Numbers, Part, ReadError};

const NUMPY_HEADER_BYTES_MAX: u64 = 1 << 20;
const CONFIG_BYTES_MAX: u64 = 16 << 20;
const USER_BYTES_MAX: u64 = 64 << 10;
const CHUNK_BYTES: usize = 1 << 20;
/// More white space than this between a key and its value hides something.
const SPACE_BYTES_MAX: usize = 1_024;
/// No class has a longer name.
const CLASS_CHARS_MAX: usize = 100;
/// From `"class_name"` to the end of its value there is no more than what the two
/// above allow, were all its letters escapes.
const OVERLAP_BYTES: usize = 4_096;

/// A `.npy` file: an array of objects is a pickle behind the header.
pub fn numpy(place: Place<'_>, stream: &Stream<'_>, notes: &mut Notes) -> Result<(), ReadError> {
    let mut input = stream.open()?;
    let major = input.take(8)?[6];
    let length = if major == 1 { u64::from(input.u16()?) } else { u64::from(input.u32()?) };
    if length > NUMPY_HEADER_BYTES_MAX {
        return Err(ReadError::Exhausted("its header is larger than is read"));
    }
    let header = input.take(usize::try_from(length).unwrap_or_default())?;
    let objects = ["|O", "'O", "\"O", "<O", ">O", "=O"];
    let said = objects.iter().any(|word| memmem::find(header, word.as_bytes()).is_some());
    // A type has more spellings than are told here: bytes that do harm as a pickle
    // are told of any array.
    let sure = if said { Sure::Yes } else { Sure::No };
    let begin = stream.begin + input.at();
    drop(input);
    pickle::look(place, &Stream { begin, ..*stream }, sure, notes);
    Ok(())
}

/// Whether an HDF5 file begins behind a block of its user's: of 512 bytes, or any
/// power of two more. Under a name that is none of HDF5's only the first are asked.
pub fn begins_later(place: Place<'_>, part: Part<'_>, meter: &Meter) -> Result<bool, ReadError> {
    let named = place.named(&[".h5", ".hdf5", ".hdf", ".keras"]);
    let most = if named { part.bytes } else { USER_BYTES_MAX.min(part.bytes) };
    let mut at = 512;
    while at + (HDF5.len() as u64) <= most {
        if part.range(at, HDF5.len() as u64).head(meter, HDF5.len() as u64)? == HDF5 {
            return Ok(true);
        }
        at *= 2;
    }
    Ok(false)
}

/// An HDF5 file of Keras: searched for Lambda layers, which hold Python's byte
/// code.
pub fn hdf5(place: Place<'_>, stream: &Stream<'_>, notes: &mut Notes) -> Result<(), ReadError> {
    let mut input = stream.open()?;
    // The end of what was searched stays before what comes next.
    let (mut begin, mut bytes) = (0, Vec::new());
    loop {
        let more = input.take_most(CHUNK_BYTES)?;
        if more.is_empty() {
            return Ok(());
        }
        bytes.extend(more);
        if let Some(at) = lambda(&bytes) {
            notes.add(Finding {
                severity: Verdict::Suspicious,
                reason: "LAMBDA_LAYER",
                member: place.member.to_owned(),
                global: String::new(),
                offset: begin + at,
                message: "a Lambda layer holds Python's byte code".to_owned(),
            });
            return Ok(());
        }
        let searched = bytes.len().saturating_sub(OVERLAP_BYTES);
        bytes.drain(..searched);
        begin += searched as u64;
    }
}

fn lambda(bytes: &[u8]) -> Option<u64> {
    memchr_iter(b'"', bytes).find(|at| names_lambda(&bytes[at + 1..])).map(|at| at as u64)
}

/// Whether a JSON text goes on with the key of a class, and such a class.
fn names_lambda(text: &[u8]) -> bool {
    let Some((key, rest)) = spelled(text) else { return false };
    if key != "class_name" {
        return false;
    }
    let (mut rest, mut spaces) = (rest, 0);
    for mark in [&b":"[..], b"\""] {
        let behind = rest.trim_ascii_start();
        spaces = spaces.max(rest.len() - behind.len());
        let Some(behind) = behind.strip_prefix(mark) else { return spaces > SPACE_BYTES_MAX };
        rest = behind;
    }
    spaces > SPACE_BYTES_MAX || spelled(rest).is_some_and(|(class, _)| is_lambda(&class))
}

/// A JSON text up to its quotation mark, its escapes resolved, and what is behind;
/// nothing if it is longer than a class's name, or ends in the middle.
fn spelled(text: &[u8]) -> Option<(String, &[u8])> {
    let (mut word, mut rest) = (String::new(), text);
    for _ in 0..=CLASS_CHARS_MAX {
        let (letter, behind) = match rest {
            [b'"', behind @ ..] => return Some((word, behind)),
            [b'\\', b'u', a, b, c, d, behind @ ..] => {
                let digits = [*a, *b, *c, *d];
                let digits = std::str::from_utf8(&digits).ok()?;
                let letter = u32::from_str_radix(digits, 16).ok()?;
                (char::from_u32(letter).unwrap_or(char::REPLACEMENT_CHARACTER), behind)
            }
            [b'\\', letter, behind @ ..] | [letter @ 0x20..=0xff, behind @ ..] => {
                (char::from(*letter), behind)
            }
            _ => return None,
        };
        word.push(letter);
        rest = behind;
    }
    None
}

/// Classes that hold Python's byte code. Keras puts module and class together, so
/// a part of the module may stand before the class.
fn is_lambda(class: &str) -> bool {
    class == "__lambda__" || class.rsplit(['.', '>']).next() == Some("Lambda")
}

/// `config.json` of a `.keras` file: its layers are found by module and class.
pub fn keras(
    place: Place<'_>,
    part: Part<'_>,
    meter: &Meter,
    notes: &mut Notes,
) -> Result<(), ReadError> {
    if part.bytes > CONFIG_BYTES_MAX {
        return Err(ReadError::Exhausted("its configuration is larger than is read"));
    }
    let bytes = part.head(meter, CONFIG_BYTES_MAX)?;
    // Depth is bounded by the reader.
    let config: Json = match serde_json::from_slice(&bytes) {
        Ok(config) => config,
        Err(error) => {
            let message = format!("it is no JSON that can be followed: {error}");
            notes.say(place, Verdict::Unreadable, "MALFORMED", message);
            return Ok(());
        }
    };
    layers(place, &config, notes);
    Ok(())
}

fn layers(place: Place<'_>, config: &Json, notes: &mut Notes) {
    match config {
        Json::Array(all) => all.iter().for_each(|of| layers(place, of, notes)),
        Json::Object(fields) => {
            let text = |key: &str| fields.get(key).and_then(Json::as_str).unwrap_or_default();
            let (module, class) = (text("module"), text("class_name"));
            if is_lambda(class) {
                let message = "a Lambda layer holds Python's byte code";
                notes.say(place, Verdict::Suspicious, "LAMBDA_LAYER", message);
            }
            let root = module.split('.').next().unwrap_or_default();
            let own = ["", "keras", "keras_hub", "keras_nlp", "keras_cv", "tf_keras", "tensorflow"];
            if !own.contains(&root) {
                let name = fields.get("config").and_then(Json::as_str).unwrap_or(class);
                foreign(place, module, name, notes);
            }
            fields.values().for_each(|of| layers(place, of, notes));
        }
        _ => {}
    }
}

fn foreign(place: Place<'_>, module: &str, name: &str, notes: &mut Notes) {
    let grade = grade(module, name);
    if grade.verdict == Verdict::Clean {
        return;
    }
    let global: String = format!("{module}.{name}").chars().take(200).collect();
    notes.add(Finding {
        severity: grade.verdict,
        reason: grade.reason,
        member: place.member.to_owned(),
        message: format!("{global} {}", grade.why),
        global,
        offset: 0,
    });
}
