//! The change log: what happened to a location's entries, numbered without
//! gaps in the order of the commits.
//!
//! The number is taken from the location's row in the transaction of the
//! change, which so holds the row: a reader that has seen number n has seen
//! all below it. What is not written one by one (a first scan, a very large
//! batch) moves the floor: whoever has not come as far must read everything.

use sea_orm::{ConnectionTrait, DatabaseTransaction, QueryResult};
use service_error::ServiceError;
use sql_store::{db_error, now_micros};

use super::bulk::{self, Column};
use super::{ScanKey, Store, execute, get};
use crate::model::{Change, Log};
pub(super) use crate::model::{ChangeKind, Logged, path_in};

/// Changes of one transaction that are written one by one.
const ROWS_MAX: usize = 50_000;
/// Changes of a location that are kept.
const KEPT: i64 = 1_000_000;

impl Store {
    /// Writes changes in the transaction that makes them.
    pub(super) async fn log(
        &self,
        tx: &DatabaseTransaction,
        scan: ScanKey,
        logged: Logged,
    ) -> Result<(), ServiceError> {
        let count = logged.kinds.len();
        if count == 0 {
            return Ok(());
        }
        if count > ROWS_MAX {
            return self.log_unsaid(tx, scan).await;
        }
        let rows = i64::try_from(count).unwrap_or(i64::MAX);
        let sql =
            "UPDATE location SET change_seq = change_seq + $2 WHERE id = $1 RETURNING change_seq";
        let row = tx
            .query_one_raw(self.statement(sql, vec![scan.location.into(), rows.into()]))
            .await
            .map_err(db_error)?
            .ok_or_else(|| ServiceError::not_found("location", scan.location))?;
        let last: i64 = get(&row, "change_seq")?;
        let columns = [
            ("location_id", Column::I64(vec![scan.location; count])),
            ("seq", Column::I64((last - rows + 1..=last).collect())),
            ("kind", Column::I64(logged.kinds)),
            ("entry_id", Column::I64(logged.entries)),
            ("path", Column::Text(logged.paths)),
            ("old_path", Column::OptText(logged.old_paths)),
            ("at", Column::I64(vec![now_micros(); count])),
        ];
        bulk::insert(tx, "change", &columns, "").await
    }

    /// Something changed that is not written down: readers begin anew.
    pub(super) async fn log_unsaid(
        &self,
        tx: &DatabaseTransaction,
        scan: ScanKey,
    ) -> Result<(), ServiceError> {
        let sql = "UPDATE location SET change_seq = change_seq + 1, change_floor = change_seq + 1 WHERE id = $1";
        execute(tx, sql, vec![scan.location.into()]).await.map(drop)
    }

    /// Forgets what is too old to be kept.
    pub(super) async fn trim_log(
        &self,
        tx: &DatabaseTransaction,
        location: i64,
    ) -> Result<(), ServiceError> {
        let floor = "UPDATE location SET change_floor = change_seq - $2
            WHERE id = $1 AND change_floor < change_seq - $2";
        if execute(tx, floor, vec![location.into(), KEPT.into()]).await? > 0 {
            let old = "DELETE FROM change WHERE location_id = $1
                AND seq <= (SELECT change_floor FROM location WHERE id = $1)";
            execute(tx, old, vec![location.into()]).await?;
        }
        Ok(())
    }

    /// Up to `limit` changes after a number.
    ///
    /// # Errors
    /// `NotFound`; the database's.
    pub async fn changes(
        &self,
        location: i64,
        after: i64,
        limit: u32,
    ) -> Result<Log, ServiceError> {
        let sql =
            "SELECT change_seq, change_floor FROM location WHERE id = $1 AND deleted_at IS NULL";
        let row = self.row(sql, vec![location.into()]).await?;
        let row = row.ok_or_else(|| ServiceError::not_found("location", location))?;
        let (newest, floor): (i64, i64) = (get(&row, "change_seq")?, get(&row, "change_floor")?);
        if after < floor || after > newest {
            return Ok(Log::Reset(newest));
        }
        let sql = "SELECT seq, kind, entry_id, path, old_path, at FROM change
            WHERE location_id = $1 AND seq > $2 AND seq <= $3 ORDER BY seq LIMIT $4";
        let values = vec![location.into(), after.into(), newest.into(), i64::from(limit).into()];
        let rows = self.rows(sql, values).await?;
        let changes: Vec<Change> = rows.iter().map(change_of).collect::<Result<_, _>>()?;
        // Between the two statements the oldest may have been forgotten.
        let is_whole = changes.iter().zip(after + 1..).all(|(change, seq)| change.seq == seq);
        if !is_whole || (changes.is_empty() && after < newest && limit > 0) {
            return Ok(Log::Reset(newest));
        }
        Ok(Log::Changes(changes, newest))
    }
}

fn change_of(row: &QueryResult) -> Result<Change, ServiceError> {
    Ok(Change {
        seq: get(row, "seq")?,
        kind: get(row, "kind")?,
        entry: get(row, "entry_id")?,
        path: get(row, "path")?,
        old_path: get(row, "old_path")?,
        at: get(row, "at")?,
    })
}
