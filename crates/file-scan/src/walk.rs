//! The walk: threads take directories from one stack, list them whole and hand
//! them over, a parent before its children. What a directory is, a [`Lister`]
//! says: one of this machine, or what else is a tree.

use std::ffi::OsStr;
use std::mem::MaybeUninit;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::{Condvar, Mutex, PoisonError};

use rustix::fs::{AtFlags, FileType, RawDir, Statx, StatxFlags};
use rustix::io::Errno;

use crate::entry::{Entry, Kind, Listing, Times};
use crate::large::{Large, Names};
use crate::root::{Dir, Identity, Root, born, identity, nanos};
use crate::rules::Rules;

const READ_BUFFER_BYTES: usize = 64 << 10;
const THREADS_MAX: usize = 64;

/// How to walk.
#[derive(Debug, Clone)]
pub struct WalkOptions {
    /// Directories that are read at once.
    pub threads: usize,
    /// What is left out.
    pub rules: Rules,
    /// Whether other file systems mounted below the root are walked.
    pub cross_devices: bool,
    /// Only this subtree, relative to the root; empty: all of it.
    pub below: Vec<u8>,
    /// Directories that are listed but not entered.
    pub closed: Vec<Identity>,
    /// Of directories with more entries the names alone are held, see
    /// [`Listing::large`]; nothing: each is handed over whole.
    pub page: Option<usize>,
}

impl Default for WalkOptions {
    fn default() -> Self {
        let threads = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
        Self {
            threads,
            rules: Rules::default(),
            cross_devices: true,
            below: Vec::new(),
            closed: Vec::new(),
            page: None,
        }
    }
}

/// What a walk came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct WalkSummary {
    /// Directories that were handed over.
    pub dirs: u64,
    /// Entries in them.
    pub entries: u64,
    /// Directories that are not whole.
    pub errors: u64,
    /// The sink ended it.
    pub stopped: bool,
}

/// A directory that is to be read.
#[derive(Debug, Clone)]
pub struct Task {
    /// Relative to the root, without `/` at either end.
    pub path: Vec<u8>,
    /// What the parent's listing said it is; nothing for the start.
    pub expected: Option<Identity>,
}

/// Reads directories.
pub trait Lister: Sync {
    /// What a thread uses again and again.
    type Scratch;

    /// Of a new thread.
    fn scratch(&self) -> Self::Scratch;

    /// A directory, whole or saying why it is not.
    fn read(&self, task: &Task, scratch: &mut Self::Scratch) -> Listing;

    /// The directories in it that are walked too.
    fn children(&self, listing: &Listing) -> Vec<Task>;
}

struct State {
    stack: Vec<Task>,
    /// Directories that are being read: their children may still come.
    busy: usize,
    summary: WalkSummary,
}

struct Shared<'a, L, F> {
    lister: &'a L,
    sink: F,
    state: Mutex<State>,
    changed: Condvar,
}

/// Walks the tree and hands each directory to `sink`, which says whether to go
/// on. It is called from several threads and may block.
pub fn walk<F>(root: &Root, options: &WalkOptions, sink: F) -> WalkSummary
where
    F: Fn(Listing) -> bool + Sync,
{
    walk_by(&OnDisk { root, options }, &options.below, options.threads, sink)
}

/// Walks any tree in the same way.
pub fn walk_by<L, F>(lister: &L, below: &[u8], threads: usize, sink: F) -> WalkSummary
where
    L: Lister,
    F: Fn(Listing) -> bool + Sync,
{
    let start = Task { path: below.to_vec(), expected: None };
    let state = State { stack: vec![start], busy: 0, summary: WalkSummary::default() };
    let shared = Shared { lister, sink, state: Mutex::new(state), changed: Condvar::new() };
    std::thread::scope(|scope| {
        for _ in 1..threads.clamp(1, THREADS_MAX) {
            scope.spawn(|| shared.work());
        }
        shared.work();
    });
    shared.state.into_inner().unwrap_or_else(PoisonError::into_inner).summary
}

