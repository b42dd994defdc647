//! Rows of locations.

use ids::PrincipalId;
use sea_orm::{DbBackend, QueryResult, Value};
use service_error::ServiceError;
use sql_store::{db_error, is_unique_violation, next_number, now_micros};
use uuid::Uuid;

use super::usage::totals_in;
use super::{Store, all, execute, get, sum_of};
use crate::model::{Location, Mode};

const COLUMNS: &str = "id, uuid, path, name, device, owner, mode, rules, guard_percent, root_dev, root_ino, generation, \
    scanned_at, problem, watched, unhashed, entries, files, bytes, missing, created_at, change_seq, \
    archives, members";

/// A scan's claim on a location: every write of it names the epoch.
#[derive(Debug, Clone, Copy)]
pub struct ScanKey {
    /// The location.
    pub location: i64,
    /// Of the lease.
    pub epoch: i64,
    /// Of the scan.
    pub generation: i64,
    /// The newest entry before the scan, or before those that did not end: what
    /// is newer may have been moved.
    pub newest: i64,
    /// An agent's: what is acknowledged to it is not sent again.
    pub by_agent: bool,
}

impl ScanKey {
    /// Nothing can have moved before there was anything.
    #[must_use]
    pub const fn is_first(self) -> bool {
        self.generation <= 1
    }
}

/// A location to be made.
#[derive(Debug)]
pub struct NewLocation {
    pub path: String,
    pub name: String,
    pub device: String,
    pub owner: PrincipalId,
    pub mode: Mode,
    pub rules: Vec<String>,
    pub guard_percent: i32,
    pub root: Option<(i64, i64)>,
    pub watched: bool,
    pub archives: bool,
}

fn location_of(row: &QueryResult) -> Result<Location, ServiceError> {
    let rules: String = get(row, "rules")?;
    let root: (Option<i64>, Option<i64>) = (get(row, "root_dev")?, get(row, "root_ino")?);
    Ok(Location {
        id: get(row, "id")?,
        uuid: get(row, "uuid")?,
        path: get(row, "path")?,
        name: get(row, "name")?,
        device: get(row, "device")?,
        owner: PrincipalId::from_uuid(get(row, "owner")?),
        mode: Mode::of(get(row, "mode")?),
        rules: rules.lines().map(str::to_owned).collect(),
        guard_percent: get(row, "guard_percent")?,
        root: root.0.zip(root.1),
        generation: get(row, "generation")?,
        scanned_at: get(row, "scanned_at")?,
        problem: get(row, "problem")?,
        watched: get(row, "watched")?,
        unhashed: get(row, "unhashed")?,
        entries: get(row, "entries")?,
        files: get(row, "files")?,
        bytes: get(row, "bytes")?,
        missing: get(row, "missing")?,
        created_at: get(row, "created_at")?,
        change_seq: get(row, "change_seq")?,
        archives: get(row, "archives")?,
        members: get(row, "members")?,
    })
}

