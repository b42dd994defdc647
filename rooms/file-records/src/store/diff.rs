//! The entries of a directory, stored and found, compared by name.

use std::collections::HashMap;

use file_scan::{Entry, Kind, names};
use sea_orm::{ConnectionTrait, DatabaseTransaction, DbBackend, QueryResult};
use service_error::ServiceError;

use super::bulk::{self, Column};
use super::changes::{ChangeKind, Logged, path_in};
use super::merge::Merged;
use super::{all, get};

/// A directory's row.
#[derive(Debug, Clone, Copy)]
pub struct DirId {
    pub id: i64,
    pub is_new: bool,
    /// Its stored entries are read by pages.
    pub is_large: bool,
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
    /// Mode and owners of a directory.
    access: (i64, i64, i64),
    is_gone: bool,
}

pub type ByName = HashMap<String, StoredEntry>;

const COLUMNS: &str = "id, dir_id, name, kind, size, modified, changed, ino, CAST(mode AS bigint) AS mode, uid, gid, gone";
/// Rows of one statement: a row takes many times what is kept of it.
const PAGE: i64 = 20_000;

fn entry_of(row: &QueryResult) -> Result<StoredEntry, ServiceError> {
    Ok(StoredEntry {
        id: get(row, "id")?,
        kind: get(row, "kind")?,
        size: get(row, "size")?,
        modified: get(row, "modified")?,
        changed: get(row, "changed")?,
        ino: get(row, "ino")?,
        access: (get(row, "mode")?, get(row, "uid")?, get(row, "gid")?),
        is_gone: get::<Option<i64>>(row, "gone")?.is_some(),
    })
}

/// The entries of one directory, however many, by name.
pub async fn stored_in<C: ConnectionTrait>(db: &C, dir: i64) -> Result<ByName, ServiceError> {
    let sql = format!(
        "SELECT {COLUMNS} FROM entry WHERE dir_id = $1 AND name > $2 ORDER BY name LIMIT $3"
    );
    let (mut stored, mut after) = (ByName::new(), String::new());
    loop {
        let rows = all(db, &sql, vec![dir.into(), after.into(), PAGE.into()]).await?;
        let Some(last) = rows.last() else { return Ok(stored) };
        after = get(last, "name")?;
        for row in &rows {
            stored.insert(get(row, "name")?, entry_of(row)?);
        }
    }
}

/// The entries of a directory after a name, and up to one, by name: a page of them
/// at most, and whether that is all.
pub async fn stored_between<C: ConnectionTrait>(
    db: &C,
    dir: i64,
    after: &str,
    last: Option<&str>,
) -> Result<(ByName, bool), ServiceError> {
    let mut values = vec![dir.into(), after.into(), PAGE.into()];
    let upto = last.map_or("", |last| {
        values.push(last.into());
        "AND name <= $4"
    });
    let sql = format!(
        "SELECT {COLUMNS} FROM entry WHERE dir_id = $1 AND name > $2 {upto} ORDER BY name LIMIT $3"
    );
    let rows = all(db, &sql, values).await?;
    let is_all = i64::try_from(rows.len()).is_ok_and(|count| count < PAGE);
    let each = rows.iter().map(|row| Ok((get(row, "name")?, entry_of(row)?)));
    Ok((each.collect::<Result<_, ServiceError>>()?, is_all))
}

/// The entries of some directories, by directory and name.
pub async fn stored(
    tx: &DatabaseTransaction,
    dirs: &[i64],
) -> Result<HashMap<i64, ByName>, ServiceError> {
    let mut stored: HashMap<i64, ByName> = HashMap::new();
    let backend = tx.get_database_backend();
    for chunk in dirs.chunks(5_000) {
        let sql =
            format!("SELECT {COLUMNS} FROM entry WHERE {}", bulk::in_numbers(backend, "dir_id", 1));
        for row in all(tx, &sql, vec![bulk::numbers(backend, chunk)]).await? {
            let entries = stored.entry(get(&row, "dir_id")?).or_default();
            entries.insert(get(&row, "name")?, entry_of(&row)?);
        }
    }
    Ok(stored)
}

