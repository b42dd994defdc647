//! The entries of a directory, stored and found, compared by name.

use std::collections::HashMap;

use file_scan::{Entry, Kind, names};
use sea_orm::{ConnectionTrait, DatabaseTransaction};
use service_error::ServiceError;

use super::bulk::{self, Column};
use super::changes::{ChangeKind, Logged, path_in};
use super::merge::{Listed, Merged};
use super::{all, get};

/// A directory's row.
#[derive(Debug, Clone, Copy)]
pub struct DirId {
    pub id: i64,
    pub is_new: bool,
}

/// What is stored of an entry, as far as a comparison needs it.
#[derive(Debug)]
pub struct StoredEntry {
    id: i64,
    kind: i16,
    size: i64,
    modified: i64,
    changed: i64,
    ino: i64,
    is_gone: bool,
}

type ByName = HashMap<String, StoredEntry>;

/// The entries of some directories, by directory and name.
pub async fn stored(
    tx: &DatabaseTransaction,
    dirs: &[i64],
) -> Result<HashMap<i64, ByName>, ServiceError> {
    let mut stored: HashMap<i64, ByName> = HashMap::new();
    let backend = tx.get_database_backend();
    for chunk in dirs.chunks(5_000) {
        let sql = format!(
            "SELECT id, dir_id, name, kind, size, modified, changed, ino, gone FROM entry WHERE {}",
            bulk::in_numbers(backend, "dir_id", 1)
        );
        for row in all(tx, &sql, vec![bulk::numbers(backend, chunk)]).await? {
            let entry = StoredEntry {
                id: get(&row, "id")?,
                kind: get(&row, "kind")?,
                size: get(&row, "size")?,
                modified: get(&row, "modified")?,
                changed: get(&row, "changed")?,
                ino: get(&row, "ino")?,
                is_gone: get::<Option<i64>>(&row, "gone")?.is_some(),
            };
            stored.entry(get(&row, "dir_id")?).or_default().insert(get(&row, "name")?, entry);
        }
    }
    Ok(stored)
}

