//! The fence of a branch: one holder, a lease with its own epoch, a barrier.

use sea_orm::{ConnectionTrait, DbBackend, Statement, Value};
use service_error::ServiceError;
use sql_store::{SqlStore, db_error, now_micros};
use uuid::Uuid;

use crate::log::{place_values, state_in};
use crate::{Place, RowDelta};

/// What a holder keeps away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FenceKind {
    /// Other holders. Writers go on: what a flush moves it does not change.
    Flush,
    /// Other holders and writers.
    Exclusive,
}

impl FenceKind {
    pub(crate) const fn of(stored: i16) -> Option<Self> {
        match stored {
            1 => Some(Self::Flush),
            2 => Some(Self::Exclusive),
            _ => None,
        }
    }

    const fn stored(self) -> i16 {
        match self {
            Self::Flush => 1,
            Self::Exclusive => 2,
        }
    }
}

/// A fence that somebody holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Busy {
    /// What it keeps away.
    pub kind: FenceKind,
    /// Which holder it is: it only grows.
    pub lease_epoch: i64,
    /// The upload that the holder commits, by which an expired one is settled.
    pub upload: Uuid,
    /// The seq up to which its commit absorbs.
    pub barrier: i64,
    /// Microseconds UTC.
    pub expires_at: i64,
}

impl Busy {
    /// Its holder is gone: whoever comes may settle it.
    #[must_use]
    pub fn is_expired(&self) -> bool {
        self.expires_at < now_micros()
    }
}

/// A fence that is held here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fence {
    /// The branch.
    pub place: Place,
    /// As its row says.
    pub held: Busy,
}

/// What came of asking for a fence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    /// It is ours.
    Ours(Fence),
    /// It is somebody's.
    Theirs(Busy),
}

impl RowDelta {
    /// Takes the fence if nobody has it; the barrier is the newest seq then.
    ///
    /// # Errors
    /// As the database fails.
    pub async fn take_fence(
        &self,
        place: Place,
        kind: FenceKind,
        upload: Uuid,
        floor: i64,
        lease_micros: i64,
    ) -> Result<Taken, ServiceError> {
        let tx = self.sql.begin().await?;
        let expires_at = now_micros() + lease_micros;
        let sql = "INSERT INTO delta_head (dataset_id, branch, seq, epoch, absorbed, trimmed, pending_rows, \
            pending_bytes, oldest_at, fence_kind, fence_epoch, fence_upload, fence_barrier, fence_expires_at) \
            VALUES ($1, $2, $3, 0, $3, 0, 0, 0, 0, $4, 1, $5, $3, $6) \
            ON CONFLICT (dataset_id, branch) DO UPDATE SET \
            seq = CASE WHEN delta_head.seq < $3 THEN $3 ELSE delta_head.seq END, \
            fence_barrier = CASE WHEN delta_head.seq < $3 THEN $3 ELSE delta_head.seq END, \
            fence_kind = $4, fence_epoch = delta_head.fence_epoch + 1, fence_upload = $5, \
            fence_expires_at = $6 WHERE delta_head.fence_kind = 0";
        let mut values = place_values(place);
        values.extend::<[Value; 4]>([
            floor.into(),
            kind.stored().into(),
            upload.into(),
            expires_at.into(),
        ]);
        let statement = Statement::from_sql_and_values(tx.get_database_backend(), sql, values);
        let taken = tx.execute_raw(statement).await.map_err(db_error)?.rows_affected() == 1;
        let state = state_in(&tx, place).await?.unwrap_or_default();
        tx.commit().await.map_err(db_error)?;
        let lost = || ServiceError::unavailable("the fence changed hands; try again");
        let held = state.fence.ok_or_else(lost)?;
        Ok(if taken { Taken::Ours(Fence { place, held }) } else { Taken::Theirs(held) })
    }

