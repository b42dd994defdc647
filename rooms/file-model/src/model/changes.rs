//! What changes in a location: what a merge did, and what the log tells.

/// What a merge did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Merged {
    /// Directories that are as they were.
    pub unchanged: i64,
    /// New entries.
    pub added: i64,
    /// Entries that are not what they were.
    pub changed: i64,
    /// Entries that are not there any more; swept later.
    pub missing: i64,
    /// Directories that were moved.
    pub moved: i64,
}

impl std::ops::AddAssign for Merged {
    fn add_assign(&mut self, other: Self) {
        self.unchanged += other.unchanged;
        self.added += other.added;
        self.changed += other.changed;
        self.missing += other.missing;
        self.moved += other.moved;
    }
}

/// What happened. A directory stands for all below it when it is moved or
/// removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChangeKind {
    /// It is new.
    Added = 1,
    /// Its size, time or inode is another one.
    Changed = 2,
    /// It has another place.
    Moved = 3,
    /// It is gone.
    Removed = 4,
    /// Its bytes were read.
    Hashed = 5,
}

/// One change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    pub seq: i64,
    pub kind: i16,
    pub entry: i64,
    /// Relative to the location; the new one of what was moved.
    pub path: String,
    pub old_path: Option<String>,
    /// Microseconds.
    pub at: i64,
}

/// A page of the log.
#[derive(Debug, PartialEq, Eq)]
pub enum Log {
    /// Changes, and the newest number there is.
    Changes(Vec<Change>, i64),
    /// They are not all kept: everything has to be read, and then the changes
    /// after this number.
    Reset(i64),
}

/// Changes that a transaction makes.
#[derive(Debug, Default)]
pub struct Logged {
    pub kinds: Vec<i64>,
    pub entries: Vec<i64>,
    pub paths: Vec<String>,
    pub old_paths: Vec<Option<String>>,
}

impl Logged {
    pub fn add(&mut self, kind: ChangeKind, entry: i64, path: String, old_path: Option<String>) {
        self.kinds.push(kind as i64);
        self.entries.push(entry);
        self.paths.push(path);
        self.old_paths.push(old_path);
    }
}

/// A path of a directory's entry.
pub fn path_in(dir: &str, name: &str) -> String {
    if dir.is_empty() { name.to_owned() } else { format!("{dir}/{name}") }
}
