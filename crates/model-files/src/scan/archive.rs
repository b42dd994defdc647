//! Zips and what is in them: torch's files, `.npz`, Keras's, plain ones.

use super::inflate::{Coding, Stream};
use super::zip::{self, Directory, Member, Taken};
use super::{Notes, Place, Verdict, kinds, packed};
use crate::source::{Meter, Part, ReadError};

/// Archives in archives.
const DEPTH_MAX: u32 = 3;
/// A packed member that is looked at as a file of its own is unpacked first.
const UNPACKED_BYTES_MAX: u64 = 32 << 20;
const STORED: u16 = 0;
const DEFLATED: u16 = 8;

/// Looks into a zip; nothing if the part has no directory at its end.
pub fn look(
    place: Place<'_>,
    part: Part<'_>,
    meter: &Meter,
    notes: &mut Notes,
) -> Option<&'static str> {
    let directory = match zip::directory(part, meter) {
        Ok(Some(directory)) => directory,
        Ok(None) => return None,
        Err(error) => {
            notes.unread(place, 0, &error);
            return Some("zip");
        }
    };
    let format = format_of(place, &directory);
    if place.depth >= DEPTH_MAX {
        let message = "it is an archive in an archive in an archive: not looked into";
        notes.say(place, Verdict::Unreadable, "TOO_DEEP", message);
        return Some(format);
    }
    if directory.cut {
        let message = "its archive has more members than are looked at, or than it says";
        notes.say(place, Verdict::Unreadable, "TOO_LARGE", message);
    }
    if let Some(doubt) = directory.doubt {
        notes.say(place, Verdict::Suspicious, "TWO_DIRECTORIES", doubt);
    }
    let mut taken = Taken::new(&directory);
    for member in &directory.members {
        // A folder; one with bytes is a member like others, for its readers.
        if member.name.ends_with('/') && member.bytes == 0 && member.packed_bytes == 0 {
            continue;
        }
        if let Err(error) = meter.take_member() {
            notes.unread(place, 0, &error);
            break;
        }
        let shown: String = member.name.chars().take(200).collect();
        let way = if place.member.is_empty() { shown } else { format!("{}!{shown}", place.member) };
        let inner = Place { path: &member.name, member: &way, depth: place.depth + 1 };
        let found = match directory.place(member, part, meter) {
            Ok(found) => found,
            Err(error) => {
                notes.unread(inner, 0, &error);
                continue;
            }
        };
        // Few bytes that are many members would take as long as all of them.
        if !taken.take(found.whole.clone()) {
            let message = "its bytes are those of another member, too, or of the directory";
            notes.say(inner, Verdict::Unreadable, "OVERLAP", message);
            continue;
        }
        if let Err(error) = look_at(inner, member, &found, meter, notes) {
            notes.unread(inner, 0, &error);
        }
    }
    Some(format)
}

fn format_of(place: Place<'_>, directory: &Directory) -> &'static str {
    let has = |name: &str| directory.members.iter().any(|member| member.name == name);
    let pickle = |member: &Member| member.name == "data.pkl" || member.name.ends_with("/data.pkl");
    if directory.members.iter().any(pickle) {
        "torch"
    } else if has("config.json") && has("metadata.json") {
        "keras"
    } else if place.named(&[".npz"]) {
        "numpy"
    } else {
        "zip"
    }
}

fn look_at(
    place: Place<'_>,
    member: &Member,
    found: &zip::Place<'_>,
    meter: &Meter,
    notes: &mut Notes,
) -> Result<(), ReadError> {
    if found.renamed || member.alias {
        let message = "its name in the directory is not that before its bytes, or not its only one";
        notes.say(place, Verdict::Suspicious, "NAME_MISMATCH", message);
    }
    if member.encrypted {
        let message = "it says that it is encrypted, which some loaders overlook";
        notes.say(place, Verdict::Suspicious, "ENCRYPTED", message);
    }
    match member.method {
        STORED => {
            if member.bytes != member.packed_bytes {
                let message = "it is stored as it is, with two sizes";
                notes.say(place, Verdict::Suspicious, "SIZE_MISMATCH", message);
            }
            kinds::look(place, found.part, meter, notes);
            Ok(())
        }
        DEFLATED => {
            let stream = Stream { part: found.part, coding: Coding::Deflate, begin: 0, meter };
            if member.bytes > UNPACKED_BYTES_MAX {
                return packed::look_into(place, &stream, notes).map(|_| ());
            }
            let bytes = stream.all(UNPACKED_BYTES_MAX)?;
            if bytes.len() as u64 != member.bytes {
                let message = "it unpacks to another size than it says";
                notes.say(place, Verdict::Suspicious, "SIZE_MISMATCH", message);
            }
            kinds::look(place, Part::whole(&bytes), meter, notes);
            Ok(())
        }
        method => {
            // Any name may be loaded: `.npz` asks for none.
            let message = format!("it is packed by method {method}, which is not followed");
            notes.say(place, Verdict::Unreadable, "NOT_SUPPORTED", message);
            Ok(())
        }
    }
}
