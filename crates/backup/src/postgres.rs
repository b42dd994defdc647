//! Postgres: all schemas read in one transaction, as COPY text, and loaded in
//! one.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use sea_orm::sqlx::postgres::{PgConnection, PgRow};
use sea_orm::sqlx::{AssertSqlSafe, Connection as _, Row as _, query};
use service_error::ServiceError;
use sql_store::postgres_options;
use tokio::fs::File;

use crate::files::Hashed;
use crate::manifest::{self, Schema, Table};
use crate::objects::Named;
use crate::{Objects, failed, unusable};

/// The migrations' own table: those of the target are its own.
const MIGRATIONS: &str = "seaql_migrations";

/// Opens a connection of its own.
pub async fn connect(url: &str) -> Result<PgConnection, ServiceError> {
    let options = postgres_options(url)?.application_name("quarry-backup");
    PgConnection::connect_with(&options)
        .await
        .map_err(|error| failed("connecting to Postgres", error))
}

/// From now on the connection sees the rows of this moment only.
pub async fn freeze(connection: &mut PgConnection) -> Result<(), ServiceError> {
    query("BEGIN TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
        .execute(&mut *connection)
        .await
        .map_err(|error| failed("beginning a snapshot", error))?;
    // The moment is that of the first statement.
    query("SELECT 1").execute(connection).await.map(drop).map_err(|e| failed("a snapshot", e))
}

/// Writes one schema's rows below `dir`.
pub async fn dump(
    connection: &mut PgConnection,
    name: &str,
    dir: &Path,
) -> Result<Schema, ServiceError> {
    let migrations = migrations(connection, name).await?;
    let mut schema =
        Schema { name: name.to_owned(), migrations, tables: Vec::new(), files: Vec::new() };
    for table in tables(connection, name).await? {
        if table == MIGRATIONS {
            continue;
        }
        let columns = columns(connection, name, &table).await?;
        let path = format!("sql/{name}/{table}.copy");
        let (file, rows) = copy_out(connection, name, &table, &columns, dir, path).await?;
        schema.tables.push(Table { name: table, rows, columns });
        schema.files.push(file);
    }
    Ok(schema)
}

async fn copy_out(
    connection: &mut PgConnection,
    schema: &str,
    table: &str,
    columns: &[String],
    dir: &Path,
    path: String,
) -> Result<(manifest::File, i64), ServiceError> {
    let place = dir.join(&path);
    let wrong = |error| failed(&format!("reading {schema}.{table}"), error);
    let broken = |error: std::io::Error| unusable(&place, &error);
    let mut file = Hashed::create(&place).await.map_err(broken)?;
    let statement = format!(
        "COPY (SELECT {} FROM {}) TO STDOUT",
        quoted_list(columns),
        qualified(schema, table)
    );
    let mut pieces = connection.copy_out_raw(&statement).await.map_err(wrong)?;
    let mut rows = 0;
    while let Some(piece) = pieces.next().await {
        let piece = piece.map_err(wrong)?;
        // In COPY's text a line end is a row's end: those in values are escaped.
        rows += piece.iter().filter(|byte| **byte == b'\n').count();
        file.write(&piece).await.map_err(broken)?;
    }
    drop(pieces);
    let file = file.finish(path).await.map_err(broken)?;
    Ok((file, i64::try_from(rows).unwrap_or(i64::MAX)))
}

/// Puts rows into the tables that migrations made, in one transaction.
pub async fn load(
    connection: &mut PgConnection,
    schemas: &[Schema],
    after: &[&'static str],
    dir: &Path,
) -> Result<(), ServiceError> {
    let wrong = |error| failed("restoring rows", error);
    let mut tx = connection.begin().await.map_err(wrong)?;
    for schema in schemas {
        let order = in_order(&mut tx, schema).await?;
        // Rows that migrations made are in the backup too.
        for table in order.iter().rev() {
            let clear = format!("DELETE FROM {}", qualified(&schema.name, &table.name));
            query(AssertSqlSafe(clear)).execute(&mut *tx).await.map_err(wrong)?;
        }
        for table in order {
            copy_in(&mut tx, schema, table, dir).await?;
        }
    }
    for statement in after {
        query(*statement).execute(&mut *tx).await.map_err(wrong)?;
    }
    tx.commit().await.map_err(wrong)
}

async fn copy_in(
    connection: &mut PgConnection,
    schema: &Schema,
    table: &Table,
    dir: &Path,
) -> Result<(), ServiceError> {
    let wrong = |error| failed(&format!("restoring {}.{}", schema.name, table.name), error);
    let path = dir.join(format!("sql/{}/{}.copy", schema.name, table.name));
    let file = File::open(&path).await.map_err(|error| unusable(&path, &error))?;
    let statement = format!(
        "COPY {} ({}) FROM STDIN",
        qualified(&schema.name, &table.name),
        quoted_list(&table.columns)
    );
    let mut copy = connection.copy_in_raw(&statement).await.map_err(wrong)?;
    copy.read_from(file).await.map_err(wrong)?;
    let rows = copy.finish().await.map_err(wrong)?;
    if i64::try_from(rows).is_ok_and(|rows| rows == table.rows) {
        return Ok(());
    }
    Err(crate::damaged(&path, &format!("{rows} rows came of {}", table.rows)))
}

/// Tables so that those that others refer to come first.
async fn in_order<'a>(
    connection: &mut PgConnection,
    schema: &'a Schema,
) -> Result<Vec<&'a Table>, ServiceError> {
    let wrong = |error| failed("reading the tables' references", error);
    let rows = query(
        "SELECT c.relname::text AS one, r.relname::text AS other FROM pg_constraint k
         JOIN pg_class c ON c.oid = k.conrelid JOIN pg_class r ON r.oid = k.confrelid
         JOIN pg_namespace n ON n.oid = c.relnamespace
         WHERE k.contype = 'f' AND n.nspname = $1 AND c.oid <> r.oid",
    )
    .bind(&schema.name)
    .fetch_all(connection)
    .await
    .map_err(wrong)?;
    let mut needs: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for row in rows {
        let (one, other) = (text(&row, "one")?, text(&row, "other")?);
        needs.entry(one).or_default().insert(other);
    }
    let mut rest: Vec<&Table> = schema.tables.iter().collect();
    let mut order: Vec<&Table> = Vec::with_capacity(rest.len());
    while !rest.is_empty() {
        let is_free = |table: &&Table| {
            needs
                .get(&table.name)
                .is_none_or(|needed| !rest.iter().any(|other| needed.contains(&other.name)))
        };
        let (free, bound): (Vec<&Table>, Vec<&Table>) =
            rest.iter().partition(|table| is_free(table));
        if free.is_empty() {
            return Err(ServiceError::internal("tables refer to each other in a circle"));
        }
        order.extend(free);
        rest = bound;
    }
    Ok(order)
}

