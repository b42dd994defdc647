//! Archives and their members: directories below a file. A directory's
//! `archive` is the file's entry, so that a file that is renamed or moved keeps
//! what was read of it.

use std::collections::HashMap;

use file_scan::{Listing, names};
use sea_orm::{DbBackend, QueryResult};
use service_error::ServiceError;
use sql_store::db_error;

use super::bulk;
use super::changes::path_in;
use super::merge::Listed;
use super::{ScanKey, Store, below, execute, get, sum};

const CHUNK: i64 = 10_000;

/// A file whose name is an archive's.
#[derive(Debug, Clone)]
pub struct ArchiveFile {
    /// Its entry.
    pub id: i64,
    /// Pages go on after (dir, id).
    pub dir: i64,
    /// Relative to the location.
    pub path: String,
    pub ino: i64,
    pub size: i64,
    pub modified: i64,
    pub changed: i64,
    /// Where its members are, if it was ever read.
    pub root: Option<String>,
    /// Of what its members were read: as [`ArchiveFile::print`] made it.
    pub known: Option<Vec<u8>>,
    /// What was wrong with it.
    pub problem: Option<String>,
}

impl ArchiveFile {
    /// Tells whether what is known of its members is of this very file, and how
    /// closely they were looked at: the last byte.
    #[must_use]
    pub fn print(&self, level: u8) -> Vec<u8> {
        let mut hash = blake3::Hasher::new();
        for number in [self.id, self.ino, self.size, self.modified, self.changed] {
            hash.update(&number.to_le_bytes());
        }
        let mut print = vec![0; 16];
        hash.finalize_xof().fill(&mut print);
        print.push(level);
        print
    }

    /// Its members are known at least so closely.
    #[must_use]
    pub fn is_known(&self, level: u8) -> bool {
        let wanted = self.print(level);
        self.root.as_deref() == Some(self.path.as_str())
            && self.known.as_ref().is_some_and(|known| {
                known.len() == wanted.len() && known[..16] == wanted[..16] && known[16] >= level
            })
    }
}

/// A member of an archive that has a row.
#[derive(Debug, Clone)]
pub struct MemberRow {
    pub id: i64,
    /// Within the location.
    pub path: String,
    /// The content that it has.
    pub hash: Option<Vec<u8>>,
}

impl Listed {
    /// A directory of an archive, whose own path is within it.
    #[must_use]
    pub fn within(archive: &ArchiveFile, mut listing: Listing) -> Self {
        let is_root = listing.path.is_empty();
        let path = if is_root {
            archive.path.clone()
        } else {
            format!("{}/{}", archive.path, names::text(&listing.path))
        };
        listing.path = names::bytes(&path);
        // The root's is that of the archive, and is stored when all is.
        let print = (!is_root && listing.is_complete()).then(|| listing.fingerprint());
        Self { path, listing, print, archive: Some(archive.id) }
    }
}

impl Store {
    /// The next files of a location whose names end as archives' do.
    ///
    /// # Errors
    /// The database's.
    pub async fn archive_files(
        &self,
        location: i64,
        extensions: &[&str],
        after: (i64, i64),
        limit: u32,
    ) -> Result<Vec<ArchiveFile>, ServiceError> {
        let backend = self.backend();
        // Its root is the first of its directories, as the index has them.
        let key = match backend {
            DbBackend::Postgres => "place_key(first.path)",
            _ => "first.path",
        };
        let sql = format!(
            "SELECT e.id, e.dir_id, d.path, e.name, e.ino, e.size, e.modified, e.changed, r.path AS root, r.print, r.problem
             FROM dir d JOIN entry e ON e.dir_id = d.id LEFT JOIN dir r
               ON r.id = (SELECT first.id FROM dir first WHERE first.archive = e.id ORDER BY {key} LIMIT 1)
             WHERE d.location_id = $1 AND d.archive IS NULL AND e.kind = 1 AND e.gone IS NULL AND {}
               AND d.id >= $2 AND (d.id > $2 OR e.id > $3) ORDER BY d.id, e.id LIMIT $4",
            bulk::in_few(backend, "e.ext", 5, "text")
        );
        let list = bulk::texts(backend, extensions.iter().copied());
        let values =
            vec![location.into(), after.0.into(), after.1.into(), i64::from(limit).into(), list];
        self.rows(&sql, values).await?.iter().map(archive_of).collect()
    }

