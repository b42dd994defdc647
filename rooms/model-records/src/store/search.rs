//! Queries as SQL: one statement, whose values are never part of its text. A
//! field of many values is an EXISTS on its own index.

use ids::{ModelId, NamespaceId};
use model_query::{Expr, Field, Op, Test, Value};
use sea_orm::{DbBackend, FromQueryResult};
use service_error::ServiceError;
use uuid::Uuid;

use super::rows::into_versions;
use super::sql::{Values, all, head, is_whole};
use super::whole::{Listed, whole};
use super::{Store, VisibleRows};
use crate::model::ModelVersion;

/// How a list of versions is ordered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum VersionOrder {
    Number,
    Created,
    #[default]
    Updated,
    Size,
    /// Namespace and model, then number.
    Name,
}

/// Which versions a search answers.
#[derive(Debug, Clone, Default)]
pub struct VersionPage<'a> {
    pub namespace: Option<NamespaceId>,
    pub model: Option<ModelId>,
    pub filter: Option<&'a Expr>,
    pub order: VersionOrder,
    pub descending: bool,
    pub deleted: bool,
    /// The key of the last one before: the ordered number, its names
    /// (`namespace/model`), its number, its id.
    pub after: Option<(i64, String, i64, Uuid)>,
    pub limit: u32,
}

/// How often a value occurs.
#[derive(Debug, Clone, PartialEq, Eq, FromQueryResult)]
pub struct Occurrence {
    pub value: String,
    pub count: i64,
}

impl Store {
    /// Versions that a caller may see and that pass a filter, a page of them.
    ///
    /// # Errors
    /// The database's.
    pub async fn search_versions(
        &self,
        visible: &VisibleRows,
        page: &VersionPage<'_>,
    ) -> Result<Vec<ModelVersion>, ServiceError> {
        let mut values = Values::new(self.sql.backend());
        let mut conditions = conditions(visible, page, &mut values);
        let columns = order_columns(page.order);
        if let Some(after) = &page.after {
            conditions.push(behind(page, after, &columns, &mut values));
        }
        let order: Vec<String> = columns
            .iter()
            .map(|(column, reversed)| {
                format!("{column}{}", if *reversed == page.descending { "" } else { " DESC" })
            })
            .collect();
        let limit = values.add(i64::from(page.limit));
        let keys =
            columns.iter().enumerate().map(|(at, (column, _))| format!(", {column} AS k{at}"));
        let sql = format!(
            "SELECT v.id AS id{} FROM version v JOIN model m ON m.id = v.model_id \
             WHERE {} ORDER BY {} LIMIT {limit}",
            keys.collect::<String>(),
            conditions.join(" AND "),
            order.join(", ")
        );
        let listed = Listed {
            shape: &whole(self.sql.backend()).version,
            page: sql,
            descending: columns.iter().map(|(_, reversed)| *reversed != page.descending).collect(),
            rows_max: page.limit,
        };
        into_versions(self.list_whole(&listed, values.all).await?)
    }

    /// The most frequent values of a field over the versions of a search.
    ///
    /// # Errors
    /// The database's.
    pub async fn facet(
        &self,
        visible: &VisibleRows,
        page: &VersionPage<'_>,
        field: &Field,
        limit: u32,
    ) -> Result<Vec<Occurrence>, ServiceError> {
        let mut values = Values::new(self.sql.backend());
        let conditions = conditions(visible, page, &mut values);
        let (join, column) = match field {
            Field::Tag(key) => {
                let key = values.add(key.clone());
                (format!("JOIN version_tag f ON f.version_id = v.id AND f.key = {key}"), "f.value")
            }
            Field::Param(key) => {
                let key = values.add(key.clone());
                (format!("JOIN param f ON f.version_id = v.id AND f.key = {key}"), "f.value")
            }
            Field::Flavor => {
                ("JOIN version_flavor f ON f.version_id = v.id".to_owned(), "f.flavor")
            }
            Field::Dataset => {
                let join = "JOIN lineage f ON f.version_id = v.id AND f.kind = 1".to_owned();
                (join, "f.source_name")
            }
            Field::Status => (String::new(), STATUS_WORD),
            Field::Scan => (String::new(), SCAN_WORD),
            Field::Name => (String::new(), "m.name"),
            Field::Namespace => (String::new(), "m.namespace"),
            _ => (String::new(), "v.stage"),
        };
        let limit = values.add(i64::from(limit));
        let sql = format!(
            "SELECT {column} AS value, COUNT(DISTINCT v.id) AS count FROM version v \
             JOIN model m ON m.id = v.model_id {join} WHERE {} GROUP BY {column} \
             ORDER BY 2 DESC, 1 LIMIT {limit}",
            conditions.join(" AND ")
        );
        all(self.read(), &sql, values.all).await
    }
}

