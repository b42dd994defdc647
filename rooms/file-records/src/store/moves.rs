//! Files, links and the like that were moved: what is missing here, also with the
//! directory that held it, and new there with the same inode, birth, size and time is
//! one file, and keeps what is said of it.

use std::collections::{HashMap, HashSet, VecDeque};

use file_scan::names;
use sea_orm::{DatabaseTransaction, DbBackend, QueryResult};
use service_error::ServiceError;
use sql_store::db_error;

use super::bulk::{self, Column};
use super::changes::{ChangeKind, Logged, path_in};
use super::merge::parent_of;
use super::{ScanKey, Store, below, execute, get};
use crate::model::name_of;

/// Missing files that are looked for; beyond it the rest counts as deleted.
const MISSING_MAX: i64 = 500_000;
const PAGE: i64 = 20_000;
/// Names of one file that are looked at for the one that a new name was.
const NAMES_MAX: usize = 100;

/// Kind, inode, birth, size and time.
type Likeness = (i16, i64, Option<i64>, i64, i64);

/// Numbers and paths; names of one file are alike.
type Missing = HashMap<Likeness, VecDeque<(i64, String)>>;

/// A missing file and the new one that it became.
struct Pair {
    old: i64,
    old_path: String,
    new: i64,
    dir: i64,
    name: String,
    ext: String,
    path: String,
    /// Of the new one, in the order of [`FACTS`].
    facts: [i64; FACTS.len()],
    /// How long before its last change the new one was born, as SQLite keeps it.
    lived: Option<i64>,
}

/// A rename moves ctime, and mode or links may be others too.
const FACTS: [&str; 5] = ["changed", "links", "mode", "uid", "gid"];

impl Store {
    /// Pairs missing files with new ones; answers how many were moved.
    ///
    /// # Errors
    /// As [`Store::merge`].
    pub async fn match_moves(&self, scan: ScanKey) -> Result<i64, ServiceError> {
        if scan.newest < 0 || !self.is_some_lost(scan.location).await? {
            // Nothing is newer than a scan that has ended, and nothing moved that is not missed.
            return Ok(0);
        }
        let lived = match self.backend() {
            DbBackend::Postgres => "CAST(NULL AS bigint)",
            _ => "e.lived",
        };
        let mut missing: Option<Missing> = None;
        let (mut after, mut moved) = (scan.newest, 0);
        while missing.as_ref().is_none_or(|missing| !missing.is_empty()) {
            let sql = format!(
                "SELECT e.id, e.kind, e.dir_id, e.name, e.ext, d.path, e.ino, e.born, e.size, e.modified,
                   e.changed, e.links, CAST(e.mode AS bigint) AS mode, e.uid, e.gid, {lived} AS lived
                 FROM entry e JOIN dir d ON d.id = e.dir_id
                 WHERE e.id > $1 AND e.kind <> 2 AND e.gone IS NULL AND d.location_id = $2 AND d.archive IS NULL
                 ORDER BY e.id LIMIT $3"
            );
            let values = vec![after.into(), scan.location.into(), PAGE.into()];
            let page = self.rows(&sql, values).await?;
            let Some(last) = page.last() else { break };
            after = get(last, "id")?;
            // Nothing is looked for before there is what it may have become.
            let missing = match &mut missing {
                Some(missing) => missing,
                unknown => unknown.insert(self.missing_files(scan.location).await?),
            };
            let pairs = paired(&page, missing)?;
            moved += i64::try_from(pairs.len()).unwrap_or(0);
            self.join_pairs(scan, pairs).await?;
        }
        Ok(moved)
    }

