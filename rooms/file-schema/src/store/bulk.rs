//! Thousands of rows a statement, the same call on both databases: arrays
//! that are unnested on Postgres, long `VALUES` on SQLite.

use std::fmt::Write as _;

use sea_orm::{ConnectionTrait, DatabaseTransaction, DbBackend, Statement, Value};
use service_error::ServiceError;
use sql_store::db_error;

/// Rows of one statement, largest first: few different statements, each
/// prepared once. A statement is a turn with the connection's thread, which waits for a
/// processor while files are hashed; of 31 columns it takes no more rows.
const SQLITE_ROWS: [usize; 6] = [1_024, 256, 64, 16, 4, 1];
const POSTGRES_ROWS: usize = 10_000;
/// With fewer it does not matter that a column is the same in all, and each such set of
/// columns is another statement.
const SAME_ROWS: usize = 1_000;

/// The values of one column.
#[derive(Debug)]
pub enum Column {
    /// Numbers.
    I64(Vec<i64>),
    /// Numbers or null.
    OptI64(Vec<Option<i64>>),
    /// Text.
    Text(Vec<String>),
    /// Text or null.
    OptText(Vec<Option<String>>),
    /// Bytes or null.
    Bytes(Vec<Option<Vec<u8>>>),
}

impl Column {
    fn len(&self) -> usize {
        match self {
            Self::I64(values) => values.len(),
            Self::OptI64(values) => values.len(),
            Self::Text(values) => values.len(),
            Self::OptText(values) => values.len(),
            Self::Bytes(values) => values.len(),
        }
    }

    const fn sql_type(&self) -> &'static str {
        match self {
            Self::I64(_) | Self::OptI64(_) => "bigint",
            Self::Text(_) | Self::OptText(_) => "text",
            Self::Bytes(_) => "bytea",
        }
    }

    fn value(&self, row: usize) -> Value {
        match self {
            Self::I64(values) => values[row].into(),
            Self::OptI64(values) => values[row].into(),
            Self::Text(values) => values[row].as_str().into(),
            Self::OptText(values) => values[row].as_deref().into(),
            Self::Bytes(values) => values[row].clone().into(),
        }
    }

    fn is_same(&self, from: usize, to: usize) -> bool {
        fn same<T: PartialEq>(values: &[T]) -> bool {
            values.windows(2).all(|pair| pair[0] == pair[1])
        }
        match self {
            Self::I64(values) => same(&values[from..to]),
            Self::OptI64(values) => same(&values[from..to]),
            Self::Text(values) => same(&values[from..to]),
            Self::OptText(values) => same(&values[from..to]),
            Self::Bytes(values) => same(&values[from..to]),
        }
    }

    /// A row's value as its text.
    fn text(&self, row: usize) -> Value {
        match self {
            Self::I64(values) => values[row].to_string().into(),
            Self::OptI64(values) => values[row].map(|value| value.to_string()).into(),
            Self::Text(_) | Self::OptText(_) => self.value(row),
            Self::Bytes(values) => {
                values[row].as_ref().map(|value| format!("\\x{}", hex::encode(value))).into()
            }
        }
    }

    /// Rows as the text of a Postgres array.
    fn array(&self, from: usize, to: usize) -> String {
        let mut text = String::with_capacity((to - from) * 12);
        text.push('{');
        for row in from..to {
            if row > from {
                text.push(',');
            }
            self.element(row, &mut text);
        }
        text.push('}');
        text
    }

    /// Bytes of some rows side by side, and how many of each, if all have as many.
    fn packed(&self, from: usize, to: usize) -> Option<(usize, Vec<u8>)> {
        let Self::Bytes(values) = self else { return None };
        let values = &values[from..to];
        let width = values.first()?.as_ref()?.len();
        let is_each = |value: &Option<Vec<u8>>| value.as_ref().is_some_and(|v| v.len() == width);
        let is_packed = width > 0 && values.iter().all(is_each);
        is_packed.then(|| (width, values.iter().flatten().flatten().copied().collect()))
    }

    fn element(&self, row: usize, text: &mut String) {
        // Writing to a String cannot fail.
        match self {
            Self::I64(values) => drop(write!(text, "{}", values[row])),
            Self::OptI64(values) => match values[row] {
                Some(value) => drop(write!(text, "{value}")),
                None => text.push_str("NULL"),
            },
            Self::Text(values) => quote(&values[row], text),
            Self::OptText(values) => match &values[row] {
                Some(value) => quote(value, text),
                None => text.push_str("NULL"),
            },
            Self::Bytes(values) => match &values[row] {
                Some(value) => {
                    text.push_str("\"\\\\x");
                    text.push_str(&hex::encode(value));
                    text.push('"');
                }
                None => text.push_str("NULL"),
            },
        }
    }
}