fn conditions(visible: &VisibleRows, page: &VersionPage<'_>, values: &mut Values) -> Vec<String> {
    let mut conditions = vec![
        visible.condition(values),
        "m.deleted_at IS NULL".to_owned(),
        format!("v.deleted_at IS {}NULL", if page.deleted { "NOT " } else { "" }),
    ];
    if let Some(namespace) = page.namespace {
        conditions.push(format!("m.namespace_id = {}", values.add(namespace.uuid())));
    }
    if let Some(model) = page.model {
        conditions.push(format!("v.model_id = {}", values.add(model.uuid())));
    }
    if let Some(filter) = page.filter {
        conditions.push(expr(filter, values, &version_test));
    }
    conditions
}

/// The columns of an order, each with whether it runs the other way round.
fn order_columns(order: VersionOrder) -> Vec<(&'static str, bool)> {
    match order {
        VersionOrder::Number => vec![("v.number", false), ("v.id", false)],
        VersionOrder::Created => vec![("v.created_at", false), ("v.id", false)],
        VersionOrder::Updated => vec![("v.updated_at", false), ("v.id", false)],
        VersionOrder::Size => vec![("v.byte_count", false), ("v.id", false)],
        VersionOrder::Name => {
            vec![("m.namespace", false), ("m.name", false), ("v.number", false), ("v.id", false)]
        }
    }
}