impl Store {
    /// Makes a location.
    ///
    /// # Errors
    /// `AlreadyExists`.
    pub async fn create_location(&self, new: NewLocation) -> Result<Location, ServiceError> {
        let tx = self.sql.begin().await?;
        let id = next_number(&tx, "location").await?;
        let sql = format!(
            "INSERT INTO location (id, uuid, path, name, device, owner, mode, rules, guard_percent, root_dev, root_ino,
             watched, created_at, archives) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14) RETURNING {COLUMNS}"
        );
        let values: Vec<Value> = vec![
            id.into(),
            Uuid::now_v7().into(),
            new.path.clone().into(),
            new.name.into(),
            new.device.into(),
            new.owner.uuid().into(),
            (new.mode as i32).into(),
            new.rules.join("\n").into(),
            new.guard_percent.into(),
            new.root.map(|root| root.0).into(),
            new.root.map(|root| root.1).into(),
            new.watched.into(),
            now_micros().into(),
            new.archives.into(),
        ];
        use sea_orm::ConnectionTrait;
        let row = tx.query_one_raw(self.statement(&sql, values)).await.map_err(|error| {
            if is_unique_violation(&error) {
                ServiceError::already_exists("location", &new.path)
            } else {
                db_error(error)
            }
        })?;
        tx.commit().await.map_err(db_error)?;
        let row = row.ok_or_else(|| ServiceError::internal("a new location has no row"))?;
        location_of(&row)
    }

    /// A location by its id.
    ///
    /// # Errors
    /// The database's.
    pub async fn find_location(&self, uuid: Uuid) -> Result<Option<Location>, ServiceError> {
        let sql = format!("SELECT {COLUMNS} FROM location WHERE uuid = $1 AND deleted_at IS NULL");
        self.row(&sql, vec![uuid.into()]).await?.as_ref().map(location_of).transpose()
    }

    /// A location by its number.
    ///
    /// # Errors
    /// The database's.
    pub async fn location(&self, id: i64) -> Result<Option<Location>, ServiceError> {
        let sql = format!("SELECT {COLUMNS} FROM location WHERE id = $1 AND deleted_at IS NULL");
        self.row(&sql, vec![id.into()]).await?.as_ref().map(location_of).transpose()
    }

    /// Locations of a device that hold a path, the innermost first.
    ///
    /// # Errors
    /// The database's.
    pub async fn locations_holding(&self, path: &str) -> Result<Vec<Location>, ServiceError> {
        let mut ancestors = vec![path.to_owned()];
        let mut rest = path;
        while let Some((parent, _)) = rest.rsplit_once('/') {
            ancestors.push(if parent.is_empty() { "/".to_owned() } else { parent.to_owned() });
            rest = parent;
        }
        let backend = self.backend();
        let sql = format!(
            "SELECT {COLUMNS} FROM location WHERE deleted_at IS NULL AND {} ORDER BY LENGTH(path) DESC, id",
            super::bulk::in_texts(backend, "path", 1)
        );
        let list = super::bulk::texts(backend, ancestors.iter().map(String::as_str));
        self.rows(&sql, vec![list]).await?.iter().map(location_of).collect()
    }

    /// Locations of this server below a path, or with a root of this identity.
    ///
    /// # Errors
    /// The database's.
    pub async fn locations_beside(
        &self,
        path: &str,
        root: (i64, i64),
    ) -> Result<Vec<Location>, ServiceError> {
        let (from, to) = super::below(path);
        let sql = format!(
            "SELECT {COLUMNS} FROM location WHERE deleted_at IS NULL AND device = ''
             AND ((path >= $1 AND path < $2) OR (root_dev = $3 AND root_ino = $4)) ORDER BY id"
        );
        let values = vec![from.into(), to.into(), root.0.into(), root.1.into()];
        self.rows(&sql, values).await?.iter().map(location_of).collect()
    }

    /// Up to `limit` locations after a number; of some ids, or of all.
    ///
    /// # Errors
    /// The database's.
    pub async fn list_locations(
        &self,
        of: Option<&[Uuid]>,
        after: i64,
        limit: u32,
    ) -> Result<Vec<Location>, ServiceError> {
        let mut sql =
            format!("SELECT {COLUMNS} FROM location WHERE deleted_at IS NULL AND id > $1");
        let mut values: Vec<Value> = vec![after.into(), i64::from(limit).into()];
        if let Some(of) = of {
            sql.push_str(&format!(" AND {}", in_uuids(self.backend(), 3)));
            values.push(uuids(self.backend(), of));
        }
        sql.push_str(" ORDER BY id LIMIT $2");
        self.looked_up(&sql, values).await?.iter().map(location_of).collect()
    }

    /// Locations of the server that are watched.
    ///
    /// # Errors
    /// The database's.
    pub async fn watched_locations(&self) -> Result<Vec<Location>, ServiceError> {
        let sql = format!(
            "SELECT {COLUMNS} FROM location WHERE deleted_at IS NULL AND watched AND device = '' ORDER BY id LIMIT 1000"
        );
        self.rows(&sql, vec![]).await?.iter().map(location_of).collect()
    }

    /// Gives a location another root path: its directory was renamed.
    ///
    /// # Errors
    /// `AlreadyExists` when another location is there.
    pub async fn relocate(&self, id: i64, path: &str) -> Result<(), ServiceError> {
        self.set(id, "path = $2, problem = ''", vec![path.into()]).await
    }

    /// Notes that identity knows the location.
    ///
    /// # Errors
    /// The database's.
    pub async fn mark_announced(&self, id: i64) -> Result<(), ServiceError> {
        self.set(id, "announced = TRUE", vec![]).await
    }

    /// Takes the location for a scan: the next epoch and generation.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn begin_scan(&self, id: i64, mode: Mode) -> Result<ScanKey, ServiceError> {
        use sea_orm::ConnectionTrait;
        let tx = self.sql.begin().await?;
        let sql = "UPDATE location SET lease_epoch = lease_epoch + 1, generation = generation + 1,
            scan_newest = CASE WHEN scan_newest < 0 THEN (SELECT COALESCE(MAX(id), 0) FROM entry) ELSE scan_newest END,
            unhashed = unhashed OR mode < $2, mode = $2 WHERE id = $1 AND deleted_at IS NULL
            RETURNING lease_epoch, generation, scan_newest";
        let values = vec![id.into(), (mode as i32).into()];
        let row = tx.query_one_raw(self.statement(sql, values)).await.map_err(db_error)?;
        tx.commit().await.map_err(db_error)?;
        let row = row.ok_or_else(|| ServiceError::not_found("location", id))?;
        Ok(ScanKey {
            location: id,
            epoch: get(&row, "lease_epoch")?,
            generation: get(&row, "generation")?,
            newest: get(&row, "scan_newest")?,
            by_agent: false,
        })
    }

    /// Stores what a scan came to.
    ///
    /// # Errors
    /// As [`Store::merge`].
    pub async fn end_scan(
        &self,
        scan: ScanKey,
        root: (i64, i64),
        missing: i64,
        problem: &str,
    ) -> Result<(), ServiceError> {
        let tx = self.sql.begin().await?;
        self.hold(&tx, scan).await?;
        // Mounted again its file system may have another number, which directories that are as
        // they were do not say yet.
        let other = "SELECT root_dev FROM location WHERE id = $1 AND root_dev <> $2";
        let other = all(&tx, other, vec![scan.location.into(), root.0.into()]).await?;
        if let Some(was) = other.first() {
            let sql = "UPDATE dir SET dev = $2 WHERE location_id = $1 AND dev = $3";
            let was: i64 = get(was, "root_dev")?;
            execute(&tx, sql, vec![scan.location.into(), root.0.into(), was.into()]).await?;
        }
        let sql = format!(
            "WITH total AS (SELECT CAST(SUM(files) AS bigint) AS files, {} AS bytes FROM ({}) d)
             UPDATE location SET scanned_at = $2, root_dev = $3, root_ino = $4, missing = $5, problem = $6,
             scan_newest = -1,
             entries = (SELECT COUNT(*) FROM dir d JOIN entry e ON e.dir_id = d.id WHERE d.location_id = $1 AND d.archive IS NULL),
             files = COALESCE((SELECT files FROM total), 0), bytes = COALESCE((SELECT bytes FROM total), 0)
             WHERE id = $1",
            sum_of(self.backend(), "bytes"),
            totals_in(self.backend(), "files, bytes", "archive IS NULL")
        );
        let values = vec![
            scan.location.into(),
            now_micros().into(),
            root.0.into(),
            root.1.into(),
            missing.into(),
            problem.into(),
        ];
        execute(&tx, &sql, values).await?;
        self.trim_log(&tx, scan.location).await?;
        tx.commit().await.map_err(db_error)
    }

    /// Says why a location could not be scanned.
    ///
    /// # Errors
    /// The database's.
    pub async fn set_problem(&self, id: i64, problem: &str) -> Result<(), ServiceError> {
        self.set(id, "problem = $2", vec![problem.into()]).await
    }

    /// Says whether every file of the location is hashed.
    ///
    /// # Errors
    /// As [`Store::merge`].
    pub async fn set_unhashed(&self, scan: ScanKey, unhashed: bool) -> Result<(), ServiceError> {
        self.set(scan.location, "unhashed = $2", vec![unhashed.into()]).await
    }

    /// Hides a location; its rows go in the background.
    ///
    /// # Errors
    /// The database's.
    pub async fn delete_location(&self, id: i64) -> Result<(), ServiceError> {
        let set = "deleted_at = $2, lease_epoch = lease_epoch + 1";
        self.set(id, set, vec![now_micros().into()]).await
    }

    /// Locations whose rows are to go, and those that identity does not know.
    ///
    /// # Errors
    /// The database's.
    pub async fn unfinished_locations(&self) -> Result<(Vec<i64>, Vec<Location>), ServiceError> {
        let gone =
            self.rows("SELECT id FROM location WHERE deleted_at IS NOT NULL LIMIT 100", vec![]);
        let gone = gone.await?.iter().map(|row| get(row, "id")).collect::<Result<_, _>>()?;
        let sql = format!(
            "SELECT {COLUMNS} FROM location WHERE deleted_at IS NULL AND NOT announced LIMIT 100"
        );
        let new = self.rows(&sql, vec![]).await?;
        Ok((gone, new.iter().map(location_of).collect::<Result<_, _>>()?))
    }

    pub(super) async fn set(
        &self,
        id: i64,
        set: &str,
        values: Vec<Value>,
    ) -> Result<(), ServiceError> {
        let tx = self.sql.begin().await?;
        let sql = format!("UPDATE location SET {set} WHERE id = $1");
        let values = std::iter::once(id.into()).chain(values).collect();
        execute(&tx, &sql, values).await?;
        tx.commit().await.map_err(db_error)
    }
}

/// The location's id is one of those of a parameter.
pub(super) fn in_uuids(backend: DbBackend, parameter: usize) -> String {
    match backend {
        DbBackend::Postgres => format!("uuid = ANY (CAST(${parameter}::text AS uuid[]))"),
        _ => format!("uuid IN (SELECT unhex(value, '-') FROM json_each(${parameter}))"),
    }
}

/// Ids as one parameter.
pub(super) fn uuids(backend: DbBackend, of: &[Uuid]) -> Value {
    let words: Vec<String> = of.iter().map(|uuid| uuid.hyphenated().to_string()).collect();
    super::bulk::texts(backend, words.iter().map(String::as_str))
}
