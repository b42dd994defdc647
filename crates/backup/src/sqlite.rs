//! SQLite files: a consistent copy of one that is being written.

use std::path::Path;

use futures::TryStreamExt;
use futures::stream::BoxStream;
use sea_orm::sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sea_orm::sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _, Row as _, query};
use service_error::ServiceError;

use crate::manifest::Table;
use crate::objects::Named;
use crate::{Objects, failed};

/// Copies a database file into a new one, as of one moment, while others
/// write.
pub async fn copy(from: &Path, to: &Path) -> Result<(), ServiceError> {
    let what = || format!("copying {}", from.display());
    let mut connection = open(from, true).await?;
    let place = to.display().to_string().replace('\'', "''");
    query(AssertSqlSafe(format!("VACUUM INTO '{place}'")))
        .execute(&mut connection)
        .await
        .map_err(|error| failed(&what(), error))?;
    close(connection).await
}

/// Lets a file go.
pub async fn close(connection: SqliteConnection) -> Result<(), ServiceError> {
    connection.close().await.map_err(|error| failed("closing a database file", error))
}

/// Opens a file that exists.
pub async fn open(path: &Path, read_only: bool) -> Result<SqliteConnection, ServiceError> {
    SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(false)
        .read_only(read_only)
        .disable_statement_logging()
        .connect()
        .await
        .map_err(|error| failed(&format!("opening {}", path.display()), error))
}

/// What had run in it.
pub async fn migrations(connection: &mut SqliteConnection) -> Result<Vec<String>, ServiceError> {
    let rows = query("SELECT version FROM seaql_migrations ORDER BY version")
        .fetch_all(connection)
        .await
        .map_err(|error| failed("reading the migrations", error))?;
    rows.iter()
        .map(|row| row.try_get(0).map_err(|error| failed("reading the migrations", error)))
        .collect()
}

/// Its tables with their rows counted.
pub async fn tables(connection: &mut SqliteConnection) -> Result<Vec<Table>, ServiceError> {
    let wrong = |error| failed("counting rows", error);
    // Tables of an index that the file keeps for itself are part of another one.
    let names = query(
        "SELECT name FROM pragma_table_list WHERE schema = 'main' AND type = 'table'
         AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' ORDER BY name",
    );
    let names = names.fetch_all(&mut *connection).await.map_err(wrong)?;
    let mut tables = Vec::with_capacity(names.len());
    for row in names {
        let name: String = row.try_get(0).map_err(wrong)?;
        let count = format!("SELECT COUNT(*) FROM \"{}\"", name.replace('"', "\"\""));
        let row = query(AssertSqlSafe(count)).fetch_one(&mut *connection).await.map_err(wrong)?;
        tables.push(Table { name, rows: row.try_get(0).map_err(wrong)?, columns: Vec::new() });
    }
    Ok(tables)
}

/// Whether its pages are sound.
pub async fn check(connection: &mut SqliteConnection) -> Result<(), ServiceError> {
    let wrong = |error| failed("checking the copy", error);
    let row = query("PRAGMA quick_check(1)").fetch_one(connection).await.map_err(wrong)?;
    let said: String = row.try_get(0).map_err(wrong)?;
    if said == "ok" {
        return Ok(());
    }
    Err(ServiceError::data_loss(format!("the database is damaged: {said}"))
        .reason("DATABASE_DAMAGED"))
}

/// The objects that its rows name.
pub fn named<'a>(
    connection: &'a mut SqliteConnection,
    objects: Objects,
) -> BoxStream<'a, Result<Named, ServiceError>> {
    let wrong = |error| failed("reading which objects there are", error);
    let rows = query(objects.sqlite).fetch(connection).map_err(wrong);
    Box::pin(rows.and_then(move |row| async move {
        let named = || -> Result<Named, sea_orm::sqlx::Error> {
            Ok(Named {
                prefix: objects.prefix,
                key: row.try_get("key")?,
                bytes: row.try_get("bytes")?,
                hash: row.try_get("hash")?,
                certain: row.try_get::<i64, _>("certain")? != 0,
            })
        };
        named().map_err(wrong)
    }))
}

/// Runs statements one after another.
pub async fn run(path: &Path, statements: &'static [&'static str]) -> Result<(), ServiceError> {
    if statements.is_empty() {
        return Ok(());
    }
    let wrong = |error| failed(&format!("opening {} anew", path.display()), error);
    let mut connection = open(path, false).await?;
    for statement in statements {
        query(*statement).execute(&mut connection).await.map_err(wrong)?;
    }
    close(connection).await
}
