//! What a database says, as the platform's error.

use sea_orm::sqlx::Error as SqlxError;
use sea_orm::{DbErr, RuntimeErr, SqlErr};
use service_error::ServiceError;

/// The platform's error for a failed statement: a busy or absent database is
/// UNAVAILABLE, a lost race is a conflict, a full disk is RESOURCE_EXHAUSTED,
/// a damaged file is DATA_LOSS, the rest a defect. The database's own words stay in the source.
#[must_use]
pub fn db_error(err: DbErr) -> ServiceError {
    match &err {
        DbErr::ConnectionAcquire(_) => ServiceError::unavailable(
            "the database has no free connection; try again, or raise its max_connections",
        )
        .reason("DATABASE_BUSY"),
        DbErr::Conn(RuntimeErr::SqlxError(cause))
        | DbErr::Exec(RuntimeErr::SqlxError(cause))
        | DbErr::Query(RuntimeErr::SqlxError(cause)) => {
            if is_unique_violation(&err) {
                ServiceError::conflict(
                    "another change took the same unique value; read again and retry",
                )
                .reason("UNIQUE_VIOLATION")
            } else {
                of_cause(cause)
            }
        }
        _ => ServiceError::internal("the database answered what was not expected")
            .reason("DATABASE_DEFECT"),
    }
    .caused_by(err)
}

/// Whether a statement failed because a unique value is taken.
#[must_use]
pub fn is_unique_violation(err: &DbErr) -> bool {
    matches!(err.sql_err(), Some(SqlErr::UniqueConstraintViolation(_)))
}

fn of_cause(cause: &SqlxError) -> ServiceError {
    match cause {
        SqlxError::Io(_)
        | SqlxError::Tls(_)
        | SqlxError::PoolTimedOut
        | SqlxError::PoolClosed
        | SqlxError::WorkerCrashed => away(),
        SqlxError::Database(refusal) => of_code(refusal.code().as_deref().unwrap_or_default()),
        _ => defect(),
    }
}

/// SQLSTATE of Postgres, or SQLite's extended result code.
fn of_code(code: &str) -> ServiceError {
    match code {
        "40001" | "40P01" => ServiceError::conflict("the transaction lost a race; retry")
            .reason("TRANSACTION_CONFLICT"),
        "25P03" | "53300" | "57P01" | "57P02" | "57P03" => away(),
        "53100" | "13" => ServiceError::exhausted("the database's disk is full; free some space")
            .reason("DATABASE_FULL"),
        "XX001" | "XX002" => damaged(),
        _ => match code.parse::<u32>().map(|extended| extended & 0xff) {
            // SQLITE_CORRUPT and SQLITE_NOTADB.
            Ok(11 | 26) if code.len() < 5 => damaged(),
            // SQLITE_BUSY and SQLITE_LOCKED.
            Ok(5 | 6) if code.len() < 5 => {
                ServiceError::unavailable("the database file is locked; try again")
                    .reason("DATABASE_BUSY")
            }
            Ok(8) if code.len() < 5 => {
                ServiceError::precondition("the database is read-only; check its owner and mode")
                    .reason("DATABASE_READ_ONLY")
            }
            _ => defect(),
        },
    }
}

fn away() -> ServiceError {
    ServiceError::unavailable("the database is away; try again").reason("DATABASE_AWAY")
}

fn damaged() -> ServiceError {
    ServiceError::data_loss("the database is damaged; restore it from a backup")
        .reason("DATABASE_DAMAGED")
}

fn defect() -> ServiceError {
    ServiceError::internal("the database refused a statement").reason("DATABASE_DEFECT")
}

#[cfg(test)]
mod tests {
    use super::*;
    use sea_orm::ConnAcquireErr;
    use service_error::Code;

    #[test]
    fn a_full_pool_is_retryable() {
        let error = db_error(DbErr::ConnectionAcquire(ConnAcquireErr::Timeout));
        assert_eq!(error.code(), Code::Unavailable);
        assert!(error.is_retryable());
    }

    #[test]
    fn codes_of_both_databases_map_by_meaning() {
        assert_eq!(of_code("40P01").code(), Code::Conflict);
        assert_eq!(of_code("57P03").code(), Code::Unavailable);
        assert_eq!(of_code("517").code(), Code::Unavailable, "SQLITE_BUSY_SNAPSHOT");
        assert_eq!(of_code("1032").code(), Code::FailedPrecondition, "SQLITE_READONLY_DBMOVED");
        assert_eq!(of_code("13").code(), Code::ResourceExhausted);
        for damaged in ["11", "26", "267", "XX001"] {
            assert_eq!(of_code(damaged).code(), Code::DataLoss, "{damaged}");
        }
        assert_eq!(of_code("42601").code(), Code::Internal);
    }
}
