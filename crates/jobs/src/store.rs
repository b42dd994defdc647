//! The rows of jobs: queued, claimed under a lease, moved from state to state.

mod claims;
mod rows;

use std::sync::{Arc, Mutex, PoisonError};

use ids::PrincipalId;
use sea_orm::{
    ConnectionTrait, DatabaseConnection, DatabaseTransaction, DbBackend, Statement, Value,
};
use service_error::ServiceError;
use sql_store::{SqlStore, db_error, is_unique_violation, now_micros};
use tokio::sync::watch;
use uuid::Uuid;

use crate::model::{ItemError, Job, NewJob, State, Wanted};

pub(crate) use claims::{Beat, Ending};
use rows::{COLUMNS, job_of};

/// The jobs of one service. Clones share everything.
#[derive(Debug, Clone)]
pub struct Jobs {
    sql: SqlStore,
    service: &'static str,
    /// Something was queued, paused or cancelled: runners look.
    asked: watch::Sender<u64>,
    /// A row changed: watchers look.
    changed: watch::Sender<u64>,
    /// Why the last write of a runner of this process failed: rows can't say so.
    unwritten: Arc<Mutex<Option<String>>>,
}

impl Jobs {
    /// The jobs in a service's schema, which has run [`crate::Migration`].
    #[must_use]
    pub fn new(sql: SqlStore, service: &'static str) -> Self {
        let (asked, changed) = (watch::Sender::new(0), watch::Sender::new(0));
        Self { sql, service, asked, changed, unwritten: Arc::default() }
    }

