//! What is missing is removed last, and only if it is not too much.

use std::collections::HashSet;

use sea_orm::QueryResult;
use service_error::ServiceError;
use sql_store::{db_error, next_numbers};

use super::bulk;
use super::changes::{ChangeKind, Logged};
use super::{ScanKey, Store, below, execute, get, sum};
use crate::model::with_parents;

/// Small in tests, which have more.
const CHUNK: i64 = if cfg!(test) { 10 } else { 10_000 };

/// Of a content: no file has it, and nothing is said of it.
const UNUSED: &str = "NOT EXISTS (SELECT 1 FROM entry e WHERE e.content_id = content.id)
    AND NOT EXISTS (SELECT 1 FROM tagging t WHERE t.content_id = content.id)
    AND NOT EXISTS (SELECT 1 FROM labelling l WHERE l.content_id = content.id)
    AND NOT EXISTS (SELECT 1 FROM annotation a WHERE a.content_id = content.id)";

/// A missing entry's place.
struct Missing {
    id: i64,
    path: String,
    is_dir: bool,
    is_member: bool,
}

fn missing_of(row: &QueryResult) -> Result<Missing, ServiceError> {
    let (dir, name): (String, String) = (get(row, "path")?, get(row, "name")?);
    let path = if dir.is_empty() { name } else { format!("{dir}/{name}") };
    Ok(Missing {
        id: get(row, "id")?,
        path,
        is_dir: get::<i16>(row, "kind")? == 2,
        is_member: get::<Option<i64>>(row, "archive")?.is_some(),
    })
}

impl Store {
    /// Entries of a location, and how many a sweep would remove: the missing
    /// ones, and all below missing directories. Members of archives do not count:
    /// they are what their archive is. The entries are not counted if none is missing.
    ///
    /// # Errors
    /// The database's.
    pub async fn missing(&self, location: i64) -> Result<(i64, i64), ServiceError> {
        let (mut missing, mut after) = (0, 0);
        let mut dirs: HashSet<String> = self.replaced_dirs(location).await?.into_iter().collect();
        loop {
            let page = self.missing_page(location, after).await?;
            let Some(last) = page.last() else { break };
            after = last.id;
            for entry in page.into_iter().filter(|entry| !entry.is_member) {
                missing += 1;
                dirs.extend(entry.is_dir.then_some(entry.path));
            }
        }
        for dir in &dirs {
            // What lies in another one was counted with it.
            if !with_parents(dir).skip(1).any(|parent| dirs.contains(parent)) {
                missing += self.entries_below(location, dir).await?;
            }
        }
        // Of a scan that found everything nobody asks how much that is.
        if missing == 0 {
            return Ok((0, 0));
        }
        let total = "SELECT COUNT(*) AS n FROM dir d JOIN entry e ON e.dir_id = d.id WHERE d.location_id = $1 AND d.archive IS NULL";
        let total = self.row(total, vec![location.into()]).await?;
        let total = total.as_ref().map_or(Ok(0), |row| sum(row, "n"))?;
        Ok((total, missing.min(total)))
    }

    /// Whether any entry is missing, whichever location's: of an index's end.
    pub(super) async fn are_some_gone(&self) -> Result<bool, ServiceError> {
        let sql = "SELECT MAX(gone) AS gone FROM entry WHERE gone IS NOT NULL";
        let row = self.row(sql, vec![]).await?;
        Ok(row.as_ref().map_or(Ok(None), |row| get::<Option<i64>>(row, "gone"))?.is_some())
    }