    /// Paths and inodes of some archives, by their entries.
    ///
    /// # Errors
    /// The database's.
    pub async fn archives_at(
        &self,
        ids: &[i64],
    ) -> Result<HashMap<i64, (String, i64)>, ServiceError> {
        if ids.is_empty() {
            return Ok(HashMap::new());
        }
        let backend = self.backend();
        let sql = format!(
            "SELECT e.id, d.path, e.name, e.ino FROM entry e JOIN dir d ON d.id = e.dir_id WHERE {}",
            bulk::in_numbers(backend, "e.id", 1)
        );
        let rows = self.rows(&sql, vec![bulk::numbers(backend, ids)]).await?;
        rows.iter()
            .map(|row| {
                let (dir, name): (String, String) = (get(row, "path")?, get(row, "name")?);
                Ok((get(row, "id")?, (path_in(&dir, &name), get(row, "ino")?)))
            })
            .collect()
    }

    /// An archive is about to be read: what is known of its members is where it
    /// is now and waits for another look; a kill finds it so.
    ///
    /// # Errors
    /// As [`Store::merge`].
    pub async fn begin_archive(
        &self,
        scan: ScanKey,
        archive: &ArchiveFile,
        is_other: bool,
    ) -> Result<(), ServiceError> {
        let Some(root) = &archive.root else {
            return self.clear_place(scan, archive).await;
        };
        let tx = self.sql.begin().await?;
        self.hold(&tx, scan).await?;
        if *root != archive.path {
            self.move_members(&tx, scan, root, archive).await?;
        }
        let sql = "UPDATE dir SET print = NULL WHERE archive = $1 AND path = $2";
        execute(&tx, sql, vec![archive.id.into(), archive.path.as_str().into()]).await?;
        if is_other {
            let sql = "UPDATE entry SET hashed = 2 WHERE hashed = 1
                AND dir_id IN (SELECT id FROM dir WHERE archive = $1)";
            execute(&tx, sql, vec![archive.id.into()]).await?;
        }
        tx.commit().await.map_err(db_error)
    }

    /// Where an archive is read for the first time a directory may have been.
    async fn clear_place(&self, scan: ScanKey, archive: &ArchiveFile) -> Result<(), ServiceError> {
        let sql = "SELECT 1 AS found FROM dir WHERE location_id = $1 AND path = $2";
        let values = vec![scan.location.into(), archive.path.as_str().into()];
        if self.row(sql, values).await?.is_some() {
            self.sweep_below(scan, &archive.path).await?;
        }
        Ok(())
    }

    async fn move_members(
        &self,
        tx: &sea_orm::DatabaseTransaction,
        scan: ScanKey,
        root: &str,
        archive: &ArchiveFile,
    ) -> Result<(), ServiceError> {
        let (from, to) = below(&archive.path);
        // What was read of another archive that was there before it, or a directory was.
        let twins =
            "SELECT e.id FROM entry e JOIN dir d ON d.id = e.dir_id WHERE d.location_id = $1
            AND (d.archive IS NULL OR d.archive <> $5) AND (d.path >= $2 AND d.path < $4 AND (d.path = $2 OR d.path >= $3))";
        let place = vec![
            scan.location.into(),
            archive.path.as_str().into(),
            from.into(),
            to.into(),
            archive.id.into(),
        ];
        let rows = super::all(tx, twins, place.clone()).await?;
        let ids: Vec<i64> = rows.iter().map(|row| get(row, "id")).collect::<Result<_, _>>()?;
        self.drop_entries(tx, &ids).await?;
        let sql = "DELETE FROM dir WHERE location_id = $1 AND (archive IS NULL OR archive <> $5)
            AND (path >= $2 AND path < $4 AND (path = $2 OR path >= $3))";
        execute(tx, sql, place).await?;
        let cut = i64::try_from(root.chars().count()).unwrap_or(0) + 1;
        let sql = "UPDATE dir SET path = CAST($2 AS text) || substr(path, CAST($3 AS integer)) WHERE archive = $1";
        let values = vec![archive.id.into(), archive.path.as_str().into(), cut.into()];
        execute(tx, sql, values).await.map(drop)
    }

    /// An archive's members are all there.
    ///
    /// # Errors
    /// As [`Store::merge`].
    pub async fn end_archive(
        &self,
        scan: ScanKey,
        archive: &ArchiveFile,
        print: Option<Vec<u8>>,
        problem: Option<&str>,
    ) -> Result<(), ServiceError> {
        let tx = self.sql.begin().await?;
        self.hold(&tx, scan).await?;
        let sql = "UPDATE dir SET print = $3, problem = $4 WHERE archive = $1 AND path = $2";
        let values =
            vec![archive.id.into(), archive.path.as_str().into(), print.into(), problem.into()];
        execute(&tx, sql, values).await?;
        tx.commit().await.map_err(db_error)
    }

