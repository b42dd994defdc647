//! Leases: a runner claims a job, beats while it works, and ends it. Each
//! write names the epoch of the lease, so one that lost it changes nothing.

use std::collections::BTreeMap;

use sea_orm::{ConnectionTrait, DatabaseTransaction, DbBackend, Value};
use service_error::ServiceError;
use sql_store::{db_error, now_micros};
use uuid::Uuid;

use super::rows::{COLUMNS, get, job_of};
use crate::Jobs;
use crate::model::{Failure, ItemError, Job, Progress, State, Wanted};

/// Errors of single items that are kept of one job.
const ITEM_ERRORS_KEPT: i64 = 1_000;

/// What a runner tells while it works.
#[derive(Debug)]
pub struct Beat<'a> {
    pub id: Uuid,
    pub epoch: i64,
    pub lease_until: i64,
    pub progress: &'a Progress,
    /// New since the last beat; what is beyond the kept ones is only counted.
    pub errors: Vec<ItemError>,
    pub errors_uncounted: i64,
    pub checkpoint: Option<String>,
}

/// How a run ended.
#[derive(Debug, Clone)]
pub enum Ending {
    Completed(BTreeMap<String, i64>),
    Failed(Failure),
    Paused,
    Cancelled,
    /// Queued again, not before a time.
    Again(i64),
}

impl Jobs {
    /// Takes the oldest job that waits, or whose runner is gone.
    pub(crate) async fn claim(
        &self,
        kinds: &[&str],
        lease_micros: i64,
    ) -> Result<Option<Job>, ServiceError> {
        let now = now_micros();
        let kinds: Vec<String> = kinds.iter().map(|kind| format!("'{kind}'")).collect();
        let due = "((state = 0 AND not_before <= $1) OR (state = 1 AND lease_until < $1))";
        let sql = format!(
            "UPDATE job SET state = 1, lease_epoch = lease_epoch + 1, lease_until = $2, attempt = attempt + 1,
               started_at = COALESCE(started_at, $1), per_second = 0, revision = revision + 1
             WHERE id = (SELECT id FROM job WHERE {due} AND kind IN ({}) ORDER BY not_before, id LIMIT 1) AND {due}
             RETURNING {COLUMNS}",
            kinds.join(",")
        );
        // Most looks find nothing: they shall not queue for the one writer.
        let look =
            format!("SELECT id FROM job WHERE {due} AND kind IN ({}) LIMIT 1", kinds.join(","));
        let waiting = self.statement(&look, vec![now.into()]);
        if self.read().query_one_raw(waiting).await.map_err(db_error)?.is_none() {
            return Ok(None);
        }
        let values: Vec<Value> = vec![now.into(), (now + lease_micros).into()];
        let claiming = async {
            let tx = self.sql.begin().await?;
            let row = tx.query_one_raw(self.statement(&sql, values)).await.map_err(db_error)?;
            tx.commit().await.map_err(db_error)?;
            Ok(row)
        };
        let row = self.heard(claiming.await, Option::is_some)?;
        self.tell();
        row.as_ref().map(job_of).transpose()
    }

    /// Renews the lease and tells how far the job is; answers what somebody
    /// wants of it, or nothing if the lease is lost.
    pub(crate) async fn beat(&self, beat: Beat<'_>) -> Result<Option<Wanted>, ServiceError> {
        self.heard(self.store_beat(beat).await, Option::is_some)
    }

