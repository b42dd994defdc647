//! What a directory holds.

use crate::large::Large;

/// What an entry is, by the file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// A regular file.
    File = 1,
    /// A directory.
    Dir = 2,
    /// A symbolic link; never followed.
    Symlink = 3,
    /// A named pipe; never opened.
    Fifo = 4,
    /// A socket; never opened.
    Socket = 5,
    /// A character device; never opened.
    CharDevice = 6,
    /// A block device; never opened.
    BlockDevice = 7,
    /// Something else.
    Other = 8,
}

impl Kind {
    /// Every kind, by its number.
    pub const ALL: [Self; 8] = [
        Self::File,
        Self::Dir,
        Self::Symlink,
        Self::Fifo,
        Self::Socket,
        Self::CharDevice,
        Self::BlockDevice,
        Self::Other,
    ];

    /// From the stored number.
    #[must_use]
    pub fn of(number: i64) -> Self {
        Self::ALL.into_iter().find(|kind| *kind as i64 == number).unwrap_or(Self::Other)
    }
}

/// The times of an entry, in nanoseconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Times {
    /// Of the content.
    pub modified: i64,
    /// Of the inode: nobody can set it back.
    pub changed: i64,
    /// Of creation, where the file system knows it.
    pub born: Option<i64>,
}

/// What tells a changed file from an unchanged one: size and mtime alone miss
/// an edit of the same size whose time was put back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark {
    /// Bytes.
    pub size: i64,
    /// Nanoseconds.
    pub modified: i64,
    /// Nanoseconds.
    pub changed: i64,
    /// The inode's number.
    pub ino: u64,
}

/// One entry of a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// As the file system has it; no `/`, no NUL.
    pub name: Vec<u8>,
    /// What it is.
    pub kind: Kind,
    /// Bytes; 0 for a directory.
    pub size: i64,
    /// When.
    pub times: Times,
    /// The device it is on.
    pub dev: u64,
    /// Its inode.
    pub ino: u64,
    /// Names of the inode.
    pub links: i64,
    /// Permission bits.
    pub mode: i64,
    /// Owner.
    pub uid: i64,
    /// Group.
    pub gid: i64,
    /// Where a symlink points to.
    pub target: Option<Vec<u8>>,
}

impl Entry {
    /// What a rescan compares.
    #[must_use]
    pub fn mark(&self) -> Mark {
        Mark {
            size: self.size,
            modified: self.times.modified,
            changed: self.times.changed,
            ino: self.ino,
        }
    }
}

/// A directory, read to its end or not.
#[derive(Debug, Clone)]
pub struct Listing {
    /// Relative to the root, without `/` at either end; empty for the root.
    pub path: Vec<u8>,
    /// The device of the directory.
    pub dev: u64,
    /// Its inode.
    pub ino: u64,
    /// Its own time, in nanoseconds.
    pub modified: i64,
    /// When it was made: tells it from another one that got its inode.
    pub born: Option<i64>,
    /// Sorted by name.
    pub entries: Vec<Entry>,
    /// Instead of the entries, if they are more than the walk hands over at once.
    pub large: Option<Large>,
    /// Why it is not whole: what is missing in it may still be there.
    pub error: Option<String>,
}

impl Listing {
    /// Read to its end.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.error.is_none()
    }

    /// How many entries it has.
    #[must_use]
    pub fn entry_count(&self) -> usize {
        self.large.as_ref().map_or(self.entries.len(), |large| large.seen().entries)
    }

    /// What the directory holds, in 16 bytes: equal if and only if nothing that
    /// is stored of it changed. Of a directory within it only name, inode, mode and
    /// owners count: it has a listing of its own. Of a large one that is not whole it
    /// is that of nothing.
    #[must_use]
    pub fn fingerprint(&self) -> [u8; 16] {
        if let Some(large) = &self.large {
            return large.seen().print.unwrap_or_default();
        }
        let mut print = Print::default();
        self.entries.iter().for_each(|entry| print.add(entry));
        print.print()
    }

    /// Regular files directly in it, and their bytes.
    #[must_use]
    pub fn totals(&self) -> (i64, i64) {
        if let Some(large) = &self.large {
            return large.seen().totals;
        }
        let files = self.entries.iter().filter(|entry| entry.kind == Kind::File);
        files.fold((0, 0), |(count, bytes), file| (count + 1, file.size.saturating_add(bytes)))
    }
}

/// The fingerprint of entries that come one by one, and what they come to.
#[derive(Debug, Default)]
pub(crate) struct Print {
    hash: blake3::Hasher,
    rows: Vec<u8>,
    totals: (i64, i64),
}

/// Rows that are hashed at once: much at a time is hashed faster.
const ROWS_BYTES: usize = 32 << 10;

impl Print {
    pub fn add(&mut self, entry: &Entry) {
        let rows = &mut self.rows;
        rows.extend_from_slice(&entry.name);
        rows.push(0);
        rows.push(entry.kind as u8);
        rows.extend_from_slice(&entry.ino.to_le_bytes());
        if entry.kind == Kind::Dir {
            for number in [entry.mode, entry.uid, entry.gid] {
                rows.extend_from_slice(&number.to_le_bytes());
            }
        } else {
            for number in [entry.size, entry.times.modified, entry.times.changed] {
                rows.extend_from_slice(&number.to_le_bytes());
            }
            rows.extend_from_slice(entry.target.as_deref().unwrap_or_default());
            rows.push(0);
        }
        if rows.len() >= ROWS_BYTES {
            self.hash.update(rows);
            rows.clear();
        }
        if entry.kind == Kind::File {
            // Sparse files may say sizes that come to more than 64 bits.
            self.totals = (self.totals.0 + 1, self.totals.1.saturating_add(entry.size));
        }
    }

    pub fn print(&mut self) -> [u8; 16] {
        self.hash.update(&self.rows);
        self.rows.clear();
        let mut short = [0; 16];
        self.hash.finalize_xof().fill(&mut short);
        short
    }

    pub const fn totals(&self) -> (i64, i64) {
        self.totals
    }
}
