//! Files of a tree that hold the same, from the disk alone. Only what may be the same
//! is read: files of one size, the larger ones to their end only if they begin and
//! end alike.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::contents::{HashError, Hasher};
use crate::entry::{Kind, Listing, Mark};
use crate::root::Root;
use crate::walk::{WalkOptions, join, walk};

/// A file up to so long is read whole at once: it is opened once and not twice.
const SHORT_BYTES: i64 = 64 << 10;
/// Of a thread's turn: short files of one directory, which is opened once for them.
const RUN: usize = 32;

/// Files that hold the same bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EqualFiles {
    /// BLAKE3-256 of them.
    pub hash: [u8; 32],
    /// How many bytes.
    pub size: i64,
    /// Files of their own, at least two: names of one inode are one.
    pub copies: usize,
    /// All their names, relative to the root.
    pub paths: Vec<Vec<u8>>,
}

impl EqualFiles {
    /// What one copy would free.
    #[must_use]
    pub fn wasted(&self) -> i64 {
        let more = i64::try_from(self.copies.saturating_sub(1)).unwrap_or(i64::MAX);
        self.size.saturating_mul(more)
    }
}

/// What was found.
#[derive(Debug, Default)]
pub struct Equal {
    /// The most wasteful first.
    pub groups: Vec<EqualFiles>,
    /// What could not be looked at, and why.
    pub problems: Vec<(Vec<u8>, String)>,
}

/// A file that the walk found.
#[derive(Debug)]
struct Seen {
    dir: usize,
    name: Box<[u8]>,
    dev: u64,
    mark: Mark,
}

/// An inode whose size others have too: its names are these of the files in order.
#[derive(Debug)]
struct Inode {
    names: Range<usize>,
}

/// All files of the walk, those of one directory side by side.
#[derive(Debug, Default)]
struct Tree {
    dirs: Vec<Vec<u8>>,
    files: Vec<Seen>,
    problems: Vec<(Vec<u8>, String)>,
}

/// Finds the files of at least `size_min` bytes, and never empty ones, that hold the
/// same. A file that changes meanwhile is a problem and in no group. Blocks.
pub fn equal_files(root: &Root, options: &WalkOptions, size_min: i64) -> Equal {
    let options = WalkOptions { page: None, ..options.clone() };
    let tree = Mutex::new(Tree::default());
    walk(root, &options, |listing| {
        tree.lock().unwrap_or_else(PoisonError::into_inner).add(listing, size_min.max(1));
        true
    });
    let mut tree = tree.into_inner().unwrap_or_else(PoisonError::into_inner);
    let order = tree.by_size();
    let mut copies = candidates(&tree.files, &order);
    // Files of one directory are read one after the other.
    copies.sort_unstable_by_key(|copy| order[copy.names.start]);
    let file = |copy: &Inode| &tree.files[order[copy.names.start]];
    let is_short = |copy: &Inode| file(copy).mark.size <= SHORT_BYTES;
    let read = |hasher: &mut Hasher, copy: &Inode, is_whole: bool| {
        let file = file(copy);
        let path = join(&tree.dirs[file.dir], &file.name);
        if is_whole {
            hasher.hash_listed(root, &path, &file.mark)
        } else {
            hasher.hash_ends(root, &path, &file.mark)
        }
    };
    let mut problems = Vec::new();
    let mut told = |copy: &Inode, err: &HashError| {
        let file = file(copy);
        problems.push((join(&tree.dirs[file.dir], &file.name), err.to_string()));
    };
    let hashes =
        each(&copies, options.threads, RUN, |hasher, copy| read(hasher, copy, is_short(copy)));
    let mut alike: HashMap<(i64, [u8; 32]), Vec<Inode>> = HashMap::new();
    for (copy, hash) in copies.into_iter().zip(hashes) {
        match hash {
            Ok(hash) => alike.entry((file(&copy).mark.size, hash)).or_default().push(copy),
            Err(err) => told(&copy, &err),
        }
    }
    alike.retain(|_, copies| copies.len() > 1);
    let (mut equal, long): (HashMap<_, _>, HashMap<_, _>) =
        alike.into_iter().partition(|((size, _), _)| *size <= SHORT_BYTES);
    let mut long: Vec<Inode> = long.into_values().flatten().collect();
    long.sort_unstable_by_key(|copy| order[copy.names.start]);
    let hashes = each(&long, options.threads, 1, |hasher, copy| read(hasher, copy, true));
    for (copy, hash) in long.into_iter().zip(hashes) {
        match hash {
            Ok(hash) => equal.entry((file(&copy).mark.size, hash)).or_default().push(copy),
            Err(err) => told(&copy, &err),
        }
    }
    let groups = tree.groups(&order, equal);
    problems.append(&mut tree.problems);
    problems.sort_unstable();
    Equal { groups, problems }
}