/// That a row comes after the last one of the page before, lexicographically.
fn behind(
    page: &VersionPage<'_>,
    (ordered, names, number, id): &(i64, String, i64, Uuid),
    columns: &[(&'static str, bool)],
    values: &mut Values,
) -> String {
    let (namespace, model) = names.split_once('/').unwrap_or(("", names));
    let placed: Vec<String> = columns
        .iter()
        .map(|(column, _)| match *column {
            "m.namespace" => values.add(namespace),
            "m.name" => values.add(model),
            "v.number" => values.add(*number),
            "v.id" => values.add(*id),
            _ => values.add(*ordered),
        })
        .collect();
    let sign = |reversed: bool| if reversed == page.descending { ">" } else { "<" };
    if columns.iter().all(|(_, reversed)| *reversed == columns[0].1) {
        let names: Vec<&str> = columns.iter().map(|(column, _)| *column).collect();
        return format!("({}) {} ({})", names.join(", "), sign(columns[0].1), placed.join(", "));
    }
    // A bound on the first column lets its index find the place.
    let edge = if sign(columns[0].1) == ">" { ">=" } else { "<=" };
    let mut ways = Vec::new();
    for (at, (column, reversed)) in columns.iter().enumerate() {
        let mut way: Vec<String> = columns[..at]
            .iter()
            .zip(&placed)
            .map(|((equal, _), value)| format!("{equal} = {value}"))
            .collect();
        way.push(format!("{column} {} {}", sign(*reversed), placed[at]));
        ways.push(format!("({})", way.join(" AND ")));
    }
    format!("({} {edge} {} AND ({}))", columns[0].0, placed[0], ways.join(" OR "))
}

/// The condition of a query on versions.
pub fn versions(filter: &Expr, values: &mut Values) -> String {
    expr(filter, values, &version_test)
}

/// The condition of a query on models.
pub fn models(filter: &Expr, values: &mut Values) -> String {
    expr(filter, values, &model_test)
}

fn expr(filter: &Expr, values: &mut Values, test: &dyn Fn(&Test, &mut Values) -> String) -> String {
    let mut joined = |parts: &[Expr], word: &str, empty: &str| {
        if parts.is_empty() {
            return empty.to_owned();
        }
        let parts: Vec<String> = parts.iter().map(|part| expr(part, values, test)).collect();
        format!("({})", parts.join(word))
    };
    match filter {
        Expr::And(parts) => joined(parts, " AND ", "1 = 1"),
        Expr::Or(parts) => joined(parts, " OR ", "1 = 0"),
        Expr::Not(inner) => format!("NOT {}", expr(inner, values, test)),
        Expr::Test(one) => test(one, values),
    }
}

const STATUS_WORD: &str =
    "CASE v.status WHEN 1 THEN 'pending' WHEN 2 THEN 'ready' ELSE 'failed' END";
const SCAN_WORD: &str = "CASE v.scan WHEN 2 THEN 'clean' WHEN 3 THEN 'suspicious' \
    WHEN 4 THEN 'dangerous' WHEN 5 THEN 'unreadable' WHEN 6 THEN 'unknown' ELSE 'none' END";

fn model_test(test: &Test, values: &mut Values) -> String {
    match &test.field {
        Field::Name => compare("m.name", test, values),
        Field::Namespace => compare("m.namespace", test, values),
        Field::Description => compare("m.description", test, values),
        Field::CreateTime => compare("m.created_at", test, values),
        Field::UpdateTime => compare("m.updated_at", test, values),
        Field::Size => compare("m.byte_count", test, values),
        Field::VersionCount => compare("m.version_count", test, values),
        Field::Tag(key) => tagged("model_tag t", "t.model_id = m.id", key, test, values),
        Field::Alias => {
            let name = compare("a.name", test, values);
            format!("EXISTS (SELECT 1 FROM alias a WHERE a.model_id = m.id AND {name})")
        }
        // The language gives models no other field.
        _ => "1 = 0".to_owned(),
    }
}

fn version_test(test: &Test, values: &mut Values) -> String {
    match &test.field {
        Field::Description => compare("v.description", test, values),
        Field::CreateTime => compare("v.created_at", test, values),
        Field::UpdateTime => compare("v.updated_at", test, values),
        Field::Size => compare("v.byte_count", test, values),
        Field::Number => compare("v.number", test, values),
        Field::FileCount => compare("v.file_count", test, values),
        Field::Label => compare("COALESCE(v.label, '')", test, values),
        Field::Status => compare(STATUS_WORD, test, values),
        Field::Scan => compare(SCAN_WORD, test, values),
        Field::Signed => compare("v.signed", test, values),
        Field::Stage => compare("v.stage", test, values),
        Field::RunId => compare("v.run_id", test, values),
        Field::LoggedModelId => compare("v.logged_model_id", test, values),
        Field::Source => headed("v.source", "v.source_head", test, values),
        Field::Tag(key) => tagged("version_tag t", "t.version_id = v.id", key, test, values),
        Field::Param(key) => param(key, test, values),
        Field::Metric(key) => {
            let key = values.add(key.clone());
            let value = compare("t.value", test, values);
            format!(
                "EXISTS (SELECT 1 FROM metric_last t WHERE t.version_id = v.id AND t.key = {key} AND {value})"
            )
        }
        Field::Flavor => {
            let flavor = compare("t.flavor", test, values);
            format!(
                "EXISTS (SELECT 1 FROM version_flavor t WHERE t.version_id = v.id AND {flavor})"
            )
        }
        Field::Alias => {
            let name = compare("a.name", test, values);
            format!(
                "EXISTS (SELECT 1 FROM alias a WHERE a.model_id = v.model_id AND a.number = v.number AND {name})"
            )
        }
        Field::Digest => digest(test, values),
        Field::Dataset => source(1, test, values),
        Field::BaseModel => source(2, test, values),
        _ => model_test(test, values),
    }
}

fn tagged(table: &str, of: &str, key: &str, test: &Test, values: &mut Values) -> String {
    let key = values.add(key.to_owned());
    let value = headed("t.value", "t.head", test, values);
    format!("EXISTS (SELECT 1 FROM {table} WHERE {of} AND t.key = {key} AND {value})")
}

fn param(key: &str, test: &Test, values: &mut Values) -> String {
    let key = values.add(key.to_owned());
    let value = match test.value {
        Value::Number(_) | Value::Numbers(_) => compare("t.number", test, values),
        _ => headed("t.value", "t.head", test, values),
    };
    format!(
        "EXISTS (SELECT 1 FROM param t WHERE t.version_id = v.id AND t.key = {key} AND {value})"
    )
}

/// A text whose index has only its first characters. Of one that fits, that is all.
fn headed(column: &str, head_column: &str, test: &Test, values: &mut Values) -> String {
    match (&test.op, &test.value) {
        (Op::Eq, Value::Text(text)) if is_whole(text) => {
            format!("{head_column} = {}", values.add(text.clone()))
        }
        (Op::Eq, Value::Text(text)) => {
            let whole = compare(column, test, values);
            format!("({head_column} = {} AND {whole})", values.add(head(text)))
        }
        _ => compare(column, test, values),
    }
}

/// The condition of a query on versions that asks for tags, and for nothing else but the model's
/// name: each row of `v` (`id`, `name`) is looked at by itself, whatever the tables hold. Nothing
/// for other queries.
pub fn by_tags(filter: &Expr, values: &mut Values) -> Option<String> {
    asks_for_tag(filter).then(|| of_each(filter, values)).flatten()
}

fn asks_for_tag(filter: &Expr) -> bool {
    match filter {
        Expr::And(all) => all.iter().any(asks_for_tag),
        Expr::Test(test) => matches!(test.field, Field::Tag(_)),
        Expr::Or(_) | Expr::Not(_) => false,
    }
}

fn of_each(filter: &Expr, values: &mut Values) -> Option<String> {
    match filter {
        Expr::And(parts) => {
            let parts: Option<Vec<String>> =
                parts.iter().map(|part| of_each(part, values)).collect();
            parts.map(|parts| parts.join(" AND ")).filter(|joined| !joined.is_empty())
        }
        Expr::Not(inner) => of_each(inner, values).map(|is| format!("({is}) IS NOT TRUE")),
        Expr::Test(test) => match &test.field {
            Field::Name => Some(compare("v.name", test, values)),
            Field::Tag(key) => {
                let key = values.add(key.clone());
                let value = headed("t.value", "t.head", test, values);
                Some(format!(
                    "(SELECT {value} FROM version_tag t WHERE t.version_id = v.id AND t.key = {key})"
                ))
            }
            _ => None,
        },
        Expr::Or(_) => None,
    }
}

/// The manifest's digest or that of a file, in hex. Only whole digests have a
/// match.
fn digest(test: &Test, values: &mut Values) -> String {
    let texts = match &test.value {
        Value::Text(text) => std::slice::from_ref(text),
        Value::Texts(texts) => texts.as_slice(),
        _ => &[],
    };
    let mut ways = Vec::new();
    for text in texts {
        let text = text.strip_prefix("sha256:").unwrap_or(text);
        let Ok(bytes) = hex::decode(text) else { continue };
        let value = values.add(bytes);
        ways.push(format!(
            "v.digest = {value} OR EXISTS (SELECT 1 FROM version_file t \
             WHERE t.version_id = v.id AND t.digest = {value})"
        ));
    }
    let any = if ways.is_empty() { "1 = 0".to_owned() } else { format!("({})", ways.join(" OR ")) };
    if matches!(test.op, Op::NotEq | Op::NotIn) { format!("NOT {any}") } else { any }
}

/// A dataset or a model that it was made from, `namespace/name`, perhaps `@version`.
fn source(kind: i16, test: &Test, values: &mut Values) -> String {
    let kind = values.add(kind);
    let named = |text: &str, values: &mut Values| match text.rsplit_once('@') {
        Some((name, version)) if version.parse::<i64>().is_ok() => {
            let name = values.add(name.to_owned());
            let version = values.add(version.parse::<i64>().unwrap_or_default());
            format!("(t.source_name = {name} AND t.source_version = {version})")
        }
        _ => format!("t.source_name = {}", values.add(text.to_owned())),
    };
    let name = match (&test.op, &test.value) {
        (Op::Eq | Op::NotEq, Value::Text(text)) => named(text, values),
        (Op::In | Op::NotIn, Value::Texts(texts)) => {
            let ways: Vec<String> = texts.iter().map(|text| named(text, values)).collect();
            format!("({})", ways.join(" OR "))
        }
        _ => compare("t.source_name", test, values),
    };
    let not = if matches!(test.op, Op::NotEq | Op::NotIn) { "NOT " } else { "" };
    format!(
        "{not}EXISTS (SELECT 1 FROM lineage t WHERE t.version_id = v.id AND t.kind = {kind} AND {name})"
    )
}

/// The one model that a filter names, if it names one.
pub fn named(filter: &Expr) -> Option<&str> {
    match filter {
        Expr::And(all) => all.iter().find_map(named),
        Expr::Test(Test { field: Field::Name, op: Op::Eq, value: Value::Text(name) }) => Some(name),
        Expr::Test(_) | Expr::Or(_) | Expr::Not(_) => None,
    }
}

/// Whether a filter asks for versions by a value that few have and an index knows.
pub fn is_looked_up(filter: &Expr) -> bool {
    match filter {
        Expr::And(all) => all.iter().any(is_looked_up),
        Expr::Test(test) => {
            test.op == Op::Eq && matches!(test.field, Field::RunId | Field::Source | Field::Digest)
        }
        Expr::Or(_) | Expr::Not(_) => false,
    }
}

fn compare(column: &str, test: &Test, values: &mut Values) -> String {
    let sign = match test.op {
        Op::Eq => "=",
        Op::NotEq => "<>",
        Op::Lt => "<",
        Op::LtEq => "<=",
        Op::Gt => ">",
        Op::GtEq => ">=",
        Op::Like | Op::ILike => return like(column, test, values),
        Op::In | Op::NotIn => return listed(column, test, values),
    };
    format!("{column} {sign} {}", single(&test.value, values))
}

fn single(value: &Value, values: &mut Values) -> String {
    match value {
        Value::Text(text) => values.add(text.clone()),
        Value::Number(number) => number_of(*number, values),
        Value::Time(micros) => values.add(*micros),
        Value::Bool(bool) => values.add(*bool),
        Value::Texts(_) | Value::Numbers(_) => "NULL".to_owned(),
    }
}

/// A whole number stays one, so that an index of whole numbers is used.
#[allow(clippy::cast_possible_truncation, reason = "looked at before")]
fn number_of(number: f64, values: &mut Values) -> String {
    const EXACT_MAX: f64 = 9_007_199_254_740_992.0;
    if number.fract() == 0.0 && number.abs() < EXACT_MAX {
        values.add(number as i64)
    } else {
        values.add(number)
    }
}

fn listed(column: &str, test: &Test, values: &mut Values) -> String {
    let list: Vec<String> = match &test.value {
        Value::Texts(texts) => texts.iter().map(|text| values.add(text.clone())).collect(),
        Value::Numbers(numbers) => {
            numbers.iter().map(|number| number_of(*number, values)).collect()
        }
        one => vec![single(one, values)],
    };
    let not = if test.op == Op::NotIn { "NOT " } else { "" };
    format!("{column} {not}IN ({})", list.join(", "))
}

/// SQLite's own LIKE ignores the case of ASCII letters, so an exact one is its
/// GLOB. Postgres ignores that of the same letters, whatever its locale: both
/// databases see the same rows.
fn like(column: &str, test: &Test, values: &mut Values) -> String {
    let Value::Text(pattern) = &test.value else { return "1 = 0".to_owned() };
    match (values.backend, test.op) {
        (DbBackend::Postgres, Op::ILike) => {
            let pattern = values.add(pattern.to_ascii_lowercase());
            format!("LOWER({column} COLLATE \"C\") LIKE {pattern} ESCAPE '\\'")
        }
        (DbBackend::Postgres, _) => {
            format!("{column} LIKE {} ESCAPE '\\'", values.add(pattern.clone()))
        }
        (_, Op::ILike) => format!("{column} LIKE {} ESCAPE '\\'", values.add(pattern.clone())),
        _ => format!("{column} GLOB {}", values.add(glob(pattern))),
    }
}

fn glob(pattern: &str) -> String {
    let mut glob = String::with_capacity(pattern.len());
    let mut chars = pattern.chars();
    while let Some(c) = chars.next() {
        let (c, escaped) = match c {
            '\\' => (chars.next().unwrap_or('\\'), true),
            c => (c, false),
        };
        match c {
            '%' if !escaped => glob.push('*'),
            '_' if !escaped => glob.push('?'),
            '*' | '?' | '[' => {
                glob.push('[');
                glob.push(c);
                glob.push(']');
            }
            c => glob.push(c),
        }
    }
    glob
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exact_pattern_is_a_glob_of_the_same_meaning() {
        assert_eq!(glob("a%b_c"), "a*b?c");
        assert_eq!(glob("100\\%[x]*"), "100%[[]x][*]");
    }
}
