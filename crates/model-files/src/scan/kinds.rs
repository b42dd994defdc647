//! Which kind of file something is, and who looks at it.

use super::inflate::Stream;
use super::pickle::{self, Sure};
use super::{Notes, Place, Verdict, archive, packed, texts};
use crate::headers::{self, HeaderError};
use crate::source::{Meter, Part, ReadError};

pub const HEAD_BYTES: u64 = 512;
pub const NUMPY: &[u8] = b"\x93NUMPY";
pub const HDF5: [u8; 8] = *b"\x89HDF\r\n\x1a\n";

/// Names under which loaders expect a pickle.
pub const PICKLES: &[&str] =
    &[".pkl", ".pickle", ".pck", ".p", ".joblib", ".dill", ".cloudpickle", ".pt", ".pth", ".ckpt"];
/// Names under which a zip may be loaded.
const ARCHIVES: &[&str] =
    &[".zip", ".npz", ".keras", ".pt", ".pth", ".pt2", ".ckpt", ".bin", ".mar"];
const NATIVE: &[&str] = &[".so", ".dll", ".dylib", ".exe", ".pyd", ".pyc", ".jar", ".class"];
const SCRIPTS: &[&str] = &[".py", ".pyw", ".sh", ".bat", ".ps1", ".ipynb"];

/// Looks at a file, or a member of one; answers its format.
pub fn look(place: Place<'_>, part: Part<'_>, meter: &Meter, notes: &mut Notes) -> &'static str {
    match look_inside(place, part, meter, notes) {
        Ok(format) => format,
        Err(error) => {
            notes.unread(place, 0, &error);
            ""
        }
    }
}

fn look_inside(
    place: Place<'_>,
    part: Part<'_>,
    meter: &Meter,
    notes: &mut Notes,
) -> Result<&'static str, ReadError> {
    let head = part.head(meter, HEAD_BYTES)?;
    let stream = Stream::plain(part, meter);
    // What begins as another format can be one, too.
    let tar = is_tar(&head);
    if tar {
        not_followed(place, "tar", "a tar archive", notes);
    }
    // Behind what its maker wanted to stand there.
    if texts::begins_later(place, part, meter)? {
        texts::hdf5(place, &stream, notes)?;
    }
    let zip = head.starts_with(b"PK\x03\x04") || head.starts_with(b"PK\x05\x06");
    let archive = if zip || place.named(ARCHIVES) || place.named(PICKLES) {
        archive::look(place, part, meter, notes)
    } else {
        None
    };
    if zip {
        if archive.is_none() {
            let message = "it begins as a zip archive and has no directory";
            notes.say(place, Verdict::Unreadable, "MALFORMED", message);
        }
        return Ok(archive.unwrap_or("zip"));
    }
    // A file can be two things at once: what stands before an archive may be any
    // of the others.
    let format = look_at(place, &head, &stream, tar, archive.is_some(), notes)?;
    Ok(archive.unwrap_or(format))
}

/// Looks at a file by its first bytes, which are no zip's.
fn look_at(
    place: Place<'_>,
    head: &[u8],
    stream: &Stream<'_>,
    tar: bool,
    archive: bool,
    notes: &mut Notes,
) -> Result<&'static str, ReadError> {
    if tar {
        return Ok("tar");
    }
    if head.starts_with(NUMPY) {
        texts::numpy(place, stream, notes)?;
        return Ok("numpy");
    }
    if head.starts_with(&HDF5) {
        texts::hdf5(place, stream, notes)?;
        return Ok("hdf5");
    }
    if let Some(format) = headers::sniff(place.path, head).filter(|_| !pickle::begins(head)) {
        packed::look_besides(place, head, stream, notes)?;
        return Ok(tensors(place, stream, format, notes));
    }
    if let Some(format) = packed::look(place, head, stream.part, stream.meter, notes)? {
        return Ok(format);
    }
    if is_keras(place) {
        texts::keras(place, stream.part, stream.meter, notes)?;
        return Ok("json");
    }
    if archive {
        pickle::look(place, stream, Sure::No, notes);
        return Ok("");
    }
    Ok(code(place, head, stream, notes))
}

/// Whether it is the configuration in a `.keras` file.
pub fn is_keras(place: Place<'_>) -> bool {
    place.depth > 0 && place.path == "config.json"
}