    /// Files that are missing, those below missing directories too.
    async fn missing_files(&self, location: i64) -> Result<Missing, ServiceError> {
        const COLUMNS: &str = "e.id, e.kind, e.name, d.path, e.ino, e.born, e.size, e.modified";
        let sql = format!(
            "SELECT {COLUMNS} FROM entry e JOIN dir d ON d.id = e.dir_id
             WHERE e.gone IS NOT NULL AND e.kind <> 2 AND d.location_id = $1 LIMIT $2"
        );
        let mut rows = self.rows(&sql, vec![location.into(), MISSING_MAX.into()]).await?;
        let (mut missing, mut seen) = (Missing::new(), HashSet::new());
        let mut dirs = self.missing_dirs(location).await?.into_iter();
        loop {
            for row in &rows {
                let id = get(row, "id")?;
                // A missing directory may lie in another one.
                if seen.insert(id) {
                    missing.entry(likeness(row)?).or_default().push_back((id, path_of(row)?));
                }
            }
            let room = MISSING_MAX - i64::try_from(seen.len()).unwrap_or(MISSING_MAX);
            let Some(dir) = dirs.next().filter(|_| room > 0) else { return Ok(missing) };
            let (from, to) = below(&dir);
            let sql = format!(
                "SELECT {COLUMNS} FROM dir d JOIN entry e ON e.dir_id = d.id
                 WHERE d.location_id = $1 AND (d.path >= $2 AND d.path < $4 AND (d.path = $2 OR d.path >= $3))
                   AND d.archive IS NULL AND e.kind <> 2 LIMIT $5"
            );
            let values = vec![location.into(), dir.into(), from.into(), to.into(), room.into()];
            rows = self.rows(&sql, values).await?;
        }
    }

    async fn join_pairs(&self, scan: ScanKey, pairs: Vec<Pair>) -> Result<(), ServiceError> {
        if pairs.is_empty() {
            return Ok(());
        }
        let tx = self.sql.begin().await?;
        self.hold(&tx, scan).await?;
        self.hold_names(&tx).await?;
        let twins: Vec<i64> = pairs.iter().map(|pair| pair.new).collect();
        self.drop_entries(&tx, &twins).await?;
        let is_renamed = |pair: &&Pair| name_of(&pair.old_path) != pair.name;
        let renamed: Vec<i64> = pairs.iter().filter(is_renamed).map(|pair| pair.old).collect();
        // The content is looked at again, and stands until then.
        let also =
            ", gone = NULL, hashed = CASE WHEN entry.hashed = 1 THEN 2 ELSE entry.hashed END";
        bulk::update(&tx, "entry", &columns(self.backend(), &pairs), also).await?;
        self.learn_names(&tx, &renamed).await?;
        let mut logged = Logged::default();
        for Pair { old, old_path, path, .. } in pairs {
            logged.add(ChangeKind::Moved, old, path, Some(old_path));
        }
        self.log(&tx, scan, logged).await?;
        let unhashed = "UPDATE location SET unhashed = TRUE WHERE id = $1";
        execute(&tx, unhashed, vec![scan.location.into()]).await?;
        tx.commit().await.map_err(db_error)
    }

    /// Gives an entry another place; another name has to be learnt then.
    pub(super) async fn place_entry(
        &self,
        tx: &DatabaseTransaction,
        entry: i64,
        dir: i64,
        name: &str,
    ) -> Result<(), ServiceError> {
        let ext = names::extension(name).to_ascii_lowercase();
        let sql = "UPDATE entry SET dir_id = $2, name = $3, ext = CASE WHEN kind = 1 THEN $4 ELSE '' END, gone = NULL
            WHERE id = $1";
        let values = vec![entry.into(), dir.into(), name.into(), ext.into()];
        execute(tx, sql, values).await.map(drop)
    }

    /// Removes entries, with what is said of them.
    pub(super) async fn drop_entries(
        &self,
        tx: &DatabaseTransaction,
        entries: &[i64],
    ) -> Result<(), ServiceError> {
        let backend = self.backend();
        for chunk in entries.chunks(10_000) {
            for (table, column) in [
                ("tagging", "entry_id"),
                ("labelling", "entry_id"),
                ("annotation", "entry_id"),
                ("entry", "id"),
            ] {
                let sql =
                    format!("DELETE FROM {table} WHERE {}", bulk::in_numbers(backend, column, 1));
                execute(tx, &sql, vec![bulk::numbers(backend, chunk)]).await?;
            }
        }
        Ok(())
    }
}

