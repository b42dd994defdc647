//! Models and versions with all that hangs on them in tables of its own, each as one JSON text
//! that the database writes. A turn with the database costs more than what it answers, and on
//! SQLite, where each row is handed from thread to thread, a row more than its columns: what is
//! read for a request is one statement, and a page of it one row.

use std::sync::LazyLock;

use sea_orm::{DbBackend, Value};
use serde::de::DeserializeOwned;
use service_error::ServiceError;

use super::Store;
use super::sql::{parsed, parsed_one};

/// A longer page is a row for each of its rows: a text of SQLite's is bounded.
const TOGETHER_MAX: u32 = 256;

/// Expressions over a row `m` of models and `v` of versions; `rows` has what they become.
#[derive(Debug)]
pub struct Whole {
    /// A [`super::rows::ModelRow`] of `m`.
    pub model: String,
    /// A [`super::rows::WithLatest`] of `m`.
    pub model_with_latest: String,
    /// A [`super::rows::VersionRow`] of `v`, whose model is `m`.
    pub version: String,
}

/// What a page is read from once its ids are known.
pub const OF_MODELS: &str = "model m WHERE m.id = p.id";
pub const OF_VERSIONS: &str =
    "version v CROSS JOIN model m WHERE v.id = p.id AND m.id = v.model_id";

/// The expressions in a database's words.
pub fn whole(backend: DbBackend) -> &'static Whole {
    static SQLITE: LazyLock<Whole> = LazyLock::new(|| Whole::of(Words::Sqlite));
    static POSTGRES: LazyLock<Whole> = LazyLock::new(|| Whole::of(Words::Postgres));
    match backend {
        DbBackend::Postgres => &POSTGRES,
        _ => &SQLITE,
    }
}

/// How a database writes JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Words {
    Sqlite,
    Postgres,
}

impl Words {
    fn row(self, columns: &[String]) -> String {
        let function = if self == Self::Postgres { "json_build_array" } else { "json_array" };
        format!("{function}({})", columns.join(", "))
    }

    fn list(self, item: &str, from: &str) -> String {
        match self {
            Self::Postgres => format!("(SELECT COALESCE(json_agg({item}), '[]') FROM {from})"),
            Self::Sqlite => format!("(SELECT json_group_array({item}) FROM {from})"),
        }
    }

    fn texts(self, from: &str) -> String {
        match self {
            Self::Postgres => {
                format!("(SELECT COALESCE(json_object_agg(key, value), '{{}}') FROM {from})")
            }
            Self::Sqlite => format!("(SELECT json_group_object(key, value) FROM {from})"),
        }
    }

    fn id(self, column: &str) -> String {
        match self {
            Self::Postgres => column.to_owned(),
            Self::Sqlite => format!("hex({column})"),
        }
    }

    fn bytes(self, column: &str) -> String {
        match self {
            Self::Postgres => format!("encode({column}, 'hex')"),
            Self::Sqlite => format!("hex({column})"),
        }
    }
}

fn flag(column: &str) -> String {
    format!("CAST({column} AS integer)")
}

fn plain(columns: &[&str]) -> impl Iterator<Item = String> {
    columns.iter().map(|column| (*column).to_owned())
}

impl Whole {
    fn of(words: Words) -> Self {
        let stage = words.row(&["stage".to_owned(), "number".to_owned()]);
        let stages = words.list(&stage, "stage_latest WHERE model_id = m.id");
        let aliases = "alias a WHERE a.model_id = v.model_id AND a.number = v.number";
        let aliases = words.list("a.name", aliases);
        // No join: that a number of a model's is one version, a planner knows even amid a load.
        let newest = format!(
            "(SELECT {} FROM version v WHERE v.model_id = s.model_id AND v.number = s.number \
             AND v.deleted_at IS NULL)",
            version(words, words.row(&[]))
        );
        let latest = words.row(&["s.stage".to_owned(), "s.number".to_owned(), newest]);
        let latest = words.list(&latest, "stage_latest s WHERE s.model_id = m.id");
        Self {
            model: model(words, stages),
            model_with_latest: words.row(&[model(words, words.row(&[])), latest]),
            version: version(words, aliases),
        }
    }
}