    /// Prolongs a fence.
    ///
    /// # Errors
    /// `Conflict` with reason `FENCE_LOST` for one that was settled meanwhile.
    pub async fn renew_fence(&self, fence: &Fence, lease_micros: i64) -> Result<(), ServiceError> {
        let tx = self.sql.begin().await?;
        let sql = "UPDATE delta_head SET fence_expires_at = $3 \
            WHERE dataset_id = $1 AND branch = $2 AND fence_epoch = $4 AND fence_kind <> 0";
        let mut values = place_values(fence.place);
        values.extend::<[Value; 2]>([
            (now_micros() + lease_micros).into(),
            fence.held.lease_epoch.into(),
        ]);
        let statement = Statement::from_sql_and_values(tx.get_database_backend(), sql, values);
        let renewed = tx.execute_raw(statement).await.map_err(db_error)?.rows_affected();
        tx.commit().await.map_err(db_error)?;
        if renewed == 1 {
            return Ok(());
        }
        Err(ServiceError::conflict("the write took longer than its lease; try again")
            .reason("FENCE_LOST"))
    }

    /// Opens a fence, once its upload is known to have committed or not. What
    /// `absorbed` names is in the blocks from now on. Nothing happens if another
    /// did it before: the lease epoch says whose fence is meant.
    ///
    /// # Errors
    /// As the database fails.
    pub async fn open_fence(
        &self,
        place: Place,
        held: &Busy,
        absorbed: Option<i64>,
    ) -> Result<(), ServiceError> {
        let tx = self.sql.begin().await?;
        // An exclusive holder may have changed rows that writers had read.
        let sql = "UPDATE delta_head SET fence_kind = 0, fence_upload = NULL, \
            epoch = epoch + CASE WHEN fence_kind = 2 THEN 1 ELSE 0 END \
            WHERE dataset_id = $1 AND branch = $2 AND fence_epoch = $3 AND fence_kind <> 0";
        let mut values = place_values(place);
        values.push(held.lease_epoch.into());
        let backend = tx.get_database_backend();
        let statement = Statement::from_sql_and_values(backend, sql, values);
        let opened = tx.execute_raw(statement).await.map_err(db_error)?.rows_affected() == 1;
        if let Some(watermark) = absorbed.filter(|_| opened) {
            absorb(&tx, place, watermark).await?;
        }
        tx.commit().await.map_err(db_error)
    }
}

/// Ends the leases of all fences of a SQLite file, whose only process has just begun: their
/// holders died with the one before. On Postgres other processes may hold them, and nothing is
/// done. Whoever meets such a fence settles it at once instead of after its lease.
///
/// # Errors
/// As the database fails.
pub async fn end_leases(sql: &SqlStore) -> Result<(), ServiceError> {
    if sql.backend() != DbBackend::Sqlite {
        return Ok(());
    }
    let tx = sql.begin().await?;
    let ended = "UPDATE delta_head SET fence_expires_at = 0 WHERE fence_kind <> 0";
    tx.execute_unprepared(ended).await.map_err(db_error)?;
    tx.commit().await.map_err(db_error)
}

/// Notes that the blocks hold everything up to a seq, and what is left to flush.
async fn absorb<C: ConnectionTrait>(
    tx: &C,
    place: Place,
    watermark: i64,
) -> Result<(), ServiceError> {
    let mark = "INSERT INTO delta_mark (dataset_id, branch, watermark, absorbed_at) VALUES ($1, $2, $3, $4) \
        ON CONFLICT (dataset_id, branch, watermark) DO NOTHING";
    let left = "UPDATE delta_head SET absorbed = CASE WHEN absorbed < $3 THEN $3 ELSE absorbed END, \
        pending_rows = (SELECT COUNT(*) FROM delta_row r WHERE r.dataset_id = $1 AND r.branch = $2 AND r.seq > $3), \
        pending_bytes = (SELECT CAST(COALESCE(SUM(LENGTH(i.data)), 0) AS BIGINT) FROM delta_image i \
        WHERE i.dataset_id = $1 AND i.branch = $2 AND i.seq > $3), \
        oldest_at = CASE WHEN seq > $3 THEN $4 ELSE 0 END \
        WHERE dataset_id = $1 AND branch = $2";
    for sql in [mark, left] {
        let mut values = place_values(place);
        values.extend::<[Value; 2]>([watermark.into(), now_micros().into()]);
        let statement = Statement::from_sql_and_values(tx.get_database_backend(), sql, values);
        tx.execute_raw(statement).await.map_err(db_error)?;
    }
    Ok(())
}
