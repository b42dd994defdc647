//! What a location on another device needs: scans that are asked for, the lease
//! of its agent's stream, and when it was last heard of.

use sea_orm::ConnectionTrait;
use service_error::ServiceError;
use sql_store::{db_error, now_micros};

use super::bulk;
use super::{ScanKey, Store, execute, get};
use crate::model::Mode;

/// A scan that is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wanted {
    /// The number of the last wish, and of the last one that was done.
    pub wanted: i64,
    pub fulfilled: i64,
    pub mode: Mode,
    pub accept_removals: bool,
    /// Microseconds; 0: never.
    pub agent_seen: i64,
}

impl Store {
    /// Asks a location's agent for a scan; answers the wish's number.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn want_scan(
        &self,
        location: i64,
        mode: Mode,
        accept_removals: bool,
    ) -> Result<i64, ServiceError> {
        let tx = self.sql.begin().await?;
        let sql = "UPDATE location SET wanted = wanted + 1, wanted_mode = $2, wanted_accept = $3
            WHERE id = $1 AND deleted_at IS NULL RETURNING wanted";
        let values = vec![location.into(), (mode as i32).into(), accept_removals.into()];
        let row = tx.query_one_raw(self.statement(sql, values)).await.map_err(db_error)?;
        tx.commit().await.map_err(db_error)?;
        get(&row.ok_or_else(|| ServiceError::not_found("location", location))?, "wanted")
    }

    /// What is wanted of a location's agent.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn wanted(&self, location: i64) -> Result<Wanted, ServiceError> {
        let sql = "SELECT wanted, fulfilled, wanted_mode, wanted_accept, agent_seen FROM location
            WHERE id = $1 AND deleted_at IS NULL";
        let row = self.row(sql, vec![location.into()]).await?;
        let row = row.ok_or_else(|| ServiceError::not_found("location", location))?;
        Ok(Wanted {
            wanted: get(&row, "wanted")?,
            fulfilled: get(&row, "fulfilled")?,
            mode: Mode::of(get(&row, "wanted_mode")?),
            accept_removals: get(&row, "wanted_accept")?,
            agent_seen: get(&row, "agent_seen")?,
        })
    }

    /// Takes a location for an agent's stream: streams before it write nothing
    /// more. The key is that of the scan `generation`, if that is the last one
    /// and it has not ended.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn take_for_agent(
        &self,
        location: i64,
        generation: i64,
    ) -> Result<(ScanKey, bool), ServiceError> {
        let tx = self.sql.begin().await?;
        let sql = "UPDATE location SET lease_epoch = lease_epoch + 1, agent_seen = $2
            WHERE id = $1 AND deleted_at IS NULL RETURNING lease_epoch, generation, scan_newest";
        let values = vec![location.into(), now_micros().into()];
        let row = tx.query_one_raw(self.statement(sql, values)).await.map_err(db_error)?;
        tx.commit().await.map_err(db_error)?;
        let row = row.ok_or_else(|| ServiceError::not_found("location", location))?;
        let key = ScanKey {
            location,
            epoch: get(&row, "lease_epoch")?,
            generation: get(&row, "generation")?,
            newest: get(&row, "scan_newest")?,
            by_agent: true,
        };
        Ok((key, generation > 0 && key.generation == generation))
    }

    /// The next generation, under the same lease.
    ///
    /// # Errors
    /// As [`Store::merge`].
    pub async fn begin_agent_scan(
        &self,
        held: ScanKey,
        mode: Mode,
    ) -> Result<ScanKey, ServiceError> {
        let tx = self.sql.begin().await?;
        self.hold(&tx, held).await?;
        let sql = "UPDATE location SET generation = generation + 1, unhashed = unhashed OR mode < $2, mode = $2,
            scan_newest = CASE WHEN scan_newest < 0 THEN (SELECT COALESCE(MAX(id), 0) FROM entry) ELSE scan_newest END
            WHERE id = $1 RETURNING generation, scan_newest";
        let values = vec![held.location.into(), (mode as i32).into()];
        let row = tx.query_one_raw(self.statement(sql, values)).await.map_err(db_error)?;
        tx.commit().await.map_err(db_error)?;
        let row = row.ok_or_else(|| ServiceError::not_found("location", held.location))?;
        let (generation, newest) = (get(&row, "generation")?, get(&row, "scan_newest")?);
        Ok(ScanKey { generation, newest, ..held })
    }

    /// The agent is there.
    ///
    /// # Errors
    /// As [`Store::merge`].
    pub async fn agent_seen(&self, held: ScanKey) -> Result<(), ServiceError> {
        let tx = self.sql.begin().await?;
        self.hold(&tx, held).await?;
        let sql = "UPDATE location SET agent_seen = $2 WHERE id = $1";
        execute(&tx, sql, vec![held.location.into(), now_micros().into()]).await?;
        tx.commit().await.map_err(db_error)
    }

    /// A wish is done.
    ///
    /// # Errors
    /// As [`Store::merge`].
    pub async fn fulfil(&self, held: ScanKey, wish: i64) -> Result<(), ServiceError> {
        let tx = self.sql.begin().await?;
        self.hold(&tx, held).await?;
        let sql = "UPDATE location SET fulfilled = $2 WHERE id = $1 AND fulfilled < $2";
        execute(&tx, sql, vec![held.location.into(), wish.into()]).await?;
        tx.commit().await.map_err(db_error)
    }

    /// Whether all of some directories are known.
    ///
    /// # Errors
    /// The database's.
    pub async fn has_dirs(&self, location: i64, paths: &[String]) -> Result<bool, ServiceError> {
        let backend = self.backend();
        let sql = format!(
            "SELECT COUNT(*) AS n FROM dir WHERE location_id = $1 AND {}",
            bulk::in_texts(backend, "path", 2)
        );
        let list = bulk::texts(backend, paths.iter().map(String::as_str));
        let row = self.row(&sql, vec![location.into(), list]).await?;
        let known = row.as_ref().map_or(Ok(0), |row| super::sum(row, "n"))?;
        Ok(usize::try_from(known).is_ok_and(|known| known == paths.len()))
    }
}