/// Columns with their names.
type Named = Vec<(&'static str, Column)>;

impl StoredEntry {
    fn is(&self, entry: &Entry) -> bool {
        let is_same_inode = self.ino == entry.ino.cast_signed() && self.kind == entry.kind as i16;
        // A directory's own times say nothing that its listing does not. Of others they tell
        // of another mode too.
        is_same_inode
            && match entry.kind {
                Kind::Dir => self.access == (entry.mode, entry.uid, entry.gid),
                _ => {
                    self.size == entry.size
                        && self.modified == entry.times.modified
                        && self.changed == entry.times.changed
                }
            }
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

    /// Rows that are to be written.
    pub fn row_count(&self) -> usize {
        self.new.dir.len() + self.changed.dir.len()
    }

    /// Compares an entry of the directory at `path` with what is stored of it,
    /// which is taken out of `stored`.
    pub fn compare(&mut self, dir: DirId, path: &str, entry: &Entry, stored: &mut ByName) {
        let name = names::text(&entry.name);
        match stored.remove(&name) {
            None => {
                if let Some((new, _)) = &mut self.paths {
                    new.push(path_in(path, &name));
                }
                self.new.push(0, dir.id, name, entry);
            }
            Some(known) if !known.is(entry) => {
                if known.kind == Kind::Dir as i16 && entry.kind != Kind::Dir {
                    self.replaced.push(path_in(path, &name));
                }
                if let Some((_, changed)) = &mut self.paths {
                    changed.push(path_in(path, &name));
                }
                self.changed.push(known.id, dir.id, name, entry);
            }
            Some(known) if known.is_gone => self.returned.push(known.id),
            Some(_) => {}
        }
    }

    /// What is left of a directory that was read to its end is missing.
    pub fn left(&mut self, stored: ByName) {
        let missing = stored.into_values().filter(|known| !known.is_gone);
        self.missing.extend(missing.map(|known| known.id));
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
    pub fn columns(&mut self, first: i64, backend: DbBackend) -> (Named, Named) {
        let (mut new, changed) = (std::mem::take(&mut self.new), std::mem::take(&mut self.changed));
        new.id = (first..).take(new.dir.len()).collect();
        let since = vec![self.generation; new.dir.len()];
        let placed = [
            ("dir_id", Column::I64(std::mem::take(&mut new.dir))),
            ("name", Column::Text(std::mem::take(&mut new.name))),
            ("ext", Column::Text(std::mem::take(&mut new.ext))),
        ];
        let mut columns = new.columns(backend);
        columns.extend(placed);
        if backend == DbBackend::Postgres {
            columns.push(("since", Column::I64(since)));
        }
        (columns, changed.columns(backend))
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

    fn columns(self, backend: DbBackend) -> Named {
        let birth = match backend {
            DbBackend::Postgres => ("born", Column::OptI64(self.born)),
            _ => ("lived", Column::OptI64(lived(&self.changed, &self.born))),
        };
        vec![
            ("id", Column::I64(self.id)),
            ("kind", Column::I64(self.kind)),
            ("size", Column::I64(self.size)),
            ("modified", Column::I64(self.modified)),
            ("changed", Column::I64(self.changed)),
            birth,
            ("ino", Column::I64(self.ino)),
            ("links", Column::I64(self.links)),
            ("mode", Column::I64(self.mode)),
            ("uid", Column::I64(self.uid)),
            ("gid", Column::I64(self.gid)),
            ("target", Column::OptText(self.target)),
        ]
    }
}

/// How long before the last change was the birth.
fn lived(changed: &[i64], born: &[Option<i64>]) -> Vec<Option<i64>> {
    changed.iter().zip(born).map(|(changed, born)| changed.checked_sub((*born)?)).collect()
}
