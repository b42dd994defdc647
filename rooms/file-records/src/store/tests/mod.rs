//! Made listings into both databases.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod holding;
mod large;
mod locks;
mod missing;
mod names;
mod paths;
mod plans;
mod rowids;
mod rows;
mod trees;

use std::future::Future;

use file_scan::{Content, ContentKind, Entry, Kind, Listing, Mark, Times};
use ids::PrincipalId;
use sql_store::testing;

use super::{Batch, Hashed, HashedBy, Listed, Merged, NewLocation, ScanKey, Store};
use crate::model::Mode;

async fn on_each<F: Future<Output = ()>>(case: impl Fn(Store) -> F) {
    let data = tempfile::tempdir().unwrap();
    for settings in testing::databases(data.path()).await.unwrap() {
        case(Store::open(&settings).await.unwrap()).await;
    }
}

/// A file of a made tree: its bytes are one number.
#[derive(Debug, Clone, PartialEq, Eq)]
struct File {
    /// Relative to the location.
    path: String,
    ino: u64,
    /// What it holds, repeated.
    byte: u8,
    size: i64,
    /// Of the last change; moves keep the other times.
    changed: i64,
}

fn file(path: &str, ino: u64, byte: u8, size: i64) -> File {
    File { path: path.to_owned(), ino, byte, size, changed: 7_000 }
}

fn split(path: &str) -> (&str, &str) {
    path.rsplit_once('/').unwrap_or(("", path))
}

fn entry(name: &str, kind: Kind, ino: u64, size: i64, changed: i64) -> Entry {
    Entry {
        name: name.as_bytes().to_vec(),
        kind,
        size,
        times: Times { modified: 5_000, changed, born: Some(4_000) },
        dev: 1,
        ino,
        links: 1,
        mode: 0o644,
        uid: 0,
        gid: 0,
        target: None,
    }
}

/// The listings of a tree of such files, parents first. A directory is the same
/// wherever it is if its name is: its inode is made of that.
fn listings(files: &[File]) -> Vec<Listed> {
    let mut dirs = std::collections::BTreeMap::from([(String::new(), Vec::new())]);
    for file in files {
        let (dir, name) = split(&file.path);
        let made = entry(name, Kind::File, file.ino, file.size, file.changed);
        dirs.entry(dir.to_owned()).or_insert_with(Vec::new).push(made);
    }
    let inode = |path: &str| 1_000_000 + split(path).1.bytes().map(u64::from).sum::<u64>();
    let paths: Vec<String> = dirs.keys().filter(|path| !path.is_empty()).cloned().collect();
    for path in paths {
        let (parent, name) = split(&path);
        let made = entry(name, Kind::Dir, inode(&path), 0, 7_000);
        dirs.entry(parent.to_owned()).or_default().push(made);
    }
    let listed = dirs.into_iter().map(|(path, mut entries)| {
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        Listed::from(Listing {
            ino: if path.is_empty() { 2 } else { inode(&path) },
            path: path.into_bytes(),
            dev: 1,
            modified: 5_000,
            born: Some(4_000),
            entries,
            large: None,
            error: None,
        })
    });
    listed.collect()
}

/// What reading a file tells.
fn hashed(entry: i64, file: &File) -> Hashed {
    let mut hash = [file.byte; 32];
    hash[..8].copy_from_slice(&file.size.to_le_bytes());
    let mark = Mark { size: file.size, modified: 5_000, changed: 7_000, ino: file.ino };
    Hashed {
        entry,
        path: file.path.clone(),
        content: Content { hash, size: file.size, kind: ContentKind::Text, mark },
        media: None,
        is_fresh: false,
    }
}

/// A location of a store, and its last scan.
struct Place<'a> {
    store: &'a Store,
    location: i64,
}

impl<'a> Place<'a> {
    async fn new(store: &'a Store, path: &str) -> Self {
        let new = NewLocation {
            path: path.to_owned(),
            name: "made".to_owned(),
            device: String::new(),
            owner: PrincipalId::new(),
            mode: Mode::Content,
            rules: Vec::new(),
            guard_percent: 100,
            root: None,
            watched: false,
            archives: false,
        };
        let location = store.create_location(new).await.unwrap().id;
        Self { store, location }
    }

    /// A whole scan of what the tree now is, hashes and all.
    async fn scan(&self, files: &[File]) -> (ScanKey, Merged) {
        let scan = self.store.begin_scan(self.location, Mode::Content).await.unwrap();
        let batch = Batch { listed: listings(files) };
        let mut merged = self.store.merge(scan, batch, |_| None).await.unwrap();
        merged.moved += self.store.match_moves(scan).await.unwrap();
        while self.store.sweep(scan).await.unwrap().is_some() {}
        self.store.end_scan(scan, (1, 2), 0, "").await.unwrap();
        (scan, merged)
    }

    /// Gives files their contents, without looking whether they have one.
    async fn hash(&self, scan: ScanKey, files: &[File]) {
        let mut all = Vec::new();
        for file in files {
            let (dir, name) = split(&file.path);
            let id = self.entry(dir, name).await.expect("a file of the tree has a row");
            all.push(hashed(id, file));
        }
        self.store.put_contents(scan, all, HashedBy::Server).await.unwrap();
        self.store.set_unhashed(scan, false).await.unwrap();
    }

    async fn entry(&self, dir: &str, name: &str) -> Option<i64> {
        let sql = "SELECT e.id FROM entry e JOIN dir d ON d.id = e.dir_id
            WHERE d.location_id = $1 AND d.path = $2 AND e.name = $3";
        let values = vec![self.location.into(), dir.into(), name.into()];
        let row = self.store.row(sql, values).await.unwrap()?;
        Some(super::get(&row, "id").unwrap())
    }

    async fn forget(&self) {
        self.store.delete_location(self.location).await.unwrap();
        while self.store.forget_location(self.location).await.unwrap() {}
    }
}
