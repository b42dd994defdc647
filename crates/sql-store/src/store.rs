//! The handle a service holds: reads, write transactions, liveness.

use sea_orm::{
    ConnectionTrait, DatabaseConnection, DatabaseTransaction, DbBackend, SqliteTransactionMode,
    Statement, TransactionOptions, TransactionTrait,
};
use service_error::ServiceError;

use crate::{SqlSettings, db_error, postgres, sqlite};

/// One service's schema. Clones share the connections.
#[derive(Debug, Clone)]
pub struct SqlStore {
    schema: &'static str,
    backend: DbBackend,
    read: DatabaseConnection,
    write: DatabaseConnection,
}

impl SqlStore {
    /// Opens the schema: `search_path` `<schema>,public` on Postgres, the file
    /// `<data_dir>/<schema>.sqlite` otherwise.
    ///
    /// # Errors
    /// INVALID_ARGUMENT for a URL it does not take, FAILED_PRECONDITION for a
    /// refused login, a missing database or an unusable file, UNAVAILABLE for
    /// a server that is away; each says what to do.
    pub async fn open(settings: &SqlSettings, schema: &'static str) -> Result<Self, ServiceError> {
        let Some(url) = &settings.database_url else {
            let sqlite::Connections { read, write } =
                sqlite::open(&settings.data_dir, schema, settings.max_connections).await?;
            return Ok(Self { schema, backend: DbBackend::Sqlite, read, write });
        };
        let pool = postgres::open(url, schema, settings.max_connections).await?;
        Ok(Self { schema, backend: DbBackend::Postgres, read: pool.clone(), write: pool })
    }

    /// For queries outside a transaction. Read-only on SQLite.
    #[must_use]
    pub const fn read(&self) -> &DatabaseConnection {
        &self.read
    }

    /// Runs `work` in one write transaction: commits what it returns as `Ok`,
    /// rolls back otherwise. Inside, use only the transaction it is given: a
    /// second connection may never come free.
    ///
    /// # Errors
    /// What `work` fails with, or [`db_error`] of begin and commit.
    pub async fn write<T, E, F>(&self, work: F) -> Result<T, E>
    where
        E: From<ServiceError>,
        F: AsyncFnOnce(&DatabaseTransaction) -> Result<T, E>,
    {
        let tx = self.begin().await?;
        match work(&tx).await {
            Ok(value) => {
                tx.commit().await.map_err(db_error)?;
                Ok(value)
            }
            Err(error) => {
                if let Err(rollback) = tx.rollback().await {
                    tracing::warn!(error = %rollback, "rollback failed; the connection is discarded");
                }
                Err(error)
            }
        }
    }

    /// Begins a write transaction, for work that does not fit a closure. It
    /// rolls back when dropped.
    ///
    /// # Errors
    /// As [`db_error`].
    pub async fn begin(&self) -> Result<DatabaseTransaction, ServiceError> {
        let options = TransactionOptions {
            sqlite_transaction_mode: Some(SqliteTransactionMode::Immediate),
            ..TransactionOptions::default()
        };
        self.write.begin_with_options(options).await.map_err(db_error)
    }

    /// Which database it is.
    #[must_use]
    pub const fn backend(&self) -> DbBackend {
        self.backend
    }

    /// The schema's name.
    #[must_use]
    pub const fn schema(&self) -> &'static str {
        self.schema
    }

    /// Whether the database answers, for readiness.
    ///
    /// # Errors
    /// As [`db_error`].
    pub async fn ping(&self) -> Result<(), ServiceError> {
        self.read.execute_unprepared("SELECT 1").await.map(drop).map_err(db_error)
    }

    /// Lets the planner look at the tables anew; `vacuum`: also gives free space
    /// back. SQLite writes its file anew for that and needs as much room beside it,
    /// and writers wait; Postgres makes the space of dead rows usable and nobody waits.
    ///
    /// # Errors
    /// As [`db_error`].
    pub async fn tidy(&self, vacuum: bool) -> Result<(), ServiceError> {
        let run = async |sql: &str| self.write.execute_unprepared(sql).await.map_err(db_error);
        if self.backend == DbBackend::Postgres {
            let tables =
                "SELECT tablename::text AS name FROM pg_tables WHERE schemaname = current_schema()";
            let tables = Statement::from_string(self.backend, tables);
            for row in self.read.query_all_raw(tables).await.map_err(db_error)? {
                let name: String = row.try_get("", "name").map_err(db_error)?;
                let name = name.replace('"', "\"\"");
                let verb = if vacuum { "VACUUM (ANALYZE)" } else { "ANALYZE" };
                run(&format!("{verb} \"{}\".\"{name}\"", self.schema)).await?;
            }
            return Ok(());
        }
        run("PRAGMA analysis_limit = 1000").await?;
        run("ANALYZE").await?;
        if vacuum {
            run("VACUUM").await?;
        }
        run("PRAGMA wal_checkpoint(TRUNCATE)").await.map(drop)
    }

    /// Closes the connections; SQLite folds its WAL into the file.
    ///
    /// # Errors
    /// As [`db_error`].
    pub async fn close(self) -> Result<(), ServiceError> {
        self.read.close().await.map_err(db_error)?;
        self.write.close().await.map_err(db_error)
    }
}
