//! Runs: made, ended, deleted, tagged.

use mlflow_wire::proto::{CreateRun, Run, RunInfo, RunStatus, RunTag, UpdateRun};
use mlflow_wire::{MlflowError, Result, names};
use sea_orm::{DatabaseTransaction, FromQueryResult};
use sql_store::now_micros;
use uuid::Uuid;

use crate::random_name::random_name;
use crate::sql::{execute, one};
use crate::{ACTIVE, DELETED, Scope, Tracking, commit, stage, tags};

/// The tag that is a run's name.
const RUN_NAME: &str = "mlflow.runName";
/// The tag that lists the models that older clients logged.
const LOGGED_MODELS: &str = "mlflow.log-model.history";
pub(crate) const RUN_TAGS: (&str, &str) = ("run_tag", "run_id");

#[derive(Debug, Clone, FromQueryResult)]
pub(crate) struct RunRow {
    pub id: String,
    pub experiment_id: i64,
    pub name: String,
    pub user_id: String,
    pub status: i64,
    pub start_ms: i64,
    pub end_ms: Option<i64>,
    pub lifecycle: i64,
    pub artifact_uri: String,
}

pub(crate) const RUN_COLUMNS: &str = "r.id, r.experiment_id, r.name, r.user_id, r.status, r.start_ms, r.end_ms, \
                                      r.lifecycle, r.artifact_uri";

impl RunRow {
    pub(crate) fn into_info(self) -> RunInfo {
        RunInfo {
            run_id: Some(self.id.clone()),
            run_uuid: Some(self.id),
            run_name: Some(self.name),
            experiment_id: Some(self.experiment_id.to_string()),
            user_id: Some(self.user_id),
            status: i32::try_from(self.status).ok(),
            start_time: Some(self.start_ms),
            end_time: self.end_ms.filter(|end| *end != 0),
            artifact_uri: Some(self.artifact_uri),
            lifecycle_stage: Some(stage(self.lifecycle).to_owned()),
        }
    }
}

fn absent(id: &str) -> MlflowError {
    MlflowError::missing(format!("Run with id={id} not found"))
}

/// Tags as pairs, checked and cut as MLflow cuts them.
fn checked(tags: &[RunTag], path: impl Fn(usize) -> String) -> Result<Vec<(String, String)>> {
    let pairs = tags.iter().enumerate().map(|(index, tag)| {
        names::key(tag.key(), &path(index))?;
        names::length(&path(index), names::KEY_MAX, tag.key())?;
        let value = names::cut(tag.value(), names::RUN_TAG_VALUE_MAX);
        Ok((tag.key().to_owned(), value.to_owned()))
    });
    pairs.collect()
}

impl Tracking {
    /// Makes a run in an active experiment.
    ///
    /// # Errors
    /// `RESOURCE_DOES_NOT_EXIST` for the experiment.
    pub async fn create_run(&self, scope: &Scope, asked: &CreateRun) -> Result<Run> {
        let experiment = self.experiment_row(scope, asked.experiment_id()).await?;
        experiment.must_be_active()?;
        let id = Uuid::new_v4().simple().to_string();
        let mut pairs: Vec<(String, String)> =
            asked.tags.iter().map(|tag| (tag.key().to_owned(), tag.value().to_owned())).collect();
        let name = run_name(asked.run_name(), &mut pairs)?;
        let uri = format!("{}/{id}/artifacts", experiment.location.trim_end_matches('/'));
        let tx = self.begin().await?;
        let sql = "INSERT INTO run (id, namespace_id, experiment_id, name, user_id, status, start_ms, end_ms, \
                   lifecycle, artifact_uri, created_at, revision) \
                   VALUES ($1, $2, $3, $4, $5, $6, $7, NULL, $8, $9, $10, 1)";
        let values = vec![
            id.clone().into(),
            scope.namespace.uuid().into(),
            experiment.id.into(),
            name.into(),
            asked.user_id().into(),
            i64::from(RunStatus::Running as i32).into(),
            asked.start_time().into(),
            ACTIVE.into(),
            uri.into(),
            now_micros().into(),
        ];
        execute(&tx, sql, values).await?;
        tags::set(&tx, RUN_TAGS, &id, &pairs).await?;
        commit(tx).await?;
        // A run that was just made is answered without them, as MLflow does.
        Ok(Run { outputs: None, ..self.get_run(scope, &id).await? })
    }

