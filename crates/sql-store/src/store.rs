//! The handle a service holds: reads, write transactions, liveness.

use std::ops::Deref;
use std::sync::Arc;

use sea_orm::{
    ConnectionTrait, DatabaseConnection, DatabaseTransaction, DbBackend, SqliteTransactionMode,
    Statement, TransactionOptions, TransactionTrait,
};
use service_error::ServiceError;
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::{SqlSettings, db_error, postgres, sqlite};

/// Connections that look-ups go to first. The pool hands out the one that rested longest, so a
/// statement that runs now and then would be another one's first each time: parsed there, and
/// planned five times before its plan is kept.
const LOOKUP_CONNECTIONS: u32 = 2;
/// A pool of fewer is left whole.
const DIVIDED_FROM: u32 = 8;

/// One service's schema. Clones share the connections.
#[derive(Debug, Clone)]
pub struct SqlStore {
    schema: &'static str,
    backend: DbBackend,
    read: DatabaseConnection,
    write: DatabaseConnection,
    lookups: Option<Lookups>,
}

/// Connections with as many turns.
#[derive(Debug, Clone)]
struct Lookups {
    connections: DatabaseConnection,
    turns: Arc<Semaphore>,
}

/// Where one statement is read, until it is dropped.
#[derive(Debug)]
pub struct Lookup<'a> {
    connections: &'a DatabaseConnection,
    _turn: Option<SemaphorePermit<'a>>,
}

impl Deref for Lookup<'_> {
    type Target = DatabaseConnection;

    fn deref(&self) -> &DatabaseConnection {
        self.connections
    }
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
            return Ok(Self { schema, backend: DbBackend::Sqlite, read, write, lookups: None });
        };
        let pool = postgres::open(url, schema, settings.max_connections).await?;
        let (read, write) = (pool.clone(), pool);
        Ok(Self { schema, backend: DbBackend::Postgres, read, write, lookups: None })
    }

    /// As [`Self::open`], with a few of the connections set apart for [`Self::lookup`].
    ///
    /// # Errors
    /// As [`Self::open`].
    pub async fn open_with_lookups(
        settings: &SqlSettings,
        schema: &'static str,
    ) -> Result<Self, ServiceError> {
        let Some(url) =
            settings.database_url.as_ref().filter(|_| settings.max_connections >= DIVIDED_FROM)
        else {
            return Self::open(settings, schema).await;
        };
        let max_connections = settings.max_connections - LOOKUP_CONNECTIONS;
        let store =
            Self::open(&SqlSettings { max_connections, ..settings.clone() }, schema).await?;
        let lookups = Lookups {
            connections: postgres::open(url, schema, LOOKUP_CONNECTIONS).await?,
            turns: Arc::new(Semaphore::new(LOOKUP_CONNECTIONS as usize)),
        };
        Ok(Self { lookups: Some(lookups), ..store })
    }

    /// For queries outside a transaction. Read-only on SQLite.
    #[must_use]
    pub const fn read(&self) -> &DatabaseConnection {
        &self.read
    }

    /// The connection that writes, of SQLite the only one.
    pub(crate) const fn writer(&self) -> &DatabaseConnection {
        &self.write
    }

    /// For one query of many that are alike: where their plans are kept, while there is a free
    /// turn, else as [`Self::read`].
    #[must_use]
    pub fn lookup(&self) -> Lookup<'_> {
        let turn = self.lookups.as_ref().and_then(|lookups| {
            lookups.turns.try_acquire().ok().map(|turn| (&lookups.connections, turn))
        });
        match turn {
            Some((connections, turn)) => Lookup { connections, _turn: Some(turn) },
            None => Lookup { connections: &self.read, _turn: None },
        }
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
        if let Some(lookups) = self.lookups {
            lookups.connections.close().await.map_err(db_error)?;
        }
        self.read.close().await.map_err(db_error)?;
        self.write.close().await.map_err(db_error)
    }
}
