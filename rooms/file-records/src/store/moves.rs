//! Files that were moved: what is missing here, also with the directory that
//! held it, and new there with the same inode, birth, size and time is one file,
//! and keeps what is said of it.

use std::collections::HashMap;

use file_scan::names;
use sea_orm::{DatabaseTransaction, DbBackend};
use service_error::ServiceError;
use sql_store::db_error;

use super::bulk;
use super::changes::{ChangeKind, Logged, path_in};
use super::{ScanKey, Store, below, execute, get};

/// Missing files that are looked for; beyond it the rest counts as deleted.
const MISSING_MAX: i64 = 500_000;
const PAGE: i64 = 20_000;

type Likeness = (i64, Option<i64>, i64, i64);

/// A missing file and the new one that it became.
struct Pair {
    old: i64,
    old_path: String,
    new: i64,
    dir: i64,
    name: String,
    path: String,
}

impl Store {
    /// Pairs missing files with new ones; answers how many were moved.
    ///
    /// # Errors
    /// As [`Store::merge`].
    pub async fn match_moves(&self, scan: ScanKey) -> Result<i64, ServiceError> {
        if scan.newest < 0 || !self.are_some_gone().await? {
            // Nothing is newer than a scan that has ended, and nothing moved that is not missed.
            return Ok(0);
        }
        let mut missing: Option<HashMap<Likeness, (i64, String)>> = None;
        let (mut after, mut moved) = (scan.newest, 0);
        while missing.as_ref().is_none_or(|missing| !missing.is_empty()) {
            let sql = "SELECT e.id, e.dir_id, e.name, d.path, e.ino, e.born, e.size, e.modified
                FROM entry e JOIN dir d ON d.id = e.dir_id
                WHERE e.id > $1 AND e.kind = 1 AND e.gone IS NULL AND d.location_id = $2 ORDER BY e.id LIMIT $3";
            let values = vec![after.into(), scan.location.into(), PAGE.into()];
            let page = self.rows(sql, values).await?;
            let Some(last) = page.last() else { break };
            after = get(last, "id")?;
            // Nothing is looked for before there is what it may have become.
            let missing = match &mut missing {
                Some(missing) => missing,
                unknown => unknown.insert(self.missing_files(scan.location).await?),
            };
            let mut pairs = Vec::new();
            for row in &page {
                if let Some((old, old_path)) = missing.remove(&likeness(row)?) {
                    pairs.push(Pair {
                        old,
                        old_path,
                        new: get(row, "id")?,
                        dir: get(row, "dir_id")?,
                        name: get(row, "name")?,
                        path: path_of(row)?,
                    });
                }
            }
            moved += i64::try_from(pairs.len()).unwrap_or(0);
            self.join_pairs(scan, pairs).await?;
        }
        Ok(moved)
    }

    /// Files that are missing, those below missing directories too.
    async fn missing_files(
        &self,
        location: i64,
    ) -> Result<HashMap<Likeness, (i64, String)>, ServiceError> {
        const COLUMNS: &str = "e.id, e.name, d.path, e.ino, e.born, e.size, e.modified";
        let sql = format!(
            "SELECT {COLUMNS} FROM entry e JOIN dir d ON d.id = e.dir_id
             WHERE e.gone IS NOT NULL AND e.kind = 1 AND d.location_id = $1 LIMIT $2"
        );
        let mut rows = self.rows(&sql, vec![location.into(), MISSING_MAX.into()]).await?;
        let mut missing = HashMap::with_capacity(rows.len());
        let mut dirs = self.missing_dirs(location).await?.into_iter();
        loop {
            for row in &rows {
                missing.insert(likeness(row)?, (get(row, "id")?, path_of(row)?));
            }
            let room = MISSING_MAX - i64::try_from(missing.len()).unwrap_or(MISSING_MAX);
            let Some(dir) = dirs.next().filter(|_| room > 0) else { return Ok(missing) };
            let (from, to) = below(&dir);
            let sql = format!(
                "SELECT {COLUMNS} FROM dir d JOIN entry e ON e.dir_id = d.id
                 WHERE d.location_id = $1 AND (d.path >= $2 AND d.path < $4 AND (d.path = $2 OR d.path >= $3))
                   AND d.archive IS NULL AND e.kind = 1 LIMIT $5"
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
        // It is what its new name says: a rename moves ctime, and its mode or links may be others
        // too. The content is looked at again, and stands until then.
        let birth = match self.backend() {
            DbBackend::Postgres => "",
            // SQLite keeps it as a distance from the change.
            _ => ", lived = n.lived",
        };
        let sql = format!(
            "UPDATE entry SET changed = n.changed, links = n.links, mode = n.mode, uid = n.uid, gid = n.gid{birth},
               hashed = CASE WHEN entry.hashed = 1 THEN 2 ELSE entry.hashed END
             FROM entry n WHERE entry.id = $1 AND n.id = $2"
        );
        for pair in &pairs {
            execute(&tx, &sql, vec![pair.old.into(), pair.new.into()]).await?;
        }
        let twins: Vec<i64> = pairs.iter().map(|pair| pair.new).collect();
        self.drop_entries(&tx, &twins).await?;
        let mut logged = Logged::default();
        for Pair { old, old_path, dir, name, path, .. } in pairs {
            let is_renamed = old_path.rsplit('/').next() != Some(name.as_str());
            logged.add(ChangeKind::Moved, old, path, Some(old_path));
            self.place_entry(&tx, old, dir, &name, is_renamed).await?;
        }
        self.log(&tx, scan, logged).await?;
        let unhashed = "UPDATE location SET unhashed = TRUE WHERE id = $1";
        execute(&tx, unhashed, vec![scan.location.into()]).await?;
        tx.commit().await.map_err(db_error)
    }

    /// Gives an entry another place; its name is found by its trigrams, if it `is_renamed`.
    pub(super) async fn place_entry(
        &self,
        tx: &DatabaseTransaction,
        entry: i64,
        dir: i64,
        name: &str,
        is_renamed: bool,
    ) -> Result<(), ServiceError> {
        let ext = names::extension(name).to_ascii_lowercase();
        let sql = "UPDATE entry SET dir_id = $2, name = $3, ext = CASE WHEN kind = 1 THEN $4 ELSE '' END, gone = NULL
            WHERE id = $1";
        execute(tx, sql, vec![entry.into(), dir.into(), name.into(), ext.into()]).await?;
        if is_renamed { self.learn_names(tx, &[entry]).await } else { Ok(()) }
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

fn path_of(row: &sea_orm::QueryResult) -> Result<String, ServiceError> {
    let (dir, name): (String, String) = (get(row, "path")?, get(row, "name")?);
    Ok(path_in(&dir, &name))
}

fn likeness(row: &sea_orm::QueryResult) -> Result<Likeness, ServiceError> {
    Ok((get(row, "ino")?, get(row, "born")?, get(row, "size")?, get(row, "modified")?))
}
