//! MLflow's own database, SQLite or Postgres, of any version since stages:
//! columns that came later are used where they are.

use std::collections::{BTreeMap, BTreeSet};
use std::str::FromStr;

use quarry_client::failure::Failure;
use sea_orm::sqlx::ConnectOptions as _;
use sea_orm::sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sea_orm::{FromQueryResult, SqlxPostgresConnector, Value};
use service_error::ServiceError;

use super::{Rows, here, lacking, other_version};
use crate::place::{Roots, local};
use crate::source::{
    Files, Opening, PAGE_ROWS, Page, SourceMetric, SourceModel, SourceVersion, damaged,
};

/// A chain of `models:/` and `runs:/` is no longer than this.
const HOPS_MAX: usize = 8;

/// The opened database.
#[derive(Debug)]
pub struct MlflowDatabase {
    rows: Rows,
    roots: Roots,
    workspace: String,
    /// Tables have a column for the workspace.
    has_workspaces: bool,
    versions: BTreeSet<String>,
    has_aliases: bool,
    has_logged_models: bool,
}

#[derive(Debug, FromQueryResult)]
struct ModelRow {
    name: String,
    description: Option<String>,
}

#[derive(Debug, FromQueryResult)]
struct VersionRow {
    version: i64,
    creation_time: Option<i64>,
    description: Option<String>,
    current_stage: Option<String>,
    source: Option<String>,
    run_id: Option<String>,
    run_link: Option<String>,
    storage_location: Option<String>,
}

#[derive(Debug, FromQueryResult)]
struct Text {
    owner: String,
    key: String,
    value: Option<String>,
}

#[derive(Debug, FromQueryResult)]
struct Point {
    key: String,
    value: Option<f64>,
    step: i64,
    at_ms: i64,
}

#[derive(Debug, FromQueryResult)]
struct Place {
    place: Option<String>,
}

impl MlflowDatabase {
    pub(super) async fn new(rows: Rows, roots: Roots, workspace: &str) -> Result<Self, Failure> {
        let versions = rows.columns("model_versions").await?;
        let version = schema_version(&rows).await;
        let needed = ["name", "version", "creation_time", "current_stage", "source", "run_id"];
        for (table, columns, needed) in [
            ("model_versions", &versions, needed.as_slice()),
            (
                "registered_models",
                &rows.columns("registered_models").await?,
                &["name", "description"],
            ),
            (
                "registered_model_tags",
                &rows.columns("registered_model_tags").await?,
                &["name", "key", "value"],
            ),
            (
                "model_version_tags",
                &rows.columns("model_version_tags").await?,
                &["name", "version", "key", "value"],
            ),
            ("params", &rows.columns("params").await?, &["run_uuid", "key", "value"]),
            (
                "latest_metrics",
                &rows.columns("latest_metrics").await?,
                &["run_uuid", "key", "value", "step", "is_nan"],
            ),
            ("runs", &rows.columns("runs").await?, &["run_uuid", "artifact_uri"]),
        ] {
            let missing = lacking(columns, needed);
            if !missing.is_empty() {
                return Err(other_version(&rows.shown, table, &missing, &version));
            }
        }
        let has_aliases = !rows.columns("registered_model_aliases").await?.is_empty();
        let has_logged_models = !rows.columns("logged_models").await?.is_empty();
        let has_workspaces = versions.contains("workspace");
        let workspace = if workspace.is_empty() { "default" } else { workspace }.to_owned();
        if !has_workspaces && workspace != "default" {
            let message = format!("{} knows no workspaces", rows.shown);
            return Err(ServiceError::invalid("workspace", message).into());
        }
        Ok(Self {
            rows,
            roots,
            workspace,
            has_workspaces,
            versions,
            has_aliases,
            has_logged_models,
        })
    }

