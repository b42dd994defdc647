//! Rows of uploads. An upload leaves the open state once, by whoever names the
//! lease epoch that it read.

use ids::{DatasetId, Id, NamespaceId, PrincipalId, UploadId};
use sea_orm::sea_query::Expr;
use sea_orm::{
    ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect, Set,
    Statement, Value,
};
use service_error::ServiceError;
use sql_store::{db_error, now_micros};

use crate::model::{Upload, UploadState, upload};
use crate::store::Store;
use crate::store::entity::upload as row;

pub const UPLOAD_OPEN: i16 = 0;
pub const UPLOAD_COMMITTED: i16 = 1;
pub const UPLOAD_ABORTED: i16 = 2;

impl Store {
    /// Opens an upload.
    ///
    /// # Errors
    /// As [`db_error`].
    pub async fn open_upload(
        &self,
        dataset: DatasetId,
        namespace: NamespaceId,
        principal: PrincipalId,
        expires_at: i64,
    ) -> Result<UploadId, ServiceError> {
        let id = UploadId::new();
        let tx = self.sql.begin().await?;
        let opened = row::ActiveModel {
            id: Set(id.uuid()),
            dataset_id: Set(dataset.uuid()),
            namespace_id: Set(namespace.uuid()),
            principal: Set(principal.uuid()),
            state: Set(UPLOAD_OPEN),
            lease_epoch: Set(1),
            expires_at: Set(expires_at),
            version: Set(0),
            created_at: Set(now_micros()),
            swept_at: Set(None),
            snapshot: Set(0),
        };
        row::Entity::insert(opened).exec_without_returning(&tx).await.map_err(db_error)?;
        tx.commit().await.map_err(db_error)?;
        Ok(id)
    }

    /// The upload of an id.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn find_upload(&self, id: UploadId) -> Result<Upload, ServiceError> {
        upload_in(self.read(), id).await
    }

    /// Prolongs the lease of an open upload.
    ///
    /// # Errors
    /// `FailedPrecondition` with reason `UPLOAD_ABORTED` or `UPLOAD_COMMITTED`.
    pub async fn renew_upload(&self, found: &Upload, expires_at: i64) -> Result<(), ServiceError> {
        let tx = self.sql.begin().await?;
        let sql =
            "UPDATE upload SET expires_at = $1 WHERE id = $2 AND state = $3 AND lease_epoch = $4";
        let values: [Value; 4] = [
            expires_at.into(),
            found.id.uuid().into(),
            UPLOAD_OPEN.into(),
            found.lease_epoch.into(),
        ];
        let renew = Statement::from_sql_and_values(tx.get_database_backend(), sql, values);
        let renewed = tx.execute_raw(renew).await.map_err(db_error)?.rows_affected();
        if renewed == 0 {
            return Err(closed(&upload_in(&tx, found.id).await?));
        }
        tx.commit().await.map_err(db_error)
    }

    /// Gives an upload up; one that was given up before stays so.
    ///
    /// # Errors
    /// `FailedPrecondition` with reason `UPLOAD_COMMITTED`.
    pub async fn abort_upload(&self, found: &Upload) -> Result<(), ServiceError> {
        let tx = self.sql.begin().await?;
        if !leave_open(&tx, found, UPLOAD_ABORTED, Became::default()).await? {
            let now = upload_in(&tx, found.id).await?;
            if now.state != UploadState::Aborted {
                return Err(upload::committed(found.id));
            }
        }
        tx.commit().await.map_err(db_error)
    }

    /// Says which snapshot an upload became, and gives it up if it became none:
    /// afterwards it never commits.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn settle_upload(&self, id: UploadId) -> Result<Upload, ServiceError> {
        let tx = self.sql.begin().await?;
        let found = upload_in(&tx, id).await?;
        if found.state == UploadState::Open {
            leave_open(&tx, &found, UPLOAD_ABORTED, Became::default()).await?;
        }
        // On Postgres a commit may have won the row meanwhile.
        let settled = upload_in(&tx, id).await?;
        tx.commit().await.map_err(db_error)?;
        Ok(settled)
    }

    /// Gives up to `limit` uploads up whose lease has run out, then names up to
    /// `limit` given-up ones whose objects are still there.
    ///
    /// # Errors
    /// As [`db_error`].
    pub async fn sweep_uploads(&self, now: i64, limit: u32) -> Result<Vec<Upload>, ServiceError> {
        let tx = self.sql.begin().await?;
        let sql = "UPDATE upload SET state = $1, lease_epoch = lease_epoch + 1 WHERE state = $2 AND id IN \
            (SELECT id FROM upload WHERE state = $2 AND expires_at < $3 ORDER BY expires_at LIMIT $4)";
        let values: [Value; 4] =
            [UPLOAD_ABORTED.into(), UPLOAD_OPEN.into(), now.into(), i64::from(limit).into()];
        let expire = Statement::from_sql_and_values(tx.get_database_backend(), sql, values);
        tx.execute_raw(expire).await.map_err(db_error)?;
        tx.commit().await.map_err(db_error)?;
        let unswept = row::Entity::find()
            .filter(row::Column::State.eq(UPLOAD_ABORTED))
            .filter(row::Column::SweptAt.is_null())
            .order_by_asc(row::Column::Id)
            .limit(u64::from(limit))
            .all(self.read())
            .await
            .map_err(db_error)?;
        unswept.into_iter().map(upload_of).collect()
    }

    /// Notes that the objects of given-up uploads are gone.
    ///
    /// # Errors
    /// As [`db_error`].
    pub async fn confirm_swept(&self, ids: &[UploadId]) -> Result<(), ServiceError> {
        let tx = self.sql.begin().await?;
        row::Entity::update_many()
            .col_expr(row::Column::SweptAt, Expr::value(now_micros()))
            .filter(row::Column::Id.is_in(ids.iter().map(|id| id.uuid())))
            .filter(row::Column::State.eq(UPLOAD_ABORTED))
            .exec(&tx)
            .await
            .map_err(db_error)?;
        tx.commit().await.map_err(db_error)
    }

    /// Forgets swept uploads and expired idempotency keys from before a time.
    ///
    /// # Errors
    /// As [`db_error`].
    pub async fn forget_old(&self, now: i64, swept_before: i64) -> Result<u64, ServiceError> {
        let tx = self.sql.begin().await?;
        let backend = tx.get_database_backend();
        let mut forgotten = 0;
        for (sql, before) in [
            ("DELETE FROM idempotency WHERE expires_at < $1", now),
            ("DELETE FROM upload WHERE state = 2 AND swept_at < $1", swept_before),
            // So long after its lease nobody asks again what it became.
            ("DELETE FROM upload WHERE state = 1 AND expires_at < $1", swept_before),
            ("DELETE FROM outbox WHERE delivered_at < $1", swept_before),
        ] {
            let delete = Statement::from_sql_and_values(backend, sql, [before.into()]);
            forgotten += tx.execute_raw(delete).await.map_err(db_error)?.rows_affected();
        }
        tx.commit().await.map_err(db_error)?;
        Ok(forgotten)
    }
}