/// A tar archive: told by its mark, or by the checksum of its first header, which
/// is all that Python asks for.
pub fn is_tar(head: &[u8]) -> bool {
    let Some(header) = head.get(..512) else { return false };
    if head[257..262] == *b"ustar" {
        return true;
    }
    // A name, mode, owner, group, size and time: more would be there by chance.
    let fields = [100..108, 108..116, 116..124, 124..136, 136..148];
    if header[0] == 0 || fields.into_iter().any(|of| tar_number(&header[of]).is_none()) {
        return false;
    }
    let said = tar_number(&header[148..156]);
    // The checksum counts itself as eight spaces; some have counted signed bytes.
    let others = || header[..148].iter().chain(&header[156..]);
    let unsigned: i128 = others().map(|of| i128::from(*of)).sum();
    let signed: i128 = others().map(|of| i128::from(of.cast_signed())).sum();
    said.is_some_and(|said| said == unsigned + 256 || said == signed + 256)
}

/// A number of a tar header, as Python reads it: octal digits, or bytes.
fn tar_number(field: &[u8]) -> Option<i128> {
    if let [first @ (0x80 | 0xff), rest @ ..] = field {
        let all = rest.iter().fold(0_i128, |all, of| all << 8 | i128::from(*of));
        return Some(if *first == 0x80 { all } else { all - (1 << (8 * rest.len())) });
    }
    let digits = field.split(|byte| *byte == 0).next().unwrap_or_default();
    let digits = std::str::from_utf8(digits).ok()?.trim().replace('_', "");
    let digits = digits.trim_start_matches(['0', 'o', 'O', '+']);
    if digits.is_empty() { Some(0) } else { i128::from_str_radix(digits, 8).ok() }
}

/// Files that are code themselves, and pickles.
pub fn code(place: Place<'_>, head: &[u8], stream: &Stream<'_>, notes: &mut Notes) -> &'static str {
    let native = head.starts_with(b"\x7fELF") || (head.starts_with(b"MZ") && place.named(NATIVE));
    if native || place.named(NATIVE) {
        let message = "it is machine code, or compiled: it runs if a loader imports it";
        notes.say(place, Verdict::Suspicious, "NATIVE_CODE", message);
        return "native";
    }
    if place.named(SCRIPTS) {
        // Below `code/` of a TorchScript archive lies what its own machine reads.
        if place.depth == 0 || !place.path.contains("/code/") {
            let message = "it is source code: it runs if a loader imports it";
            notes.say(place, Verdict::Unknown, "SOURCE_CODE", message);
        }
        return "source";
    }
    let named = place.named(PICKLES);
    let begins = pickle::begins(head);
    // By its name alone a raw tensor of an archive is nothing else.
    let sure = if named || (begins && place.depth == 0) { Sure::Yes } else { Sure::No };
    let maybe = place.depth == 0 || begins || named;
    if maybe && pickle::look(place, stream, sure, notes) { "pickle" } else { "" }
}

pub fn not_followed(
    place: Place<'_>,
    format: &'static str,
    what: &str,
    notes: &mut Notes,
) -> &'static str {
    let message = format!("it is {what}, which is not looked into");
    notes.say(place, Verdict::Unreadable, "NOT_SUPPORTED", message);
    format
}

/// Files of tensors hold no code; their headers may be broken, point elsewhere,
/// or carry a template that a loader renders. A loader of pickles may be given one
/// that is both.
fn tensors(
    place: Place<'_>,
    stream: &Stream<'_>,
    format: headers::Format,
    notes: &mut Notes,
) -> &'static str {
    match headers::read_part(place.path, stream.part, stream.meter) {
        Ok(header) if header.reaching => {
            let message = "its chat template reaches for Python's inner attributes";
            notes.say(place, Verdict::Suspicious, "TEMPLATE", message);
        }
        Ok(_) => {}
        Err(error) => broken(place, error, notes),
    }
    if format == headers::Format::Onnx {
        let mut each = |location: &str| {
            if !stays_below(location) {
                let shown: String = location.chars().take(200).collect();
                let message = format!("a tensor's data is said to lie at {shown:?}");
                notes.say(place, Verdict::Dangerous, "EXTERNAL_PATH", message);
            }
        };
        if let Err(error) = headers::locations(stream.part, stream.meter, &mut each) {
            broken(place, error, notes);
        }
    }
    let sure = if place.named(PICKLES) { Sure::Yes } else { Sure::No };
    pickle::look(place, stream, sure, notes);
    format.name()
}

fn broken(place: Place<'_>, error: HeaderError, notes: &mut Notes) {
    match error {
        HeaderError::Io(error) => notes.unread(place, 0, &ReadError::Io(error)),
        error => notes.say(place, Verdict::Unreadable, "MALFORMED", error.to_string()),
    }
}

fn stays_below(location: &str) -> bool {
    !location.starts_with('/')
        && !location.contains('\\')
        && !location.contains(':')
        // onnxruntime's mark of an address in memory.
        && !location.contains("_ORT_MEM_ADDR_")
        && location.split('/').all(|word| word != "..")
}
