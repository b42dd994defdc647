//! Statements with their values, on whichever database it is.

use std::collections::HashMap;

use mlflow_wire::Result;
use sea_orm::{ConnectionTrait, DbErr, FromQueryResult, Statement, Value};
use sql_store::db_error;

/// The first characters of a value, as its index has them.
const HEAD_CHARS: usize = 128;
/// Values of one statement; SQLite takes 32,766.
const VALUES_MAX: usize = 5_000;

/// What of a text its index holds.
pub fn head(text: &str) -> String {
    text.chars().take(HEAD_CHARS).collect()
}

/// Runs a statement; answers how many rows it changed.
pub async fn execute<C: ConnectionTrait>(db: &C, sql: &str, values: Vec<Value>) -> Result<u64> {
    Ok(try_execute(db, sql, values).await.map_err(db_error)?)
}

/// As [`execute`], with the database's own error.
pub async fn try_execute<C: ConnectionTrait>(
    db: &C,
    sql: &str,
    values: Vec<Value>,
) -> std::result::Result<u64, DbErr> {
    let statement = Statement::from_sql_and_values(db.get_database_backend(), sql, values);
    db.execute_raw(statement).await.map(|done| done.rows_affected())
}

/// The row of a query, if there is one.
pub async fn one<T: FromQueryResult, C: ConnectionTrait>(
    db: &C,
    sql: &str,
    values: Vec<Value>,
) -> Result<Option<T>> {
    let statement = Statement::from_sql_and_values(db.get_database_backend(), sql, values);
    Ok(T::find_by_statement(statement).one(db).await.map_err(db_error)?)
}

/// The rows of a query.
pub async fn all<T: FromQueryResult, C: ConnectionTrait>(
    db: &C,
    sql: &str,
    values: Vec<Value>,
) -> Result<Vec<T>> {
    let statement = Statement::from_sql_and_values(db.get_database_backend(), sql, values);
    Ok(T::find_by_statement(statement).all(db).await.map_err(db_error)?)
}

/// Inserts rows of the same columns with few statements; `behind` says what to
/// do with those that are there.
pub async fn insert_all<C: ConnectionTrait>(
    db: &C,
    into: &str,
    rows: Vec<Vec<Value>>,
    behind: &str,
) -> Result<()> {
    let width = rows.first().map_or(1, Vec::len).max(1);
    let mut rows = rows.into_iter().peekable();
    while rows.peek().is_some() {
        let mut values = Values::default();
        let groups: Vec<String> = rows
            .by_ref()
            .take(VALUES_MAX / width)
            .map(|row| {
                let names: Vec<String> = row.into_iter().map(|value| values.add(value)).collect();
                format!("({})", names.join(","))
            })
            .collect();
        let sql = format!("INSERT INTO {into} VALUES {} {behind}", groups.join(","));
        execute(db, &sql, values.all).await?;
    }
    Ok(())
}

/// Values of a statement that is put together, numbered as they come.
#[derive(Debug, Default)]
pub struct Values {
    pub all: Vec<Value>,
}

impl Values {
    /// Adds a value; answers how the statement names it.
    pub fn add(&mut self, value: impl Into<Value>) -> String {
        self.all.push(value.into());
        format!("${}", self.all.len())
    }

    /// Adds many; answers a list of their names, which is never empty.
    pub fn list<V: Into<Value>>(&mut self, values: impl IntoIterator<Item = V>) -> String {
        let names: Vec<String> = values.into_iter().map(|value| self.add(value)).collect();
        if names.is_empty() { "NULL".to_owned() } else { names.join(",") }
    }
}

/// A text of an owner by its key.
#[derive(Debug, FromQueryResult)]
pub struct OwnedText {
    pub owner: String,
    pub key: String,
    pub value: String,
}

/// Texts of some owners, by owner, each in the order of its keys.
pub async fn texts_of<C: ConnectionTrait>(
    db: &C,
    table: &str,
    owner: &str,
    owners: &[String],
) -> Result<HashMap<String, Vec<(String, String)>>> {
    let mut found: HashMap<String, Vec<(String, String)>> = HashMap::new();
    for some in owners.chunks(VALUES_MAX) {
        let mut values = Values::default();
        let list = values.list(some.iter().cloned());
        let sql = format!(
            "SELECT {owner} AS owner, key, value FROM {table} WHERE {owner} IN ({list}) ORDER BY {owner}, key"
        );
        for row in all::<OwnedText, _>(db, &sql, values.all).await? {
            found.entry(row.owner).or_default().push((row.key, row.value));
        }
    }
    Ok(found)
}
