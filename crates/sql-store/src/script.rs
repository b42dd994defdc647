//! Transactions whose statements are all known before they begin.

use sea_orm::sea_query::Values;
use sea_orm::sqlx::pool::PoolConnection;
use sea_orm::sqlx::sqlite::Sqlite;
use sea_orm::sqlx::{self, AssertSqlSafe, Error as SqlxError};
use sea_orm::{DbBackend, DbErr, RuntimeErr, Value};
use sea_query_sqlx::SqlxValues;
use service_error::ServiceError;

use crate::{SqlStore, db_error};

impl SqlStore {
    /// Runs `statements`, parted by `;`, as one write transaction of SQLite's, in one turn of its
    /// connection's thread: begin and commit are turns of their own elsewhere, and a turn costs as
    /// much as a few rows. `$n` is the nth value in every statement. It runs to its end even if
    /// the caller goes away.
    ///
    /// # Errors
    /// As [`db_error`], and nothing of it is kept; `DATABASE_DEFECT` on Postgres, which takes one
    /// statement with values at a time.
    pub async fn run_script(
        &self,
        statements: &str,
        values: Vec<Value>,
    ) -> Result<(), ServiceError> {
        if self.backend() != DbBackend::Sqlite {
            return Err(db_error(DbErr::BackendNotSupported {
                db: "Postgres",
                ctx: "statements with values in one turn",
            }));
        }
        let pool = self.writer().get_sqlite_connection_pool().clone();
        let sql = format!("BEGIN IMMEDIATE; {statements}; COMMIT");
        let run = tokio::spawn(async move {
            let connection = pool.acquire().await?;
            run(connection, sql, values).await
        });
        match run.await {
            Ok(done) => done.map_err(|error| match error {
                SqlxError::PoolTimedOut => {
                    db_error(DbErr::ConnectionAcquire(sea_orm::ConnAcquireErr::Timeout))
                }
                error => db_error(DbErr::Exec(RuntimeErr::SqlxError(error.into()))),
            }),
            Err(error) => Err(ServiceError::internal("a transaction ended by a defect")
                .reason("DATABASE_DEFECT")
                .caused_by(error)),
        }
    }
}

async fn run(
    mut connection: PoolConnection<Sqlite>,
    sql: String,
    values: Vec<Value>,
) -> Result<(), SqlxError> {
    let query = sqlx::query_with(AssertSqlSafe(sql), SqlxValues(Values(values)));
    let Err(error) = query.execute(&mut *connection).await else { return Ok(()) };
    // After some failures the transaction has ended already, and this fails: then, too, nobody
    // gets a connection of which it isn't known what it is amid.
    if sqlx::raw_sql("ROLLBACK").execute(&mut *connection).await.is_err()
        && let Err(error) = connection.close().await
    {
        tracing::warn!(%error, "a connection could not be closed in order");
    }
    Err(error)
}