/// Columns with their names.
type Named = Vec<(&'static str, Column)>;

impl StoredEntry {
    fn is(&self, entry: &Entry) -> bool {
        let is_same_inode = self.ino == entry.ino.cast_signed() && self.kind == entry.kind as i16;
        // A directory's own times say nothing that its listing does not.
        is_same_inode
            && (entry.kind == Kind::Dir
                || (self.size == entry.size
                    && self.modified == entry.times.modified
                    && self.changed == entry.times.changed))
    }
}

/// Rows to be inserted, changed, and marked.
#[derive(Debug)]
pub struct Changes {
    generation: i64,
    new: EntryRows,
    changed: EntryRows,
    pub missing: Vec<i64>,
    pub returned: Vec<i64>,
    /// Directories that something else took the place of.
    pub replaced: Vec<String>,
    /// Paths of new and of changed entries, unless nobody is told.
    paths: Option<(Vec<String>, Vec<String>)>,
}

impl Changes {
    /// `is_told`: what changes is to be written to the log.
    pub fn new(generation: i64, is_told: bool) -> Self {
        Self {
            generation,
            new: EntryRows::default(),
            changed: EntryRows::default(),
            missing: Vec::new(),
            returned: Vec::new(),
            replaced: Vec::new(),
            paths: is_told.then(Default::default),
        }
    }

    pub fn new_count(&self) -> usize {
        self.new.dir.len()
    }

    pub fn counts(&self) -> Merged {
        let count = |rows: usize| i64::try_from(rows).unwrap_or(i64::MAX);
        Merged {
            added: count(self.new.dir.len()),
            changed: count(self.changed.dir.len()),
            missing: count(self.missing.len()),
            ..Merged::default()
        }
    }

    /// Compares one directory.
    pub fn compare(&mut self, dir: DirId, listed: &Listed, mut stored: ByName) {
        for entry in &listed.listing.entries {
            let name = names::text(&entry.name);
            match stored.remove(&name) {
                None => {
                    if let Some((new, _)) = &mut self.paths {
                        new.push(path_in(&listed.path, &name));
                    }
                    self.new.push(0, dir.id, name, entry);
                }
                Some(known) if !known.is(entry) => {
                    if known.kind == Kind::Dir as i16 && entry.kind != Kind::Dir {
                        self.replaced.push(path_in(&listed.path, &name));
                    }
                    if let Some((_, changed)) = &mut self.paths {
                        changed.push(path_in(&listed.path, &name));
                    }
                    self.changed.push(known.id, dir.id, name, entry);
                }
                Some(known) if known.is_gone => self.returned.push(known.id),
                Some(_) => {}
            }
        }
        // What was not seen in a listing that is not whole may still be there.
        if listed.listing.is_complete() {
            let missing = stored.into_values().filter(|known| !known.is_gone);
            self.missing.extend(missing.map(|known| known.id));
        }
    }

    /// What the log is told, new rows being numbered from `first`; nothing if
    /// it is told nothing.
    pub fn logged(&mut self, first: i64) -> Option<Logged> {
        let (new, changed) = self.paths.take()?;
        let mut logged = Logged::default();
        for (id, path) in (first..).zip(new) {
            logged.add(ChangeKind::Added, id, path, None);
        }
        for (id, path) in self.changed.id.iter().zip(changed) {
            logged.add(ChangeKind::Changed, *id, path, None);
        }
        Some(logged)
    }

    /// The columns of new rows, numbered from `first`, and of changed ones.
    pub fn columns(&self, first: i64) -> (Named, Named) {
        let count = i64::try_from(self.new_count()).unwrap_or(0);
        let ids = (first..first + count).collect();
        let mut new = self.new.columns(ids);
        new.push(("dir_id", Column::I64(self.new.dir.clone())));
        new.push(("name", Column::Text(self.new.name.clone())));
        new.push(("ext", Column::Text(self.new.ext.clone())));
        new.push(("since", Column::I64(vec![self.generation; self.new_count()])));
        (new, self.changed.columns(self.changed.id.clone()))
    }
}

/// Columns of entries.
#[derive(Debug, Default)]
struct EntryRows {
    id: Vec<i64>,
    dir: Vec<i64>,
    name: Vec<String>,
    ext: Vec<String>,
    kind: Vec<i64>,
    size: Vec<i64>,
    modified: Vec<i64>,
    changed: Vec<i64>,
    born: Vec<Option<i64>>,
    ino: Vec<i64>,
    links: Vec<i64>,
    mode: Vec<i64>,
    uid: Vec<i64>,
    gid: Vec<i64>,
    target: Vec<Option<String>>,
}

impl EntryRows {
    fn push(&mut self, id: i64, dir: i64, name: String, entry: &Entry) {
        let ext = if entry.kind == Kind::File { names::extension(&name) } else { "" };
        self.id.push(id);
        self.dir.push(dir);
        self.ext.push(ext.to_ascii_lowercase());
        self.name.push(name);
        self.kind.push(entry.kind as i64);
        self.size.push(entry.size);
        self.modified.push(entry.times.modified);
        self.changed.push(entry.times.changed);
        self.born.push(entry.times.born);
        self.ino.push(entry.ino.cast_signed());
        self.links.push(entry.links);
        self.mode.push(entry.mode);
        self.uid.push(entry.uid);
        self.gid.push(entry.gid);
        self.target.push(entry.target.as_deref().map(names::text));
    }

    fn columns(&self, ids: Vec<i64>) -> Vec<(&'static str, Column)> {
        vec![
            ("id", Column::I64(ids)),
            ("kind", Column::I64(self.kind.clone())),
            ("size", Column::I64(self.size.clone())),
            ("modified", Column::I64(self.modified.clone())),
            ("changed", Column::I64(self.changed.clone())),
            ("born", Column::OptI64(self.born.clone())),
            ("ino", Column::I64(self.ino.clone())),
            ("links", Column::I64(self.links.clone())),
            ("mode", Column::I64(self.mode.clone())),
            ("uid", Column::I64(self.uid.clone())),
            ("gid", Column::I64(self.gid.clone())),
            ("target", Column::OptText(self.target.clone())),
        ]
    }
}