fn model(words: Words, stages: String) -> String {
    let alias = ["name".to_owned(), "number".to_owned(), flag("protected"), "set_at".to_owned()];
    let alias = words.row(&[alias.as_slice(), &[words.id("set_by")]].concat());
    let mut columns = vec![words.id("m.id"), words.id("m.namespace_id")];
    columns.extend(plain(&["m.namespace", "m.name", "m.description", "m.created_at"]));
    columns.extend(plain(&["m.updated_at"]));
    columns.push(words.id("m.created_by"));
    columns.extend(plain(&["m.deleted_at", "m.latest_version", "m.version_count"]));
    columns.extend(plain(&["m.byte_count"]));
    columns.push(words.texts("model_tag WHERE model_id = m.id"));
    columns.push(words.list(&alias, "alias WHERE model_id = m.id"));
    columns.push(stages);
    words.row(&columns)
}

fn version(words: Words, aliases: String) -> String {
    let mut columns = vec![words.id("v.id"), words.id("v.model_id"), words.id("m.namespace_id")];
    columns.extend(plain(&["m.namespace", "m.name", "v.number", "v.label", "v.description"]));
    columns.extend(plain(&["v.status", "v.status_message", "v.stage", "v.source", "v.run_id"]));
    columns.extend(plain(&["v.run_link", "v.logged_model_id", "v.byte_count", "v.file_count"]));
    columns.extend([words.bytes("v.digest"), "v.scan".to_owned(), flag("v.signed")]);
    columns.extend(plain(&["v.created_at", "v.updated_at"]));
    columns.extend([words.id("v.created_by"), "v.deleted_at".to_owned()]);
    columns.push(words.texts("version_tag WHERE version_id = v.id"));
    columns.push(words.list("flavor", "version_flavor WHERE version_id = v.id"));
    columns.push(aliases);
    words.row(&columns)
}

/// A page whose rows are looked for by their ids and order first: what hangs on them is read
/// for those alone that are answered.
#[derive(Debug)]
pub struct Listed<'a> {
    /// What each row becomes, of [`Whole`].
    pub json: &'a str,
    /// [`OF_MODELS`] or [`OF_VERSIONS`].
    pub of: &'a str,
    /// `SELECT … AS id, … AS k0, … AS k1, …`, in its order.
    pub page: String,
    /// Of each `k…` whether it descends.
    pub descending: Vec<bool>,
    /// The page has no more rows.
    pub rows_max: u32,
}

impl Store {
    /// What a condition finds, as one text.
    pub(super) async fn find_whole<T: DeserializeOwned>(
        &self,
        json: &str,
        from: &str,
        values: Vec<Value>,
    ) -> Result<Option<T>, ServiceError> {
        let sql = format!("SELECT CAST({json} AS text) FROM {from}");
        parsed_one(&*self.sql.lookup(), &sql, values).await
    }

    /// The rows of a page, in its order.
    pub(super) async fn list_whole<T: DeserializeOwned>(
        &self,
        listed: &Listed<'_>,
        values: Vec<Value>,
    ) -> Result<Vec<T>, ServiceError> {
        let Listed { json, of, page, .. } = listed;
        let order: Vec<String> = listed
            .descending
            .iter()
            .enumerate()
            .map(|(at, descends)| format!("p.k{at}{}", if *descends { " DESC" } else { "" }))
            .collect();
        let order = order.join(", ");
        let page = format!("WITH page AS MATERIALIZED ({page})");
        let together = self.sql.backend() == DbBackend::Sqlite && listed.rows_max <= TOGETHER_MAX;
        if together {
            let rows = format!("group_concat({json}, ',' ORDER BY {order})");
            let sql = format!("{page} SELECT '[' || {rows} || ']' FROM page p CROSS JOIN {of}");
            let found = parsed_one(self.read(), &sql, values).await?;
            return Ok(found.unwrap_or_default());
        }
        let sql = format!(
            "{page} SELECT CAST({json} AS text) FROM page p CROSS JOIN {of} ORDER BY {order}"
        );
        parsed(&*self.sql.lookup(), &sql, values).await
    }
}