    async fn store_beat(&self, beat: Beat<'_>) -> Result<Option<Wanted>, ServiceError> {
        let tx = self.sql.begin().await?;
        let counted = i64::try_from(beat.errors.len()).unwrap_or(0) + beat.errors_uncounted;
        let sql = "UPDATE job SET lease_until = $3, phase = $4, unit = $5, done = $6, total = $7, per_second = $8,
               item_errors = item_errors + $9, checkpoint = COALESCE($10, checkpoint),
               attempt = CASE WHEN $11 THEN 0 ELSE attempt END, revision = revision + 1
             WHERE id = $1 AND lease_epoch = $2 AND state = 1 RETURNING wanted, item_errors";
        let values: Vec<Value> = vec![
            beat.id.into(),
            beat.epoch.into(),
            beat.lease_until.into(),
            beat.progress.phase.clone().into(),
            beat.progress.unit.clone().into(),
            beat.progress.done.into(),
            beat.progress.total.into(),
            beat.progress.per_second.into(),
            counted.into(),
            beat.checkpoint.clone().into(),
            beat.checkpoint.is_some().into(),
        ];
        let row = tx.query_one_raw(self.statement(sql, values)).await.map_err(db_error)?;
        let Some(row) = row else { return Ok(None) };
        let before = get::<i64>(&row, "item_errors")? - counted;
        self.keep_errors(&tx, beat.id, before, beat.errors).await?;
        tx.commit().await.map_err(db_error)?;
        self.tell();
        Ok(Some(Wanted::of(get(&row, "wanted")?)))
    }

    async fn keep_errors(
        &self,
        tx: &DatabaseTransaction,
        id: Uuid,
        before: i64,
        errors: Vec<ItemError>,
    ) -> Result<(), ServiceError> {
        let sql =
            "INSERT INTO job_error (job_id, ordinal, item, message, at) VALUES ($1, $2, $3, $4, $5)
             ON CONFLICT DO NOTHING";
        for (ordinal, error) in (before..ITEM_ERRORS_KEPT).zip(errors) {
            let values: Vec<Value> = vec![
                id.into(),
                ordinal.into(),
                error.item.into(),
                error.message.into(),
                error.at.into(),
            ];
            tx.execute_raw(self.statement(sql, values)).await.map_err(db_error)?;
        }
        Ok(())
    }

    /// Ends a run; false if the lease is lost.
    pub(crate) async fn end(
        &self,
        id: Uuid,
        epoch: i64,
        ending: Ending,
    ) -> Result<bool, ServiceError> {
        let now = now_micros();
        let (state, not_before) = match &ending {
            Ending::Completed(_) => (State::Completed, 0),
            Ending::Failed(_) => (State::Failed, 0),
            Ending::Paused => (State::Paused, 0),
            Ending::Cancelled => (State::Cancelled, 0),
            Ending::Again(at) => (State::Queued, *at),
        };
        let result = match &ending {
            Ending::Completed(numbers) => Some(crate::model::json(numbers)?),
            _ => None,
        };
        let failure = match ending {
            Ending::Failed(failure) => Some(failure),
            _ => None,
        };
        let sql = "UPDATE job SET state = $3, wanted = 0, lease_until = 0, not_before = $4, ended_at = $5, result = $6,
               failure_code = $7, failure_reason = $8, failure_message = $9, revision = revision + 1
             WHERE id = $1 AND lease_epoch = $2 AND state = 1";
        let values: Vec<Value> = vec![
            id.into(),
            epoch.into(),
            state.number().into(),
            not_before.into(),
            state.is_final().then_some(now).into(),
            result.into(),
            failure.as_ref().map(|failure| failure.code).into(),
            failure.as_ref().map(|failure| failure.reason.clone()).into(),
            failure.map(|failure| failure.message).into(),
        ];
        let ending = async {
            let tx = self.sql.begin().await?;
            let done = tx.execute_raw(self.statement(sql, values)).await.map_err(db_error)?;
            tx.commit().await.map_err(db_error)?;
            Ok(done.rows_affected() == 1)
        };
        let is_ended = self.heard(ending.await, |is_ended| *is_ended)?;
        self.ask();
        Ok(is_ended)
    }

    /// A SQLite file belongs to one process: what still runs there when it
    /// starts, ran in one that is gone.
    pub(crate) async fn release_of_the_dead(&self) -> Result<(), ServiceError> {
        if self.backend() != DbBackend::Sqlite {
            return Ok(());
        }
        let tx = self.sql.begin().await?;
        let sql = "UPDATE job SET lease_until = 0 WHERE state = 1";
        tx.execute_raw(self.statement(sql, vec![])).await.map_err(db_error)?;
        tx.commit().await.map_err(db_error)
    }
}