    /// A run, deleted or not.
    pub(crate) async fn run_row(&self, scope: &Scope, id: &str) -> Result<RunRow> {
        let sql =
            format!("SELECT {RUN_COLUMNS} FROM run r WHERE r.id = $1 AND r.namespace_id = $2");
        let values = vec![id.into(), scope.namespace.uuid().into()];
        one(self.sql.read(), &sql, values).await?.ok_or_else(|| absent(id))
    }

    /// A run with all that was logged to it.
    ///
    /// # Errors
    /// `RESOURCE_DOES_NOT_EXIST`.
    pub async fn get_run(&self, scope: &Scope, id: &str) -> Result<Run> {
        let row = self.run_row(scope, id).await?;
        self.whole_runs(vec![row]).await?.pop().ok_or_else(|| absent(id))
    }

    /// Takes the row of an active run, so that it stays active until the
    /// transaction ends.
    pub(crate) async fn hold_run(
        &self,
        tx: &DatabaseTransaction,
        scope: &Scope,
        id: &str,
    ) -> Result<RunRow> {
        let take = "UPDATE run SET revision = revision + 1 WHERE id = $1 AND namespace_id = $2";
        let values = vec![id.into(), scope.namespace.uuid().into()];
        if execute(tx, take, values).await? == 0 {
            return Err(absent(id));
        }
        let sql = format!("SELECT {RUN_COLUMNS} FROM run r WHERE r.id = $1");
        let row: RunRow = one(tx, &sql, vec![id.into()]).await?.ok_or_else(|| absent(id))?;
        if row.lifecycle == ACTIVE {
            return Ok(row);
        }
        Err(MlflowError::invalid(format!(
            "The run {id} must be in the 'active' state. Current state is deleted."
        )))
    }

    /// Changes a run's status, end or name.
    ///
    /// # Errors
    /// `RESOURCE_DOES_NOT_EXIST`, or a run that is deleted.
    pub async fn update_run(&self, scope: &Scope, asked: &UpdateRun) -> Result<RunInfo> {
        let id = either(asked.run_id(), asked.run_uuid());
        let tx = self.begin().await?;
        let mut row = self.hold_run(&tx, scope, id).await?;
        row.status = asked.status.map_or(row.status, i64::from);
        row.end_ms = asked.end_time.or(row.end_ms);
        if !asked.run_name().is_empty() {
            asked.run_name().clone_into(&mut row.name);
            let pair = (RUN_NAME.to_owned(), row.name.clone());
            tags::set(&tx, RUN_TAGS, id, &[pair]).await?;
        }
        let sql = "UPDATE run SET status = $1, end_ms = $2, name = $3 WHERE id = $4";
        let values = vec![row.status.into(), row.end_ms.into(), row.name.clone().into(), id.into()];
        execute(&tx, sql, values).await?;
        commit(tx).await?;
        Ok(row.into_info())
    }

    /// Deletes a run, or takes it back.
    ///
    /// # Errors
    /// `RESOURCE_DOES_NOT_EXIST`.
    pub async fn set_run_lifecycle(&self, scope: &Scope, id: &str, deleted: bool) -> Result<()> {
        let lifecycle = if deleted { DELETED } else { ACTIVE };
        let tx = self.begin().await?;
        let sql = "UPDATE run SET lifecycle = $1, revision = revision + 1 WHERE id = $2 AND namespace_id = $3";
        let values = vec![lifecycle.into(), id.into(), scope.namespace.uuid().into()];
        if execute(&tx, sql, values).await? == 0 {
            return Err(absent(id));
        }
        commit(tx).await
    }

    /// Sets a tag of an active run; the name's tag renames it.
    ///
    /// # Errors
    /// As the names' rules, `RESOURCE_DOES_NOT_EXIST`.
    pub async fn set_run_tag(&self, scope: &Scope, id: &str, key: &str, value: &str) -> Result<()> {
        let tag = RunTag { key: Some(key.to_owned()), value: Some(value.to_owned()) };
        let pairs = checked(&[tag], |_| "key".to_owned())?;
        let tx = self.begin().await?;
        self.hold_run(&tx, scope, id).await?;
        put_tags(&tx, id, &pairs).await?;
        commit(tx).await
    }