    /// Opens a database by its URL.
    ///
    /// # Errors
    /// One that is away or holds no registry.
    pub async fn open_postgres(url: &str, opening: Opening) -> Result<Self, Failure> {
        // The URL may hold a password: it is not shown.
        let wrong = |err: sea_orm::sqlx::Error| {
            ServiceError::invalid("source", "is no usable postgres:// URL").caused_by(err)
        };
        let options = PgConnectOptions::from_str(url)
            .map_err(wrong)?
            .options([("default_transaction_read_only", "on")])
            .disable_statement_logging();
        let shown = format!("the database at {}", options.get_host());
        let pool = PgPoolOptions::new().max_connections(2).connect_with(options).await;
        let pool = pool.map_err(|err| {
            ServiceError::unavailable(format!("{shown} cannot be opened: {err}")).caused_by(err)
        })?;
        let rows = Rows { connection: SqlxPostgresConnector::from_sqlx_postgres_pool(pool), shown };
        if rows.columns("model_versions").await?.is_empty() {
            let message =
                format!("{} holds no MLflow registry: no table model_versions", rows.shown);
            return Err(ServiceError::invalid("source", message).reason("UNKNOWN_REGISTRY").into());
        }
        let roots = Roots::new(&opening.folders, &here()).map_err(Failure::usage)?;
        Self::new(rows, roots, &opening.workspace).await
    }

