//! SQLite: one connection that writes and a pool that only reads, so that
//! readers never wait for the writer and writers queue in memory.

use std::fs::{DirBuilder, OpenOptions};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use std::time::{Duration, Instant};

use sea_orm::sqlx::sqlite::{
    SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous,
};
use sea_orm::sqlx::{self, ConnectOptions as _, Connection as _};
use sea_orm::{DatabaseConnection, SqlxSqliteConnector};
use service_error::ServiceError;

/// Another process (a backup, `quarry db`) may hold the file this long.
const BUSY_TIMEOUT: Duration = Duration::from_secs(15);
const SQLITE_BUSY: &str = "5";
const LOCKED_PAUSE: Duration = Duration::from_millis(10);
/// Writers queue for the one connection this long.
const QUEUE_TIMEOUT: Duration = Duration::from_secs(60);

pub(crate) struct Connections {
    pub read: DatabaseConnection,
    pub write: DatabaseConnection,
}

pub(crate) async fn open(
    data_dir: &Path,
    schema: &str,
    readers: u32,
) -> Result<Connections, ServiceError> {
    let file = data_dir.join(format!("{schema}.sqlite"));
    prepare(data_dir, &file).map_err(|err| unusable(&file, err))?;
    let options = SqliteConnectOptions::new()
        .filename(&file)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .foreign_keys(true)
        .busy_timeout(BUSY_TIMEOUT)
        .disable_statement_logging();
    let write = pool_options()
        .max_connections(1)
        // A file does not go away, and to ask is a turn with the connection's thread.
        .test_before_acquire(false)
        .acquire_timeout(QUEUE_TIMEOUT)
        .idle_timeout(None)
        .max_lifetime(None);
    let write = connected(write, &options).await.map_err(|err| unusable(&file, err))?;
    let read = pool_options()
        .max_connections(readers.max(1))
        .test_before_acquire(false)
        .acquire_timeout(QUEUE_TIMEOUT);
    let read = connected(read, &options.read_only(true)).await;
    let read = read.map_err(|err| unusable(&file, err))?;
    Ok(Connections {
        read: SqlxSqliteConnector::from_sqlx_sqlite_pool(read),
        write: SqlxSqliteConnector::from_sqlx_sqlite_pool(write),
    })
}

/// A pool that takes no connection back which is still amid a transaction.
///
/// SQLite ends a transaction by itself after some failures, a full disk among them; the driver's
/// own ROLLBACK fails then, and it goes on to believe in the transaction: it would begin the next
/// one as a savepoint in it, and once one of those is rolled back, which ends no transaction,
/// everything after it is answered as committed and never is.
fn pool_options() -> SqlitePoolOptions {
    SqlitePoolOptions::new().after_release(|connection, _| {
        Box::pin(async move {
            if connection.is_in_transaction() {
                // One that was dropped is rolled back before the connection answers this.
                connection.ping().await?;
            }
            let is_amid = connection.is_in_transaction();
            if is_amid {
                tracing::warn!("a connection is closed: its transaction could not be ended");
            }
            Ok(!is_amid)
        })
    })
}

/// Of several that open a new file at once one turns it to its write-ahead log, and SQLite tells
/// the others that it is locked, however long they would wait.
async fn connected(
    pool: SqlitePoolOptions,
    options: &SqliteConnectOptions,
) -> Result<SqlitePool, sqlx::Error> {
    let until = Instant::now() + BUSY_TIMEOUT;
    loop {
        match pool.clone().connect_with(options.clone()).await {
            Err(sqlx::Error::Database(error))
                if error.code().as_deref() == Some(SQLITE_BUSY) && Instant::now() < until =>
            {
                tokio::time::sleep(LOCKED_PAUSE).await;
            }
            done => return done,
        }
    }
}

/// The file holds hashes and keys: its owner alone may read it, and SQLite
/// gives its WAL the same mode.
fn prepare(data_dir: &Path, file: &Path) -> std::io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(data_dir)?;
    OpenOptions::new().create(true).append(true).mode(0o600).open(file).map(drop)
}

fn unusable(file: &Path, err: impl std::error::Error + Send + Sync + 'static) -> ServiceError {
    ServiceError::precondition(format!(
        "can't open the database file {}: {err}; check the data dir's owner, mode and free space",
        file.display()
    ))
    .reason("DATABASE_UNUSABLE")
    .caused_by(err)
}
