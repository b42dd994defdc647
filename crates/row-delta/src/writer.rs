//! Writers: those that meet are committed together, each judged alone.

use std::sync::Arc;

use arrow::array::RecordBatch;
use sea_orm::{ConnectionTrait, DatabaseTransaction, Statement, Value};
use service_error::ServiceError;
use sql_store::{SqlStore, db_error, now_micros};
use tokio::sync::{mpsc, oneshot};

use crate::edits::{EditKey, Repeated, find_in, remember};
use crate::image::encode_image;
use crate::key::keys_of;
use crate::log::{place_values, state_in};
use crate::rules::{HeadNow, Verdict, judge};
use crate::{FenceKind, Place};

/// Writes that wait for the one connection that writes.
const QUEUE: usize = 256;
/// Writes and bytes of one transaction at most.
const TOGETHER_MAX: usize = 64;
const TOGETHER_BYTES_MAX: usize = 8 << 20;
const ROWS_PER_INSERT: usize = 1_000;
const KEYS_PER_LOOK: usize = 500;

/// Changes computed from a state of the branch.
#[derive(Debug, Clone)]
pub struct Write {
    /// The branch.
    pub place: Place,
    /// The state's epoch, read before the rows were.
    pub epoch: i64,
    /// The seq up to which changes were seen.
    pub read_seq: i64,
    /// The catalog's watermark: the counter is never below it.
    pub floor: i64,
    /// Rows that are there afterwards, whole.
    pub live: Option<RecordBatch>,
    /// The keys of rows that are not: a batch of the key column alone.
    pub dead: Option<RecordBatch>,
    /// The key column.
    pub key_column: String,
    /// Any change since `read_seq` makes it [`Outcome::Moved`], not only one to its keys: it was
    /// computed from all rows.
    pub of_all: bool,
    /// What makes a repetition known.
    pub edit: Option<EditKey>,
}

/// What became of a write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It is committed; this is its last seq.
    Written(i64),
    /// Something it was computed from has changed: compute it again.
    Moved,
    /// A bulk commit is under way: wait, then compute it again.
    Fenced,
    /// It had been committed before.
    Repeated(Repeated),
}

type Answer = oneshot::Sender<Result<Outcome, ServiceError>>;

/// A write in the form of rows.
#[derive(Debug)]
struct Prepared {
    write: Write,
    /// (key, live, index of the image, row in it).
    rows: Vec<(Vec<u8>, bool, usize, i32)>,
    images: Vec<Vec<u8>>,
}

impl Prepared {
    fn bytes(&self) -> usize {
        self.images.iter().map(Vec::len).sum()
    }
}

#[derive(Debug, Clone)]
pub(crate) struct Writers {
    queue: mpsc::Sender<(Arc<Prepared>, Answer)>,
}

impl Writers {
    pub fn start(sql: SqlStore) -> Self {
        let (queue, arriving) = mpsc::channel(QUEUE);
        tokio::spawn(run(sql, arriving));
        Self { queue }
    }

    pub async fn write(&self, write: Write) -> Result<Outcome, ServiceError> {
        let stopped = || ServiceError::unavailable("the writer has stopped; try again");
        let prepared = tokio::task::spawn_blocking(move || prepare(write)).await;
        let prepared = prepared.map_err(|error| {
            ServiceError::internal("row images could not be made").caused_by(error)
        })??;
        let (answer, answered) = oneshot::channel();
        self.queue.send((Arc::new(prepared), answer)).await.map_err(|_| stopped())?;
        answered.await.map_err(|_| stopped())?
    }
}

fn prepare(write: Write) -> Result<Prepared, ServiceError> {
    let (mut rows, mut images) = (Vec::new(), Vec::new());
    for (batch, live) in [(&write.live, true), (&write.dead, false)] {
        let Some(batch) = batch.as_ref().filter(|batch| batch.num_rows() > 0) else { continue };
        let column = batch.column_by_name(&write.key_column);
        let column = column.ok_or_else(|| ServiceError::internal("a row image without its key"))?;
        for (at, key) in keys_of(column)?.into_iter().enumerate() {
            rows.push((key, live, images.len(), i32::try_from(at).unwrap_or(i32::MAX)));
        }
        images.push(encode_image(batch)?);
    }
    Ok(Prepared { write, rows, images })
}

