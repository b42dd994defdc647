//! The file indexer's rows: schema `files` in Postgres or `files.sqlite`.
//!
//! What a scan writes is written under the location's lease epoch, in bulk:
//! a directory's rows and its fingerprint in one transaction, so that a killed
//! scan finds each directory either done or as it was.

mod agents;
mod archives;
mod changes;
mod contents;
mod diff;
mod dir_moves;
mod duplicates;
mod found;
mod given;
mod imports;
mod large;
mod locations;
mod lost;
mod marks;
mod merge;
mod moves;
mod said;
mod search;
mod sweep;
mod text;
mod usage;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::AtomicI64;

use file_model::below;
use file_schema::{Migrator, bulk};
use sea_orm::{
    ConnectionTrait, DatabaseConnection, DatabaseTransaction, DbBackend, QueryResult, Statement,
    TryGetable, Value,
};
use service_error::ServiceError;
use sql_store::{MigrationStatus, SqlSettings, SqlStore, db_error};

pub use agents::Wanted;
pub use archives::{ArchiveFile, MemberRow};
pub use contents::{Hashed, HashedBy, ToHash, Which};
pub use duplicates::{Group, GroupKey, Totals};
pub use file_model::{Change, ChangeKind, Found, FoundContent, FoundPage, Log, Merged};
pub use imports::{Import, ImportDone, ImportKey, ListedFile};
pub use large::LargeDir;
pub use locations::{NewLocation, ScanKey};
pub use marks::{Annotation, Author, NewLabel, Target};
pub use merge::{Batch, Listed};
pub use said::{Said, SaidLabel, TagRow, TagsAfter};
pub use search::{Facet, FacetRow, SortValue};
pub use usage::UsageRow;

/// Of the one connection that writes: 16 MiB of pages, and as many in the log before they are
/// copied into the file. Then a page that many transactions write is copied once.
const WRITER_CACHE: &str = "PRAGMA cache_size = -16384; PRAGMA wal_autocheckpoint = 4000";

/// The file indexer's database. Clones share the connections.
#[derive(Debug, Clone)]
pub struct Store {
    sql: SqlStore,
    /// Names are found by their trigrams.
    has_trigrams: bool,
    /// The index of names has letters beside ASCII in one case.
    folds: bool,
    /// The newest entry's number, when it was last asked for.
    newest: Arc<AtomicI64>,
}

impl Store {
    /// Opens and migrates the database.
    ///
    /// # Errors
    /// As [`SqlStore::open`] and [`SqlStore::migrate`].
    pub async fn open(settings: &SqlSettings) -> Result<Self, ServiceError> {
        let sql = SqlStore::open_with_lookups(settings, "files").await?;
        sql.migrate::<Migrator>().await?;
        let (has_trigrams, folds) = match sql.backend() {
            DbBackend::Postgres => {
                let look = "SELECT lower('ÉЖ') = 'éж' AS folds, EXISTS (SELECT 1 FROM pg_tables
                    WHERE schemaname = 'files' AND tablename = 'name_page') AS found";
                let look = Statement::from_string(DbBackend::Postgres, look);
                let row = sql.read().query_one_raw(look).await.map_err(db_error)?;
                let row = row.ok_or_else(|| ServiceError::internal("the database said nothing"))?;
                (get(&row, "found")?, get(&row, "folds")?)
            }
            _ => {
                // A scan's transaction stays in memory; pages that do not are written twice.
                let tx = sql.begin().await?;
                tx.execute_unprepared(WRITER_CACHE).await.map_err(db_error)?;
                tx.commit().await.map_err(db_error)?;
                (true, true)
            }
        };
        Ok(Self { sql, has_trigrams, folds, newest: Arc::default() })
    }

    /// The role's jobs, in the same schema.
    #[must_use]
    pub fn jobs(&self, role: &'static str) -> jobs::Jobs {
        jobs::Jobs::new(self.sql.clone(), role)
    }

    /// Whether the database answers.
    ///
    /// # Errors
    /// Why it does not.
    pub async fn ping(&self) -> Result<(), ServiceError> {
        self.sql.ping().await
    }

    /// The migrations that have run, those of other programs too, in order.
    ///
    /// # Errors
    /// A database that is away.
    pub async fn applied_migrations(&self) -> Result<Vec<String>, ServiceError> {
        self.sql.applied_migrations().await
    }

    fn read(&self) -> &DatabaseConnection {
        self.sql.read()
    }

    fn backend(&self) -> DbBackend {
        self.sql.backend()
    }

    fn statement(&self, sql: &str, values: Vec<Value>) -> Statement {
        Statement::from_sql_and_values(self.backend(), sql, values)
    }

    async fn rows(&self, sql: &str, values: Vec<Value>) -> Result<Vec<QueryResult>, ServiceError> {
        all(self.read(), sql, values).await
    }

    /// The same where it is asked again and again and is over soon.
    async fn looked_up(
        &self,
        sql: &str,
        values: Vec<Value>,
    ) -> Result<Vec<QueryResult>, ServiceError> {
        all(&*self.sql.lookup(), sql, values).await
    }

    async fn row(
        &self,
        sql: &str,
        values: Vec<Value>,
    ) -> Result<Option<QueryResult>, ServiceError> {
        self.read().query_one_raw(self.statement(sql, values)).await.map_err(db_error)
    }
}