    /// The members of an archive that are files, after one.
    ///
    /// # Errors
    /// The database's.
    pub async fn members(
        &self,
        archive: i64,
        after: i64,
        limit: u32,
    ) -> Result<Vec<MemberRow>, ServiceError> {
        let sql = "SELECT e.id, d.path, e.name, c.hash FROM dir d JOIN entry e ON e.dir_id = d.id
            LEFT JOIN content c ON c.id = e.content_id
            WHERE d.archive = $1 AND e.kind = 1 AND e.gone IS NULL AND e.id > $2 ORDER BY e.id LIMIT $3";
        let values = vec![archive.into(), after.into(), i64::from(limit).into()];
        let rows = self.rows(sql, values).await?;
        rows.iter()
            .map(|row| {
                let (dir, name): (String, String) = (get(row, "path")?, get(row, "name")?);
                Ok(MemberRow {
                    id: get(row, "id")?,
                    path: format!("{dir}/{name}"),
                    hash: get(row, "hash")?,
                })
            })
            .collect()
    }

    /// Forgets a chunk of the members of archives that are no more, or of all;
    /// false when nothing is left of them.
    ///
    /// # Errors
    /// As [`Store::merge`].
    pub async fn forget_members(&self, scan: ScanKey, all: bool) -> Result<bool, ServiceError> {
        let lost = "SELECT d.id FROM dir d WHERE d.location_id = $1 AND d.archive IS NOT NULL
            AND ($2 OR NOT EXISTS (SELECT 1 FROM entry a WHERE a.id = d.archive AND a.kind = 1)) LIMIT $3";
        let rows = self.rows(lost, vec![scan.location.into(), all.into(), 500_i64.into()]).await?;
        let dirs: Vec<i64> = rows.iter().map(|row| get(row, "id")).collect::<Result<_, _>>()?;
        if dirs.is_empty() {
            return Ok(false);
        }
        let backend = self.backend();
        let dir_list = bulk::numbers(backend, &dirs);
        let sql = format!(
            "SELECT id FROM entry WHERE {} LIMIT $2",
            bulk::in_numbers(backend, "dir_id", 1)
        );
        let rows = self.rows(&sql, vec![dir_list.clone(), CHUNK.into()]).await?;
        let ids: Vec<i64> = rows.iter().map(|row| get(row, "id")).collect::<Result<_, _>>()?;
        let tx = self.sql.begin().await?;
        self.hold(&tx, scan).await?;
        self.drop_entries(&tx, &ids).await?;
        if ids.is_empty() {
            let sql = format!("DELETE FROM dir WHERE {}", bulk::in_numbers(backend, "id", 1));
            execute(&tx, &sql, vec![dir_list]).await?;
        }
        if all {
            // An archive that goes stands for its members; here it stays.
            self.log_unsaid(&tx, scan).await?;
        }
        tx.commit().await.map_err(db_error)?;
        Ok(true)
    }

    /// Counts a location's members, where it may have some.
    ///
    /// # Errors
    /// As [`Store::merge`].
    pub async fn count_members(&self, scan: ScanKey) -> Result<i64, ServiceError> {
        let sql = "SELECT COUNT(*) AS n FROM dir d JOIN entry e ON e.dir_id = d.id
            WHERE d.location_id = $1 AND d.archive IS NOT NULL AND e.kind = 1 AND e.gone IS NULL";
        let row = self.row(sql, vec![scan.location.into()]).await?;
        let count = row.as_ref().map_or(Ok(0), |row| sum(row, "n"))?;
        let tx = self.sql.begin().await?;
        self.hold(&tx, scan).await?;
        let sql = "UPDATE location SET members = $2 WHERE id = $1";
        execute(&tx, sql, vec![scan.location.into(), count.into()]).await?;
        tx.commit().await.map_err(db_error)?;
        Ok(count)
    }

    /// Says whether a location's archives are looked into.
    ///
    /// # Errors
    /// The database's.
    pub async fn set_archives(&self, location: i64, archives: bool) -> Result<(), ServiceError> {
        self.set(location, "archives = $2", vec![archives.into()]).await
    }
}

fn archive_of(row: &QueryResult) -> Result<ArchiveFile, ServiceError> {
    let (dir, name): (String, String) = (get(row, "path")?, get(row, "name")?);
    Ok(ArchiveFile {
        id: get(row, "id")?,
        dir: get(row, "dir_id")?,
        path: path_in(&dir, &name),
        ino: get(row, "ino")?,
        size: get(row, "size")?,
        modified: get(row, "modified")?,
        changed: get(row, "changed")?,
        root: get(row, "root")?,
        known: get(row, "print")?,
        problem: get(row, "problem")?,
    })
}
