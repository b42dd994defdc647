//! Registries in databases, opened to be read and nothing else.

mod mlflow;
mod raw;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use quarry_client::failure::Failure;
use sea_orm::sqlx::ConnectOptions as _;
use sea_orm::sqlx::sqlite::{SqliteConnectOptions, SqlitePoolOptions};
use sea_orm::{
    DatabaseConnection, DbBackend, DbErr, FromQueryResult, SqlxSqliteConnector, Statement, Value,
};
use service_error::ServiceError;

use crate::place::Roots;
use crate::source::{Opening, Source, damaged, unknown};

pub use mlflow::MlflowDatabase;
pub use raw::RawRegistry;

/// A database and what it is called in messages.
#[derive(Debug)]
struct Rows {
    connection: DatabaseConnection,
    shown: String,
}

impl Rows {
    fn statement(&self, sql: &str, values: Vec<Value>) -> Statement {
        Statement::from_sql_and_values(self.connection.get_database_backend(), sql, values)
    }

    async fn all<T: FromQueryResult>(
        &self,
        sql: &str,
        values: Vec<Value>,
    ) -> Result<Vec<T>, Failure> {
        let found = T::find_by_statement(self.statement(sql, values)).all(&self.connection).await;
        found.map_err(|err| self.failed(&err))
    }

    fn is_sqlite(&self) -> bool {
        self.connection.get_database_backend() == DbBackend::Sqlite
    }

    /// The columns of a table; none where there is no such table.
    async fn columns(&self, table: &str) -> Result<BTreeSet<String>, Failure> {
        #[derive(FromQueryResult)]
        struct Named {
            name: String,
        }
        let sql = if self.is_sqlite() {
            "SELECT name FROM pragma_table_info($1)"
        } else {
            "SELECT CAST(column_name AS text) AS name FROM information_schema.columns \
             WHERE table_schema = current_schema() AND table_name = $1"
        };
        let rows: Vec<Named> = self.all(sql, vec![table.into()]).await?;
        Ok(rows.into_iter().map(|row| row.name).collect())
    }

    fn failed(&self, err: &DbErr) -> Failure {
        damaged(&self.shown, err)
    }
}

/// Opens a SQLite file as the registry that it holds.
///
/// # Errors
/// A file that is damaged or holds none.
pub async fn open_sqlite(path: &Path, opening: Opening) -> Result<Source, Failure> {
    let rows = connect(path).await?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let folder = folder.unwrap_or(Path::new("."));
    let usual = [folder.to_owned(), folder.join("mlartifacts"), folder.join("mlruns")];
    let roots = Roots::new(&opening.folders, &usual).map_err(Failure::usage)?;
    if !rows.columns("mr_model_versions").await?.is_empty() {
        return RawRegistry::new(rows, roots).await.map(Source::Raw);
    }
    if !rows.columns("model_versions").await?.is_empty() {
        return MlflowDatabase::new(rows, roots, &opening.workspace).await.map(Source::Mlflow);
    }
    Err(unknown(path, "the database has neither mr_model_versions nor model_versions"))
}

async fn connect(path: &Path) -> Result<Rows, Failure> {
    let shown = path.display().to_string();
    let options = SqliteConnectOptions::new()
        .filename(path)
        .read_only(true)
        .create_if_missing(false)
        .disable_statement_logging();
    let pool = SqlitePoolOptions::new()
        .max_connections(1)
        .connect_with(options)
        .await
        .map_err(|err| damaged(&shown, err))?;
    let rows = Rows { connection: SqlxSqliteConnector::from_sqlx_sqlite_pool(pool), shown };
    #[derive(FromQueryResult)]
    struct Checked {
        quick_check: String,
    }
    let checked: Vec<Checked> = rows.all("PRAGMA quick_check(1)", Vec::new()).await?;
    match checked.first() {
        Some(row) if row.quick_check == "ok" => Ok(rows),
        Some(row) => Err(damaged(&rows.shown, &row.quick_check)),
        None => Err(damaged(&rows.shown, "it cannot be checked")),
    }
}

/// A table that lacks what an import needs.
fn other_version(shown: &str, table: &str, missing: &[&str], version: &str) -> Failure {
    let message = format!(
        "{shown} is of a version that is not known here{version}: {table} has no {}",
        missing.join(", ")
    );
    ServiceError::invalid("source", message).reason("REGISTRY_VERSION").into()
}

/// Which of some columns a table lacks.
fn lacking<'a>(columns: &BTreeSet<String>, needed: &[&'a str]) -> Vec<&'a str> {
    needed.iter().copied().filter(|column| !columns.contains(*column)).collect()
}

/// Where a server whose database is elsewhere keeps its files.
fn here() -> [PathBuf; 2] {
    [PathBuf::from("mlartifacts"), PathBuf::from("mlruns")]
}