fn quote(value: &str, text: &mut String) {
    text.push('"');
    for c in value.chars() {
        if matches!(c, '"' | '\\') {
            text.push('\\');
        }
        text.push(c);
    }
    text.push('"');
}

/// Named columns of equal length.
pub type Columns<'a> = [(&'a str, Column)];

/// Inserts rows; `conflict` is what follows, e.g. `ON CONFLICT DO NOTHING`.
///
/// # Errors
/// The database's.
pub async fn insert(
    tx: &DatabaseTransaction,
    table: &str,
    columns: &Columns<'_>,
    conflict: &str,
) -> Result<(), ServiceError> {
    let names: Vec<&str> = columns.iter().map(|(name, _)| *name).collect();
    let names = names.join(", ");
    let or_fail = or_fail(tx.get_database_backend());
    each(tx, columns, Rows::Hidden, |rows| {
        // The clause before a conflict is ambiguous to SQLite after a plain SELECT.
        format!("INSERT {or_fail} INTO {table} ({names}) {rows} {conflict}")
    })
    .await
}

/// Sets columns of the rows that the first column names; `also` is set beside
/// them, e.g. `, gone = NULL`.
///
/// # Errors
/// The database's.
pub async fn update(
    tx: &DatabaseTransaction,
    table: &str,
    columns: &Columns<'_>,
    also: &str,
) -> Result<(), ServiceError> {
    let names: Vec<&str> = columns.iter().map(|(name, _)| *name).collect();
    let Some((key, set)) = names.split_first() else { return Ok(()) };
    let set: Vec<String> = set.iter().map(|name| format!("{name} = fresh.{name}")).collect();
    let set = format!("{}{also}", set.join(", "));
    let set = set.trim_start_matches([',', ' ']);
    let list = names.join(", ");
    let or_fail = or_fail(tx.get_database_backend());
    each(tx, columns, Rows::Counted, |rows| {
        format!(
            "WITH fresh ({list}) AS ({rows}) UPDATE {or_fail} {table} SET {set} FROM fresh WHERE {table}.{key} = fresh.{key}"
        )
    })
    .await
}

/// A statement that fails ends its transaction here, so SQLite need not be able
/// to take back the rows before the one that failed: no journal of its own.
const fn or_fail(backend: DbBackend) -> &'static str {
    match backend {
        DbBackend::Postgres => "",
        _ => "OR FAIL",
    }
}

/// Whether Postgres' planner reads the rows to know how many they are: where they are joined
/// it should. Else that is the work of a third of the statement again, and a plan each time.
#[derive(Clone, Copy)]
enum Rows {
    Counted,
    Hidden,
}

async fn each(
    tx: &DatabaseTransaction,
    columns: &Columns<'_>,
    rows: Rows,
    sql: impl Fn(&str) -> String,
) -> Result<(), ServiceError> {
    let backend = tx.get_database_backend();
    let mut next = part(backend, columns, rows, 0, &sql);
    while let Some((statement, to)) = next {
        // Another thread or process works on it: the one after it is made meanwhile.
        let working = tx.execute_raw(statement);
        let (worked, after) =
            futures::join!(working, async { part(backend, columns, rows, to, &sql) });
        worked.map_err(db_error)?;
        next = after;
    }
    Ok(())
}