    /// The service's name: the first part of a job's outward name.
    #[must_use]
    pub const fn service(&self) -> &'static str {
        self.service
    }

    /// Queues work. If an unfinished job has its key, that one is answered.
    ///
    /// # Errors
    /// As the database's.
    pub async fn submit(&self, new: NewJob) -> Result<Job, ServiceError> {
        let tx = self.sql.begin().await?;
        let job = self.submit_in(&tx, new).await?;
        tx.commit().await.map_err(db_error)?;
        self.ask();
        Ok(job)
    }

    /// The same within a transaction of the service; a runner of this process
    /// learns of it within a second, or at once by [`Self::ask`].
    ///
    /// # Errors
    /// As the database's.
    pub async fn submit_in(
        &self,
        tx: &DatabaseTransaction,
        new: NewJob,
    ) -> Result<Job, ServiceError> {
        if let Some(existing) = self.unfinished(tx, new.key.as_deref()).await? {
            return Ok(existing);
        }
        let sql = format!(
            "INSERT INTO job (id, kind, title, key, state, owner, owner_name, owner_role, owner_token, owner_service,
             arguments, created_at) VALUES ($1, $2, $3, $4, 0, $5, $6, $7, $8, $9, $10, $11)
             ON CONFLICT DO NOTHING RETURNING {COLUMNS}"
        );
        let key = new.key.clone();
        let values: Vec<Value> = vec![
            Uuid::now_v7().into(),
            new.kind.into(),
            new.title.into(),
            new.key.into(),
            new.owner.principal.uuid().into(),
            new.owner.name.into(),
            (new.owner.role as i32).into(),
            new.owner.token.map(ids::Id::uuid).into(),
            new.owner.service.into(),
            new.arguments.into(),
            now_micros().into(),
        ];
        match self.one(tx, &sql, values).await? {
            Some(job) => Ok(job),
            // Another one was faster with the same key.
            None => self.unfinished(tx, key.as_deref()).await?.ok_or_else(|| {
                ServiceError::conflict("the job was queued and ended meanwhile; retry")
            }),
        }
    }

    async fn unfinished<C: ConnectionTrait>(
        &self,
        db: &C,
        key: Option<&str>,
    ) -> Result<Option<Job>, ServiceError> {
        let Some(key) = key else { return Ok(None) };
        let sql = format!("SELECT {COLUMNS} FROM job WHERE key = $1 AND state <= 2");
        self.one(db, &sql, vec![key.into()]).await
    }

    /// The job that has a key and has not ended.
    ///
    /// # Errors
    /// As the database's.
    pub async fn unfinished_of(&self, key: &str) -> Result<Option<Job>, ServiceError> {
        self.unfinished(self.read(), Some(key)).await
    }

    /// A job by its id.
    ///
    /// # Errors
    /// As the database's.
    pub async fn find(&self, id: Uuid) -> Result<Option<Job>, ServiceError> {
        let sql = format!("SELECT {COLUMNS} FROM job WHERE id = $1");
        let found = self.one(self.read(), &sql, vec![id.into()]).await?;
        Ok(found.map(|job| self.with_waiting(job)))
    }

    /// Up to `limit` jobs older than `before`, newest first: of one owner or of
    /// all, in some states or in any.
    ///
    /// # Errors
    /// As the database's.
    pub async fn list(
        &self,
        owner: Option<PrincipalId>,
        states: &[State],
        before: Option<Uuid>,
        limit: u32,
    ) -> Result<Vec<Job>, ServiceError> {
        let mut sql = format!("SELECT {COLUMNS} FROM job WHERE id < $1");
        let mut values: Vec<Value> =
            vec![before.unwrap_or(Uuid::max()).into(), i64::from(limit).into()];
        if let Some(owner) = owner {
            sql.push_str(" AND owner = $3");
            values.push(owner.uuid().into());
        }
        if !states.is_empty() {
            let numbers: Vec<String> =
                states.iter().map(|state| state.number().to_string()).collect();
            sql.push_str(&format!(" AND state IN ({})", numbers.join(",")));
        }
        sql.push_str(" ORDER BY id DESC LIMIT $2");
        let rows =
            self.read().query_all_raw(self.statement(&sql, values)).await.map_err(db_error)?;
        rows.iter().map(|row| Ok(self.with_waiting(job_of(row)?))).collect()
    }

    /// A job that somebody works on, or will, waits while nothing can be stored.
    fn with_waiting(&self, mut job: Job) -> Job {
        if matches!(job.state, State::Queued | State::Running) {
            job.waiting = self.unwritten().clone();
        }
        job
    }

    /// Remembers why a runner's write failed, until one is stored: `written` says whether
    /// this one was.
    fn heard<T>(
        &self,
        outcome: Result<T, ServiceError>,
        written: impl FnOnce(&T) -> bool,
    ) -> Result<T, ServiceError> {
        let now = match &outcome {
            Ok(value) if !written(value) => return outcome,
            Ok(_) => None,
            Err(error) => Some(error.message().to_owned()),
        };
        let mut unwritten = self.unwritten();
        if *unwritten != now {
            *unwritten = now;
            drop(unwritten);
            self.tell();
        }
        outcome
    }

    fn unwritten(&self) -> std::sync::MutexGuard<'_, Option<String>> {
        self.unwritten.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The first errors of single items.
    ///
    /// # Errors
    /// As the database's.
    pub async fn item_errors(&self, id: Uuid, limit: u32) -> Result<Vec<ItemError>, ServiceError> {
        let sql =
            "SELECT item, message, at FROM job_error WHERE job_id = $1 ORDER BY ordinal LIMIT $2";
        let statement = self.statement(sql, vec![id.into(), i64::from(limit).into()]);
        let rows = self.read().query_all_raw(statement).await.map_err(db_error)?;
        rows.iter().map(rows::item_error_of).collect()
    }

    /// Stops a job that is queued or running; a running one after its next step.
    ///
    /// # Errors
    /// `NotFound`; `FailedPrecondition` for a job that has ended.
    pub async fn pause(&self, id: Uuid) -> Result<Job, ServiceError> {
        self.stop(id, State::Paused, Wanted::Pause).await
    }

    /// Ends a job that has not ended; a running one after its next step.
    ///
    /// # Errors
    /// `NotFound`; `FailedPrecondition` for a job that has ended otherwise.
    pub async fn cancel(&self, id: Uuid) -> Result<Job, ServiceError> {
        self.stop(id, State::Cancelled, Wanted::Cancel).await
    }

    async fn stop(&self, id: Uuid, to: State, wanted: Wanted) -> Result<Job, ServiceError> {
        // A runner that died holds no lease: nobody would act on the wish.
        let sql = format!(
            "UPDATE job SET
               state = CASE WHEN state = 1 AND lease_until >= $3 THEN 1 ELSE $2 END,
               wanted = CASE WHEN state = 1 AND lease_until >= $3 THEN $4 ELSE 0 END,
               lease_epoch = CASE WHEN state = 1 AND lease_until >= $3 THEN lease_epoch ELSE lease_epoch + 1 END,
               ended_at = CASE WHEN $2 = 5 AND NOT (state = 1 AND lease_until >= $3) THEN $3 ELSE ended_at END,
               revision = revision + 1
             WHERE id = $1 AND state <= 2 RETURNING {COLUMNS}"
        );
        let values: Vec<Value> =
            vec![id.into(), to.number().into(), now_micros().into(), (wanted as i32).into()];
        let done = self.changing(&sql, values).await?;
        self.or_refuse(id, done, to, if to == State::Paused { "paused" } else { "cancelled" }).await
    }

    /// Lets a paused job go on where it was.
    ///
    /// # Errors
    /// `NotFound`; `FailedPrecondition` for a job that has ended.
    pub async fn resume(&self, id: Uuid) -> Result<Job, ServiceError> {
        let sql = format!(
            "UPDATE job SET state = CASE WHEN state = 2 THEN 0 ELSE state END,
               wanted = CASE WHEN wanted = 1 THEN 0 ELSE wanted END, not_before = 0, attempt = 0,
               revision = revision + 1
             WHERE id = $1 AND state <= 2 RETURNING {COLUMNS}"
        );
        let done = self.changing(&sql, vec![id.into()]).await?;
        self.or_refuse(id, done, State::Running, "resumed").await
    }

    /// Queues a failed or cancelled job again; it goes on from its last step.
    ///
    /// # Errors
    /// `NotFound`; `FailedPrecondition` for a completed job; `Conflict` when
    /// another unfinished job has its key.
    pub async fn retry(&self, id: Uuid) -> Result<Job, ServiceError> {
        let sql = format!(
            "UPDATE job SET state = 0, wanted = 0, attempt = 0, not_before = 0, ended_at = NULL,
               failure_code = NULL, failure_reason = NULL, failure_message = NULL, revision = revision + 1
             WHERE id = $1 AND state IN (4, 5) RETURNING {COLUMNS}"
        );
        let done = self.changing(&sql, vec![id.into()]).await?;
        self.or_refuse(id, done, State::Queued, "tried again").await
    }

    /// What was done, or why it could not be: asking for what already is so is fine.
    async fn or_refuse(
        &self,
        id: Uuid,
        done: Option<Job>,
        goal: State,
        word: &str,
    ) -> Result<Job, ServiceError> {
        if let Some(job) = done {
            return Ok(job);
        }
        let job = self.find(id).await?.ok_or_else(|| ServiceError::not_found("job", id))?;
        if job.state == goal {
            return Ok(job);
        }
        let message = format!("the job is {} and can't be {word}", job.state.word());
        Err(ServiceError::precondition(message).reason("JOB_STATE").with("state", job.state.word()))
    }

    /// Tells the runners of this process to look.
    pub fn ask(&self) {
        self.asked.send_modify(|count| *count += 1);
        self.tell();
    }

    pub(crate) fn tell(&self) {
        self.changed.send_modify(|count| *count += 1);
    }

    pub(crate) fn asked(&self) -> watch::Receiver<u64> {
        self.asked.subscribe()
    }

    pub(crate) fn changed(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// Forgets jobs that ended before a time.
    ///
    /// # Errors
    /// As the database's.
    pub async fn forget(&self, before: i64) -> Result<u64, ServiceError> {
        let tx = self.sql.begin().await?;
        let sql = "DELETE FROM job WHERE state >= 3 AND ended_at < $1";
        let gone =
            tx.execute_raw(self.statement(sql, vec![before.into()])).await.map_err(db_error)?;
        tx.commit().await.map_err(db_error)?;
        Ok(gone.rows_affected())
    }

    async fn changing(&self, sql: &str, values: Vec<Value>) -> Result<Option<Job>, ServiceError> {
        let tx = self.sql.begin().await?;
        let row = match tx.query_one_raw(self.statement(sql, values)).await {
            Err(error) if is_unique_violation(&error) => {
                return Err(ServiceError::conflict(
                    "another job does the same now; wait for it or cancel it first",
                )
                .reason("JOB_KEY_TAKEN"));
            }
            row => row.map_err(db_error)?,
        };
        tx.commit().await.map_err(db_error)?;
        self.ask();
        row.as_ref().map(job_of).transpose()
    }

    async fn one<C: ConnectionTrait>(
        &self,
        db: &C,
        sql: &str,
        values: Vec<Value>,
    ) -> Result<Option<Job>, ServiceError> {
        let row = db.query_one_raw(self.statement(sql, values)).await.map_err(db_error)?;
        row.as_ref().map(job_of).transpose()
    }

    fn statement(&self, sql: &str, values: Vec<Value>) -> Statement {
        Statement::from_sql_and_values(self.backend(), sql, values)
    }

    fn backend(&self) -> DbBackend {
        self.sql.backend()
    }

    fn read(&self) -> &DatabaseConnection {
        self.sql.read()
    }
}
