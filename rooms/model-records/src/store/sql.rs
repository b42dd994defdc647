//! Statements with their values, on whichever database it is.

use std::collections::BTreeMap;

use sea_orm::{ConnectionTrait, DbBackend, FromQueryResult, QueryResult, Statement, Value};
use serde::de::DeserializeOwned;
use service_error::ServiceError;
use sql_store::db_error;
use uuid::Uuid;

/// The first characters of a value, as its index has them.
const HEAD_CHARS: usize = 128;

/// What of a text its index holds.
pub fn head(text: &str) -> String {
    text.chars().take(HEAD_CHARS).collect()
}

/// Whether an index holds all of a text that has this one as its head.
pub fn is_whole(text: &str) -> bool {
    text.chars().nth(HEAD_CHARS - 1).is_none()
}

/// Runs a statement; answers how many rows it changed.
pub async fn execute<C: ConnectionTrait>(
    db: &C,
    sql: &str,
    values: impl IntoIterator<Item = Value>,
) -> Result<u64, ServiceError> {
    execute_or(db, sql, values, db_error).await
}

/// As [`execute`], with the caller's own words for a failure.
pub async fn execute_or<C: ConnectionTrait>(
    db: &C,
    sql: &str,
    values: impl IntoIterator<Item = Value>,
    failed: impl FnOnce(sea_orm::DbErr) -> ServiceError,
) -> Result<u64, ServiceError> {
    let statement = Statement::from_sql_and_values(db.get_database_backend(), sql, values);
    db.execute_raw(statement).await.map(|done| done.rows_affected()).map_err(failed)
}

/// The row of a query, if there is one.
pub async fn one<T: FromQueryResult, C: ConnectionTrait>(
    db: &C,
    sql: &str,
    values: impl IntoIterator<Item = Value>,
) -> Result<Option<T>, ServiceError> {
    let statement = Statement::from_sql_and_values(db.get_database_backend(), sql, values);
    T::find_by_statement(statement).one(db).await.map_err(db_error)
}

/// The rows of a query.
pub async fn all<T: FromQueryResult, C: ConnectionTrait>(
    db: &C,
    sql: &str,
    values: impl IntoIterator<Item = Value>,
) -> Result<Vec<T>, ServiceError> {
    let statement = Statement::from_sql_and_values(db.get_database_backend(), sql, values);
    T::find_by_statement(statement).all(db).await.map_err(db_error)
}

/// A number that a query answers in its first column, if it answers a row.
pub async fn number<C: ConnectionTrait>(
    db: &C,
    sql: &str,
    values: impl IntoIterator<Item = Value>,
) -> Result<Option<i64>, ServiceError> {
    let statement = Statement::from_sql_and_values(db.get_database_backend(), sql, values);
    let row: Option<QueryResult> = db.query_one_raw(statement).await.map_err(db_error)?;
    row.map_or(Ok(None), |row| row.try_get_by_index::<Option<i64>>(0).map_err(db_error))
}

/// What a query's rows hold as JSON in their first column.
pub async fn parsed<T: DeserializeOwned, C: ConnectionTrait>(
    db: &C,
    sql: &str,
    values: impl IntoIterator<Item = Value>,
) -> Result<Vec<T>, ServiceError> {
    let statement = Statement::from_sql_and_values(db.get_database_backend(), sql, values);
    let rows = db.query_all_raw(statement).await.map_err(db_error)?;
    rows.iter().filter_map(|row| json_of(row).transpose()).collect()
}

/// The same of a query that answers one row or none.
pub async fn parsed_one<T: DeserializeOwned, C: ConnectionTrait>(
    db: &C,
    sql: &str,
    values: impl IntoIterator<Item = Value>,
) -> Result<Option<T>, ServiceError> {
    let statement = Statement::from_sql_and_values(db.get_database_backend(), sql, values);
    let row = db.query_one_raw(statement).await.map_err(db_error)?;
    row.map_or(Ok(None), |row| json_of(&row))
}

fn json_of<T: DeserializeOwned>(row: &QueryResult) -> Result<Option<T>, ServiceError> {
    let text: Option<String> = row.try_get_by_index(0).map_err(db_error)?;
    let parsed = text.map(|text| serde_json::from_str(&text)).transpose();
    parsed.map_err(|error| {
        ServiceError::internal("the database answered what was not expected")
            .reason("DATABASE_DEFECT")
            .caused_by(error)
    })
}

/// Values of a statement that is put together, numbered as they come.
#[derive(Debug, Clone)]
pub struct Values {
    pub backend: DbBackend,
    pub all: Vec<Value>,
}

impl Values {
    /// None yet.
    pub const fn new(backend: DbBackend) -> Self {
        Self { backend, all: Vec::new() }
    }

    /// Adds a value; answers how the statement names it.
    pub fn add(&mut self, value: impl Into<Value>) -> String {
        self.all.push(value.into());
        format!("${}", self.all.len())
    }

    /// A condition that a column is one of these ids: one value however many
    /// there are.
    pub fn is_one_of(&mut self, column: &str, ids: impl IntoIterator<Item = Uuid>) -> String {
        let quoted: Vec<String> =
            ids.into_iter().map(|id| format!("\"{}\"", id.hyphenated())).collect();
        let list = self.add(format!("[{}]", quoted.join(",")));
        match self.backend {
            DbBackend::Postgres => {
                format!(
                    "{column} IN (SELECT value::uuid FROM json_array_elements_text({list}::json))"
                )
            }
            _ => format!("{column} IN (SELECT unhex(value, '-') FROM json_each({list}))"),
        }
    }
}

/// Inserts rows of the same columns with few statements; answers how many.
pub async fn insert_all<C: ConnectionTrait>(
    db: &C,
    into: &str,
    rows: Vec<Vec<Value>>,
    behind: &str,
) -> Result<u64, ServiceError> {
    const VALUES_MAX: usize = 5_000;
    let width = rows.first().map_or(1, Vec::len).max(1);
    let mut rows = rows.into_iter().peekable();
    let mut inserted = 0;
    while rows.peek().is_some() {
        let mut values = Vec::new();
        let mut groups = Vec::new();
        for row in rows.by_ref().take(VALUES_MAX / width) {
            let numbers: Vec<String> =
                (0..row.len()).map(|at| format!("${}", values.len() + at + 1)).collect();
            groups.push(format!("({})", numbers.join(",")));
            values.extend(row);
        }
        let sql = format!("INSERT INTO {into} VALUES {} {behind}", groups.join(","));
        inserted += execute(db, &sql, values).await?;
    }
    Ok(inserted)
}

/// A row of a text for each key of an owner.
#[derive(Debug, FromQueryResult)]
pub struct OwnedText {
    pub owner: Uuid,
    pub key: String,
    pub value: String,
}

/// Texts by owner and key.
pub fn by_owner(rows: Vec<OwnedText>) -> BTreeMap<Uuid, BTreeMap<String, String>> {
    let mut found: BTreeMap<Uuid, BTreeMap<String, String>> = BTreeMap::new();
    for row in rows {
        found.entry(row.owner).or_default().insert(row.key, row.value);
    }
    found
}
