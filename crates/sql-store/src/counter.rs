//! Numbers whose order is commit order: the counter row stays locked until
//! the transaction that took the number ends, so a smaller number never
//! appears after a larger one. A sequence or a timestamp gives no such order.

use sea_orm::{ConnectionTrait, DatabaseTransaction, DbErr, Statement};
use service_error::ServiceError;

use crate::db_error;

const TAKE: &str = "INSERT INTO counter (name, value) VALUES ($1, $2) \
    ON CONFLICT (name) DO UPDATE SET value = counter.value + excluded.value RETURNING value";
const LOOK: &str = "SELECT value FROM counter WHERE name = $1";

/// The next number of a counter, 1 first. A counter is made by its first use.
///
/// # Errors
/// As [`db_error`].
pub async fn next_number(tx: &DatabaseTransaction, counter: &str) -> Result<i64, ServiceError> {
    next_numbers(tx, counter, 1).await
}

/// Takes `count` numbers at once and returns the last; the first is
/// `last - count + 1`.
///
/// # Errors
/// As [`db_error`].
pub async fn next_numbers(
    tx: &DatabaseTransaction,
    counter: &str,
    count: u32,
) -> Result<i64, ServiceError> {
    let take = Statement::from_sql_and_values(
        tx.get_database_backend(),
        TAKE,
        [counter.into(), i64::from(count).into()],
    );
    let row = tx.query_one_raw(take).await.map_err(db_error)?;
    let row = row.ok_or_else(|| db_error(DbErr::RecordNotUpdated))?;
    row.try_get("", "value").map_err(db_error)
}

/// The newest number that is visible to `db`; 0 if none was taken.
///
/// # Errors
/// As [`db_error`].
pub async fn current_number<C: ConnectionTrait>(
    db: &C,
    counter: &str,
) -> Result<i64, ServiceError> {
    let look = Statement::from_sql_and_values(db.get_database_backend(), LOOK, [counter.into()]);
    match db.query_one_raw(look).await.map_err(db_error)? {
        Some(row) => row.try_get("", "value").map_err(db_error),
        None => Ok(0),
    }
}
