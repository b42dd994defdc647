//! An archive as a tree of directories, read once from beginning to end.

mod some;
mod tree;

use std::fs::File;
use std::io::{self, Read, Seek};

pub use archive_members::{ArchiveError, Format, Limits};
use archive_members::{Offered, read_archive};
use file_scan::{
    Content, ContentKind, HEAD_BYTES, HashError, Hasher, Listing, Mark, MediaFacts, MediaLimits,
    mark_of, similarity_of, sniff,
};

pub use some::{Spool, read_some};
use tree::Tree;

/// Members of one archive that are told of one by one.
const TOLD_MAX: usize = 100;

/// What is to be learnt of members.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Want {
    /// Names, sizes, times.
    Names,
    /// And their hashes.
    Contents,
    /// And what looks alike.
    Likeness,
}

/// A member whose bytes were read.
#[derive(Debug)]
pub struct Member {
    /// Within the archive.
    pub path: Vec<u8>,
    /// What it holds.
    pub content: Content,
    /// Of an image.
    pub media: Option<MediaFacts>,
}

/// What an archive was found to hold.
#[derive(Debug)]
pub struct ReadArchive {
    /// Its directories, a parent before its children; paths are within it. If it
    /// could not be read to its end they say so.
    pub listings: Vec<Listing>,
    /// Members whose bytes were read, in the order of their paths.
    pub members: Vec<Member>,
    /// Members that are not there or have no content, and why.
    pub told: Vec<(Vec<u8>, String)>,
    /// How many more.
    pub untold: u64,
    /// Why it is not whole.
    pub problem: Option<String>,
    /// As it was when it was read.
    pub mark: Mark,
}

/// Reads an archive that is open. `id` tells it from others: what stands for a
/// member's inode is made of it. Nothing if `stop` said so.
///
/// # Errors
/// [`HashError::Changed`] if it was written to meanwhile; the disk's. What is
/// wrong with the archive is in the answer.
pub fn read(
    file: &mut File,
    format: Format,
    id: i64,
    want: Want,
    limits: &Limits,
    stop: &dyn Fn() -> bool,
) -> Result<Option<ReadArchive>, HashError> {
    let mark = mark_of(file)?;
    let mut tree = Tree::new(id, limits);
    let mut hasher = Hasher::default();
    let mut full = None;
    let end = read_archive(file, format, limits, &mut |offered, bytes| {
        if stop() {
            return false;
        }
        if let Err(error) = tree.add(&offered) {
            full = Some(error);
            return false;
        }
        if want != Want::Names && !offered.is_dir {
            let mut bytes = Stopping { bytes, stop };
            match content(&mut hasher, &offered, &mut bytes, want) {
                Ok((content, media)) => tree.put(Member { path: offered.path, content, media }),
                Err(error) => tree.tell(&offered.path, error.to_string()),
            }
        }
        true
    });
    if stop() {
        return Ok(None);
    }
    if mark_of(file)? != mark {
        return Err(HashError::Changed);
    }
    let end = match full {
        Some(error) => Err(error),
        None => end,
    };
    let problem = match end {
        Ok(passed) => {
            if passed.names > 0 {
                let why = format!(
                    "{} members have names that are refused (absolute, too long, or with '..'), such as {:?}",
                    passed.names, passed.example
                );
                tree.tell(b"", why);
            }
            None
        }
        Err(error) => Some(error.to_string()),
    };
    Ok(Some(tree.into_read(problem, mark)))
}

/// One member's bytes in a file that has no name; nothing if it is not there.
/// Of members of one name the last one counts.
///
/// # Errors
/// The disk's, and whatever is wrong with the archive.
pub fn unpacked(
    file: &mut File,
    format: Format,
    path: &[u8],
    limits: &Limits,
) -> Result<Option<File>, ArchiveError> {
    let mut found = None;
    read_archive(file, format, limits, &mut |offered, bytes| {
        if offered.path == path && !offered.is_dir {
            found = Some(copied(bytes));
        }
        true
    })?;
    Ok(found.transpose()?)
}

fn copied(bytes: &mut dyn Read) -> io::Result<File> {
    let mut file = tempfile::tempfile()?;
    io::copy(bytes, &mut file)?;
    file.rewind()?;
    Ok(file)
}

/// Hashes a member and looks at it; its bytes come once.
fn content(
    hasher: &mut Hasher,
    offered: &Offered,
    bytes: &mut impl Read,
    want: Want,
) -> io::Result<(Content, Option<MediaFacts>)> {
    let mut head = Vec::new();
    bytes.take(HEAD_BYTES as u64).read_to_end(&mut head)?;
    let name = offered.path.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
    let kind = sniff(&head, name);
    let limits = MediaLimits::default();
    let is_decoded = kind == ContentKind::Image
        && want == Want::Likeness
        && offered.size <= limits.file_bytes_max;
    let (hash, size, media) = if is_decoded {
        bytes.take(limits.file_bytes_max).read_to_end(&mut head)?;
        let (hash, size) = hasher.hash_bytes(&mut head.as_slice())?;
        (hash, size, similarity_of(&head, &limits))
    } else {
        let (hash, size) = hasher.hash_bytes(&mut head.as_slice().chain(&mut *bytes))?;
        let media = hasher.facts(kind, size);
        (hash, size, media)
    };
    if size.cast_unsigned() != offered.size {
        return Err(io::Error::other("it does not have the size that the archive says"));
    }
    let mark = Mark { size, modified: 0, changed: 0, ino: 0 };
    Ok((Content { hash, size, kind, mark }, media))
}

/// Ends early when somebody wants it.
struct Stopping<'a> {
    bytes: &'a mut dyn Read,
    stop: &'a dyn Fn() -> bool,
}

impl Read for Stopping<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if (self.stop)() {
            return Err(io::Error::other("stopped"));
        }
        self.bytes.read(buffer)
    }
}
