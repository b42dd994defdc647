//! Members by the directories that their paths name.

use std::collections::BTreeMap;

use archive_members::{ArchiveError, Limits, Offered};
use file_scan::{Entry, Kind, Listing, Mark, Times};

use super::{Member, ReadArchive, TOLD_MAX};
use crate::bucket::number;

/// A tree in the making, within limits.
pub struct Tree<'a> {
    id: i64,
    limits: &'a Limits,
    /// Entries by directory and name; a parent sorts before its children.
    dirs: BTreeMap<Vec<u8>, BTreeMap<Vec<u8>, Entry>>,
    members: BTreeMap<Vec<u8>, Member>,
    count: u64,
    path_bytes: u64,
    told: Vec<(Vec<u8>, String)>,
    untold: u64,
}

impl<'a> Tree<'a> {
    pub fn new(id: i64, limits: &'a Limits) -> Self {
        Self {
            id,
            limits,
            dirs: BTreeMap::from([(Vec::new(), BTreeMap::new())]),
            members: BTreeMap::new(),
            count: 0,
            path_bytes: 0,
            told: Vec::new(),
            untold: 0,
        }
    }

    /// Tells of a member; of so many, then counts.
    pub fn tell(&mut self, path: &[u8], why: String) {
        if self.told.len() < TOLD_MAX {
            self.told.push((path.to_vec(), why));
        } else {
            self.untold += 1;
        }
    }

    /// Keeps what a member holds.
    pub fn put(&mut self, member: Member) {
        // A file that a directory took the place of has no entry.
        if self.entry(&member.path).is_some_and(|entry| entry.kind == Kind::File) {
            self.members.insert(member.path.clone(), member);
        }
    }

    /// Adds a member, and the directories that its path names.
    ///
    /// # Errors
    /// There are more of them than are taken.
    pub fn add(&mut self, offered: &Offered) -> Result<(), ArchiveError> {
        let (parent, name) = split(&offered.path);
        self.add_dir(parent, offered.modified)?;
        if offered.is_dir {
            return self.add_dir(&offered.path, offered.modified);
        }
        self.take(name.len())?;
        let known = self.entry(&offered.path).map(|entry| entry.kind);
        match known {
            Some(Kind::Dir) => {
                self.tell(&offered.path, "a directory of the archive has its name".to_owned());
                return Ok(());
            }
            Some(_) => {
                let why = "the archive has several members of this name; the last one counts";
                self.tell(&offered.path, why.to_owned());
                self.members.remove(&offered.path);
            }
            None => {}
        }
        let entry = self.new_entry(offered, Kind::File);
        self.dirs.entry(parent.to_vec()).or_default().insert(name.to_vec(), entry);
        Ok(())
    }

    fn add_dir(&mut self, path: &[u8], modified: i64) -> Result<(), ArchiveError> {
        let mut end = 0;
        while end < path.len() && !self.dirs.contains_key(path) {
            let next = path[end..].iter().position(|byte| *byte == b'/');
            let next = next.map_or(path.len(), |next| end + next);
            let dir = &path[..next];
            if !self.dirs.contains_key(dir) {
                self.take(dir.len())?;
                let (parent, name) = split(dir);
                if self.entry(dir).is_some() {
                    self.tell(dir, "a directory of the archive has its name".to_owned());
                    self.members.remove(dir);
                }
                let offered =
                    Offered { path: dir.to_vec(), is_dir: true, size: 0, modified, crc: None };
                let entry = self.new_entry(&offered, Kind::Dir);
                self.dirs.entry(parent.to_vec()).or_default().insert(name.to_vec(), entry);
                self.dirs.insert(dir.to_vec(), BTreeMap::new());
            }
            end = next + 1;
        }
        Ok(())
    }

    fn take(&mut self, bytes: usize) -> Result<(), ArchiveError> {
        self.count += 1;
        self.path_bytes += bytes as u64;
        let is_much =
            self.count > self.limits.members_max || self.path_bytes > self.limits.path_bytes_max;
        if is_much { Err(ArchiveError::TooMany(self.count - 1)) } else { Ok(()) }
    }

    fn entry(&self, path: &[u8]) -> Option<&Entry> {
        let (parent, name) = split(path);
        self.dirs.get(parent)?.get(name)
    }

    fn new_entry(&self, offered: &Offered, kind: Kind) -> Entry {
        // What a zip says of the bytes stands where the time of a change would:
        // another one is another content.
        let changed = offered.crc.map_or(0, i64::from);
        let modified = offered.modified.saturating_mul(1_000_000_000);
        Entry {
            name: split(&offered.path).1.to_vec(),
            kind,
            size: i64::try_from(offered.size).unwrap_or(i64::MAX),
            times: Times { modified, changed, born: None },
            dev: 0,
            ino: if kind == Kind::Dir {
                0
            } else {
                number(&[&self.id.to_le_bytes(), &offered.path])
            },
            links: 1,
            mode: 0,
            uid: 0,
            gid: 0,
            target: None,
        }
    }

    /// What it came to.
    pub fn into_read(self, problem: Option<String>, mark: Mark) -> ReadArchive {
        let listings = self.dirs.into_iter().map(|(path, entries)| Listing {
            path,
            dev: 0,
            ino: 0,
            modified: 0,
            born: None,
            entries: entries.into_values().collect(),
            large: None,
            error: problem.clone(),
        });
        ReadArchive {
            listings: listings.collect(),
            members: self.members.into_values().collect(),
            told: self.told,
            untold: self.untold,
            problem,
            mark,
        }
    }
}

fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|byte| *byte == b'/') {
        Some(at) => (&path[..at], &path[at + 1..]),
        None => (&[], path),
    }
}
