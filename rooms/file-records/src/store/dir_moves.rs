//! Directories that moved. One that a listing names and that is known by inode and time of birth
//! at another place gets the place, with all below it and what is said of it, in the transaction
//! that compares the listing: rows of directories and their entries never part.
//!
//! What has the place goes aside, beside it under a name that no file has, and is missing there:
//! a later listing may name its own place, else its files are looked for and it is swept. So
//! nothing that moves meets a row, whatever moved before it and in whichever order they are told.

use std::collections::{BTreeSet, HashMap};

use file_scan::{Entry, Identity, Kind, LargeChild, names};
use sea_orm::{DatabaseTransaction, DbBackend};
use service_error::ServiceError;

use super::bulk;
use super::changes::{ChangeKind, Logged, path_in};
use super::merge::{Listed, parent_of, take_ids};
use super::{ScanKey, Store, all, below, execute, get};
use crate::model::{ASIDE, KnownDirs, is_below, name_of};

/// What moves may take others from places that were looked at before.
const PASSES: usize = 8;

/// Where a listing names a directory.
pub(super) struct Place {
    path: String,
    dev: i64,
    /// Its inode and birth.
    who: (i64, i64),
}

impl Place {
    /// The directories that a listing names, where births are known.
    pub fn all<'a>(dir: &'a str, entries: &'a [Entry]) -> impl Iterator<Item = Self> + 'a {
        entries.iter().filter(|entry| entry.kind == Kind::Dir).filter_map(move |entry| {
            let who = (entry.ino.cast_signed(), entry.times.born?);
            let path = path_in(dir, &names::text(&entry.name));
            Some(Self { path, dev: entry.dev.cast_signed(), who })
        })
    }

    fn child(dir: &str, child: &LargeChild) -> Option<Self> {
        let who = (child.identity.ino.cast_signed(), child.born?);
        let path = path_in(dir, &names::text(&child.name));
        Some(Self { path, dev: child.identity.dev.cast_signed(), who })
    }

    /// Those of listings of the disk.
    pub fn of(listed: &[Listed]) -> Vec<Self> {
        let on_disk = listed.iter().filter(|listed| listed.archive.is_none());
        on_disk.flat_map(|listed| Self::all(&listed.path, &listed.listing.entries)).collect()
    }
}

/// The moves of a transaction, and what they come to once all are made. Not one by one: of a
/// row that a transaction writes a thousand times Postgres reads through a thousand versions.
#[derive(Default)]
struct Moves {
    rows: KnownDirs,
    count: i64,
    logged: Logged,
    /// Something moved of which the log can't tell.
    is_unsaid: bool,
    /// Directories whose listings are to be looked at again.
    again: BTreeSet<i64>,
    /// Entries that have another name.
    renamed: Vec<i64>,
}

impl Moves {
    /// Tells of a move, step by step: whoever follows the log makes the same ones.
    fn log(&mut self, entry: Option<&Placed>, old: &str, new: &str) {
        match entry {
            Some(entry) => {
                let (new, old) = (new.to_owned(), Some(old.to_owned()));
                self.logged.add(ChangeKind::Moved, entry.id, new, old);
            }
            None => self.is_unsaid = true,
        }
    }
}

/// What a directory's listing said is at a path.
struct Placed {
    id: i64,
    dir: i64,
    kind: i16,
    ino: i64,
    is_gone: bool,
}

impl Store {
    /// Gives directories the places at which listings name them; answers how many moved.
    /// `inode_at` looks what is at a path now and `seen` what was listed there: a directory
    /// that is still where it was has not moved.
    pub(super) async fn move_dirs(
        &self,
        tx: &DatabaseTransaction,
        scan: ScanKey,
        mut named: Vec<Place>,
        seen: &[Listed],
        inode_at: &impl Fn(&str) -> Option<Identity>,
    ) -> Result<i64, ServiceError> {
        let rows = self.rows_of(tx, scan, &named).await?;
        let is_moved = |place: &Place| rows.misplaced(place.who, &place.path, |_| false).is_some();
        if !named.iter().any(is_moved) {
            return Ok(0);
        }
        // A directory before those in it.
        named.sort_unstable_by(|a, b| a.path.cmp(&b.path));
        let mut here: HashMap<&str, i64> =
            named.iter().map(|place| (place.path.as_str(), place.who.0)).collect();
        here.extend(seen.iter().map(|seen| (seen.path.as_str(), seen.listing.ino.cast_signed())));
        let mut moves = Moves { rows, ..Moves::default() };
        for _ in 0..PASSES {
            let before = moves.count;
            for place in &named {
                let is_there = |path: &str| {
                    let ino = inode_at(path).map(|there| there.ino.cast_signed());
                    ino.or_else(|| here.get(path).copied()) == Some(place.who.0)
                };
                let id = moves.rows.misplaced(place.who, &place.path, is_there);
                let Some(id) = id else { continue };
                if moves.count == 0 {
                    self.hold_names(tx).await?;
                }
                self.move_dir(tx, scan, &mut moves, id, place).await?;
                moves.count += 1;
            }
            if moves.count == before {
                break;
            }
        }
        self.end_moves(tx, scan, moves).await
    }

