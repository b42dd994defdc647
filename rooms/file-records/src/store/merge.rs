//! Listings of directories into rows: unchanged ones are recognised by their
//! fingerprint and cost nothing; a moved directory is renamed with all below
//! it; of the others the entries are compared by name.

use std::collections::{BTreeMap, HashMap, HashSet};

use file_scan::{Identity, Listing, names};
use sea_orm::{DatabaseTransaction, DbBackend};
use service_error::ServiceError;
use sql_store::{db_error, next_numbers};

use super::bulk::{self, Column};
use super::changes::{ChangeKind, Logged};
use super::diff::{self, Changes};
use super::{ScanKey, Store, all, below, execute, get};

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

#[derive(Debug, Clone)]
pub(super) struct Known {
    id: i64,
    print: Option<Vec<u8>>,
    problem: Option<String>,
    identity: Identity,
    archive: Option<i64>,
    files: i64,
}

const KNOWN: &str = "id, path, print, problem, dev, ino, archive, files";

impl Listed {
    pub(super) fn is_as_known(&self, known: &Known) -> bool {
        if self.archive != known.archive {
            return false;
        }
        match &self.print {
            Some(print) => {
                known.print.as_deref() == Some(&print[..])
                    && known.problem.is_none()
                    && known.identity.ino == self.listing.ino
            }
            None => known.problem == self.listing.error && self.listing.entry_count() == 0,
        }
    }
}