/// The statement of the rows from a number on, and where the next one begins.
fn part(
    backend: DbBackend,
    columns: &Columns<'_>,
    how: Rows,
    from: usize,
    sql: &impl Fn(&str) -> String,
) -> Option<(Statement, usize)> {
    let left = columns.first().map_or(0, |(_, column)| column.len()) - from;
    if left == 0 {
        return None;
    }
    let rows = match backend {
        DbBackend::Postgres => left.min(POSTGRES_ROWS),
        _ => SQLITE_ROWS.into_iter().find(|rows| *rows <= left).unwrap_or(1),
    };
    let to = from + rows;
    let (source, values) = match backend {
        DbBackend::Postgres => unnest(columns, how, from, to),
        _ => long_values(columns, from, to),
    };
    Some((Statement::from_sql_and_values(backend, sql(&source), values), to))
}

/// Arrays side by side among what is selected, where their elements come one by one: functions
/// to select from are kept whole first, which is an eighth of an insert. Of many rows a column
/// that is the same in each is told once: owners, modes and targets mostly are. Bytes of one
/// length, as hashes are, are no array: to read its text is a sixth of an insert of contents.
fn unnest(columns: &Columns<'_>, rows: Rows, from: usize, to: usize) -> (String, Vec<Value>) {
    let (mut arrays, mut list, mut values) = (vec![], vec![], vec![]);
    let mut is_numbered = false;
    for (at, (_, column)) in columns.iter().enumerate() {
        let (parameter, sql_type) = (at + 1, column.sql_type());
        if at > 0 && to - from >= SAME_ROWS && column.is_same(from, to) {
            list.push(format!("CAST(${parameter}::text AS {sql_type})"));
            values.push(column.text(from));
        } else if at > 0
            && let Some((width, bytes)) = column.packed(from, to)
        {
            list.push(format!(
                "SUBSTRING(${parameter}::bytea FROM CAST((u.at - 1) * {width} + 1 AS integer) FOR {width})"
            ));
            values.push(bytes.into());
            is_numbered = true;
        } else {
            arrays.push(match rows {
                Rows::Counted => {
                    format!("UNNEST(CAST(${parameter}::text AS {sql_type}[])) AS c{at}")
                }
                Rows::Hidden => {
                    format!("UNNEST(CAST((SELECT ${parameter}::text) AS {sql_type}[])) AS c{at}")
                }
            });
            list.push(format!("u.c{at}"));
            values.push(column.array(from, to).into());
        }
    }
    if is_numbered {
        // A parameter: of each count it would be another statement.
        let parameter = columns.len() + 1;
        arrays.push(format!("GENERATE_SERIES(1, CAST(${parameter}::text AS integer)) AS at"));
        values.push((to - from).to_string().into());
    }
    let (list, arrays) = (list.join(", "), arrays.join(", "));
    (format!("SELECT {list} FROM (SELECT {arrays}) u"), values)
}

fn long_values(columns: &Columns<'_>, from: usize, to: usize) -> (String, Vec<Value>) {
    let row = format!("({})", vec!["?"; columns.len()].join(","));
    let source = format!("VALUES {}", vec![row.as_str(); to - from].join(","));
    let mut values = Vec::with_capacity(columns.len() * (to - from));
    for row in from..to {
        values.extend(columns.iter().map(|(_, column)| column.value(row)));
    }
    (source, values)
}

/// The words `column IN (…)` for a list of numbers that is parameter
/// `parameter`, as [`numbers`] makes it. On Postgres a set, which is joined:
/// `= ANY` of a list that the planner does not know is looked through for each
/// row where it has no statistics yet, as amid a first scan.
#[must_use]
pub fn in_numbers(backend: DbBackend, column: &str, parameter: usize) -> String {
    match backend {
        DbBackend::Postgres => {
            format!("{column} IN (SELECT UNNEST(CAST(${parameter}::text AS bigint[])))")
        }
        _ => format!("{column} IN (SELECT value FROM json_each(${parameter}))"),
    }
}

/// The same for a few numbers or texts of which each row is asked: the planner
/// is to find the rows by something else.
#[must_use]
pub fn in_few(backend: DbBackend, column: &str, parameter: usize, sql_type: &str) -> String {
    match backend {
        DbBackend::Postgres => format!("{column} = ANY (CAST(${parameter}::text AS {sql_type}[]))"),
        _ => format!("{column} IN (SELECT value FROM json_each(${parameter}))"),
    }
}

