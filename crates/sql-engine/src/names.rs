//! Names of tables: `quarry.namespace.dataset`, with `@version` for another
//! than the newest.

use datafusion::common::TableReference;
use service_error::ServiceError;

/// The one catalog.
pub const CATALOG: &str = "quarry";

/// A table as a query names it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TableName {
    /// The namespace: SQL's schema.
    pub namespace: String,
    /// The dataset.
    pub dataset: String,
    /// A version's number, an alias or `latest`; empty: the newest.
    pub version: String,
}

impl TableName {
    /// The name that a reference means; `None` for a bare one, which may be a
    /// function or a part of the query itself.
    pub(crate) fn of(reference: &TableReference) -> Result<Option<Self>, ServiceError> {
        let (catalog, schema, table) = match reference {
            TableReference::Bare { .. } => return Ok(None),
            TableReference::Partial { schema, table } => (CATALOG, schema, table),
            TableReference::Full { catalog, schema, table } => (catalog.as_ref(), schema, table),
        };
        if catalog != CATALOG {
            return Err(unknown(&format!("{catalog}.{schema}.{table}")));
        }
        let (dataset, version) = match table.rsplit_once('@') {
            Some((dataset, version)) => (dataset, version),
            None => (table.as_ref(), ""),
        };
        Ok(Some(Self {
            namespace: schema.to_string(),
            dataset: dataset.to_owned(),
            version: version.to_owned(),
        }))
    }

    /// The table's name within its schema.
    pub(crate) fn table(&self) -> String {
        if self.version.is_empty() {
            self.dataset.clone()
        } else {
            format!("{}@{}", self.dataset, self.version)
        }
    }
}

impl std::fmt::Display for TableName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{CATALOG}.{}.{}", self.namespace, self.table())
    }
}

/// There is no such table.
pub(crate) fn unknown(name: &str) -> ServiceError {
    let shown: String = name.chars().take(200).collect();
    ServiceError::invalid(
        "query",
        format!("there is no table {shown}; write quarry.namespace.dataset"),
    )
    .reason("SQL_UNKNOWN_TABLE")
}

/// The words that a table's name follows. Only queries are taken, but a statement that is none
/// has to be read before it can be refused as one.
const BEFORE_NAMES: [&str; 5] = ["from", "join", "into", "table", "update"];

/// Puts quotes around the parts of a bare name of a table that
/// would not be read as one: `quarry.my-namespace.2024` is
/// `quarry."my-namespace"."2024"`.
pub(crate) fn quoted(sql: &str) -> String {
    let mut out = String::with_capacity(sql.len() + 8);
    let mut rest = sql;
    let mut after_from = false;
    while let Some(first) = rest.chars().next() {
        let length = token_length(rest, first);
        let (token, tail) = rest.split_at(length);
        rest = tail;
        let is_name = first.is_ascii_alphanumeric() || first == '_';
        if is_name && after_from {
            let whole = bare_name(token, tail);
            rest = &tail[whole - token.len()..];
            out.push_str(&quoted_name(&format!("{token}{}", &tail[..whole - token.len()])));
            after_from = false;
            continue;
        }
        out.push_str(token);
        if is_name {
            after_from = BEFORE_NAMES.iter().any(|word| token.eq_ignore_ascii_case(word));
        } else if !first.is_whitespace() {
            after_from = false;
        }
    }
    out
}

/// Bytes of the token that a text begins with: a quoted text, a comment, a
/// word, or one character.
fn token_length(text: &str, first: char) -> usize {
    let until = |end: &str, from: usize| {
        text[from..].find(end).map_or(text.len(), |at| from + at + end.len())
    };
    match first {
        '\'' | '"' | '`' => until(first.encode_utf8(&mut [0; 4]), 1),
        '-' if text.starts_with("--") => until("\n", 2),
        '/' if text.starts_with("/*") => until("*/", 2),
        first if first.is_ascii_alphanumeric() || first == '_' => {
            text.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(text.len())
        }
        first => first.len_utf8(),
    }
}

/// Bytes of a bare name of a table, its first word included.
fn bare_name(word: &str, tail: &str) -> usize {
    let part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '@');
    let mut length = tail.find(|c: char| !part(c)).unwrap_or(tail.len());
    if let Some(comment) = tail[..length].find("--") {
        length = comment;
    }
    word.len() + length
}

fn quoted_name(name: &str) -> String {
    let odd = |part: &str| part.contains('-') || part.starts_with(|c: char| c.is_ascii_digit());
    if !name.contains('.') || !name.split('.').any(odd) {
        return name.to_owned();
    }
    let part = |part: &str| {
        if odd(part) { format!("\"{}\"", part.to_ascii_lowercase()) } else { part.to_owned() }
    };
    name.split('.').map(part).collect::<Vec<_>>().join(".")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_are_no_words_are_quoted_after_from_and_join_only() {
        for (sql, expected) in [
            ("select a-b from quarry.my-ns.ds", "select a-b from quarry.\"my-ns\".ds"),
            ("select 1 FROM ns-1.2024@3 t", "select 1 FROM \"ns-1\".\"2024@3\" t"),
            ("select 1 from a.b join c-d.e on x-y", "select 1 from a.b join \"c-d\".e on x-y"),
            ("select 'from a-b.c' from t", "select 'from a-b.c' from t"),
            ("select 1 from a.b-- c-d.e", "select 1 from a.b-- c-d.e"),
            ("select 1 from a.b@2", "select 1 from a.b@2"),
            ("insert into a-b.c values (1-2)", "insert into \"a-b\".c values (1-2)"),
            ("select 1 from \"a-b\".c-d", "select 1 from \"a-b\".c-d"),
            ("select 1 from (select 2-1) x", "select 1 from (select 2-1) x"),
            ("select 1 -- from x-y.z\nfrom ü.b", "select 1 -- from x-y.z\nfrom ü.b"),
        ] {
            assert_eq!(quoted(sql), expected);
        }
    }
}
