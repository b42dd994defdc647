//! Searches put together: MLflow's clauses as conditions, orders as keyset
//! pages.

use mlflow_wire::search::{Clause, Comparator, Operand};
use mlflow_wire::{MlflowError, Result};
use sea_orm::{ConnectionTrait, DbBackend, FromQueryResult, QueryResult, Statement, Value};
use serde::{Deserialize, Serialize};
use sql_store::{SqlStore, db_error};

use crate::sql::Values;

/// One column of an order; its values are never null.
#[derive(Debug, Clone)]
pub struct Column {
    /// The expression.
    pub sql: String,
    /// From low to high.
    pub ascending: bool,
    /// What it holds.
    pub kind: Kind,
}

/// What a column holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "each is its own name")]
pub enum Kind {
    Integer,
    Real,
    Text,
}

/// A value of an order's column, as a page token carries it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
#[allow(missing_docs, reason = "each is its own name")]
pub enum Key {
    Integer(i64),
    Real(f64),
    Text(String),
}

impl Column {
    /// An expression in a direction.
    pub fn new(sql: impl Into<String>, ascending: bool, kind: Kind) -> Self {
        Self { sql: sql.into(), ascending, kind }
    }
}

/// The select list, condition and order of a page.
#[derive(Debug)]
pub struct Paged {
    /// The order; the last of them tells all rows apart.
    pub columns: Vec<Column>,
}

impl Paged {
    /// The columns as `k0, k1, …`, each after a comma.
    pub fn select(&self) -> String {
        let columns = self.columns.iter().enumerate();
        let shown = columns.map(|(at, Column { sql, kind, .. })| match kind {
            // Postgres has integers of several widths, and a key has one.
            Kind::Integer => format!(", CAST({sql} AS bigint) AS k{at}"),
            Kind::Real | Kind::Text => format!(", {sql} AS k{at}"),
        });
        shown.collect()
    }

    /// ` ORDER BY …`.
    pub fn order(&self) -> String {
        let columns = self.columns.iter();
        let orders: Vec<String> = columns
            .map(|column| {
                format!("{} {}", column.sql, if column.ascending { "ASC" } else { "DESC" })
            })
            .collect();
        format!(" ORDER BY {}", orders.join(", "))
    }

    /// The condition that a row comes after a key.
    ///
    /// # Errors
    /// A key that is not of this order.
    pub fn after(&self, key: &[Key], add: &mut dyn FnMut(Value) -> String) -> Result<String> {
        if key.len() != self.columns.len() {
            return Err(invalid_token());
        }
        let mut condition = String::new();
        for (column, key) in self.columns.iter().zip(key).rev() {
            let value = add(value_of(column.kind, key)?);
            let sign = if column.ascending { '>' } else { '<' };
            let sql = &column.sql;
            condition = if condition.is_empty() {
                format!("{sql} {sign} {value}")
            } else {
                format!("({sql} {sign} {value} OR ({sql} = {value} AND {condition}))")
            };
        }
        // Said once more of the first column alone: a range that an index begins at.
        if let ([first, _, ..], [key, ..]) = (self.columns.as_slice(), key) {
            let sign = if first.ascending { ">=" } else { "<=" };
            let value = add(value_of(first.kind, key)?);
            condition = format!("{} {sign} {value} AND {condition}", first.sql);
        }
        Ok(condition)
    }

    /// The key of a row.
    ///
    /// # Errors
    /// The database's.
    pub fn key(&self, row: &QueryResult) -> Result<Vec<Key>> {
        let columns = self.columns.iter().enumerate();
        let key = columns.map(|(at, column)| {
            let name = format!("k{at}");
            match column.kind {
                Kind::Integer => row.try_get("", &name).map(Key::Integer),
                Kind::Real => row.try_get("", &name).map(Key::Real),
                Kind::Text => row.try_get("", &name).map(Key::Text),
            }
        });
        Ok(key.collect::<std::result::Result<_, _>>().map_err(db_error)?)
    }
}

