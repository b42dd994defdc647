//! Models and versions with all that hangs on them in tables of its own. A turn with the database
//! costs more than what it answers: what is read for a request is one statement. On SQLite, where
//! each row is handed from thread to thread, a row costs more than its columns, too, and a page is
//! one row, a JSON text that the database writes.

use std::sync::LazyLock;

use sea_orm::{ConnectionTrait as _, DbBackend, Statement, Value};
use serde::de::DeserializeOwned;
use service_error::ServiceError;
use sql_store::db_error;

use super::Store;
use super::sql::{parsed, parsed_one};

/// A longer page is a row for each of its rows: a text of SQLite's is bounded.
const TOGETHER_MAX: u32 = 256;
/// More than a model has. A planner that cannot move this part reads it through its key.
const STAGES_MAX: u32 = 1 << 20;

/// All that is read of one thing.
#[derive(Debug)]
pub struct Shape {
    /// As one JSON text, over a row `m` of models and `v` of versions.
    pub json: String,
    /// As columns of a row of Postgres, where JSON costs more than the columns it is made of.
    columns: String,
    /// What a page `p` is read from once its ids are known. On Postgres each row by itself,
    /// through its key: a planner that cannot know how few a page has reads the whole table.
    of: String,
}

/// What models and versions are read as; `rows` has what they become.
#[derive(Debug)]
pub struct Whole {
    /// A [`super::rows::ModelRow`].
    pub model: Shape,
    /// A [`super::rows::WithLatest`]; as columns, a [`super::rows::LatestRow`] for each stage.
    pub model_with_latest: Shape,
    /// A [`super::rows::VersionRow`].
    pub version: Shape,
}

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

    fn shape(self, columns: &[String], of: &str) -> Shape {
        Shape { json: self.row(columns), columns: columns.join(", "), of: of.to_owned() }
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
    format!("CAST(CAST({column} AS integer) AS bigint)")
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
        let bare = version(words, words.row(&[]));
        // No join: that a number of a model's is one version, a planner knows even amid a load.
        let newest = "version v WHERE v.model_id = s.model_id AND v.number = s.number \
                      AND v.deleted_at IS NULL";
        let latest = format!("(SELECT {} FROM {newest})", words.row(&bare));
        let latest = words.row(&["s.stage".to_owned(), "s.number".to_owned(), latest]);
        let latest = words.list(&latest, "stage_latest s WHERE s.model_id = m.id");
        let without_stages = model(words, words.row(&[]));
        let (models, versions) = match words {
            Words::Postgres => (
                "LATERAL (SELECT * FROM model m WHERE m.id = p.id LIMIT 1) m",
                "LATERAL (SELECT * FROM version v WHERE v.id = p.id LIMIT 1) v \
                 CROSS JOIN LATERAL (SELECT * FROM model m WHERE m.id = v.model_id LIMIT 1) m",
            ),
            Words::Sqlite => (
                "model m WHERE m.id = p.id",
                "version v CROSS JOIN model m WHERE v.id = p.id AND m.id = v.model_id",
            ),
        };
        let with_latest = match words {
            Words::Postgres => format!(
                "{models} LEFT JOIN LATERAL \
                 (SELECT * FROM stage_latest s WHERE s.model_id = m.id LIMIT {STAGES_MAX}) s ON TRUE \
                 LEFT JOIN LATERAL (SELECT * FROM {newest} LIMIT 1) v ON TRUE"
            ),
            Words::Sqlite => models.to_owned(),
        };
        Self {
            model: words.shape(&model(words, stages), models),
            model_with_latest: Shape {
                json: words.row(&[words.row(&without_stages), latest]),
                columns: format!(
                    "{}, s.stage, s.number, {}",
                    without_stages.join(", "),
                    bare.join(", ")
                ),
                of: with_latest,
            },
            version: words.shape(&version(words, aliases), versions),
        }
    }
}

fn model(words: Words, stages: String) -> Vec<String> {
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
    columns
}

fn version(words: Words, aliases: String) -> Vec<String> {
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
    columns
}

/// A page whose rows are looked for by their ids and order first: what hangs on them is read
/// for those alone that are answered.
#[derive(Debug)]
pub struct Listed<'a> {
    pub shape: &'a Shape,
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
        let Listed { shape: Shape { json, columns, of }, page, .. } = listed;
        let order = |of: &str| {
            let keys = listed.descending.iter().enumerate().map(|(at, descends)| {
                format!("{of}.k{at}{}", if *descends { " DESC" } else { "" })
            });
            keys.collect::<Vec<_>>().join(", ")
        };
        if self.sql.backend() == DbBackend::Postgres {
            // The ids are put in order, which are narrow, not what is read for them.
            let ids = format!("SELECT q.id FROM ({page}) q ORDER BY {}, q.id", order("q"));
            let sql = format!(
                "SELECT p.place, {columns} FROM unnest(ARRAY({ids})) WITH ORDINALITY AS p(id, place) \
                 CROSS JOIN {of}"
            );
            let statement = Statement::from_sql_and_values(DbBackend::Postgres, sql, values);
            let rows = self.sql.lookup().query_all_raw(statement).await.map_err(db_error)?;
            let rows: Result<Vec<(i64, T)>, _> = rows.iter().map(row_tuples::tuple).collect();
            let mut rows = rows?;
            // They come in order already, as long as no planner finds a reason for another.
            rows.sort_by_key(|(place, _)| *place);
            return Ok(rows.into_iter().map(|(_, row)| row).collect());
        }
        let (page, order) = (format!("WITH page AS MATERIALIZED ({page})"), order("p"));
        if listed.rows_max <= TOGETHER_MAX {
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
