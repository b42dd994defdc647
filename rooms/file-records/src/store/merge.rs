//! Listings of directories into rows: unchanged ones are recognised by their
//! fingerprint and cost nothing; directories that moved get their places; of
//! the others the entries are compared by name.

use std::collections::{HashMap, HashSet};

use file_scan::{Identity, Listing, names};
use sea_orm::{DatabaseTransaction, DbBackend};
use service_error::ServiceError;
use sql_store::{db_error, next_numbers};

use super::bulk::{self, Column};
use super::diff::{self, Changes};
use super::dir_moves::Place;
use super::{ScanKey, Store, all, execute, get, sum_of};
pub use crate::model::Merged;

/// Entries of a directory that are written at once; of larger ones the parts are not
/// told one by one.
pub(super) const PART: usize = 20_000;
/// The stored entries of directories of so many files are read by pages.
const LARGE: i64 = 20_000;

/// A listing with what is stored of it.
#[derive(Debug)]
pub struct Listed {
    /// Its path as text.
    pub path: String,
    /// What it holds.
    pub listing: Listing,
    /// Its fingerprint; none if it is not whole.
    pub print: Option<[u8; 16]>,
    /// The entry of the archive that it lies in.
    pub archive: Option<i64>,
}

impl From<Listing> for Listed {
    fn from(listing: Listing) -> Self {
        let path = names::text(&listing.path);
        let print = listing.is_complete().then(|| listing.fingerprint());
        Self { path, listing, print, archive: None }
    }
}

/// Listings, a parent before its children, that are merged at once.
#[derive(Debug, Default)]
pub struct Batch {
    /// In the order of the walk.
    pub listed: Vec<Listed>,
}

#[derive(Debug, Clone)]
pub(super) struct Known {
    id: i64,
    print: Option<Vec<u8>>,
    problem: Option<String>,
    ino: u64,
    born: Option<i64>,
    archive: Option<i64>,
    files: i64,
}

/// Columns of the directories of location `$1` that are at the paths of `$2`: a table `d`.
pub(super) fn dirs_at(backend: DbBackend, columns: &str) -> String {
    match backend {
        // Looked up one by one, whatever the planner knows of the table: else it may
        // read all directories of the location each time.
        DbBackend::Postgres => format!(
            "UNNEST(CAST($2::text AS text[])) AS p (path)
             CROSS JOIN LATERAL (SELECT {columns} FROM dir WHERE location_id = $1 AND path = p.path LIMIT 1) d"
        ),
        _ => format!(
            "(SELECT {columns} FROM dir WHERE location_id = $1 AND {}) d",
            bulk::in_texts(backend, "path", 2)
        ),
    }
}

const KNOWN: &str = "id, path, print, problem, ino, born, archive, files";

impl Listed {
    pub(super) fn is_as_known(&self, known: &Known) -> bool {
        if self.archive != known.archive {
            return false;
        }
        match &self.print {
            Some(print) => {
                known.print.as_deref() == Some(&print[..])
                    && known.problem.is_none()
                    && known.ino == self.listing.ino
            }
            None => known.problem == self.listing.error && self.listing.entry_count() == 0,
        }
    }
}

/// Listings with the rows of their directories.
pub(super) struct Taken {
    pub fresh: Vec<Listed>,
    pub ids: HashMap<String, diff::DirId>,
    /// Directories that moved.
    pub moved: i64,
    /// Listings that are as their rows are.
    pub same: usize,
}

/// Those that are to be looked at, and those that are as they are known.
fn parted(listed: Vec<Listed>, known: &HashMap<String, Known>) -> (Vec<Listed>, Vec<Listed>) {
    let is_fresh =
        |listed: &Listed| !known.get(&listed.path).is_some_and(|known| listed.is_as_known(known));
    listed.into_iter().partition(is_fresh)
}

/// The path of the directory that holds another one.
pub(super) fn parent_of(path: &str) -> Option<&str> {
    if path.is_empty() {
        return None;
    }
    Some(path.rsplit_once('/').map_or("", |(parent, _)| parent))
}

impl Store {
    /// Makes the rows of some directories what was found. `inode_at` looks what
    /// is at a path now: a directory that is still where it was has not moved.
    ///
    /// # Errors
    /// `Conflict` with reason `LEASE_LOST` when another scan has the location;
    /// the database's.
    pub async fn merge(
        &self,
        scan: ScanKey,
        batch: Batch,
        inode_at: impl Fn(&str) -> Option<Identity>,
    ) -> Result<Merged, ServiceError> {
        let mut merged = Merged::default();
        let mut run = Vec::new();
        for listed in batch.listed {
            if listed.listing.entries.len() <= PART {
                run.push(listed);
                continue;
            }
            merged += self.merge_run(scan, std::mem::take(&mut run), &inode_at).await?;
            merged += self.merge_run(scan, vec![listed], &inode_at).await?;
        }
        merged += self.merge_run(scan, run, &inode_at).await?;
        Ok(merged)
    }

