//! Reading the log.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::RecordBatch;
use sea_orm::{ConnectionTrait, FromQueryResult, Statement, Value};
use service_error::ServiceError;
use sql_store::db_error;
use uuid::Uuid;

use crate::fence::{Busy, FenceKind};
use crate::image::{DeltaRow, decode_image};
use crate::{Place, RowDelta};

/// Images decoded of one query.
const IMAGES_PER_QUERY: i64 = 256;

/// Where a branch's log stands.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct State {
    /// The newest change.
    pub seq: i64,
    /// Bulk commits so far; a write names the one it read.
    pub epoch: i64,
    /// Changes up to here are in the blocks, as far as is known here.
    pub absorbed: i64,
    /// Changes up to here are gone from the log.
    pub trimmed: i64,
    /// Changes that wait for a flush, about.
    pub pending_rows: i64,
    /// Bytes of their images, about.
    pub pending_bytes: i64,
    /// When the oldest of them was written, microseconds UTC; 0: none waits.
    pub oldest_at: i64,
    /// Who holds the fence.
    pub fence: Option<Busy>,
}

/// A branch with changes that wait for a flush.
#[derive(Debug, Clone)]
pub struct Backlog {
    /// The branch.
    pub place: Place,
    /// Its log.
    pub state: State,
}

#[derive(Debug, FromQueryResult)]
pub(crate) struct HeadRow {
    dataset_id: Uuid,
    branch: i32,
    seq: i64,
    epoch: i64,
    absorbed: i64,
    trimmed: i64,
    pending_rows: i64,
    pending_bytes: i64,
    oldest_at: i64,
    fence_kind: i16,
    fence_epoch: i64,
    fence_upload: Option<Uuid>,
    fence_barrier: i64,
    fence_expires_at: i64,
}

impl HeadRow {
    fn place(&self) -> Place {
        Place { dataset: self.dataset_id, branch: self.branch }
    }

    fn state(&self) -> State {
        let fence = FenceKind::of(self.fence_kind).map(|kind| Busy {
            kind,
            lease_epoch: self.fence_epoch,
            upload: self.fence_upload.unwrap_or_default(),
            barrier: self.fence_barrier,
            expires_at: self.fence_expires_at,
        });
        State {
            seq: self.seq,
            epoch: self.epoch,
            absorbed: self.absorbed,
            trimmed: self.trimmed,
            pending_rows: self.pending_rows,
            pending_bytes: self.pending_bytes,
            oldest_at: self.oldest_at,
            fence,
        }
    }
}

const COLUMNS: &str = "dataset_id, branch, seq, epoch, absorbed, trimmed, pending_rows, \
    pending_bytes, oldest_at, fence_kind, fence_epoch, fence_upload, fence_barrier, fence_expires_at";

pub(crate) fn place_values(place: Place) -> Vec<Value> {
    vec![place.dataset.into(), place.branch.into()]
}

/// The state of a branch, inside or outside a transaction.
pub(crate) async fn state_in<C: ConnectionTrait>(
    db: &C,
    place: Place,
) -> Result<Option<State>, ServiceError> {
    let sql = format!("SELECT {COLUMNS} FROM delta_head WHERE dataset_id = $1 AND branch = $2");
    let statement =
        Statement::from_sql_and_values(db.get_database_backend(), sql, place_values(place));
    let row = HeadRow::find_by_statement(statement).one(db).await.map_err(db_error)?;
    Ok(row.map(|row| row.state()))
}

impl RowDelta {
    /// Where a branch's log stands; a branch that nobody wrote to stands at 0.
    ///
    /// # Errors
    /// As the database fails.
    pub async fn state(&self, place: Place) -> Result<State, ServiceError> {
        Ok(state_in(self.sql.read(), place).await?.unwrap_or_default())
    }