    /// Whether any entry is missing, or a directory of the location has lost its place.
    pub(super) async fn is_some_lost(&self, location: i64) -> Result<bool, ServiceError> {
        let sql = "SELECT COALESCE((SELECT MAX(gone) FROM entry WHERE gone IS NOT NULL),
            (SELECT dev FROM dir WHERE location_id = $1 AND dev = -1 LIMIT 1)) AS lost";
        let row = self.row(sql, vec![location.into()]).await?;
        Ok(row.as_ref().map_or(Ok(None), |row| get::<Option<i64>>(row, "lost"))?.is_some())
    }

    async fn missing_page(&self, location: i64, after: i64) -> Result<Vec<Missing>, ServiceError> {
        if !self.are_some_gone().await? {
            // Without statistics a planner would read all entries for that.
            return Ok(Vec::new());
        }
        let sql = "SELECT e.id, e.name, e.kind, d.path, d.archive FROM entry e JOIN dir d ON d.id = e.dir_id
            WHERE e.gone IS NOT NULL AND e.id > $2 AND d.location_id = $1 ORDER BY e.id LIMIT $3";
        let values = vec![location.into(), after.into(), CHUNK.into()];
        self.rows(sql, values).await?.iter().map(missing_of).collect()
    }

    /// Directories whose place something else has now.
    async fn replaced_dirs(&self, location: i64) -> Result<Vec<String>, ServiceError> {
        let (mut dirs, mut after) = (Vec::new(), 0);
        while let Some(last) = self.replaced_page(location, after, &mut dirs).await? {
            after = last;
        }
        Ok(dirs)
    }

    /// Adds a chunk of them, of higher numbers than `after`; answers the highest.
    async fn replaced_page(
        &self,
        location: i64,
        after: i64,
        dirs: &mut Vec<String>,
    ) -> Result<Option<i64>, ServiceError> {
        let sql = "SELECT id, path FROM dir WHERE location_id = $1 AND dev = -1 AND id > $2 ORDER BY id LIMIT $3";
        let rows = self.rows(sql, vec![location.into(), after.into(), CHUNK.into()]).await?;
        for row in &rows {
            dirs.push(get(row, "path")?);
        }
        rows.last().map(|row| get(row, "id")).transpose()
    }

    /// Directories that are missing or whose place something else has.
    pub(super) async fn missing_dirs(&self, location: i64) -> Result<Vec<String>, ServiceError> {
        let mut dirs = self.replaced_dirs(location).await?;
        let mut after = 0;
        loop {
            let page = self.missing_page(location, after).await?;
            let Some(last) = page.last() else { return Ok(dirs) };
            after = last.id;
            dirs.extend(page.into_iter().filter(|entry| entry.is_dir).map(|entry| entry.path));
        }
    }

    async fn entries_below(&self, location: i64, path: &str) -> Result<i64, ServiceError> {
        let (from, to) = below(path);
        let sql = "SELECT COUNT(*) AS n FROM dir d JOIN entry e ON e.dir_id = d.id
            WHERE d.location_id = $1 AND (d.path >= $2 AND d.path < $4 AND (d.path = $2 OR d.path >= $3)) AND e.gone IS NULL AND d.archive IS NULL";
        let values = vec![location.into(), path.into(), from.into(), to.into()];
        let row = self.row(sql, values).await?;
        row.as_ref().map_or(Ok(0), |row| sum(row, "n"))
    }

    /// Removes a chunk of what is missing, directories with all below them;
    /// answers how many entries, none at all when nothing is left: a directory may hold none.
    ///
    /// # Errors
    /// As [`Store::merge`].
    pub async fn sweep(&self, scan: ScanKey) -> Result<Option<i64>, ServiceError> {
        let page = self.missing_page(scan.location, 0).await?;
        let (mut removed, mut replaced) = (0, Vec::new());
        self.replaced_page(scan.location, 0, &mut replaced).await?;
        if page.is_empty() && replaced.is_empty() {
            return Ok(None);
        }
        for path in replaced {
            removed += self.sweep_below(scan, &path).await?;
            // What took its place is told as changed; what was below it is not.
            let tx = self.sql.begin().await?;
            self.hold(&tx, scan).await?;
            self.log_unsaid(&tx, scan).await?;
            tx.commit().await.map_err(db_error)?;
        }
        let dirs: Vec<&Missing> = page.iter().filter(|entry| entry.is_dir).collect();
        for dir in dirs {
            removed += self.sweep_below(scan, &dir.path).await?;
        }
        let ids: Vec<i64> = page.iter().map(|entry| entry.id).collect();
        if !ids.is_empty() {
            let tx = self.sql.begin().await?;
            self.hold(&tx, scan).await?;
            let mut logged = Logged::default();
            for entry in page {
                logged.add(ChangeKind::Removed, entry.id, entry.path, None);
            }
            self.log(&tx, scan, logged).await?;
            self.drop_entries(&tx, &ids).await?;
            tx.commit().await.map_err(db_error)?;
        }
        Ok(Some(removed + i64::try_from(ids.len()).unwrap_or(0)))
    }

    pub(super) async fn sweep_below(&self, scan: ScanKey, path: &str) -> Result<i64, ServiceError> {
        let (from, to) = below(path);
        let mut removed = 0;
        loop {
            let sql = "SELECT e.id FROM dir d JOIN entry e ON e.dir_id = d.id
                WHERE d.location_id = $1 AND (d.path >= $2 AND d.path < $4 AND (d.path = $2 OR d.path >= $3)) LIMIT $5";
            let values = vec![
                scan.location.into(),
                path.into(),
                from.clone().into(),
                to.clone().into(),
                CHUNK.into(),
            ];
            let rows = self.rows(sql, values).await?;
            let ids: Vec<i64> = rows.iter().map(|row| get(row, "id")).collect::<Result<_, _>>()?;
            let tx = self.sql.begin().await?;
            self.hold(&tx, scan).await?;
            self.drop_entries(&tx, &ids).await?;
            if ids.is_empty() {
                let sql = "DELETE FROM dir WHERE location_id = $1 AND (path >= $2 AND path < $4 AND (path = $2 OR path >= $3))";
                let values =
                    vec![scan.location.into(), path.into(), from.clone().into(), to.clone().into()];
                execute(&tx, sql, values).await?;
            }
            tx.commit().await.map_err(db_error)?;
            if ids.is_empty() {
                return Ok(removed);
            }
            removed += i64::try_from(ids.len()).unwrap_or(0);
        }
    }

    /// Forgets a chunk of a deleted location; false when nothing is left of it.
    ///
    /// # Errors
    /// The database's.
    pub async fn forget_location(&self, location: i64) -> Result<bool, ServiceError> {
        let sql = "SELECT e.id FROM dir d JOIN entry e ON e.dir_id = d.id WHERE d.location_id = $1 LIMIT $2";
        let rows = self.rows(sql, vec![location.into(), CHUNK.into()]).await?;
        let ids: Vec<i64> = rows.iter().map(|row| get(row, "id")).collect::<Result<_, _>>()?;
        let tx = self.sql.begin().await?;
        self.drop_entries(&tx, &ids).await?;
        if ids.is_empty() {
            let imports = "SELECT id FROM import WHERE location_id = $1";
            for row in super::all(&tx, imports, vec![location.into()]).await? {
                self.forget_import_items(&tx, get(&row, "id")?).await?;
            }
            for sql in [
                "DELETE FROM dir WHERE location_id = $1",
                "DELETE FROM change WHERE location_id = $1",
                "DELETE FROM import WHERE location_id = $1",
                "DELETE FROM location WHERE id = $1",
            ] {
                execute(&tx, sql, vec![location.into()]).await?;
            }
        }
        tx.commit().await.map_err(db_error)?;
        Ok(!ids.is_empty())
    }

    /// Removes contents that no file has any more.
    ///
    /// # Errors
    /// The database's.
    pub async fn forget_contents(&self) -> Result<(), ServiceError> {
        let backend = self.backend();
        let sql = format!("SELECT id FROM content WHERE {UNUSED} LIMIT $1");
        let rows = self.rows(&sql, vec![CHUNK.into()]).await?;
        let ids: Vec<i64> = rows.iter().map(|row| get(row, "id")).collect::<Result<_, _>>()?;
        if ids.is_empty() {
            return Ok(());
        }
        let tx = self.sql.begin().await?;
        // Whoever gives files contents took numbers of them first, and holds those until it has
        // given them: what it found is not removed, and what is removed it does not find.
        next_numbers(&tx, "content", 0).await?;
        // A scan may have found one of them meanwhile: looked at again in the delete.
        let sql = format!(
            "DELETE FROM content WHERE {} AND {UNUSED}",
            bulk::in_numbers(backend, "id", 1)
        );
        execute(&tx, &sql, vec![bulk::numbers(backend, &ids)]).await?;
        tx.commit().await.map_err(db_error)
    }
}