/// The upload of an id, inside or outside a transaction.
pub async fn upload_in<C: ConnectionTrait>(db: &C, id: UploadId) -> Result<Upload, ServiceError> {
    let found = row::Entity::find_by_id(id.uuid()).one(db).await.map_err(db_error)?;
    upload_of(found.ok_or_else(|| upload::not_found(id))?)
}

/// What an upload became; both 0 for one that was given up.
#[derive(Debug, Clone, Copy, Default)]
pub struct Became {
    pub snapshot: i64,
    pub version: i64,
}

/// Moves an open upload to `state`; false if it is not open or changed hands.
pub async fn leave_open<C: ConnectionTrait>(
    db: &C,
    found: &Upload,
    state: i16,
    became: Became,
) -> Result<bool, ServiceError> {
    let sql = "UPDATE upload SET state = $1, version = $2, snapshot = $3 \
        WHERE id = $4 AND state = $5 AND lease_epoch = $6";
    let values: [Value; 6] = [
        state.into(),
        became.version.into(),
        became.snapshot.into(),
        found.id.uuid().into(),
        UPLOAD_OPEN.into(),
        found.lease_epoch.into(),
    ];
    let leave = Statement::from_sql_and_values(db.get_database_backend(), sql, values);
    Ok(db.execute_raw(leave).await.map_err(db_error)?.rows_affected() == 1)
}

/// Why an upload that is not open can't be used.
pub fn closed(found: &Upload) -> ServiceError {
    match found.state {
        UploadState::Committed => upload::committed(found.id),
        UploadState::Aborted => upload::aborted(found.id),
        UploadState::Open => {
            ServiceError::conflict(format!("upload {} changed hands: retry", found.id))
                .reason("UPLOAD_MOVED")
        }
    }
}

fn upload_of(row: row::Model) -> Result<Upload, ServiceError> {
    Ok(Upload {
        id: Id::from_uuid(row.id),
        dataset_id: Id::from_uuid(row.dataset_id),
        namespace_id: Id::from_uuid(row.namespace_id),
        principal: Id::from_uuid(row.principal),
        state: match row.state {
            UPLOAD_OPEN => UploadState::Open,
            UPLOAD_COMMITTED => UploadState::Committed,
            UPLOAD_ABORTED => UploadState::Aborted,
            other => {
                return Err(ServiceError::data_loss(format!(
                    "an upload has the unknown state {other}"
                )));
            }
        },
        lease_epoch: row.lease_epoch,
        expires_at: row.expires_at,
        version: row.version,
        snapshot: row.snapshot,
    })
}