    /// Branches with changes that wait, or with a fence, after one; at most
    /// `limit`, in order.
    ///
    /// # Errors
    /// As the database fails.
    pub async fn backlog(
        &self,
        after: Option<Place>,
        limit: u32,
    ) -> Result<Vec<Backlog>, ServiceError> {
        let after = after.unwrap_or(Place { dataset: Uuid::nil(), branch: -1 });
        let sql = format!(
            "SELECT {COLUMNS} FROM delta_head WHERE (pending_rows > 0 OR fence_kind <> 0) \
             AND (dataset_id, branch) > ($1, $2) ORDER BY dataset_id, branch LIMIT $3"
        );
        let mut values = place_values(after);
        values.push(i64::from(limit).into());
        let statement = Statement::from_sql_and_values(self.sql.backend(), sql, values);
        let rows =
            HeadRow::find_by_statement(statement).all(self.sql.read()).await.map_err(db_error)?;
        Ok(rows.iter().map(|row| Backlog { place: row.place(), state: row.state() }).collect())
    }
}

#[derive(Debug, FromQueryResult)]
struct LogRow {
    seq: i64,
    row_key: Vec<u8>,
    live: bool,
    image_seq: i64,
    image_row: i32,
}

#[derive(Debug, FromQueryResult)]
struct ImageRow {
    seq: i64,
    data: Vec<u8>,
}

/// Rows with `from < seq <= to`, out of the database.
pub(crate) async fn load<C: ConnectionTrait>(
    db: &C,
    place: Place,
    from: i64,
    to: i64,
) -> Result<Vec<DeltaRow>, ServiceError> {
    let backend = db.get_database_backend();
    let mut values = place_values(place);
    values.extend([from.into(), to.into()]);
    let sql = "SELECT seq, row_key, live, image_seq, image_row FROM delta_row \
        WHERE dataset_id = $1 AND branch = $2 AND seq > $3 AND seq <= $4 ORDER BY seq";
    let statement = Statement::from_sql_and_values(backend, sql, values);
    let rows = LogRow::find_by_statement(statement).all(db).await.map_err(db_error)?;
    let (Some(first), Some(last)) =
        (rows.iter().map(|row| row.image_seq).min(), rows.iter().map(|row| row.image_seq).max())
    else {
        return Ok(Vec::new());
    };
    let images = load_images(db, place, first, last).await?;
    let lost = |seq| ServiceError::data_loss(format!("the image of change {seq} is missing"));
    rows.into_iter()
        .map(|row| {
            let batch = images.get(&row.image_seq).ok_or_else(|| lost(row.seq))?;
            let at = usize::try_from(row.image_row).map_err(|_| lost(row.seq))?;
            if at >= batch.num_rows() {
                return Err(lost(row.seq));
            }
            Ok(DeltaRow {
                seq: row.seq,
                key: row.row_key.into(),
                live: row.live,
                batch: Arc::clone(batch),
                row: at,
            })
        })
        .collect()
}

async fn load_images<C: ConnectionTrait>(
    db: &C,
    place: Place,
    first: i64,
    last: i64,
) -> Result<HashMap<i64, Arc<RecordBatch>>, ServiceError> {
    let mut found = HashMap::new();
    let mut from = first - 1;
    loop {
        let mut values = place_values(place);
        values.extend([from.into(), last.into(), IMAGES_PER_QUERY.into()]);
        let sql = "SELECT seq, data FROM delta_image WHERE dataset_id = $1 AND branch = $2 \
            AND seq > $3 AND seq <= $4 ORDER BY seq LIMIT $5";
        let statement = Statement::from_sql_and_values(db.get_database_backend(), sql, values);
        let rows = ImageRow::find_by_statement(statement).all(db).await.map_err(db_error)?;
        let is_last = i64::try_from(rows.len()).is_ok_and(|count| count < IMAGES_PER_QUERY);
        for row in rows {
            from = row.seq;
            found.insert(row.seq, Arc::new(decode_image(&row.data)?));
        }
        if is_last {
            return Ok(found);
        }
    }
}
