//! One mark on a file system (fanotify) instead of a watch for each directory: nothing is
//! asked of the kernel for a tree of any size but that its directories be read once. It needs
//! CAP_SYS_ADMIN, and a file system whose handles are known to hold inode numbers.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use std::{fs, io, thread};

use fanotify_fid::consts::{
    FAN_ATTRIB, FAN_CLASS_NOTIF, FAN_CLOEXEC, FAN_CREATE, FAN_DELETE, FAN_MARK_ADD,
    FAN_MARK_FILESYSTEM, FAN_MODIFY, FAN_MOVED_FROM, FAN_MOVED_TO, FAN_NONBLOCK, FAN_ONDIR,
    FAN_Q_OVERFLOW, FAN_REPORT_DFID_NAME, O_CLOEXEC, O_RDONLY,
};
use fanotify_fid::{Fanotify, FanotifyError};
use rustix::io::Errno;

/// Whose handles hold the inode's number: ext4, xfs and tmpfs, as `statfs` tells them.
const FILE_SYSTEMS: [i64; 3] = [0xef53, 0x5846_5342, 0x0102_1994];
/// What an event tells of a directory, with a name or without.
const DIRECTORIES: [u8; 2] = [2, 3];
/// Bytes before what an event tells, before its handle, and before the handle's own.
const HEAD: usize = 24;
const RECORD: usize = 4 + 8;
const HANDLE: usize = 8;
/// Events that are read at once.
const BUFFER: usize = 64 << 10;
/// A watch that is over is noticed so soon.
const LOOK_EVERY: Duration = Duration::from_millis(500);

const COMES: u64 = FAN_CREATE | FAN_MOVED_TO;
const GOES: u64 = FAN_DELETE | FAN_MOVED_FROM;

/// A marked file system, until it is dropped.
#[derive(Debug)]
pub struct FileSystemWatch {
    is_over: Arc<AtomicBool>,
}

impl Drop for FileSystemWatch {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Release);
    }
}

impl FileSystemWatch {
    /// Marks the file system of a directory; `heard` is called for what changes below it.
    ///
    /// # Errors
    /// It is not allowed, or not on this file system, or others are mounted below.
    pub fn begin(root: &Path, heard: impl Fn() + Send + 'static) -> io::Result<Self> {
        let wrong = |error: FanotifyError| io::Error::other(error.to_string());
        let here = File::open(root)?;
        let kind = rustix::fs::fstatfs(&here)?.f_type;
        if !FILE_SYSTEMS.contains(&kind) {
            return Err(io::Error::from(io::ErrorKind::Unsupported));
        }
        let flags = FAN_CLOEXEC | FAN_CLASS_NOTIF | FAN_NONBLOCK | FAN_REPORT_DFID_NAME;
        let group = Fanotify::init(flags, O_RDONLY | O_CLOEXEC).map_err(wrong)?;
        let changes = COMES | GOES | FAN_MODIFY | FAN_ATTRIB | FAN_ONDIR;
        group.mark_fd(&here, FAN_MARK_ADD | FAN_MARK_FILESYSTEM, changes).map_err(wrong)?;
        // After the mark: what is made meanwhile is told.
        let tree = Tree::read(root)?;
        let is_over = Arc::new(AtomicBool::new(false));
        let over = Arc::clone(&is_over);
        let listener = Listener { group, tree, heard };
        thread::Builder::new()
            .name("file-watch".to_owned())
            .spawn(move || listener.listen(&over))?;
        Ok(Self { is_over })
    }
}

/// The directories of a tree by their inodes, each with the one above it and its name.
#[derive(Debug)]
struct Tree {
    root: PathBuf,
    device: u64,
    /// The directory that the root is in, and its name there.
    above: Option<(u64, OsString)>,
    dirs: HashMap<u64, (u64, OsString)>,
}

impl Tree {
    fn read(root: &Path) -> io::Result<Self> {
        let status = fs::metadata(root)?;
        let above = root.parent().zip(root.file_name()).and_then(|(parent, name)| {
            let parent = fs::metadata(parent).ok().filter(|parent| parent.dev() == status.dev())?;
            Some((parent.ino(), name.to_owned()))
        });
        let mut tree =
            Self { root: root.to_owned(), device: status.dev(), above, dirs: HashMap::new() };
        tree.dirs.insert(status.ino(), (status.ino(), OsString::new()));
        tree.add_below(root.to_owned(), status.ino())?;
        Ok(tree)
    }

