//! Where a location's files are: a directory, a bucket, an archive.

mod archive;
mod bucket;

use std::fs::File;

use file_scan::{
    Content, ContentKind, HashError, Hasher, Identity, Listing, Mark, MediaFacts, Root, Stop,
    WalkOptions, WalkSummary, walk,
};

pub use archive::{
    ArchiveError, Format, Limits, Member, ReadArchive, Spool, Want, read, read_some, unpacked,
};
pub use bucket::{Bucket, SCHEME, bucket_path};

/// Objects that are asked for at once: each waits for the network.
const AT_ONCE: usize = 16;

/// What a location is read from. Clones share what is open.
#[derive(Debug, Clone)]
pub enum Source {
    /// A directory of this machine.
    Directory(Root),
    /// A prefix of a bucket.
    Bucket(Bucket),
}

impl Source {
    /// Which one it is, whatever its name: device and inode, or what stands for them.
    #[must_use]
    pub fn identity(&self) -> (i64, i64) {
        match self {
            Self::Directory(root) => {
                let Identity { dev, ino } = root.identity();
                (dev.cast_signed(), ino.cast_signed())
            }
            Self::Bucket(bucket) => bucket.identity(),
        }
    }

    /// How many files are read at once where `wanted` are of a disk.
    #[must_use]
    pub fn threads(&self, wanted: usize) -> usize {
        match self {
            Self::Directory(_) => wanted,
            Self::Bucket(_) => wanted.max(AT_ONCE),
        }
    }

    /// Hands each directory to `sink`, a parent before its children; `told` hears
    /// what can't be an entry. Blocks, and calls both from several threads.
    pub fn walk(
        &self,
        options: &WalkOptions,
        told: &(dyn Fn(&[u8], &str) + Sync),
        sink: impl Fn(Listing) -> bool + Sync,
    ) -> WalkSummary {
        match self {
            Self::Directory(root) => walk(root, options, sink),
            Self::Bucket(bucket) => bucket.walk(options, self.threads(options.threads), told, sink),
        }
    }

    /// What is at a path now, where things have an identity of their own.
    #[must_use]
    pub fn inode_at(&self, path: &[u8]) -> Option<Identity> {
        match self {
            Self::Directory(root) => root.inode_at(path),
            Self::Bucket(_) => None,
        }
    }

    /// The directory, if it is one.
    #[must_use]
    pub const fn directory(&self) -> Option<&Root> {
        match self {
            Self::Directory(root) => Some(root),
            Self::Bucket(_) => None,
        }
    }

    /// Reads its files. One a thread.
    #[must_use]
    pub fn reader(&self) -> Reader<'_> {
        Reader { source: self, hasher: Hasher::default() }
    }
}

/// Reads files of a source; blocks.
#[derive(Debug)]
pub struct Reader<'a> {
    source: &'a Source,
    hasher: Hasher,
}

impl Reader<'_> {
    /// The same, which ends amid a file that it hashes when it is told to.
    #[must_use]
    pub fn until(self, stop: Stop) -> Self {
        Self { hasher: self.hasher.until(stop), ..self }
    }

    /// Hashes the file at a path, which must still be what was listed.
    ///
    /// # Errors
    /// It is gone, replaced, changing or unreadable.
    pub fn hash(&mut self, path: &[u8], ino: u64) -> Result<Content, HashError> {
        match self.source {
            Source::Directory(root) => self.hasher.hash(root, path, ino),
            Source::Bucket(bucket) => bucket.hash(&mut self.hasher, path, ino),
        }
    }

    /// What the headers of the file that was last hashed tell, of images and clips.
    #[must_use]
    pub fn facts(&self, kind: ContentKind, size: i64) -> Option<MediaFacts> {
        self.hasher.facts(kind, size)
    }

    /// Opens a file for reading and seeking: itself, or a copy that has no name.
    ///
    /// # Errors
    /// As [`Self::hash`].
    pub fn open(&mut self, path: &[u8], ino: u64) -> Result<(File, Mark), HashError> {
        match self.source {
            Source::Directory(root) => self.hasher.open(root, path, ino),
            Source::Bucket(bucket) => bucket.copy(path, ino),
        }
    }
}