    /// Writes what moves come to; answers how many they were.
    async fn end_moves(
        &self,
        tx: &DatabaseTransaction,
        scan: ScanKey,
        moves: Moves,
    ) -> Result<i64, ServiceError> {
        let backend = self.backend();
        let again: Vec<i64> = moves.again.into_iter().collect();
        for dirs in again.chunks(10_000) {
            let which = bulk::in_numbers(backend, "id", 1);
            let sql = format!("UPDATE dir SET print = NULL WHERE {which}");
            execute(tx, &sql, vec![bulk::numbers(backend, dirs)]).await?;
        }
        for entries in moves.renamed.chunks(10_000) {
            self.learn_names(tx, entries).await?;
        }
        match moves.is_unsaid {
            true => self.log_unsaid(tx, scan).await?,
            false => self.log(tx, scan, moves.logged).await?,
        }
        Ok(moves.count)
    }

    /// The same for the directories in one that comes in pages, before any page: a file of an
    /// earlier page may have the name of one whose place is told later.
    pub(super) async fn move_children(
        &self,
        tx: &DatabaseTransaction,
        scan: ScanKey,
        head: &Listed,
        inode_at: &impl Fn(&str) -> Option<Identity>,
    ) -> Result<i64, ServiceError> {
        let mut moved = Vec::new();
        let dirs = head.listing.large.iter().flat_map(|large| large.dirs().chunks(10_000));
        for dirs in dirs {
            let mut named: Vec<Place> =
                dirs.iter().filter_map(|child| Place::child(&head.path, child)).collect();
            // There may be a million: those that have not moved are not held.
            let rows = self.rows_of(tx, scan, &named).await?;
            named.retain(|place| rows.misplaced(place.who, &place.path, |_| false).is_some());
            moved.append(&mut named);
        }
        self.move_dirs(tx, scan, moved, &[], inode_at).await
    }

    /// The rows of directories that listings name, wherever they are.
    async fn rows_of(
        &self,
        tx: &DatabaseTransaction,
        scan: ScanKey,
        named: &[Place],
    ) -> Result<KnownDirs, ServiceError> {
        let backend = self.backend();
        let sql = dirs_of_inodes(backend);
        let mut rows = KnownDirs::default();
        for chunk in named.chunks(10_000) {
            let inodes: BTreeSet<i64> = chunk.iter().map(|place| place.who.0).collect();
            let inodes: Vec<i64> = inodes.into_iter().collect();
            let values = vec![scan.location.into(), bulk::numbers(backend, &inodes)];
            for row in all(tx, &sql, values).await? {
                let (id, who) = (get(&row, "id")?, (get(&row, "ino")?, get(&row, "born")?));
                rows.insert(id, who, get(&row, "path")?);
            }
        }
        Ok(rows)
    }

    /// Gives a directory, all below it and its own entry a place.
    async fn move_dir(
        &self,
        tx: &DatabaseTransaction,
        scan: ScanKey,
        moves: &mut Moves,
        id: i64,
        place: &Place,
    ) -> Result<(), ServiceError> {
        let old = moves.rows.path(id).to_owned();
        let entry = self.placed(tx, scan, &old).await?;
        // Of another directory or a file that took its place the entry stays there.
        let entry = entry.filter(|it| it.kind == Kind::Dir as i16 && it.ino == place.who.0);
        if is_below(&place.path, &old) {
            // Another directory has its place, and holds it.
            let aside = aside(tx, &old).await?;
            self.rename_rows(tx, scan, &mut moves.rows, &old, &aside).await?;
            moves.log(entry.as_ref(), &old, &aside);
        }
        self.clear(tx, scan, moves, &place.path).await?;
        // It may have lain in what was there.
        let now = moves.rows.path(id).to_owned();
        self.rename_rows(tx, scan, &mut moves.rows, &now, &place.path).await?;
        let parent = self.dir_at(tx, scan, parent_of(&place.path).unwrap_or("")).await?;
        let sql = "UPDATE dir SET parent_id = $2, dev = $3 WHERE id = $1";
        execute(tx, sql, vec![id.into(), parent.into(), place.dev.into()]).await?;
        moves.log(entry.as_ref(), &now, &place.path);
        let Some(entry) = entry else { return Ok(()) };
        if !entry.is_gone {
            // Who held it may have been found unchanged.
            moves.again.insert(entry.dir);
        }
        let name = name_of(&place.path);
        moves.renamed.extend((name_of(&old) != name).then_some(entry.id));
        self.place_entry(tx, entry.id, parent, name).await
    }