#[allow(clippy::cast_precision_loss, reason = "a real that JSON wrote as an integer is one")]
fn value_of(kind: Kind, key: &Key) -> Result<Value> {
    match (kind, key) {
        (Kind::Integer, Key::Integer(number)) => Ok((*number).into()),
        (Kind::Real, Key::Real(number)) => Ok((*number).into()),
        (Kind::Real, Key::Integer(number)) => Ok((*number as f64).into()),
        (Kind::Text, Key::Text(text)) => Ok(text.clone().into()),
        _ => Err(invalid_token()),
    }
}

/// A page token that is not of this search.
pub fn invalid_token() -> MlflowError {
    MlflowError::invalid("Invalid page token: it is not one of this search; begin without a token")
}

/// A list in pages.
#[derive(Debug)]
pub struct Listing<'a> {
    /// Names the list and whatever it is narrowed by.
    pub name: String,
    /// The page's token; empty: the first page.
    pub token: &'a str,
    /// Rows of the page.
    pub size: u32,
    /// The columns of a row.
    pub columns: &'a str,
    /// The table and what is joined to it.
    pub from: String,
    /// All of them hold.
    pub conditions: Vec<String>,
    /// Their values.
    pub values: Values,
    /// The order.
    pub paged: Paged,
}

impl Listing<'_> {
    /// The rows of the page, and the token of the next one.
    ///
    /// # Errors
    /// A token of another list; the database's.
    pub async fn read<T: FromQueryResult>(
        mut self,
        store: &SqlStore,
    ) -> Result<(Vec<T>, Option<String>)> {
        let (paged, values) = (&self.paged, &mut self.values);
        if let Some(key) = token_key(&self.name, self.token)? {
            self.conditions.push(paged.after(&key, &mut |value| values.add(value))?);
        }
        let sql = format!(
            "SELECT {}{} FROM {} WHERE {}{} LIMIT {}",
            self.columns,
            paged.select(),
            self.from,
            self.conditions.join(" AND "),
            paged.order(),
            values.add(i64::from(self.size) + 1)
        );
        let statement = Statement::from_sql_and_values(store.backend(), sql, self.values.all);
        let rows = store.read().query_all_raw(statement).await.map_err(db_error)?;
        let (rows, next_page_token) = page(rows, self.size, &self.name, &self.paged)?;
        let rows: std::result::Result<Vec<_>, _> =
            rows.iter().map(|row| T::from_query_result(row, "")).collect();
        Ok((rows.map_err(db_error)?, next_page_token))
    }
}

/// The longest token, in bytes: it carries the values that a page is ordered by,
/// and those of parameters and tags are long. It arrives in a body, or in a query
/// of short values.
const TOKEN_BYTES_MAX: usize = 1 << 20;

/// The key in a page token.
///
/// # Errors
/// A token of another search.
pub fn token_key(list: &str, token: &str) -> Result<Option<Vec<Key>>> {
    paging::key_within(list, token, TOKEN_BYTES_MAX).map_err(|_| invalid_token())
}

/// Cuts the row beyond the page off; answers the token that continues it.
///
/// # Errors
/// The database's.
pub fn page(
    mut rows: Vec<QueryResult>,
    size: u32,
    list: &str,
    paged: &Paged,
) -> Result<(Vec<QueryResult>, Option<String>)> {
    let token = cut(&mut rows, size, list, |row| paged.key(row))?;
    Ok((rows, token))
}

/// The same of rows of any kind, whose keys `key` tells.
///
/// # Errors
/// As `key`.
pub fn cut<T>(
    rows: &mut Vec<T>,
    size: u32,
    list: &str,
    key: impl FnOnce(&T) -> Result<Vec<Key>>,
) -> Result<Option<String>> {
    if rows.len() <= size as usize {
        return Ok(None);
    }
    rows.truncate(size as usize);
    let last = rows.last().map(key).transpose()?;
    Ok(last.map(|key| paging::token(list, &key)))
}

