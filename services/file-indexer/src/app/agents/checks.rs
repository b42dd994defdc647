//! What an agent may say: paths and names that lead nowhere else, in order, in
//! batches of a bounded size.

use std::sync::atomic::{AtomicUsize, Ordering};

use file_scan::{Entry, Kind, Listing};
use service_error::ServiceError;

use super::Part;

/// Entries of one message.
pub const BATCH_ENTRIES_MAX: usize = 5_000;
/// Entries of one directory, in however many parts.
pub const DIRECTORY_ENTRIES_MAX: usize = 4_000_000;
const NAME_BYTES_MAX: usize = 255;
const PATH_BYTES_MAX: usize = 32 << 10;
const TARGET_BYTES_MAX: usize = 4_096;
const ERROR_CHARS_MAX: usize = 1_000;

/// Of the directories of all agents that are open: a real one of 1.75 million entries takes
/// up to 0.5 GiB.
const OPEN_BYTES_MAX: usize = 512 << 20;
static OPEN_BYTES: AtomicUsize = AtomicUsize::new(0);

/// A directory that is not whole yet, and what it takes of the room of all that are open.
#[derive(Debug)]
pub struct Open {
    pub listing: Listing,
    taken: Taken,
}

/// Given back when it is dropped.
#[derive(Debug)]
pub struct Taken(&'static AtomicUsize, usize);

impl Taken {
    fn more(&mut self, bytes: usize, max: usize, path: &[u8]) -> Result<(), ServiceError> {
        let before = self.0.fetch_add(bytes, Ordering::Relaxed);
        self.1 += bytes;
        if before + bytes <= max {
            return Ok(());
        }
        let path: String = String::from_utf8_lossy(path).chars().take(100).collect();
        Err(ServiceError::exhausted(format!(
            "the directories that agents are listing take more than {} MiB here, that of {path:?} among them: \
             scan again when other agents have ended, or divide the directory or leave it out by a rule",
            max >> 20
        ))
        .reason("AGENT_LISTING_TOO_LARGE"))
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.0.fetch_sub(self.1, Ordering::Relaxed);
    }
}

impl Open {
    /// The first part of a directory.
    ///
    /// # Errors
    /// `ResourceExhausted` where others take the room.
    pub fn new(listing: Listing) -> Result<Self, ServiceError> {
        let mut taken = Taken(&OPEN_BYTES, 0);
        taken.more(size_of_all(&listing.entries), OPEN_BYTES_MAX, &listing.path)?;
        Ok(Self { listing, taken })
    }

    /// Another part of it.
    ///
    /// # Errors
    /// As [`Self::new`]; a part that does not follow.
    pub fn go_on(&mut self, more: Listing) -> Result<(), ServiceError> {
        let begun = &mut self.listing;
        if begun.path != more.path {
            let why = "another directory came before the one that is open was whole";
            return Err(out_of_order(why));
        }
        let in_order = match (begun.entries.last(), more.entries.first()) {
            (Some(last), Some(first)) => last.name < first.name,
            _ => true,
        };
        if !in_order {
            return Err(out_of_order("the parts of a directory must be sorted"));
        }
        if begun.entries.len() + more.entries.len() > DIRECTORY_ENTRIES_MAX {
            let message =
                format!("a directory of more than {DIRECTORY_ENTRIES_MAX} entries is not taken");
            return Err(
                ServiceError::invalid("batch.listings", message).reason("AGENT_BATCH_TOO_LARGE")
            );
        }
        self.taken.more(size_of_all(&more.entries), OPEN_BYTES_MAX, &begun.path)?;
        begun.entries.extend(more.entries);
        begun.error = more.error.or(begun.error.take());
        Ok(())
    }

    /// It is whole; its room is taken until it is stored.
    pub fn close(self) -> (Listing, Taken) {
        (self.listing, self.taken)
    }
}

/// What entries take in memory, about.
fn size_of_all(entries: &[Entry]) -> usize {
    const ALLOCATED: usize = 32;
    let text = |entry: &Entry| entry.name.len() + entry.target.as_ref().map_or(0, Vec::len);
    let each = |entry: &Entry| size_of::<Entry>() + text(entry) + ALLOCATED;
    entries.iter().map(each).sum()
}

/// A directory's bytes are a number: sizes that come to more are cut, and it says so.
pub fn within_bounds(listing: &mut Listing) {
    let mut left = i64::MAX;
    for entry in listing.entries.iter_mut().filter(|entry| entry.kind == Kind::File) {
        if entry.size > left {
            let name = String::from_utf8_lossy(&entry.name);
            let name: String = name.chars().filter(|c| *c != '\0').take(100).collect();
            let why = format!(
                "the sizes of its files come to 8 EiB and more, that of {name:?} with them: cut"
            );
            listing.error.get_or_insert(why);
            entry.size = left;
        }
        left -= entry.size;
    }
}

/// A message that has no place where it came.
pub fn out_of_order(why: &str) -> ServiceError {
    ServiceError::invalid("message", why).reason("AGENT_OUT_OF_ORDER")
}

/// Refuses a batch that is too large or that names what no directory holds.
///
/// # Errors
/// Names the field and what is wrong with it.
pub fn check(parts: &[Part]) -> Result<(), ServiceError> {
    let entries: usize = parts.iter().map(|part| part.listing.entries.len()).sum();
    if entries > BATCH_ENTRIES_MAX || parts.len() > BATCH_ENTRIES_MAX {
        let message = format!(
            "a batch holds at most {BATCH_ENTRIES_MAX} entries and as many directories; {entries} came"
        );
        return Err(
            ServiceError::invalid("batch.listings", message).reason("AGENT_BATCH_TOO_LARGE")
        );
    }
    parts.iter().try_for_each(|part| listing(&part.listing))
}

fn listing(listing: &Listing) -> Result<(), ServiceError> {
    path(&listing.path)?;
    if listing.error.as_ref().is_some_and(|error| error.chars().count() > ERROR_CHARS_MAX) {
        let message = format!("is longer than {ERROR_CHARS_MAX} characters");
        return Err(ServiceError::invalid("batch.listings.error", message));
    }
    let mut before: Option<&[u8]> = None;
    for entry in &listing.entries {
        name("batch.listings.names", &entry.name)?;
        if before.is_some_and(|before| before >= entry.name.as_slice()) {
            return Err(refused(
                "batch.listings.names",
                &entry.name,
                "names must be sorted, each once",
            ));
        }
        before = Some(&entry.name);
        if entry.size < 0 || entry.links < 0 {
            return Err(ServiceError::invalid("batch.listings.sizes", "must not be negative"));
        }
        if entry.target.as_ref().is_some_and(|target| target.len() > TARGET_BYTES_MAX) {
            let message = format!("is longer than {TARGET_BYTES_MAX} bytes");
            return Err(ServiceError::invalid("batch.listings.link_targets", message));
        }
    }
    Ok(())
}

fn path(path: &[u8]) -> Result<(), ServiceError> {
    let field = "batch.listings.path";
    if path.is_empty() {
        return Ok(());
    }
    if path.len() > PATH_BYTES_MAX {
        let message = format!("is longer than {PATH_BYTES_MAX} bytes");
        return Err(ServiceError::invalid(field, message).reason("AGENT_NAME_REFUSED"));
    }
    if path[0] == b'/' {
        return Err(refused(field, path, "must be relative to the root"));
    }
    path.split(|byte| *byte == b'/').try_for_each(|part| name(field, part))
}

fn name(field: &str, name: &[u8]) -> Result<(), ServiceError> {
    if name.is_empty() || name.len() > NAME_BYTES_MAX {
        return Err(refused(field, name, "a name has 1 to 255 bytes"));
    }
    if name == b"." || name == b".." {
        return Err(refused(field, name, "leads elsewhere"));
    }
    if name.contains(&b'/') || name.contains(&0) {
        return Err(refused(field, name, "no name holds '/' or NUL"));
    }
    Ok(())
}

fn refused(field: &str, name: &[u8], why: &str) -> ServiceError {
    let shown: String = String::from_utf8_lossy(name).chars().take(100).collect();
    ServiceError::invalid(field, format!("{shown:?}: {why}")).reason("AGENT_NAME_REFUSED")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use file_scan::Times;

    use super::*;

    fn entries(names: std::ops::Range<usize>, size: i64) -> Vec<Entry> {
        let entry = |n| Entry {
            name: format!("{n:08}").into_bytes(),
            kind: Kind::File,
            size,
            times: Times { modified: 1, changed: 1, born: None },
            dev: 1,
            ino: 1,
            links: 1,
            mode: 0,
            uid: 0,
            gid: 0,
            target: None,
        };
        names.map(entry).collect()
    }

    fn part(entries: Vec<Entry>) -> Listing {
        let (path, error, large) = (b"d".to_vec(), None, None);
        Listing { path, dev: 1, ino: 1, modified: 1, born: None, entries, large, error }
    }

    #[test]
    fn open_directories_share_a_bounded_room() {
        static ROOM: AtomicUsize = AtomicUsize::new(0);
        let mut first = Taken(&ROOM, 0);
        first.more(60, 100, b"d").unwrap();
        let mut second = Taken(&ROOM, 0);
        let error = second.more(60, 100, b"e").unwrap_err();
        assert_eq!(error.code(), service_error::Code::ResourceExhausted);
        assert_eq!(error.reason_text(), "AGENT_LISTING_TOO_LARGE");
        drop(second);
        drop(first);
        assert_eq!(ROOM.load(Ordering::Relaxed), 0);
        Taken(&ROOM, 0).more(100, 100, b"e").unwrap();

        // A real directory of 1.75 million names of 60 bytes finds room.
        let each = size_of_all(&entries(0..1, 1)) + 52;
        assert!(1_750_000 * each <= OPEN_BYTES_MAX, "{each}");
        let mut open = Open::new(part(entries(0..10, 1))).unwrap();
        open.go_on(part(entries(10..20, 1))).unwrap();
        assert_eq!(
            open.go_on(part(entries(5..6, 1))).unwrap_err().reason_text(),
            "AGENT_OUT_OF_ORDER"
        );
        let (whole, taken) = open.close();
        assert_eq!((whole.entries.len(), taken.1), (20, size_of_all(&whole.entries)));
    }

    #[test]
    fn sizes_of_a_directory_come_to_what_a_number_holds() {
        let mut fine = part(entries(0..3, 5));
        within_bounds(&mut fine);
        assert_eq!((fine.totals(), fine.error), ((3, 15), None));
        let mut absurd = part(entries(0..3, i64::MAX - 1));
        within_bounds(&mut absurd);
        assert_eq!(absurd.totals(), (3, i64::MAX));
        assert!(absurd.error.unwrap().contains("\"00000001\""));
    }

    #[test]
    fn names_and_paths_that_lead_elsewhere_are_refused() {
        for bad in
            [&b"/etc"[..], b"a/../b", b"..", b"a//b", b"a/", b"./a", b"a\0b", &[b'x'; 40_000]]
        {
            assert_eq!(path(bad).unwrap_err().reason_text(), "AGENT_NAME_REFUSED", "{bad:?}");
        }
        for bad in [&b""[..], b".", b"..", b"a/b", b"a\0", &[b'x'; 256]] {
            assert_eq!(name("f", bad).unwrap_err().field_name(), Some("f"), "{bad:?}");
        }
        for fine in [&b""[..], b"a", b"a/b", b"\xff\xfe/new\nline", "…/ü".as_bytes()] {
            path(fine).unwrap();
        }
    }
}
