//! Sizes and rows of a role's database, and which migrations it has.

use std::collections::HashMap;

use sea_orm::{ConnectionTrait, DbBackend, Statement};
use service_error::ServiceError;
use sql_store::{SqlStore, db_error};

use super::{get, open};
use crate::Database;

/// The state of one schema.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Statistics {
    /// `sqlite` or `postgres`.
    pub engine: &'static str,
    /// Of the engine.
    pub version: String,
    /// Of pgvector, if it is there.
    pub vector_version: String,
    /// Of everything in the schema.
    pub bytes: i64,
    pub tables: Vec<Table>,
    /// Migrations that have run, in order.
    pub applied: Vec<String>,
}

/// One table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    pub name: String,
    pub rows: i64,
    /// `rows` is the database's own estimate.
    pub is_estimate: bool,
    /// With its indexes; 0 where it is not known by table.
    pub bytes: i64,
}

/// The size of the whole schema, in bytes.
///
/// # Errors
/// A database that is away.
pub async fn bytes(database: &Database) -> Result<f64, ServiceError> {
    let store = open(database).await?;
    let bytes = size(&store).await;
    store.close().await?;
    Ok(bytes? as f64)
}

/// Looks at a schema; with `exact` every row is counted.
///
/// # Errors
/// A database that is away.
pub async fn statistics(database: &Database, exact: bool) -> Result<Statistics, ServiceError> {
    let store = open(database).await?;
    let looked = look(&store, exact).await;
    store.close().await?;
    looked
}

async fn look(store: &SqlStore, exact: bool) -> Result<Statistics, ServiceError> {
    let bytes = size(store).await?;
    let applied = store.applied_migrations().await?;
    if store.backend() == DbBackend::Postgres {
        let vector = "SELECT extversion AS text FROM pg_extension WHERE extname = 'vector'";
        return Ok(Statistics {
            engine: "postgres",
            version: text(store, "SELECT current_setting('server_version') AS text").await?,
            vector_version: text(store, vector).await?,
            bytes,
            tables: tables_of_postgres(store, exact).await?,
            applied,
        });
    }
    Ok(Statistics {
        engine: "sqlite",
        version: text(store, "SELECT sqlite_version() AS text").await?,
        vector_version: String::new(),
        bytes,
        tables: tables_of_sqlite(store, exact).await?,
        applied,
    })
}

async fn size(store: &SqlStore) -> Result<i64, ServiceError> {
    let query = match store.backend() {
        DbBackend::Postgres => Statement::from_sql_and_values(
            DbBackend::Postgres,
            "SELECT COALESCE(SUM(pg_total_relation_size(c.oid)), 0)::bigint AS bytes
             FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
             WHERE n.nspname = $1 AND c.relkind IN ('r', 'p', 'm')",
            [store.schema().into()],
        ),
        backend => Statement::from_string(
            backend,
            "SELECT c.page_count * s.page_size AS bytes FROM pragma_page_count c, pragma_page_size s",
        ),
    };
    let row = store.read().query_one_raw(query).await.map_err(db_error)?;
    row.map_or(Ok(0), |row| get(&row, "bytes"))
}

async fn text(store: &SqlStore, query: &str) -> Result<String, ServiceError> {
    let query = Statement::from_string(store.backend(), query);
    let row = store.read().query_one_raw(query).await.map_err(db_error)?;
    row.map_or(Ok(String::new()), |row| get(&row, "text"))
}

async fn tables_of_postgres(store: &SqlStore, exact: bool) -> Result<Vec<Table>, ServiceError> {
    let query = Statement::from_sql_and_values(
        DbBackend::Postgres,
        "SELECT c.relname::text AS name, c.reltuples::bigint AS estimate,
                pg_total_relation_size(c.oid) AS bytes
         FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
         WHERE n.nspname = $1 AND c.relkind IN ('r', 'p') ORDER BY c.relname",
        [store.schema().into()],
    );
    let rows = store.read().query_all_raw(query).await.map_err(db_error)?;
    let mut tables = Vec::with_capacity(rows.len());
    for row in &rows {
        let name: String = get(row, "name")?;
        let estimate: i64 = get(row, "estimate")?;
        // Never analyzed: there is no estimate yet.
        let is_estimate = !exact && estimate >= 0;
        let rows = if is_estimate { estimate } else { count(store, &name).await? };
        tables.push(Table { name, rows, is_estimate, bytes: get(row, "bytes")? });
    }
    Ok(tables)
}

async fn tables_of_sqlite(store: &SqlStore, exact: bool) -> Result<Vec<Table>, ServiceError> {
    let query = Statement::from_string(
        store.backend(),
        // An index that is a table has its rows in tables of its own.
        "SELECT name FROM pragma_table_list WHERE schema = 'main' AND type IN ('table', 'shadow')
         AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' ORDER BY name",
    );
    let rows = store.read().query_all_raw(query).await.map_err(db_error)?;
    let sizes = if exact { sizes_of_sqlite(store).await? } else { HashMap::new() };
    let mut tables = Vec::with_capacity(rows.len());
    for row in &rows {
        let name: String = get(row, "name")?;
        let rows = count(store, &name).await?;
        let bytes = sizes.get(&name).copied().unwrap_or(0);
        tables.push(Table { name, rows, is_estimate: false, bytes });
    }
    Ok(tables)
}

/// Bytes of each table of SQLite with its indexes: every page is looked at.
async fn sizes_of_sqlite(store: &SqlStore) -> Result<HashMap<String, i64>, ServiceError> {
    let query = Statement::from_string(
        store.backend(),
        "SELECT m.tbl_name AS name, SUM(s.pgsize) AS bytes FROM dbstat s JOIN sqlite_master m ON m.name = s.name
         WHERE s.aggregate = 1 GROUP BY m.tbl_name",
    );
    let rows = store.read().query_all_raw(query).await.map_err(db_error)?;
    rows.iter().map(|row| Ok((get(row, "name")?, get(row, "bytes")?))).collect()
}

/// What tidying did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tidied {
    pub before: i64,
    pub after: i64,
}

/// Plans are made anew, and free space is given back.
///
/// # Errors
/// A database that is away or full.
pub async fn tidy(database: &Database, vacuum: bool) -> Result<Tidied, ServiceError> {
    let store = open(database).await?;
    let tidied = async {
        let before = size(&store).await?;
        store.tidy(vacuum).await?;
        Ok(Tidied { before, after: size(&store).await? })
    };
    let tidied = tidied.await;
    store.close().await?;
    tidied
}

async fn count(store: &SqlStore, table: &str) -> Result<i64, ServiceError> {
    let table = table.replace('"', "\"\"");
    let query = Statement::from_string(
        store.backend(),
        format!("SELECT COUNT(*) AS rows FROM \"{table}\""),
    );
    let row = store.read().query_one_raw(query).await.map_err(db_error)?;
    row.map_or(Ok(0), |row| get(&row, "rows"))
}
