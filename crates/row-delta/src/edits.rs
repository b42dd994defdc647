//! Edits that their caller gave a key: repeating one answers what it did.

use sea_orm::{ConnectionTrait, DatabaseTransaction, FromQueryResult, Statement, Value};
use service_error::ServiceError;
use sql_store::db_error;
use uuid::Uuid;

use crate::RowDelta;

/// What makes a repeated edit the same one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EditKey {
    /// Who edits.
    pub principal: Uuid,
    /// The caller's name for the edit.
    pub key: String,
    /// Of what the edit says.
    pub body_hash: Vec<u8>,
    /// What is answered to a repetition.
    pub response: Vec<u8>,
    /// Microseconds UTC.
    pub expires_at: i64,
}

/// An edit that was made before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Repeated {
    /// What it answered.
    pub response: Vec<u8>,
    /// Its last seq.
    pub seq: i64,
}

#[derive(Debug, FromQueryResult)]
struct EditRow {
    body_hash: Vec<u8>,
    response: Vec<u8>,
    seq: i64,
}

pub(crate) async fn find_in<C: ConnectionTrait>(
    db: &C,
    dataset: Uuid,
    edit: &EditKey,
) -> Result<Option<Repeated>, ServiceError> {
    let sql = "SELECT body_hash, response, seq FROM delta_edit \
        WHERE principal = $1 AND dataset_id = $2 AND edit_key = $3";
    let values: [Value; 3] = [edit.principal.into(), dataset.into(), edit.key.clone().into()];
    let statement = Statement::from_sql_and_values(db.get_database_backend(), sql, values);
    let Some(row) = EditRow::find_by_statement(statement).one(db).await.map_err(db_error)? else {
        return Ok(None);
    };
    if row.body_hash != edit.body_hash {
        let message =
            "idempotency_key: it was used for another edit of this dataset; take a new one";
        return Err(ServiceError::precondition(message)
            .reason("IDEMPOTENCY_KEY_REUSED")
            .field("idempotency_key"));
    }
    Ok(Some(Repeated { response: row.response, seq: row.seq }))
}

pub(crate) async fn remember(
    tx: &DatabaseTransaction,
    dataset: Uuid,
    edit: &EditKey,
    seq: i64,
) -> Result<(), ServiceError> {
    let sql = "INSERT INTO delta_edit (principal, dataset_id, edit_key, body_hash, response, seq, expires_at) \
        VALUES ($1, $2, $3, $4, $5, $6, $7)";
    let values: [Value; 7] = [
        edit.principal.into(),
        dataset.into(),
        edit.key.clone().into(),
        edit.body_hash.clone().into(),
        edit.response.clone().into(),
        seq.into(),
        edit.expires_at.into(),
    ];
    let statement = Statement::from_sql_and_values(tx.get_database_backend(), sql, values);
    tx.execute_raw(statement).await.map_err(db_error)?;
    Ok(())
}

impl RowDelta {
    /// What the same edit did before.
    ///
    /// # Errors
    /// `FailedPrecondition` with reason `IDEMPOTENCY_KEY_REUSED`.
    pub async fn repeated(
        &self,
        dataset: Uuid,
        edit: &EditKey,
    ) -> Result<Option<Repeated>, ServiceError> {
        find_in(self.sql.read(), dataset, edit).await
    }
}