impl<L: Lister, F: Fn(Listing) -> bool + Sync> Shared<'_, L, F> {
    fn work(&self) {
        let mut scratch = self.lister.scratch();
        while let Some(task) = self.next() {
            let listing = self.lister.read(&task, &mut scratch);
            let children = self.lister.children(&listing);
            let (entries, failed) = (listing.entry_count() as u64, !listing.is_complete());
            // Handed over before its children can be taken.
            let goes_on = (self.sink)(listing);
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            state.busy -= 1;
            state.summary.dirs += 1;
            state.summary.entries += entries;
            state.summary.errors += u64::from(failed);
            if goes_on && !state.summary.stopped {
                state.stack.extend(children);
            } else {
                state.summary.stopped = true;
                state.stack.clear();
            }
            drop(state);
            self.changed.notify_all();
        }
    }

    fn next(&self) -> Option<Task> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some(task) = state.stack.pop() {
                state.busy += 1;
                return Some(task);
            }
            if state.busy == 0 {
                return None;
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// Directories of this machine.
struct OnDisk<'a> {
    root: &'a Root,
    options: &'a WalkOptions,
}

impl Lister for OnDisk<'_> {
    type Scratch = Vec<MaybeUninit<u8>>;

    fn scratch(&self) -> Self::Scratch {
        vec![MaybeUninit::uninit(); READ_BUFFER_BYTES]
    }

    fn read(&self, task: &Task, buffer: &mut Self::Scratch) -> Listing {
        let mut listing = Listing {
            path: task.path.clone(),
            dev: task.expected.map_or(0, |expected| expected.dev),
            ino: task.expected.map_or(0, |expected| expected.ino),
            modified: 0,
            born: None,
            entries: Vec::new(),
            large: None,
            error: None,
        };
        let dir = match self.root.dir(&task.path) {
            Ok(dir) => dir,
            Err(err) => {
                listing.error = Some(format!("can't be opened: {err}"));
                return listing;
            }
        };
        if task.expected.is_some_and(|expected| expected != dir.identity) {
            listing.error = Some("was replaced while it was walked".to_owned());
            return listing;
        }
        (listing.dev, listing.ino) = (dir.identity.dev, dir.identity.ino);
        listing.modified = dir.modified;
        listing.born = dir.born;
        let mut names = None;
        listing.error = self.fill(&dir, &mut listing, &mut names, buffer).err();
        if let (Some(mut names), Some(page)) = (names, self.options.page) {
            names.sort();
            let large = Large::look(dir, names, page);
            listing.error = listing.error.or_else(|| large.seen().error.clone());
            listing.large = Some(large);
        }
        listing.entries.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        // A directory that is written to while it is read may tell a name twice.
        listing.entries.dedup_by(|a, b| a.name == b.name);
        listing
    }

    fn children(&self, listing: &Listing) -> Vec<Task> {
        let dirs = listing.entries.iter().rev().filter(|entry| entry.kind == Kind::Dir);
        let dirs = dirs.map(|entry| (&entry.name, Identity { dev: entry.dev, ino: entry.ino }));
        let large = listing.large.iter().flat_map(|large| large.dirs().iter().rev());
        dirs.chain(large.map(|child| (&child.name, child.identity)))
            .filter(|(_, identity)| self.options.cross_devices || identity.dev == listing.dev)
            .filter(|(_, identity)| !self.options.closed.contains(identity))
            .map(|(name, identity)| Task {
                path: join(&listing.path, name),
                expected: Some(identity),
            })
            .collect()
    }
}