/// A condition on an expression.
///
/// # Errors
/// What cannot be compared so.
pub(crate) fn compare(
    backend: DbBackend,
    sql: &str,
    comparator: Comparator,
    value: &Operand,
    values: &mut Values,
) -> Result<String> {
    let sign = match comparator {
        Comparator::Equal => "=",
        Comparator::NotEqual => "<>",
        Comparator::Less => "<",
        Comparator::LessOrEqual => "<=",
        Comparator::Greater => ">",
        Comparator::GreaterOrEqual => ">=",
        Comparator::Like | Comparator::ILike => {
            let Operand::Text(pattern) = value else { return Err(unlike(value)) };
            return Ok(like(backend, sql, pattern, comparator == Comparator::ILike, values));
        }
        Comparator::In | Comparator::NotIn => {
            let Operand::List(items) = value else { return Err(unlike(value)) };
            let list = values.list(items.iter().cloned());
            let not = if comparator == Comparator::NotIn { "NOT " } else { "" };
            return Ok(format!("{sql} {not}IN ({list})"));
        }
        Comparator::IsNull => return Ok(format!("{sql} IS NULL")),
        Comparator::IsNotNull => return Ok(format!("{sql} IS NOT NULL")),
    };
    let value = match value {
        Operand::Text(text) => values.add(text.clone()),
        Operand::Int(number) => values.add(*number),
        Operand::Float(number) => values.add(*number),
        Operand::List(_) | Operand::Nothing => return Err(unlike(value)),
    };
    Ok(format!("{sql} {sign} {value}"))
}

fn unlike(value: &Operand) -> MlflowError {
    MlflowError::invalid(format!("Invalid value in filter string: {value:?}"))
}

/// SQL's LIKE, with `%` and `_` and nothing to escape them; SQLite's own knows
/// no case, so GLOB stands for it.
fn like(
    backend: DbBackend,
    sql: &str,
    pattern: &str,
    any_case: bool,
    values: &mut Values,
) -> String {
    match (backend, any_case) {
        (DbBackend::Postgres, false) => {
            format!("{sql} LIKE {} ESCAPE ''", values.add(pattern.to_owned()))
        }
        (DbBackend::Postgres, true) => {
            // The letters whose case SQLite ignores, whatever the locale.
            let pattern = values.add(pattern.to_ascii_lowercase());
            format!("LOWER({sql} COLLATE \"C\") LIKE {pattern} ESCAPE ''")
        }
        (_, true) => format!("{sql} LIKE {}", values.add(pattern.to_owned())),
        (_, false) => format!("{sql} GLOB {}", values.add(glob(pattern))),
    }
}

fn glob(pattern: &str) -> String {
    let mut glob = String::with_capacity(pattern.len());
    for letter in pattern.chars() {
        match letter {
            '%' => glob.push('*'),
            '_' => glob.push('?'),
            '*' | '?' | '[' => {
                glob.push('[');
                glob.push(letter);
                glob.push(']');
            }
            _ => glob.push(letter),
        }
    }
    glob
}

/// The condition that an owner has (or lacks) a key whose value compares so.
///
/// # Errors
/// As [`compare`].
pub(crate) fn text_exists(
    backend: DbBackend,
    (table, owner): (&str, &str),
    id: &str,
    clause: &Clause,
    values: &mut Values,
) -> Result<String> {
    let key = values.add(clause.key.clone());
    let from = format!("EXISTS (SELECT 1 FROM {table} t WHERE t.{owner} = {id} AND t.key = {key}");
    match clause.comparator {
        Comparator::IsNull => return Ok(format!("NOT {from})")),
        Comparator::IsNotNull => return Ok(format!("{from})")),
        _ => {}
    }
    let value = compare(backend, "t.value", clause.comparator, &clause.value, values)?;
    // The index knows the head only.
    let by_head = match (&clause.comparator, &clause.value) {
        (Comparator::Equal, Operand::Text(text)) => {
            format!(" AND t.head = {}", values.add(crate::sql::head(text)))
        }
        _ => String::new(),
    };
    Ok(format!("{from}{by_head} AND {value})"))
}

/// A number that an attribute is compared with.
///
/// # Errors
/// A fraction.
pub(crate) fn whole(value: &Operand, key: &str) -> Result<i64> {
    match value {
        Operand::Int(number) => Ok(*number),
        Operand::Text(text) => text.trim().parse().map_err(|_| {
            MlflowError::invalid(format!("Invalid value for numeric attribute '{key}': '{text}'"))
        }),
        Operand::Float(number) => Err(MlflowError::invalid(format!(
            "Invalid value for numeric attribute '{key}': '{number:?}'"
        ))),
        other => Err(unlike(other)),
    }
}