/// Numbers as one parameter.
#[must_use]
pub fn numbers(backend: DbBackend, numbers: &[i64]) -> Value {
    let words: Vec<String> = numbers.iter().map(ToString::to_string).collect();
    let (open, close) = brackets(backend);
    format!("{open}{}{close}", words.join(",")).into()
}

/// The same for text.
#[must_use]
pub fn in_texts(backend: DbBackend, column: &str, parameter: usize) -> String {
    match backend {
        DbBackend::Postgres => {
            format!("{column} IN (SELECT UNNEST(CAST(${parameter}::text AS text[])))")
        }
        _ => format!("{column} IN (SELECT value FROM json_each(${parameter}))"),
    }
}

/// Texts as one parameter.
#[must_use]
pub fn texts<'a>(backend: DbBackend, texts: impl IntoIterator<Item = &'a str>) -> Value {
    let texts: Vec<&str> = texts.into_iter().collect();
    if backend != DbBackend::Postgres {
        return serde_json::to_string(&texts).unwrap_or_else(|_| "[]".to_owned()).into();
    }
    let mut array = String::from("{");
    for (at, text) in texts.into_iter().enumerate() {
        if at > 0 {
            array.push(',');
        }
        quote(text, &mut array);
    }
    array.push('}');
    array.into()
}

const fn brackets(backend: DbBackend) -> (char, char) {
    match backend {
        DbBackend::Postgres => ('{', '}'),
        _ => ('[', ']'),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_of_one_length_are_packed() {
        let bytes = |values: &[&[u8]]| {
            Column::Bytes(values.iter().map(|value| Some(value.to_vec())).collect())
        };
        let same = bytes(&[b"ab", b"cd", b"ef"]);
        assert_eq!(same.packed(1, 3), Some((2, b"cdef".to_vec())));
        assert_eq!(bytes(&[b"ab", b"c"]).packed(0, 2), None);
        assert_eq!(bytes(&[b"", b""]).packed(0, 2), None);
        assert_eq!(Column::Bytes(vec![Some(vec![1]), None]).packed(0, 2), None);
        assert_eq!(Column::I64(vec![1]).packed(0, 1), None);
    }

    #[test]
    fn arrays_hold_any_text() {
        let names = Column::Text(vec!["a\"b".into(), "c\\d".into(), "{e,f}".into(), "\n".into()]);
        assert_eq!(names.array(0, 4), "{\"a\\\"b\",\"c\\\\d\",\"{e,f}\",\"\n\"}");
        let bytes = Column::Bytes(vec![Some(vec![0xab, 1]), None]);
        assert_eq!(bytes.array(0, 2), "{\"\\\\xab01\",NULL}");
    }

    #[test]
    fn what_is_the_same_in_many_rows_is_told_once() {
        let rows = 2 * SAME_ROWS;
        let mut kinds = vec![1; rows];
        kinds[rows - 1] = 2;
        let columns = [
            ("id", Column::I64(vec![7; rows])),
            ("kind", Column::I64(kinds)),
            ("target", Column::OptText(vec![None; rows])),
            ("print", Column::Bytes(vec![Some(vec![0xab, 1]); rows])),
        ];
        let (sql, values) = unnest(&columns, Rows::Counted, 0, SAME_ROWS);
        assert_eq!(
            sql,
            "SELECT u.c0, CAST($2::text AS bigint), CAST($3::text AS text), CAST($4::text AS bytea) \
             FROM (SELECT UNNEST(CAST($1::text AS bigint[])) AS c0) u"
        );
        let told: [Value; 3] = ["1".into(), Value::String(None), "\\xab01".into()];
        assert_eq!(values[1..], told);
        assert!(unnest(&columns, Rows::Counted, SAME_ROWS, rows).0.contains("u.c1, CAST($3"));
        let hidden = unnest(&columns, Rows::Hidden, 0, SAME_ROWS - 1).0;
        assert!(
            hidden.contains("u.c0, u.c1, u.c2, SUBSTRING($4::bytea FROM CAST((u.at - 1) * 2 + 1")
        );
        assert!(
            hidden.ends_with("GENERATE_SERIES(1, CAST($5::text AS integer)) AS at) u"),
            "{hidden}"
        );
        assert!(hidden.contains("UNNEST(CAST((SELECT $1::text) AS bigint[])"));
    }
}