async fn run(sql: SqlStore, mut arriving: mpsc::Receiver<(Arc<Prepared>, Answer)>) {
    while let Some(first) = arriving.recv().await {
        let mut together = vec![first];
        let mut bytes = together[0].0.bytes();
        while together.len() < TOGETHER_MAX && bytes < TOGETHER_BYTES_MAX {
            let Ok(next) = arriving.try_recv() else { break };
            bytes += next.0.bytes();
            together.push(next);
        }
        // Rows are locked in one order, whoever else writes to several branches.
        together.sort_by_key(|(prepared, _)| prepared.write.place);
        let writes: Vec<Arc<Prepared>> =
            together.iter().map(|(prepared, _)| Arc::clone(prepared)).collect();
        match commit(&sql, &writes).await {
            Ok(outcomes) => {
                for ((_, answer), outcome) in together.into_iter().zip(outcomes) {
                    let _ = answer.send(Ok(outcome));
                }
            }
            Err(error) if together.len() == 1 => {
                for (_, answer) in together {
                    let _ = answer.send(Err(copy_of(&error)));
                }
            }
            // One of them spoils the transaction for all: each by itself.
            Err(_) => {
                for (prepared, answer) in together {
                    let outcome = commit(&sql, &[prepared]).await;
                    let _ = answer.send(outcome.map(|mut all| all.remove(0)));
                }
            }
        }
    }
}

fn copy_of(error: &ServiceError) -> ServiceError {
    let mut copy = ServiceError::new(error.code(), error.message()).reason(error.reason_text());
    for (key, value) in error.details() {
        copy = copy.with(key, value);
    }
    copy
}

async fn commit(sql: &SqlStore, writes: &[Arc<Prepared>]) -> Result<Vec<Outcome>, ServiceError> {
    let tx = sql.begin().await?;
    let mut outcomes = Vec::with_capacity(writes.len());
    for write in writes {
        outcomes.push(write_one(&tx, write).await?);
    }
    tx.commit().await.map_err(db_error)?;
    Ok(outcomes)
}

async fn write_one(tx: &DatabaseTransaction, prepared: &Prepared) -> Result<Outcome, ServiceError> {
    let write = &prepared.write;
    if let Some(edit) = &write.edit
        && let Some(repeated) = find_in(tx, write.place.dataset, edit).await?
    {
        return Ok(Outcome::Repeated(repeated));
    }
    // The row stays locked from here to the commit, so seq order is commit order.
    let count = i64::try_from(prepared.rows.len()).unwrap_or(i64::MAX);
    let last = take(tx, write, count, prepared.bytes()).await?;
    let state = state_in(tx, write.place).await?.unwrap_or_default();
    let key_seq = match write.of_all {
        true => newest_of_all(tx, write).await?,
        false => newest_of_keys(tx, prepared, last - count).await?,
    };
    let is_fenced = state.fence.is_some_and(|fence| fence.kind == FenceKind::Exclusive);
    let now = HeadNow { epoch: state.epoch, is_fenced, key_seq };
    match judge(write.epoch, write.read_seq, now) {
        // What was taken is given back, but for the numbers: a gap is no harm.
        Verdict::Moved => {
            give_back(tx, write.place, count, prepared.bytes()).await?;
            return Ok(Outcome::Moved);
        }
        Verdict::Fenced => {
            give_back(tx, write.place, count, prepared.bytes()).await?;
            return Ok(Outcome::Fenced);
        }
        Verdict::Write => {}
    }
    insert_images(tx, prepared, last - count + 1).await?;
    insert_rows(tx, prepared, last - count + 1).await?;
    if let Some(edit) = &write.edit {
        remember(tx, write.place.dataset, edit, last).await?;
    }
    Ok(Outcome::Written(last))
}

/// Takes `count` numbers and answers the last.
async fn take(
    tx: &DatabaseTransaction,
    write: &Write,
    count: i64,
    bytes: usize,
) -> Result<i64, ServiceError> {
    let sql = "INSERT INTO delta_head (dataset_id, branch, seq, epoch, absorbed, trimmed, pending_rows, \
        pending_bytes, oldest_at, fence_kind, fence_epoch, fence_upload, fence_barrier, fence_expires_at) \
        VALUES ($1, $2, $3 + $4, 0, $3, 0, $4, $5, $6, 0, 0, NULL, 0, 0) \
        ON CONFLICT (dataset_id, branch) DO UPDATE SET \
        seq = (CASE WHEN delta_head.seq < $3 THEN $3 ELSE delta_head.seq END) + $4, \
        pending_rows = delta_head.pending_rows + $4, pending_bytes = delta_head.pending_bytes + $5, \
        oldest_at = CASE WHEN delta_head.oldest_at = 0 THEN $6 ELSE delta_head.oldest_at END \
        RETURNING seq";
    let mut values = place_values(write.place);
    values.extend::<[Value; 4]>([
        write.floor.into(),
        count.into(),
        i64::try_from(bytes).unwrap_or(i64::MAX).into(),
        now_micros().into(),
    ]);
    let statement = Statement::from_sql_and_values(tx.get_database_backend(), sql, values);
    let row = tx.query_one_raw(statement).await.map_err(db_error)?;
    let row = row.ok_or_else(|| ServiceError::internal("the counter gave no number"))?;
    row.try_get("", "seq").map_err(db_error)
}