    /// Puts what has a place aside, rows and entry, as something that is missing.
    async fn clear(
        &self,
        tx: &DatabaseTransaction,
        scan: ScanKey,
        moves: &mut Moves,
        path: &str,
    ) -> Result<(), ServiceError> {
        let (from, to) = below(path);
        let taken = "SELECT 1 AS found FROM dir WHERE location_id = $1
            AND (path >= $2 AND path < $4 AND (path = $2 OR path >= $3)) LIMIT 1";
        let values = vec![scan.location.into(), path.into(), from.into(), to.into()];
        let has_rows = !all(tx, taken, values).await?.is_empty();
        let entry = self.placed(tx, scan, path).await?;
        if !has_rows && entry.is_none() {
            return Ok(());
        }
        let aside = aside(tx, path).await?;
        if has_rows {
            self.rename_rows(tx, scan, &mut moves.rows, path, &aside).await?;
        }
        if entry.as_ref().is_none_or(|entry| entry.kind != Kind::Dir as i16) {
            // Nothing says that it is missing: it is swept as one whose place is taken.
            self.lose_place(tx, scan, &aside).await?;
        }
        moves.log(entry.as_ref(), path, &aside);
        let Some(entry) = entry else { return Ok(()) };
        let sql = "UPDATE entry SET name = $2, gone = COALESCE(gone, $3) WHERE id = $1";
        let values = vec![entry.id.into(), name_of(&aside).into(), scan.generation.into()];
        execute(tx, sql, values).await.map(drop)
    }

    /// Something else has a directory's place.
    pub(super) async fn lose_place(
        &self,
        tx: &DatabaseTransaction,
        scan: ScanKey,
        path: &str,
    ) -> Result<(), ServiceError> {
        let sql =
            "UPDATE dir SET dev = -1 WHERE location_id = $1 AND path = $2 AND archive IS NULL";
        execute(tx, sql, vec![scan.location.into(), path.into()]).await.map(drop)
    }

    /// Renames the rows of a directory and of all below it; nothing is at the new path.
    async fn rename_rows(
        &self,
        tx: &DatabaseTransaction,
        scan: ScanKey,
        rows: &mut KnownDirs,
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
        rows.rename(old, new);
        Ok(())
    }

    /// The entry at a path.
    async fn placed(
        &self,
        tx: &DatabaseTransaction,
        scan: ScanKey,
        path: &str,
    ) -> Result<Option<Placed>, ServiceError> {
        let sql =
            "SELECT e.id, e.dir_id, e.kind, e.ino, e.gone FROM entry e JOIN dir d ON d.id = e.dir_id
            WHERE d.location_id = $1 AND d.path = $2 AND e.name = $3";
        let parent = parent_of(path).unwrap_or("");
        let values = vec![scan.location.into(), parent.into(), name_of(path).into()];
        let found = all(tx, sql, values).await?;
        let Some(row) = found.first() else { return Ok(None) };
        Ok(Some(Placed {
            id: get(row, "id")?,
            dir: get(row, "dir_id")?,
            kind: get(row, "kind")?,
            ino: get(row, "ino")?,
            is_gone: get::<Option<i64>>(row, "gone")?.is_some(),
        }))
    }

    /// The number of a directory. One whose listing comes later gets its row here, to be
    /// filled then.
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
}

/// The directories of location `$1` that have the inodes of `$2`, each once.
pub(super) fn dirs_of_inodes(backend: DbBackend) -> String {
    let which = "born IS NOT NULL AND archive IS NULL";
    match backend {
        // Looked up one by one, as those of paths are. The bound keeps the planner from reading
        // all directories of the location and looking for each among the inodes.
        DbBackend::Postgres => format!(
            "SELECT d.* FROM UNNEST(CAST($2::text AS bigint[])) AS who (ino)
             CROSS JOIN LATERAL (SELECT id, path, ino, born FROM dir WHERE location_id = $1 AND ino = who.ino AND {which}
             LIMIT 1000000) d"
        ),
        _ => format!(
            "SELECT id, path, ino, born FROM dir WHERE location_id = $1 AND {} AND {which}",
            bulk::in_numbers(backend, "ino", 2)
        ),
    }
}

/// A place that nothing has, beside a path.
async fn aside(tx: &DatabaseTransaction, path: &str) -> Result<String, ServiceError> {
    // Of what went aside before the name is the same: its number alone is another.
    let name = path.split_at(path.len() - name_of(path).len());
    let plain = name.1.split(ASIDE).next().unwrap_or_default();
    Ok(format!("{}{plain}{ASIDE}{}", name.0, take_ids(tx, "dir", 1).await?))
}