impl Tree {
    fn add(&mut self, listing: Listing, size_min: i64) {
        if let Some(error) = listing.error {
            self.problems.push((listing.path.clone(), error));
        }
        let dir = self.dirs.len();
        for entry in listing.entries {
            if entry.kind == Kind::File && entry.size >= size_min {
                let mark = entry.mark();
                let name = entry.name.into_boxed_slice();
                self.files.push(Seen { dir, name, dev: entry.dev, mark });
            }
        }
        self.dirs.push(listing.path);
    }

    /// The files with those of one size side by side, and of them those of one inode.
    fn by_size(&self) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.files.len()).collect();
        order.sort_unstable_by_key(|at| {
            let file = &self.files[*at];
            (file.mark.size, file.dev, file.mark.ino, *at)
        });
        order
    }

    fn groups(
        &self,
        order: &[usize],
        equal: HashMap<(i64, [u8; 32]), Vec<Inode>>,
    ) -> Vec<EqualFiles> {
        let equal = equal.into_iter().filter(|(_, copies)| copies.len() > 1);
        let mut groups: Vec<EqualFiles> = equal
            .map(|((size, hash), copies)| {
                let names = copies.iter().flat_map(|copy| &order[copy.names.clone()]);
                let path =
                    |at: &usize| join(&self.dirs[self.files[*at].dir], &self.files[*at].name);
                let mut paths: Vec<Vec<u8>> = names.map(path).collect();
                paths.sort_unstable();
                EqualFiles { hash, size, copies: copies.len(), paths }
            })
            .collect();
        groups.sort_unstable_by(|a, b| (b.wasted(), &a.hash).cmp(&(a.wasted(), &b.hash)));
        groups
    }
}

/// The inodes whose size another one has too.
fn candidates(files: &[Seen], order: &[usize]) -> Vec<Inode> {
    let mut copies = Vec::new();
    let mut from = 0;
    for of_size in order.chunk_by(|a, b| files[*a].mark.size == files[*b].mark.size) {
        let inode = |at: usize| (files[at].dev, files[at].mark.ino);
        let first = copies.len();
        for names in of_size.chunk_by(|a, b| inode(*a) == inode(*b)) {
            copies.push(Inode { names: from..from + names.len() });
            from += names.len();
        }
        if copies.len() == first + 1 {
            copies.pop();
        }
    }
    copies
}

/// What `read` makes of each, in their order; threads take `run` at a time.
fn each<T: Send>(
    copies: &[Inode],
    threads: usize,
    run: usize,
    read: impl Fn(&mut Hasher, &Inode) -> T + Sync,
) -> Vec<T> {
    let next = AtomicUsize::new(0);
    let done: Mutex<Vec<(usize, Vec<T>)>> = Mutex::new(Vec::new());
    let work = || {
        let mut hasher = Hasher::default();
        loop {
            let from = next.fetch_add(run, Ordering::Relaxed);
            if from >= copies.len() {
                break;
            }
            let taken = &copies[from..copies.len().min(from + run)];
            let read = taken.iter().map(|copy| read(&mut hasher, copy)).collect();
            done.lock().unwrap_or_else(PoisonError::into_inner).push((from, read));
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..threads.clamp(1, 64) {
            scope.spawn(work);
        }
        work();
    });
    let mut done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    done.sort_unstable_by_key(|(from, _)| *from);
    done.into_iter().flat_map(|(_, read)| read).collect()
}