    /// Merges directories in one transaction; or one that is too large for that in
    /// several, its fingerprint with the last: a kill before leaves it to be looked
    /// at again.
    async fn merge_run(
        &self,
        scan: ScanKey,
        listed: Vec<Listed>,
        inode_at: &impl Fn(&str) -> Option<Identity>,
    ) -> Result<Merged, ServiceError> {
        let mut merged = Merged::default();
        let known = self.known(self.read(), scan, listed.iter()).await?;
        let (mut fresh, same) = parted(listed, &known);
        merged.unchanged += i64::try_from(same.len()).unwrap_or(0);
        if fresh.is_empty() {
            return Ok(merged);
        }
        let mut large = None;
        if let [listed] = fresh.as_mut_slice()
            && listed.listing.entries.len() > PART
        {
            large = Some((listed.path.clone(), listed.print.take()));
        }
        let tx = self.sql.begin().await?;
        self.hold(&tx, scan).await?;
        if scan.is_first() && !scan.by_agent {
            self.repeatable(&tx).await?;
        }
        let before = same.len();
        let Taken { fresh, ids, moved, same } =
            self.take_places(&tx, scan, (fresh, same), known, inode_at).await?;
        merged.moved += moved;
        merged.unchanged -= i64::try_from(before - same).unwrap_or(0);
        let Some((path, print)) = large else {
            merged += self.compare(&tx, scan, fresh, &ids).await?;
            tx.commit().await.map_err(db_error)?;
            return Ok(merged);
        };
        tx.commit().await.map_err(db_error)?;
        let mut partly = Vec::new();
        for listed in fresh {
            if let Some(dir) = ids.get(&path) {
                partly.extend((!listed.listing.is_complete()).then_some(dir.id));
                merged += self.compare_large(scan, *dir, listed).await?;
            }
        }
        let tx = self.sql.begin().await?;
        self.hold(&tx, scan).await?;
        self.recount(&tx, &partly).await?;
        let sql = "UPDATE dir SET print = $3 WHERE location_id = $1 AND path = $2";
        let print = print.map(|print| print.to_vec());
        execute(&tx, sql, vec![scan.location.into(), path.into(), print.into()]).await?;
        tx.commit().await.map_err(db_error)?;
        Ok(merged)
    }

    /// Gives what moved its place and every directory its row. Of listings that are the
    /// `same` as their rows those whose rows went elsewhere are fresh too.
    pub(super) async fn take_places(
        &self,
        tx: &DatabaseTransaction,
        scan: ScanKey,
        (mut fresh, mut same): (Vec<Listed>, Vec<Listed>),
        mut known: HashMap<String, Known>,
        inode_at: &impl Fn(&str) -> Option<Identity>,
    ) -> Result<Taken, ServiceError> {
        let mut moved = 0;
        if !scan.is_first() {
            moved = self.move_dirs(tx, scan, Place::of(&fresh), &same, inode_at).await?;
        }
        if moved > 0 {
            known = self.known(tx, scan, fresh.iter().chain(&same)).await?;
            let other;
            (other, same) = parted(same, &known);
            fresh.extend(other);
        }
        let (fresh, ids) = self.put_dirs(tx, scan, fresh, known).await?;
        Ok(Taken { fresh, ids, moved, same: same.len() })
    }

    /// Nobody else scans the location until the transaction ends.
    pub(super) async fn hold(
        &self,
        tx: &DatabaseTransaction,
        scan: ScanKey,
    ) -> Result<(), ServiceError> {
        let sql = "UPDATE location SET lease_epoch = lease_epoch WHERE id = $1 AND lease_epoch = $2 AND deleted_at IS NULL";
        match execute(tx, sql, vec![scan.location.into(), scan.epoch.into()]).await? {
            1 => Ok(()),
            _ => Err(ServiceError::precondition(
                "another scan has taken the location over, or it was deleted",
            )
            .reason("LEASE_LOST")),
        }
    }

    /// What the transaction writes is written again if it is lost: on Postgres it is not
    /// waited for until it is on the disk. What is written later and waited for takes it along.
    pub(super) async fn repeatable(&self, tx: &DatabaseTransaction) -> Result<(), ServiceError> {
        if self.backend() == DbBackend::Postgres {
            execute(tx, "SET LOCAL synchronous_commit = off", vec![]).await?;
        }
        Ok(())
    }