    /// Symlinks are not followed. What goes meanwhile is not there.
    fn add_below(&mut self, path: PathBuf, inode: u64) -> io::Result<()> {
        let mut left = vec![(path, inode)];
        while let Some((path, above)) = left.pop() {
            let Ok(entries) = fs::read_dir(&path) else { continue };
            for entry in entries.flatten() {
                if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                    continue;
                }
                let Ok(status) = entry.metadata() else { continue };
                if status.dev() != self.device {
                    return Err(io::Error::from(io::ErrorKind::CrossesDevices));
                }
                self.dirs.insert(status.ino(), (above, entry.file_name()));
                left.push((entry.path(), status.ino()));
            }
        }
        Ok(())
    }

    fn path(&self, mut inode: u64) -> Option<PathBuf> {
        let mut names = Vec::new();
        loop {
            let (above, name) = self.dirs.get(&inode)?;
            if *above == inode {
                let mut path = self.root.clone();
                path.extend(names.iter().rev());
                return Some(path);
            }
            // A circle is no tree: what has moved twice meanwhile.
            if names.len() > self.dirs.len() {
                return None;
            }
            names.push(name);
            inode = *above;
        }
    }

    /// Takes up a directory that is new in another one, with all below it.
    fn add(&mut self, above: u64, name: &OsStr) -> io::Result<()> {
        let Some(path) = self.path(above).map(|path| path.join(name)) else { return Ok(()) };
        let Ok(status) = fs::symlink_metadata(&path) else { return Ok(()) };
        if !status.is_dir() {
            return Ok(());
        }
        if status.dev() != self.device {
            return Err(io::Error::from(io::ErrorKind::CrossesDevices));
        }
        self.dirs.insert(status.ino(), (above, name.to_owned()));
        self.add_below(path, status.ino())
    }
}

/// Where something happened.
#[derive(Debug, PartialEq, Eq)]
enum Place<'a> {
    /// A name in a directory.
    In(u64, &'a OsStr),
    /// In no directory: of a file without a name, or of the queue itself.
    Nowhere,
    /// It is told in words that are not understood.
    Unknown,
}

/// What an event says.
#[derive(Debug, PartialEq, Eq)]
struct Event<'a> {
    mask: u64,
    place: Place<'a>,
}

fn number<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at + N)?.try_into().ok()
}

/// The inode of a handle: of ext4 and of xfs with small numbers, of xfs with large ones, of tmpfs.
fn inode_of(kind: u32, handle: &[u8]) -> Option<u64> {
    let small = |at| number(handle, at).map(|bytes| u64::from(u32::from_ne_bytes(bytes)));
    match (kind, handle.len()) {
        (1, 8) => small(0),
        (0x81, 12) => number(handle, 0).map(u64::from_ne_bytes),
        (1, 12) => Some(small(4)? | small(8)? << 32),
        _ => None,
    }
}

fn place_of(records: &[u8]) -> Place<'_> {
    if records.is_empty() {
        return Place::Nowhere;
    }
    dir_of(records).map_or(Place::Unknown, |(inode, name)| Place::In(inode, name))
}

fn dir_of(mut records: &[u8]) -> Option<(u64, &OsStr)> {
    loop {
        let length = usize::from(u16::from_ne_bytes(number(records, 2)?));
        let record = records.get(..length).filter(|record| record.len() >= RECORD)?;
        if DIRECTORIES.contains(&record[0]) {
            let bytes = u32::from_ne_bytes(number(record, RECORD)?) as usize;
            let kind = u32::from_ne_bytes(number(record, RECORD + 4)?);
            let (handle, name) = record.get(RECORD + HANDLE..)?.split_at_checked(bytes)?;
            let name = name.split(|byte| *byte == 0).next().unwrap_or_default();
            return Some((inode_of(kind, handle)?, OsStr::from_bytes(name)));
        }
        records = records.get(length..)?;
    }
}

/// The events of a read. None of them is left out silently: one that can't be told from the
/// next is one without a place, and the last.
fn events_of(mut bytes: &[u8]) -> Vec<Event<'_>> {
    let mut events = Vec::new();
    while !bytes.is_empty() {
        let head = || {
            let length = u32::from_ne_bytes(number(bytes, 0)?) as usize;
            let mask = u64::from_ne_bytes(number(bytes, 8)?);
            Some((mask, bytes.get(HEAD..length)?, bytes.get(length..)?))
        };
        let Some((mask, records, rest)) = head() else {
            events.push(Event { mask: FAN_Q_OVERFLOW, place: Place::Nowhere });
            break;
        };
        events.push(Event { mask, place: place_of(records) });
        bytes = rest;
    }
    events
}

/// Reads events and tells of those below the root.
struct Listener<F> {
    group: Fanotify,
    tree: Tree,
    heard: F,
}

impl<F: Fn()> Listener<F> {
    fn listen(mut self, is_over: &AtomicBool) {
        let mut buffer = vec![0; BUFFER];
        while !is_over.load(Ordering::Acquire) {
            let read = self.read(&mut buffer);
            let told = read.and_then(|read| match buffer.get(..read) {
                Some([]) | None => Ok(()),
                Some(events) => self.take(&events_of(events)),
            });
            if told.is_err() {
                // Nothing more is told: what is, is found by the clock from here on.
                (self.heard)();
                return;
            }
        }
    }