async fn give_back(
    tx: &DatabaseTransaction,
    place: Place,
    count: i64,
    bytes: usize,
) -> Result<(), ServiceError> {
    let sql = "UPDATE delta_head SET pending_rows = pending_rows - $3, pending_bytes = pending_bytes - $4, \
        oldest_at = CASE WHEN pending_rows <= $3 THEN 0 ELSE oldest_at END \
        WHERE dataset_id = $1 AND branch = $2";
    let mut values = place_values(place);
    values.extend::<[Value; 2]>([count.into(), i64::try_from(bytes).unwrap_or(i64::MAX).into()]);
    let statement = Statement::from_sql_and_values(tx.get_database_backend(), sql, values);
    tx.execute_raw(statement).await.map_err(db_error)?;
    Ok(())
}

/// The newest change after what the write read. Numbers that were taken in vain are none, or
/// writers that lose would make each other lose.
async fn newest_of_all(tx: &DatabaseTransaction, write: &Write) -> Result<i64, ServiceError> {
    let sql = "SELECT MAX(seq) AS newest FROM delta_row \
        WHERE dataset_id = $1 AND branch = $2 AND seq > $3";
    let mut values = place_values(write.place);
    values.push(write.read_seq.into());
    let statement = Statement::from_sql_and_values(tx.get_database_backend(), sql, values);
    let row = tx.query_one_raw(statement).await.map_err(db_error)?;
    let newest: Option<i64> = match row {
        Some(row) => row.try_get("", "newest").map_err(db_error)?,
        None => None,
    };
    Ok(newest.unwrap_or(0))
}

/// The newest change of one of the write's keys, if any change came after what
/// it read.
async fn newest_of_keys(
    tx: &DatabaseTransaction,
    prepared: &Prepared,
    seq_before: i64,
) -> Result<i64, ServiceError> {
    if seq_before <= prepared.write.read_seq {
        return Ok(0);
    }
    for chunk in prepared.rows.chunks(KEYS_PER_LOOK) {
        let marks: Vec<String> = (0..chunk.len()).map(|at| format!("${}", at + 4)).collect();
        let sql = format!(
            "SELECT MAX(seq) AS newest FROM delta_row WHERE dataset_id = $1 AND branch = $2 AND seq > $3 \
             AND row_key IN ({})",
            marks.join(", ")
        );
        let mut values = place_values(prepared.write.place);
        values.push(prepared.write.read_seq.into());
        values.extend(chunk.iter().map(|(key, ..)| Value::from(key.clone())));
        let statement = Statement::from_sql_and_values(tx.get_database_backend(), sql, values);
        let row = tx.query_one_raw(statement).await.map_err(db_error)?;
        let newest: Option<i64> = match row {
            Some(row) => row.try_get("", "newest").map_err(db_error)?,
            None => None,
        };
        if let Some(newest) = newest {
            return Ok(newest);
        }
    }
    Ok(0)
}

async fn insert_images(
    tx: &DatabaseTransaction,
    prepared: &Prepared,
    first: i64,
) -> Result<(), ServiceError> {
    for (seq, image) in (first..).zip(&prepared.images) {
        let sql = "INSERT INTO delta_image (dataset_id, branch, seq, data) VALUES ($1, $2, $3, $4)";
        let mut values = place_values(prepared.write.place);
        values.extend::<[Value; 2]>([seq.into(), image.clone().into()]);
        let statement = Statement::from_sql_and_values(tx.get_database_backend(), sql, values);
        tx.execute_raw(statement).await.map_err(db_error)?;
    }
    Ok(())
}

async fn insert_rows(
    tx: &DatabaseTransaction,
    prepared: &Prepared,
    first: i64,
) -> Result<(), ServiceError> {
    let numbered: Vec<_> = (first..).zip(&prepared.rows).collect();
    for chunk in numbered.chunks(ROWS_PER_INSERT) {
        let mut values = place_values(prepared.write.place);
        let mut marks = Vec::with_capacity(chunk.len());
        for (seq, (key, live, image, row)) in chunk {
            let at = values.len() + 1;
            marks.push(format!(
                "($1, $2, ${at}, ${}, ${}, ${}, ${})",
                at + 1,
                at + 2,
                at + 3,
                at + 4
            ));
            let image_seq = first + i64::try_from(*image).unwrap_or(0);
            values.extend::<[Value; 5]>([
                (*seq).into(),
                key.clone().into(),
                (*live).into(),
                image_seq.into(),
                (*row).into(),
            ]);
        }
        let sql = format!(
            "INSERT INTO delta_row (dataset_id, branch, seq, row_key, live, image_seq, image_row) VALUES {}",
            marks.join(", ")
        );
        let statement = Statement::from_sql_and_values(tx.get_database_backend(), sql, values);
        tx.execute_raw(statement).await.map_err(db_error)?;
    }
    Ok(())
}