    /// A condition on the workspace, whose value is `$1` (used either way, so
    /// that the numbers of the others stay).
    fn of_workspace(&self) -> &'static str {
        if self.has_workspaces { "workspace = $1" } else { "CAST($1 AS text) = CAST($1 AS text)" }
    }

    /// Models by name.
    pub async fn models(&self, token: &str) -> Result<Page<SourceModel>, Failure> {
        let within = self.of_workspace();
        let sql = format!(
            "SELECT name, description FROM registered_models \
             WHERE {within} AND name > $2 ORDER BY name LIMIT $3"
        );
        let values = vec![self.workspace.clone().into(), token.into(), i64::from(PAGE_ROWS).into()];
        let rows: Vec<ModelRow> = self.rows.all(&sql, values).await?;
        let (Some(first), Some(last)) = (rows.first(), rows.last()) else {
            return Ok(Page { rows: Vec::new(), next: String::new() });
        };
        let range: Vec<Value> = vec![
            self.workspace.clone().into(),
            first.name.clone().into(),
            last.name.clone().into(),
        ];
        let next = if rows.len() == PAGE_ROWS as usize { last.name.clone() } else { String::new() };
        let sql = format!(
            "SELECT name AS owner, key, value FROM registered_model_tags \
             WHERE {within} AND name >= $2 AND name <= $3"
        );
        let tags: Vec<Text> = self.rows.all(&sql, range.clone()).await?;
        let mut models: BTreeMap<String, SourceModel> = rows
            .into_iter()
            .map(|row| {
                let description = row.description.unwrap_or_default();
                let model =
                    SourceModel { name: row.name.clone(), description, ..Default::default() };
                (row.name, model)
            })
            .collect();
        for tag in tags {
            if let Some(model) = models.get_mut(&tag.owner) {
                model.tags.insert(tag.key, tag.value.unwrap_or_default());
            }
        }
        if self.has_aliases {
            let sql = format!(
                "SELECT name AS owner, alias AS key, CAST(version AS text) AS value \
                 FROM registered_model_aliases WHERE {within} AND name >= $2 AND name <= $3"
            );
            for alias in self.rows.all::<Text>(&sql, range).await? {
                if let Some(model) = models.get_mut(&alias.owner) {
                    model.aliases.push((alias.key, alias.value.unwrap_or_default()));
                }
            }
        }
        Ok(Page { rows: models.into_values().collect(), next })
    }

    /// Versions of a model, numbers ascending; deleted ones are not there.
    pub async fn versions(&self, model: &str, token: &str) -> Result<Page<SourceVersion>, Failure> {
        let after: i64 = match token {
            "" => 0,
            token => token.parse().map_err(|_| damaged(&self.rows.shown, "its own token"))?,
        };
        let text = |column: &str| {
            if self.versions.contains(column) {
                column.to_owned()
            } else {
                format!("CAST(NULL AS text) AS {column}")
            }
        };
        let sql = format!(
            "SELECT CAST(version AS bigint) AS version, CAST(creation_time AS bigint) AS creation_time, \
             {}, current_stage, source, run_id, {}, {} FROM model_versions \
             WHERE {} AND name = $2 AND version > $3 AND \
             (current_stage IS NULL OR current_stage <> 'Deleted_Internal') ORDER BY version LIMIT $4",
            text("description"),
            text("run_link"),
            text("storage_location"),
            self.of_workspace(),
        );
        let values = vec![
            self.workspace.clone().into(),
            model.into(),
            after.into(),
            i64::from(PAGE_ROWS).into(),
        ];
        let rows: Vec<VersionRow> = self.rows.all(&sql, values).await?;
        let (Some(first), Some(last)) = (rows.first(), rows.last()) else {
            return Ok(Page { rows: Vec::new(), next: String::new() });
        };
        let next =
            if rows.len() == PAGE_ROWS as usize { last.version.to_string() } else { String::new() };
        let sql = format!(
            "SELECT CAST(version AS text) AS owner, key, value FROM model_version_tags \
             WHERE {} AND name = $2 AND version >= $3 AND version <= $4",
            self.of_workspace()
        );
        let values = vec![
            self.workspace.clone().into(),
            model.into(),
            first.version.into(),
            last.version.into(),
        ];
        let mut tags: BTreeMap<String, BTreeMap<String, String>> = BTreeMap::new();
        for tag in self.rows.all::<Text>(&sql, values).await? {
            tags.entry(tag.owner).or_default().insert(tag.key, tag.value.unwrap_or_default());
        }
        let versions = rows.into_iter().map(|row| {
            let tags = tags.remove(&row.version.to_string()).unwrap_or_default();
            version_of(row, tags)
        });
        Ok(Page { rows: versions.collect(), next })
    }

    /// Where its files are, and what its run and its logged model hold.
    pub async fn complete(&self, version: &mut SourceVersion) -> Result<(), Failure> {
        let logged = version.source.strip_prefix("models:/").unwrap_or_default().to_owned();
        let logged = if logged.contains('/') { String::new() } else { logged };
        if !version.run_id.is_empty() {
            let sql = "SELECT run_uuid AS owner, key, value FROM params WHERE run_uuid = $1";
            self.params(sql, &version.run_id, &mut version.params).await?;
            let sql = "SELECT key, CAST(value AS double precision) AS value, CAST(step AS bigint) AS step, \
                       CAST(timestamp AS bigint) AS at_ms FROM latest_metrics WHERE run_uuid = $1 AND NOT is_nan";
            self.metrics(sql, &version.run_id, &mut version.metrics).await?;
        }
        if self.has_logged_models && !logged.is_empty() {
            let sql = "SELECT model_id AS owner, param_key AS key, param_value AS value \
                       FROM logged_model_params WHERE model_id = $1";
            self.params(sql, &logged, &mut version.params).await?;
            let sql = "SELECT metric_name AS key, CAST(metric_value AS double precision) AS value, \
                       CAST(metric_step AS bigint) AS step, CAST(metric_timestamp_ms AS bigint) AS at_ms \
                       FROM logged_model_metrics WHERE model_id = $1 ORDER BY metric_step, metric_timestamp_ms";
            self.metrics(sql, &logged, &mut version.metrics).await?;
        }
        let Files::Elsewhere(location) = &version.files else { return Ok(()) };
        version.files = self.place_of(location.clone()).await?;
        Ok(())
    }

    async fn params(
        &self,
        sql: &str,
        owner: &str,
        params: &mut BTreeMap<String, String>,
    ) -> Result<(), Failure> {
        for row in self.rows.all::<Text>(sql, vec![owner.into()]).await? {
            params.insert(row.key, row.value.unwrap_or_default());
        }
        Ok(())
    }

    async fn metrics(
        &self,
        sql: &str,
        owner: &str,
        metrics: &mut Vec<SourceMetric>,
    ) -> Result<(), Failure> {
        for row in self.rows.all::<Point>(sql, vec![owner.into()]).await? {
            let Some(value) = row.value.filter(|value| value.is_finite()) else { continue };
            metrics.retain(|metric| metric.key != row.key);
            metrics.push(SourceMetric { key: row.key, value, step: row.step, at_ms: row.at_ms });
        }
        Ok(())
    }

    /// Follows `models:/` and `runs:/` to where files lie.
    async fn place_of(&self, mut location: String) -> Result<Files, Failure> {
        for _ in 0..HOPS_MAX {
            let next = if let Some(rest) = location.strip_prefix("runs:/") {
                let (run, below) = rest.split_once('/').unwrap_or((rest, ""));
                let sql = "SELECT artifact_uri AS place FROM runs WHERE run_uuid = $1";
                let found = self.one_place(sql, vec![run.into()]).await?;
                found.map(|root| format!("{}/{below}", root.trim_end_matches('/')))
            } else if let Some(rest) = location.strip_prefix("models:/") {
                match rest.split_once('/') {
                    Some((name, number)) => self.place_of_version(name, number).await?,
                    None if self.has_logged_models => {
                        let sql = "SELECT artifact_location AS place FROM logged_models WHERE model_id = $1";
                        self.one_place(sql, vec![rest.into()]).await?
                    }
                    None => None,
                }
            } else {
                return Ok(match local(&location) {
                    Some(path) => Files::Local(path),
                    None => Files::Elsewhere(location),
                });
            };
            match next {
                Some(next) => location = next,
                None => break,
            }
        }
        Ok(Files::Elsewhere(location))
    }

    async fn place_of_version(&self, name: &str, number: &str) -> Result<Option<String>, Failure> {
        let Ok(number) = number.parse::<i32>() else { return Ok(None) };
        let column = if self.versions.contains("storage_location") {
            "COALESCE(storage_location, source)"
        } else {
            "source"
        };
        let sql = format!(
            "SELECT {column} AS place FROM model_versions WHERE {} AND name = $2 AND version = $3",
            self.of_workspace()
        );
        self.one_place(&sql, vec![self.workspace.clone().into(), name.into(), number.into()]).await
    }

    async fn one_place(&self, sql: &str, values: Vec<Value>) -> Result<Option<String>, Failure> {
        let rows: Vec<Place> = self.rows.all(sql, values).await?;
        Ok(rows.into_iter().next().and_then(|row| row.place).filter(|place| !place.is_empty()))
    }

    /// Where its files may lie.
    pub const fn roots(&self) -> &Roots {
        &self.roots
    }
}

fn version_of(row: VersionRow, tags: BTreeMap<String, String>) -> SourceVersion {
    let source = row.source.unwrap_or_default();
    let place = row.storage_location.filter(|place| !place.is_empty());
    let place = place.unwrap_or_else(|| source.clone());
    SourceVersion {
        version: row.version.to_string(),
        description: row.description.unwrap_or_default(),
        created: row.creation_time.map(|ms| ms.to_string()).unwrap_or_default(),
        source,
        run_id: row.run_id.unwrap_or_default(),
        run_link: row.run_link.unwrap_or_default(),
        stage: row.current_stage.filter(|stage| stage != "None").unwrap_or_default(),
        tags,
        // Where it is is looked up when its turn comes.
        files: if place.is_empty() { Files::None } else { Files::Elsewhere(place) },
        ..SourceVersion::default()
    }
}

/// As messages name it.
async fn schema_version(rows: &Rows) -> String {
    let sql = "SELECT version_num AS place FROM alembic_version";
    let found: Result<Vec<Place>, Failure> = rows.all(sql, Vec::new()).await;
    let found = found.ok().and_then(|rows| rows.into_iter().next()).and_then(|row| row.place);
    found.map(|version| format!(" (schema {version})")).unwrap_or_default()
}