    /// The stored directories of some listings and of their parents.
    pub(super) async fn known<'a, C: sea_orm::ConnectionTrait>(
        &self,
        db: &C,
        scan: ScanKey,
        listed: impl Iterator<Item = &'a Listed>,
    ) -> Result<HashMap<String, Known>, ServiceError> {
        let mut paths: HashSet<&str> = HashSet::new();
        for listed in listed {
            paths.insert(&listed.path);
            paths.extend(parent_of(&listed.path));
        }
        let backend = self.backend();
        let sql = format!("SELECT d.* FROM {}", dirs_at(backend, KNOWN));
        let values = vec![scan.location.into(), bulk::texts(backend, paths)];
        let rows = all(db, &sql, values).await?;
        let mut known = HashMap::with_capacity(rows.len());
        for row in rows {
            let dir = Known {
                id: get(&row, "id")?,
                print: get(&row, "print")?,
                problem: get(&row, "problem")?,
                ino: get::<i64>(&row, "ino")?.cast_unsigned(),
                born: get(&row, "born")?,
                archive: get(&row, "archive")?,
                files: get(&row, "files")?,
            };
            known.insert(get(&row, "path")?, dir);
        }
        Ok(known)
    }

    /// Inserts the rows of new directories and refreshes those of known ones;
    /// answers their ids, and which of them are new.
    async fn put_dirs(
        &self,
        tx: &DatabaseTransaction,
        scan: ScanKey,
        fresh: Vec<Listed>,
        known: HashMap<String, Known>,
    ) -> Result<(Vec<Listed>, HashMap<String, diff::DirId>), ServiceError> {
        let mut ids: HashMap<String, diff::DirId> = known
            .iter()
            .map(|(path, dir)| {
                let is_large = dir.files >= LARGE;
                (path.clone(), diff::DirId { id: dir.id, is_new: false, is_large })
            })
            .collect();
        let new_count = fresh.iter().filter(|listed| !known.contains_key(&listed.path)).count();
        let mut next = take_ids(tx, "dir", new_count).await?;
        let (mut new, mut old) = (DirRows::default(), DirRows::default());
        for listed in &fresh {
            if let Some(dir) = known.get(&listed.path) {
                old.push(dir.id, scan.location, None, listed);
                if !listed.listing.is_complete() && dir.ino == listed.listing.ino {
                    old.keep_born(dir.born);
                }
                continue;
            }
            let parent = parent_of(&listed.path).and_then(|path| ids.get(path)).map(|dir| dir.id);
            new.push(next, scan.location, parent, listed);
            let dir = diff::DirId { id: next, is_new: true, is_large: false };
            ids.insert(listed.path.clone(), dir);
            next += 1;
        }
        bulk::insert(tx, "dir", &new.columns(true), "").await?;
        bulk::update(tx, "dir", &old.columns(false), "").await?;
        Ok((fresh, ids))
    }

    async fn compare(
        &self,
        tx: &DatabaseTransaction,
        scan: ScanKey,
        fresh: Vec<Listed>,
        ids: &HashMap<String, diff::DirId>,
    ) -> Result<Merged, ServiceError> {
        let old = fresh
            .iter()
            .filter_map(|listed| ids.get(&listed.path))
            .filter(|dir| !dir.is_new && !dir.is_large)
            .map(|dir| dir.id);
        let mut stored = diff::stored(tx, &old.collect::<Vec<_>>()).await?;
        let mut changes = Changes::new(scan.generation, !scan.is_first());
        let mut partly = Vec::new();
        for listed in fresh {
            let Some(dir) = ids.get(&listed.path).copied() else { continue };
            let mut known = match dir.is_large {
                true => diff::stored_in(tx, dir.id).await?,
                false => stored.remove(&dir.id).unwrap_or_default(),
            };
            for entry in &listed.listing.entries {
                changes.compare(dir, &listed.path, entry, &mut known);
            }
            // What was not seen in a listing that is not whole may still be there.
            if listed.listing.is_complete() {
                changes.left(known);
            } else {
                partly.push(dir.id);
            }
        }
        let merged = self.apply(tx, scan, changes).await?;
        self.recount(tx, &partly).await?;
        Ok(merged)
    }

    /// Totals of directories that were not read to their ends: what is known of them stays.
    pub(super) async fn recount(
        &self,
        tx: &DatabaseTransaction,
        dirs: &[i64],
    ) -> Result<(), ServiceError> {
        if dirs.is_empty() {
            return Ok(());
        }
        let of = "FROM entry e WHERE e.dir_id = dir.id AND e.kind = 1 AND e.gone IS NULL";
        let sql = format!(
            "UPDATE dir SET files = (SELECT COUNT(*) {of}), bytes = COALESCE((SELECT {} {of}), 0) WHERE {}",
            sum_of(self.backend(), "e.size"),
            bulk::in_numbers(self.backend(), "id", 1)
        );
        execute(tx, &sql, vec![bulk::numbers(self.backend(), dirs)]).await.map(drop)
    }

    pub(super) async fn apply(
        &self,
        tx: &DatabaseTransaction,
        scan: ScanKey,
        mut changes: Changes,
    ) -> Result<Merged, ServiceError> {
        let counts = changes.counts();
        let first = take_ids(tx, "entry", changes.new_count()).await?;
        match changes.logged(first) {
            Some(logged) => self.log(tx, scan, logged).await?,
            None => self.log_unsaid(tx, scan).await?,
        }
        let (new, changed) = changes.columns(first, self.backend());
        bulk::insert(tx, "entry", &new, "").await?;
        // Its content is another one, or at least has to be looked at again.
        bulk::update(tx, "entry", &changed, ", content_id = NULL, hashed = 0, gone = NULL").await?;
        // It may turn out to have moved; if not, it goes with what is missing.
        for path in &changes.replaced {
            self.lose_place(tx, scan, path).await?;
        }
        let backend = self.backend();
        for (ids, set) in [
            (&changes.missing, format!("gone = {}", scan.generation)),
            (&changes.returned, "gone = NULL".to_owned()),
        ] {
            for chunk in ids.chunks(10_000) {
                let sql =
                    format!("UPDATE entry SET {set} WHERE {}", bulk::in_numbers(backend, "id", 1));
                execute(tx, &sql, vec![bulk::numbers(backend, chunk)]).await?;
            }
        }
        // What returned may have been away while the others were hashed.
        if counts.added + counts.changed > 0 || !changes.returned.is_empty() {
            let unhashed = "UPDATE location SET unhashed = TRUE WHERE id = $1 AND NOT unhashed";
            execute(tx, unhashed, vec![scan.location.into()]).await?;
        }
        Ok(counts)
    }
}