impl OnDisk<'_> {
    /// The entries into the listing, or the names of all into `names` if they are
    /// too many for that.
    fn fill(
        &self,
        dir: &Dir,
        listing: &mut Listing,
        names: &mut Option<Names>,
        buffer: &mut [MaybeUninit<u8>],
    ) -> Result<(), String> {
        let mut raw = RawDir::new(&dir.fd, buffer);
        while let Some(found) = raw.next() {
            let found = found.map_err(|errno| format!("can't be read to its end: {errno}"))?;
            let name = found.file_name().to_bytes();
            if name == b"." || name == b".." {
                continue;
            }
            let is_dir = found.file_type() == FileType::Directory;
            if self.leaves_out(&listing.path, name, is_dir) {
                continue;
            }
            if let Some(names) = names {
                if !names.push(name) {
                    return Err("it has more names than can be held".to_owned());
                }
                continue;
            }
            match entry(dir, name) {
                Ok(Some(entry)) => listing.entries.push(entry),
                // It went away meanwhile.
                Ok(None) => {}
                Err(errno) => {
                    return Err(format!("{}: {errno}", String::from_utf8_lossy(name)));
                }
            }
            if self.options.page.is_some_and(|page| listing.entries.len() > page) {
                let mut all = Names::default();
                for entry in std::mem::take(&mut listing.entries) {
                    all.push(&entry.name);
                }
                *names = Some(all);
            }
        }
        Ok(())
    }

    fn leaves_out(&self, parent: &[u8], name: &[u8], is_dir: bool) -> bool {
        if self.options.rules.is_empty() {
            return false;
        }
        let path = join(parent, name);
        self.options.rules.leaves_out(Path::new(OsStr::from_bytes(&path)), is_dir)
    }
}

pub(crate) fn join(parent: &[u8], name: &[u8]) -> Vec<u8> {
    if parent.is_empty() {
        return name.to_vec();
    }
    let mut path = Vec::with_capacity(parent.len() + 1 + name.len());
    path.extend_from_slice(parent);
    path.push(b'/');
    path.extend_from_slice(name);
    path
}

pub(crate) fn entry(dir: &Dir, name: &[u8]) -> Result<Option<Entry>, Errno> {
    let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT | AtFlags::STATX_DONT_SYNC;
    let wanted = StatxFlags::BASIC_STATS | StatxFlags::BTIME;
    let os_name = OsStr::from_bytes(name);
    let stat = match rustix::fs::statx(&dir.fd, os_name, flags, wanted) {
        Ok(stat) => stat,
        Err(Errno::NOENT) => return Ok(None),
        Err(errno) => return Err(errno),
    };
    let kind = kind(&stat);
    let target = if kind == Kind::Symlink {
        rustix::fs::readlinkat(&dir.fd, os_name, Vec::new()).ok().map(std::ffi::CString::into_bytes)
    } else {
        None
    };
    let Identity { dev, ino } = identity(&stat);
    let size = if kind == Kind::Dir { 0 } else { i64::try_from(stat.stx_size).unwrap_or(i64::MAX) };
    Ok(Some(Entry {
        name: name.to_vec(),
        kind,
        size,
        times: Times {
            modified: nanos(&stat.stx_mtime),
            changed: nanos(&stat.stx_ctime),
            born: born(&stat),
        },
        dev,
        ino,
        links: i64::from(stat.stx_nlink),
        mode: i64::from(stat.stx_mode & 0o7777),
        uid: i64::from(stat.stx_uid),
        gid: i64::from(stat.stx_gid),
        target,
    }))
}

fn kind(stat: &Statx) -> Kind {
    match FileType::from_raw_mode(stat.stx_mode.into()) {
        FileType::RegularFile => Kind::File,
        FileType::Directory => Kind::Dir,
        FileType::Symlink => Kind::Symlink,
        FileType::Fifo => Kind::Fifo,
        FileType::Socket => Kind::Socket,
        FileType::CharacterDevice => Kind::CharDevice,
        FileType::BlockDevice => Kind::BlockDevice,
        _ => Kind::Other,
    }
}