/// What the old entries become: all that the new ones were.
fn columns(backend: DbBackend, pairs: &[Pair]) -> Vec<(&'static str, Column)> {
    let numbers = |of: &dyn Fn(&Pair) -> i64| Column::I64(pairs.iter().map(of).collect());
    let texts = |of: &dyn Fn(&Pair) -> String| Column::Text(pairs.iter().map(of).collect());
    let mut columns = vec![
        ("id", numbers(&|pair| pair.old)),
        ("dir_id", numbers(&|pair| pair.dir)),
        ("name", texts(&|pair| pair.name.clone())),
        ("ext", texts(&|pair| pair.ext.clone())),
    ];
    for (at, fact) in FACTS.into_iter().enumerate() {
        columns.push((fact, numbers(&|pair| pair.facts[at])));
    }
    if backend != DbBackend::Postgres {
        columns.push(("lived", Column::OptI64(pairs.iter().map(|pair| pair.lived).collect())));
    }
    columns
}

fn facts(row: &QueryResult) -> Result<[i64; FACTS.len()], ServiceError> {
    let mut facts = [0; FACTS.len()];
    for (fact, column) in facts.iter_mut().zip(FACTS) {
        *fact = get(row, column)?;
    }
    Ok(facts)
}

fn path_of(row: &QueryResult) -> Result<String, ServiceError> {
    let (dir, name): (String, String) = (get(row, "path")?, get(row, "name")?);
    Ok(path_in(&dir, &name))
}

fn likeness(row: &QueryResult) -> Result<Likeness, ServiceError> {
    let (kind, ino, born) = (get(row, "kind")?, get(row, "ino")?, get(row, "born")?);
    Ok((kind, ino, born, get(row, "size")?, get(row, "modified")?))
}

/// An old path and a new one: which of several names of one file it was.
const ALIKE: [fn(&str, &str) -> bool; 3] = [
    |old, new| name_of(old) == name_of(new),
    |old, new| parent_of(old) == parent_of(new),
    |_, _| true,
];

/// New rows with what they were. Of several names of one file each is the one that had its
/// name, else the one of its directory, else the next.
fn paired(page: &[QueryResult], missing: &mut Missing) -> Result<Vec<Pair>, ServiceError> {
    let mut new = Vec::new();
    for row in page {
        let likeness = likeness(row)?;
        if missing.contains_key(&likeness) {
            new.push((likeness, path_of(row)?, row));
        }
    }
    let mut pairs = Vec::new();
    for is_like in ALIKE {
        let mut rest = Vec::new();
        for (likeness, path, row) in new {
            let Some(names) = missing.get_mut(&likeness) else { continue };
            let is_it = |old: &(i64, String)| is_like(&old.1, &path);
            let at = names.iter().take(NAMES_MAX).position(is_it);
            let Some((old, old_path)) = at.and_then(|at| names.remove(at)) else {
                rest.push((likeness, path, row));
                continue;
            };
            if names.is_empty() {
                missing.remove(&likeness);
            }
            pairs.push(pair(row, old, old_path, path)?);
        }
        new = rest;
    }
    Ok(pairs)
}

fn pair(row: &QueryResult, old: i64, old_path: String, path: String) -> Result<Pair, ServiceError> {
    Ok(Pair {
        old,
        old_path,
        new: get(row, "id")?,
        dir: get(row, "dir_id")?,
        name: get(row, "name")?,
        ext: get(row, "ext")?,
        path,
        facts: facts(row)?,
        lived: get(row, "lived")?,
    })
}