    /// Sets the tags of a batch.
    pub(crate) async fn put_batch_tags(
        &self,
        tx: &DatabaseTransaction,
        id: &str,
        tags: &[RunTag],
    ) -> Result<()> {
        let pairs = checked(tags, |index| format!("tags[{index}].key"))?;
        put_tags(tx, id, &pairs).await
    }

    /// Removes a tag of an active run.
    ///
    /// # Errors
    /// `RESOURCE_DOES_NOT_EXIST`.
    pub async fn delete_run_tag(&self, scope: &Scope, id: &str, key: &str) -> Result<()> {
        let tx = self.begin().await?;
        self.hold_run(&tx, scope, id).await?;
        if !tags::remove(&tx, RUN_TAGS, id, key).await? {
            return Err(MlflowError::missing(format!(
                "No tag with name: {key} in run with id {id}"
            )));
        }
        commit(tx).await
    }

    /// Notes a model that an older client logged, in the run's own tag.
    ///
    /// # Errors
    /// A model that is no JSON or lacks a field.
    pub async fn log_model(&self, scope: &Scope, id: &str, model_json: &str) -> Result<()> {
        let model: serde_json::Value = serde_json::from_str(model_json).map_err(|_| {
            MlflowError::invalid(format!(
                "Malformed model info. \n {model_json} \n is not a valid JSON."
            ))
        })?;
        let missing: Vec<&str> = ["artifact_path", "flavors", "run_id", "utc_time_created"]
            .into_iter()
            .filter(|field| model.get(field).is_none())
            .collect();
        if !missing.is_empty() {
            return Err(MlflowError::invalid(format!(
                "Model json is missing mandatory fields: {{'{}'}}",
                missing.join("', '")
            )));
        }
        let tx = self.begin().await?;
        self.hold_run(&tx, scope, id).await?;
        let before = crate::sql::texts_of(&tx, "run_tag", "run_id", &[id.to_owned()]).await?;
        let before = before.into_values().flatten().find(|(key, _)| key == LOGGED_MODELS);
        let mut all: Vec<serde_json::Value> =
            before.and_then(|(_, value)| serde_json::from_str(&value).ok()).unwrap_or_default();
        all.push(model);
        let value = serde_json::Value::from(all).to_string();
        names::length("value", names::RUN_TAG_VALUE_MAX, &value)?;
        put_tags(&tx, id, &[(LOGGED_MODELS.to_owned(), value)]).await?;
        commit(tx).await
    }
}

/// The first that is not empty: runs have an old name for their id.
#[must_use]
pub(crate) fn either<'a>(id: &'a str, old: &'a str) -> &'a str {
    if id.is_empty() { old } else { id }
}

async fn put_tags(tx: &DatabaseTransaction, id: &str, pairs: &[(String, String)]) -> Result<()> {
    tags::set(tx, RUN_TAGS, id, pairs).await?;
    let name = pairs.iter().rev().find(|(key, _)| key == RUN_NAME);
    if let Some((_, name)) = name.filter(|(_, name)| !name.is_empty()) {
        let sql = "UPDATE run SET name = $1 WHERE id = $2";
        execute(tx, sql, vec![name.clone().into(), id.into()]).await?;
    }
    Ok(())
}

/// The name that a new run gets, which is one of its tags too.
fn run_name(asked: &str, pairs: &mut Vec<(String, String)>) -> Result<String> {
    let tagged = pairs.iter().find(|(key, _)| key == RUN_NAME).map(|(_, value)| value.clone());
    if let Some(tagged) = &tagged
        && !asked.is_empty()
        && !tagged.is_empty()
        && tagged != asked
    {
        return Err(MlflowError::invalid(format!(
            "Both 'run_name' argument and 'mlflow.runName' tag are specified, but with different values \
             (run_name='{asked}', mlflow.runName='{tagged}')."
        )));
    }
    let name = [asked, tagged.as_deref().unwrap_or_default()]
        .into_iter()
        .find(|name| !name.is_empty())
        .map_or_else(random_name, str::to_owned);
    if tagged.is_none() {
        pairs.push((RUN_NAME.to_owned(), name.clone()));
    }
    Ok(name)
}