    /// Waits a while for events; 0 bytes if there are none.
    fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.group.wait_readable(Some(LOOK_EVERY)) {
            Ok(true) => {}
            Ok(false) => return Ok(0),
            Err(FanotifyError::Read(code)) if code == Errno::INTR.raw_os_error() => return Ok(0),
            Err(error) => return Err(io::Error::other(error.to_string())),
        }
        match rustix::io::read(&self.group, buffer) {
            Err(Errno::AGAIN | Errno::INTR) => Ok(0),
            read => Ok(read?),
        }
    }

    fn take(&mut self, events: &[Event<'_>]) -> io::Result<()> {
        let (mut is_hint, mut is_lost) = (false, false);
        for event in events {
            let is_dir = event.mask & FAN_ONDIR != 0;
            match event.place {
                Place::In(dir, name) if self.tree.dirs.contains_key(&dir) => {
                    is_hint = true;
                    // Where one has gone that is not here, all below it has too.
                    is_lost |= is_dir && event.mask & FAN_MOVED_FROM != 0;
                    if is_dir && event.mask & COMES != 0 {
                        self.tree.add(dir, name)?;
                    }
                }
                Place::In(dir, name) => {
                    // The root itself comes or goes.
                    let is_root = self.tree.above.as_ref();
                    let is_root =
                        is_root.is_some_and(|(above, root)| *above == dir && root == name);
                    is_hint |= is_root;
                    is_lost |= is_root && is_dir && event.mask & (COMES | GOES) != 0;
                }
                Place::Unknown => (is_hint, is_lost) = (true, is_lost || is_dir),
                Place::Nowhere => {
                    let is_overflow = event.mask & FAN_Q_OVERFLOW != 0;
                    (is_hint, is_lost) = (is_hint || is_overflow, is_lost || is_overflow);
                }
            }
        }
        if is_lost {
            self.tree = Tree::read(&self.tree.root)?;
        }
        if is_hint {
            (self.heard)();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn event(mask: u64, records: &[u8]) -> Vec<u8> {
        let mut bytes = u32::try_from(HEAD + records.len()).unwrap().to_ne_bytes().to_vec();
        bytes.extend([3, 0, 24, 0]);
        bytes.extend(mask.to_ne_bytes());
        bytes.extend((-1_i32).to_ne_bytes());
        bytes.extend(7_i32.to_ne_bytes());
        bytes.extend(records);
        bytes
    }

    fn record(what: u8, kind: u32, handle: &[u8], name: &str) -> Vec<u8> {
        let length = RECORD + HANDLE + handle.len() + name.len() + 1;
        let padded = length.next_multiple_of(4);
        let mut bytes = vec![what, 0];
        bytes.extend(u16::try_from(padded).unwrap().to_ne_bytes());
        bytes.extend([9; 8]);
        bytes.extend(u32::try_from(handle.len()).unwrap().to_ne_bytes());
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(handle);
        bytes.extend(name.as_bytes());
        bytes.resize(padded, 0);
        bytes
    }

    #[test]
    fn events_are_read_with_their_places() {
        let four = [12_u32.to_ne_bytes(), 1_u32.to_ne_bytes()].concat();
        let large = [(1_u64 << 40).to_ne_bytes().as_slice(), &[1; 4]].concat();
        let memory = [[1; 4], 12_u32.to_ne_bytes(), 1_u32.to_ne_bytes()].concat();
        let made = [
            event(FAN_CREATE, &record(2, 1, &four, "name")),
            event(FAN_MODIFY, &[record(1, 1, &four, ""), record(2, 0x81, &large, "n")].concat()),
            event(FAN_DELETE, &record(3, 1, &memory, "")),
            event(FAN_ATTRIB, &record(2, 77, &four, "name")),
            event(FAN_MODIFY, &[]),
            event(FAN_MODIFY, &[2, 0, 0, 0]),
        ];
        let bytes = made.concat();
        let places: Vec<_> = events_of(&bytes).into_iter().map(|event| event.place).collect();
        let named = |inode, name| Place::In(inode, OsStr::new(name));
        let wanted = [named(12, "name"), named(1 << 40, "n"), named(12 | 1 << 32, "")];
        assert_eq!(places[..3], wanted);
        assert_eq!(places[3..], [Place::Unknown, Place::Nowhere, Place::Unknown]);
        // What is cut off is told as lost.
        for cut in [1, 20, 30] {
            let cut = events_of(&made[0][..cut]);
            assert_eq!(cut[0].mask, FAN_Q_OVERFLOW);
        }
    }
}