/// The first of `count` new numbers.
pub(super) async fn take_ids(
    tx: &DatabaseTransaction,
    counter: &str,
    count: usize,
) -> Result<i64, ServiceError> {
    if count == 0 {
        return Ok(0);
    }
    let count = u32::try_from(count)
        .map_err(|_| ServiceError::exhausted("more rows than one transaction takes"))?;
    Ok(next_numbers(tx, counter, count).await? - i64::from(count) + 1)
}

/// Columns of directories.
#[derive(Default)]
struct DirRows {
    id: Vec<i64>,
    location: Vec<i64>,
    parent: Vec<Option<i64>>,
    path: Vec<String>,
    dev: Vec<i64>,
    ino: Vec<i64>,
    born: Vec<Option<i64>>,
    print: Vec<Option<Vec<u8>>>,
    problem: Vec<Option<String>>,
    files: Vec<i64>,
    bytes: Vec<i64>,
    archive: Vec<Option<i64>>,
}

impl DirRows {
    fn push(&mut self, id: i64, location: i64, parent: Option<i64>, listed: &Listed) {
        let listing = &listed.listing;
        let (files, bytes) = listing.totals();
        self.id.push(id);
        self.location.push(location);
        self.parent.push(parent);
        self.path.push(listed.path.clone());
        self.dev.push(listing.dev.cast_signed());
        self.ino.push(listing.ino.cast_signed());
        self.born.push(listing.born);
        self.print.push(listed.print.map(|print| print.to_vec()));
        self.problem.push(listing.error.clone());
        self.files.push(files);
        self.bytes.push(bytes);
        self.archive.push(listed.archive);
    }

    /// Of one that can't be read who it is is known from before.
    fn keep_born(&mut self, born: Option<i64>) {
        if let Some(last @ None) = self.born.last_mut() {
            *last = born;
        }
    }

    fn columns(self, is_new: bool) -> Vec<(&'static str, Column)> {
        let mut columns = vec![("id", Column::I64(self.id))];
        if is_new {
            columns.push(("location_id", Column::I64(self.location)));
            columns.push(("parent_id", Column::OptI64(self.parent)));
            columns.push(("path", Column::Text(self.path)));
        }
        columns.push(("dev", Column::I64(self.dev)));
        columns.push(("ino", Column::I64(self.ino)));
        columns.push(("born", Column::OptI64(self.born)));
        columns.push(("print", Column::Bytes(self.print)));
        columns.push(("problem", Column::OptText(self.problem)));
        columns.push(("files", Column::I64(self.files)));
        columns.push(("bytes", Column::I64(self.bytes)));
        columns.push(("archive", Column::OptI64(self.archive)));
        columns
    }
}