/// Brings the schema up to date.
///
/// # Errors
/// A database that is away or can't be migrated.
pub async fn migrate(settings: &SqlSettings) -> Result<(), ServiceError> {
    SqlStore::open(settings, "files").await?.migrate::<Migrator>().await
}

/// The migrations and whether each has run.
///
/// # Errors
/// A database that is away.
pub async fn migration_status(
    settings: &SqlSettings,
) -> Result<Vec<MigrationStatus>, ServiceError> {
    SqlStore::open(settings, "files").await?.migration_status::<Migrator>().await
}

async fn all<C: ConnectionTrait>(
    db: &C,
    sql: &str,
    values: Vec<Value>,
) -> Result<Vec<QueryResult>, ServiceError> {
    let statement = Statement::from_sql_and_values(db.get_database_backend(), sql, values);
    db.query_all_raw(statement).await.map_err(db_error)
}

async fn execute(
    tx: &DatabaseTransaction,
    sql: &str,
    values: Vec<Value>,
) -> Result<u64, ServiceError> {
    let statement = Statement::from_sql_and_values(tx.get_database_backend(), sql, values);
    Ok(tx.execute_raw(statement).await.map_err(db_error)?.rows_affected())
}

fn get<T: TryGetable>(row: &QueryResult, column: &str) -> Result<T, ServiceError> {
    row.try_get("", column).map_err(db_error)
}

/// A sum or a count: Postgres answers sums of bigint as numeric, so queries
/// cast; nothing at all is 0.
fn sum(row: &QueryResult, column: &str) -> Result<i64, ServiceError> {
    Ok(get::<Option<i64>>(row, column)?.unwrap_or(0))
}

/// A sum of sizes, or the most that a number holds: files may say that they have 8 EiB.
fn sum_of(backend: DbBackend, column: &str) -> String {
    const MOST: i64 = i64::MAX;
    if backend == DbBackend::Postgres {
        return format!("CAST(LEAST(COALESCE(SUM({column}), 0), {MOST}) AS bigint)");
    }
    // Of halves: SQLite's own sum fails where a number does not hold it.
    let low = format!("SUM({column} & 4294967295)");
    let high = format!("(SUM({column} >> 32) + ({low} >> 32))");
    format!(
        "CASE WHEN {high} > 2147483647 THEN {MOST} ELSE ({high} << 32) | ({low} & 4294967295) END"
    )
}