/// The path of the directory that holds another one.
fn parent_of(path: &str) -> Option<&str> {
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
        let mut fresh: Vec<Listed> = listed
            .into_iter()
            .filter(|listed| match known.get(&listed.path) {
                Some(known) if listed.is_as_known(known) => {
                    merged.unchanged += 1;
                    false
                }
                _ => true,
            })
            .collect();
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
        let (fresh, ids, moved) = self.take_places(&tx, scan, fresh, known, inode_at).await?;
        merged.moved += moved;
        let Some((path, print)) = large else {
            merged += self.compare(&tx, scan, fresh, &ids).await?;
            tx.commit().await.map_err(db_error)?;
            return Ok(merged);
        };
        tx.commit().await.map_err(db_error)?;
        for listed in fresh {
            if let Some(dir) = ids.get(&path) {
                merged += self.compare_large(scan, *dir, listed).await?;
            }
        }
        let tx = self.sql.begin().await?;
        self.hold(&tx, scan).await?;
        let sql = "UPDATE dir SET print = $3 WHERE location_id = $1 AND path = $2";
        let print = print.map(|print| print.to_vec());
        execute(&tx, sql, vec![scan.location.into(), path.into(), print.into()]).await?;
        tx.commit().await.map_err(db_error)?;
        Ok(merged)
    }

    /// Renames what moved and gives every directory its row; answers the listings,
    /// their rows, and how many moved.
    pub(super) async fn take_places(
        &self,
        tx: &DatabaseTransaction,
        scan: ScanKey,
        fresh: Vec<Listed>,
        mut known: HashMap<String, Known>,
        inode_at: &impl Fn(&str) -> Option<Identity>,
    ) -> Result<(Vec<Listed>, HashMap<String, diff::DirId>, i64), ServiceError> {
        let mut moved = 0;
        if !scan.is_first() {
            moved = self.rename_moved(tx, scan, &fresh, &known, inode_at).await?;
            if moved > 0 {
                known = self.known(tx, scan, fresh.iter()).await?;
            }
        }
        let (fresh, ids) = self.put_dirs(tx, scan, fresh, known).await?;
        Ok((fresh, ids, moved))
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
            _ => Err(ServiceError::precondition("another scan has taken the location over")
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
        let sql = match backend {
            // Looked up one by one, whatever the planner knows of the table: else it may
            // read all directories of the location each time.
            DbBackend::Postgres => format!(
                "SELECT d.* FROM UNNEST(CAST($2::text AS text[])) AS p (path)
                 CROSS JOIN LATERAL (SELECT {KNOWN} FROM dir WHERE location_id = $1 AND path = p.path LIMIT 1) d"
            ),
            _ => format!(
                "SELECT {KNOWN} FROM dir WHERE location_id = $1 AND {}",
                bulk::in_texts(backend, "path", 2)
            ),
        };
        let values = vec![scan.location.into(), bulk::texts(backend, paths)];
        let rows = all(db, &sql, values).await?;
        let mut known = HashMap::with_capacity(rows.len());
        for row in rows {
            let (dev, ino): (i64, i64) = (get(&row, "dev")?, get(&row, "ino")?);
            let dir = Known {
                id: get(&row, "id")?,
                print: get(&row, "print")?,
                problem: get(&row, "problem")?,
                identity: Identity { dev: dev.cast_unsigned(), ino: ino.cast_unsigned() },
                archive: get(&row, "archive")?,
                files: get(&row, "files")?,
            };
            known.insert(get(&row, "path")?, dir);
        }
        Ok(known)
    }

    /// Renames directories that are known by inode and time of birth under a
    /// path where they are no more, with everything below them.
    async fn rename_moved(
        &self,
        tx: &DatabaseTransaction,
        scan: ScanKey,
        fresh: &[Listed],
        known: &HashMap<String, Known>,
        inode_at: &impl Fn(&str) -> Option<Identity>,
    ) -> Result<i64, ServiceError> {
        let unknown: BTreeMap<&str, &Listed> = fresh
            .iter()
            .filter(|listed| !known.contains_key(&listed.path) && listed.listing.born.is_some())
            .map(|listed| (listed.path.as_str(), listed))
            .collect();
        if unknown.is_empty() {
            return Ok(0);
        }
        let inodes: Vec<i64> =
            unknown.values().map(|listed| listed.listing.ino.cast_signed()).collect();
        let backend = self.backend();
        let sql = format!(
            "SELECT path, ino, born FROM dir WHERE location_id = $1 AND {}",
            bulk::in_numbers(backend, "ino", 2)
        );
        let rows =
            all(tx, &sql, vec![scan.location.into(), bulk::numbers(backend, &inodes)]).await?;
        let mut stored: HashMap<(i64, Option<i64>), String> = HashMap::new();
        for row in rows {
            stored.insert((get(&row, "ino")?, get(&row, "born")?), get(&row, "path")?);
        }
        let mut done: Vec<(String, String)> = Vec::new();
        if !stored.is_empty() {
            self.hold_names(tx).await?;
        }
        for (path, listed) in unknown {
            let key = (listed.listing.ino.cast_signed(), listed.listing.born);
            let Some(old) = stored.get(&key).filter(|old| *old != path) else { continue };
            // Its parent moved: it went along.
            let went_along = done.iter().any(|(from, _)| {
                old.strip_prefix(from.as_str()).is_some_and(|rest| rest.starts_with('/'))
            });
            let is_there = inode_at(old).is_some_and(|there| there.ino == listed.listing.ino);
            if went_along || is_there || old.is_empty() {
                continue;
            }
            self.rename_dir(tx, scan, old, path).await?;
            done.push((old.clone(), path.to_owned()));
        }
        Ok(i64::try_from(done.len()).unwrap_or(0))
    }

    /// Gives a directory, all below it and its own entry another place.
    async fn rename_dir(
        &self,
        tx: &DatabaseTransaction,
        scan: ScanKey,
        old: &str,
        new: &str,
    ) -> Result<(), ServiceError> {
        let (from, to) = below(old);
        let cut = i64::try_from(old.chars().count()).unwrap_or(0) + 1;
        let sql = "UPDATE dir SET path = CAST($4 AS text) || substr(path, CAST($5 AS integer))
            WHERE location_id = $1 AND (path >= $6 AND path < $3 AND (path = $6 OR path >= $2))";
        let values =
            vec![scan.location.into(), from.into(), to.into(), new.into(), cut.into(), old.into()];
        execute(tx, sql, values).await?;
        let (old_parent, new_parent) = (parent_of(old).unwrap_or(""), parent_of(new).unwrap_or(""));
        let name = |path: &str| path.rsplit('/').next().unwrap_or_default().to_owned();
        let place = "SELECT e.id FROM entry e JOIN dir d ON d.id = e.dir_id
            WHERE d.location_id = $1 AND d.path = $2 AND e.name = $3";
        // The old parent may itself have been renamed by now: then its entry went along.
        let find = async |parent: &str, name: String| -> Result<Option<i64>, ServiceError> {
            let values = vec![scan.location.into(), parent.into(), name.into()];
            all(tx, place, values).await?.first().map(|row| get(row, "id")).transpose()
        };
        let Some(entry) = find(old_parent, name(old)).await? else { return Ok(()) };
        if let Some(twin) = find(new_parent, name(new)).await? {
            self.drop_entries(tx, &[twin]).await?;
        }
        let mut logged = Logged::default();
        logged.add(ChangeKind::Moved, entry, new.to_owned(), Some(old.to_owned()));
        self.log(tx, scan, logged).await?;
        let parent = self.dir_at(tx, scan, new_parent).await?;
        let above = "UPDATE dir SET parent_id = $2 WHERE location_id = $1 AND path = $3";
        execute(tx, above, vec![scan.location.into(), parent.into(), new.into()]).await?;
        self.place_entry(tx, entry, parent, &name(new), name(old) != name(new)).await
    }

    /// The number of a directory. One whose listing comes later in the same
    /// batch gets its row here, to be filled then.
    async fn dir_at(
        &self,
        tx: &DatabaseTransaction,
        scan: ScanKey,
        path: &str,
    ) -> Result<i64, ServiceError> {
        let find = "SELECT id FROM dir WHERE location_id = $1 AND path = $2";
        if let Some(row) = all(tx, find, vec![scan.location.into(), path.into()]).await?.first() {
            return get(row, "id");
        }
        let id = take_ids(tx, "dir", 1).await?;
        let sql = "INSERT INTO dir (id, location_id, path, dev, ino, files, bytes) VALUES ($1, $2, $3, 0, 0, 0, 0)";
        execute(tx, sql, vec![id.into(), scan.location.into(), path.into()]).await?;
        Ok(id)
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
            }
        }
        self.apply(tx, scan, changes).await
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
            let sql =
                "UPDATE dir SET dev = -1 WHERE location_id = $1 AND path = $2 AND archive IS NULL";
            execute(tx, sql, vec![scan.location.into(), path.as_str().into()]).await?;
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