/// Whether any of the schemas has a table.
pub async fn has_tables(
    connection: &mut PgConnection,
    schemas: &[&str],
) -> Result<Option<String>, ServiceError> {
    for schema in schemas {
        if let Some(table) = tables(connection, schema).await?.first() {
            return Ok(Some(format!("{schema}.{table}")));
        }
    }
    Ok(None)
}

/// The objects that a schema's rows name.
pub fn named<'a>(
    connection: &'a mut PgConnection,
    objects: Objects,
) -> BoxStream<'a, Result<Named, ServiceError>> {
    let wrong = |error| failed("reading which objects there are", error);
    let rows = query(objects.postgres).fetch(connection).map_err(wrong);
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

async fn migrations(
    connection: &mut PgConnection,
    schema: &str,
) -> Result<Vec<String>, ServiceError> {
    let text_of = format!("SELECT version FROM {} ORDER BY version", qualified(schema, MIGRATIONS));
    let rows = query(AssertSqlSafe(text_of))
        .fetch_all(connection)
        .await
        .map_err(|error| failed(&format!("reading the migrations of {schema}"), error))?;
    rows.iter().map(|row| text(row, "version")).collect()
}

async fn tables(connection: &mut PgConnection, schema: &str) -> Result<Vec<String>, ServiceError> {
    let rows = query(
        "SELECT c.relname::text AS name FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
         WHERE n.nspname = $1 AND c.relkind IN ('r', 'p') ORDER BY c.relname",
    )
    .bind(schema)
    .fetch_all(connection)
    .await
    .map_err(|error| failed("listing tables", error))?;
    rows.iter().map(|row| text(row, "name")).collect()
}

async fn columns(
    connection: &mut PgConnection,
    schema: &str,
    table: &str,
) -> Result<Vec<String>, ServiceError> {
    let rows = query(
        "SELECT a.attname::text AS name FROM pg_attribute a
         JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace
         WHERE n.nspname = $1 AND c.relname = $2 AND a.attnum > 0 AND NOT a.attisdropped
         AND a.attgenerated = '' ORDER BY a.attnum",
    )
    .bind(schema)
    .bind(table)
    .fetch_all(connection)
    .await
    .map_err(|error| failed("listing columns", error))?;
    rows.iter().map(|row| text(row, "name")).collect()
}

fn text(row: &PgRow, column: &str) -> Result<String, ServiceError> {
    row.try_get(column).map_err(|error| failed("reading names", error))
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

fn qualified(schema: &str, table: &str) -> String {
    format!("{}.{}", quoted(schema), quoted(table))
}

fn quoted_list(names: &[String]) -> String {
    names.iter().map(|name| quoted(name)).collect::<Vec<_>>().join(", ")
}
