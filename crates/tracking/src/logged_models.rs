//! Logged models: what a run made, before anybody registers it.

use std::collections::HashMap;

use mlflow_wire::proto::{
    CreateLoggedModel, LoggedModel, LoggedModelData, LoggedModelInfo, LoggedModelParameter,
    LoggedModelRegistrationInfo, LoggedModelStatus, LoggedModelTag,
};
use mlflow_wire::{MlflowError, Result, names};
use sea_orm::{DatabaseTransaction, FromQueryResult};
use sql_store::{is_unique_violation, now_micros};
use uuid::Uuid;

use crate::random_name::random_name;
use crate::sql::{Values, all, execute, head, one, texts_of, try_execute};
use crate::{ACTIVE, DELETED, Scope, Tracking, commit, tags};

pub(crate) const MODEL_TAGS: (&str, &str) = ("logged_model_tag", "model_id");
pub(crate) const MODEL_PARAMS: (&str, &str) = ("logged_model_param", "model_id");
pub(crate) const MODEL_COLUMNS: &str = "l.id, l.experiment_id, l.name, l.artifact_uri, l.status, l.model_type, \
                                        l.source_run_id, l.created_at, l.updated_at";

#[derive(Debug, FromQueryResult)]
pub(crate) struct ModelRow {
    pub id: String,
    experiment_id: i64,
    name: String,
    artifact_uri: String,
    status: i64,
    model_type: String,
    source_run_id: String,
    created_at: i64,
    updated_at: i64,
}

#[derive(Debug, FromQueryResult)]
struct RegistrationRow {
    model_id: String,
    name: String,
    version: i64,
}

impl ModelRow {
    fn into_info(self) -> LoggedModelInfo {
        LoggedModelInfo {
            model_id: Some(self.id),
            experiment_id: Some(self.experiment_id.to_string()),
            name: Some(self.name),
            creation_timestamp_ms: Some(self.created_at / 1_000),
            last_updated_timestamp_ms: Some(self.updated_at / 1_000),
            artifact_uri: Some(self.artifact_uri),
            status: i32::try_from(self.status).ok(),
            model_type: Some(self.model_type),
            source_run_id: Some(self.source_run_id),
            ..LoggedModelInfo::default()
        }
    }
}

fn absent(id: &str) -> MlflowError {
    MlflowError::missing(format!("Logged model with ID '{id}' not found."))
}

fn check_name(name: &str) -> Result<()> {
    if name.contains(['/', ':', '.', '%', '"', '\'']) {
        return Err(MlflowError::invalid(format!(
            "Invalid model name ('{name}') provided. Model name must be a non-empty string and cannot contain the \
             following characters: ('/', ':', '.', '%', '\"', \"'\")"
        )));
    }
    Ok(())
}

fn pairs(params: &[LoggedModelParameter]) -> Vec<(String, String)> {
    params.iter().map(|param| (param.key().to_owned(), param.value().to_owned())).collect()
}

fn tag_pairs(tags: &[LoggedModelTag]) -> Vec<(String, String)> {
    tags.iter().map(|tag| (tag.key().to_owned(), tag.value().to_owned())).collect()
}

impl Tracking {
    /// Makes a logged model, pending until it is finalized.
    ///
    /// # Errors
    /// `RESOURCE_DOES_NOT_EXIST` for the experiment; a name that is none.
    pub async fn create_logged_model(
        &self,
        scope: &Scope,
        asked: &CreateLoggedModel,
    ) -> Result<LoggedModel> {
        check_name(asked.name())?;
        let experiment = self.experiment_row(scope, asked.experiment_id()).await?;
        experiment.must_be_active()?;
        let id = format!("m-{}", Uuid::new_v4().simple());
        let name = if asked.name().is_empty() { random_name() } else { asked.name().to_owned() };
        let root = experiment.location.trim_end_matches('/');
        let tx = self.begin().await?;
        let sql = "INSERT INTO logged_model (id, namespace_id, experiment_id, name, artifact_uri, status, model_type, \
                   source_run_id, lifecycle, created_at, updated_at, revision) \
                   VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $10, 1)";
        let values = vec![
            id.clone().into(),
            scope.namespace.uuid().into(),
            experiment.id.into(),
            name.into(),
            format!("{root}/models/{id}/artifacts").into(),
            i64::from(LoggedModelStatus::LoggedModelPending as i32).into(),
            asked.model_type().into(),
            asked.source_run_id().into(),
            ACTIVE.into(),
            now_micros().into(),
        ];
        execute(&tx, sql, values).await?;
        tags::set(&tx, MODEL_PARAMS, &id, &pairs(&asked.params)).await?;
        tags::set(&tx, MODEL_TAGS, &id, &tag_pairs(&asked.tags)).await?;
        commit(tx).await?;
        self.get_logged_model(scope, &id, false).await
    }

    /// A logged model.
    ///
    /// # Errors
    /// `RESOURCE_DOES_NOT_EXIST`, also for a deleted one unless it is asked for.
    pub async fn get_logged_model(
        &self,
        scope: &Scope,
        id: &str,
        also_deleted: bool,
    ) -> Result<LoggedModel> {
        let row = self.logged_model_row(scope, id, also_deleted).await?;
        self.whole_models(vec![row]).await?.pop().ok_or_else(|| absent(id))
    }

    async fn logged_model_row(
        &self,
        scope: &Scope,
        id: &str,
        also_deleted: bool,
    ) -> Result<ModelRow> {
        let lifecycle = if also_deleted { "" } else { " AND l.lifecycle = 1" };
        let sql = format!(
            "SELECT {MODEL_COLUMNS} FROM logged_model l WHERE l.id = $1 AND l.namespace_id = $2{lifecycle}"
        );
        let values = vec![id.into(), scope.namespace.uuid().into()];
        one(self.sql.read(), &sql, values).await?.ok_or_else(|| absent(id))
    }

    /// Sets columns of a logged model, deleted or not, in a transaction.
    pub(crate) async fn hold_model(
        &self,
        tx: &DatabaseTransaction,
        scope: &Scope,
        id: &str,
        set: &str,
        mut more: Vec<sea_orm::Value>,
    ) -> Result<()> {
        let sql = format!(
            "UPDATE logged_model SET revision = revision + 1{set} WHERE id = $1 AND namespace_id = $2"
        );
        let mut values = vec![id.into(), scope.namespace.uuid().into()];
        values.append(&mut more);
        if execute(tx, &sql, values).await? == 0 {
            return Err(absent(id));
        }
        Ok(())
    }

    /// Ends a logged model's upload, well or not.
    ///
    /// # Errors
    /// `RESOURCE_DOES_NOT_EXIST`.
    pub async fn finalize_logged_model(
        &self,
        scope: &Scope,
        id: &str,
        status: i32,
    ) -> Result<LoggedModel> {
        let tx = self.begin().await?;
        let more = vec![i64::from(status).into(), now_micros().into()];
        self.hold_model(&tx, scope, id, ", status = $3, updated_at = $4", more).await?;
        commit(tx).await?;
        self.get_logged_model(scope, id, true).await
    }

    /// Deletes a logged model; its row stays.
    ///
    /// # Errors
    /// `RESOURCE_DOES_NOT_EXIST`.
    pub async fn delete_logged_model(&self, scope: &Scope, id: &str) -> Result<()> {
        let tx = self.begin().await?;
        let more = vec![DELETED.into(), now_micros().into()];
        self.hold_model(&tx, scope, id, ", lifecycle = $3, updated_at = $4", more).await?;
        commit(tx).await
    }

    /// Sets tags of a logged model.
    ///
    /// # Errors
    /// `RESOURCE_DOES_NOT_EXIST`.
    pub async fn set_logged_model_tags(
        &self,
        scope: &Scope,
        id: &str,
        tags: &[LoggedModelTag],
    ) -> Result<()> {
        let tx = self.begin().await?;
        self.hold_model(&tx, scope, id, "", Vec::new()).await?;
        tags::set(&tx, MODEL_TAGS, id, &tag_pairs(tags)).await?;
        commit(tx).await
    }

    /// Removes a tag of a logged model.
    ///
    /// # Errors
    /// `RESOURCE_DOES_NOT_EXIST`, also for the tag.
    pub async fn delete_logged_model_tag(&self, scope: &Scope, id: &str, key: &str) -> Result<()> {
        let tx = self.begin().await?;
        self.hold_model(&tx, scope, id, "", Vec::new()).await?;
        if !tags::remove(&tx, MODEL_TAGS, id, key).await? {
            return Err(MlflowError::missing(format!(
                "No tag with key '{key}' found for model with ID '{id}'."
            )));
        }
        commit(tx).await
    }

    /// Adds parameters to a logged model, once each.
    ///
    /// # Errors
    /// `RESOURCE_DOES_NOT_EXIST`; a key that has a value.
    pub async fn log_logged_model_params(
        &self,
        scope: &Scope,
        id: &str,
        params: &[LoggedModelParameter],
    ) -> Result<()> {
        let tx = self.begin().await?;
        self.hold_model(&tx, scope, id, "", Vec::new()).await?;
        for (key, value) in pairs(params) {
            names::length("Param key", names::KEY_MAX, &key)?;
            let sql = "INSERT INTO logged_model_param (model_id, key, value, head) VALUES ($1, $2, $3, $4)";
            let head = head(&value);
            let values = vec![id.into(), key.clone().into(), value.into(), head.into()];
            try_execute(&tx, sql, values).await.map_err(|error| {
                if is_unique_violation(&error) {
                    MlflowError::invalid(format!(
                        "Changing param values is not allowed. Param with key='{key}' was already logged for model \
                         ID='{id}'."
                    ))
                } else {
                    sql_store::db_error(error).into()
                }
            })?;
        }
        commit(tx).await
    }

    /// Notes that a version was registered from a logged model.
    ///
    /// # Errors
    /// `RESOURCE_DOES_NOT_EXIST`.
    pub async fn registered(
        &self,
        scope: &Scope,
        id: &str,
        model: &str,
        version: i64,
    ) -> Result<()> {
        let tx = self.begin().await?;
        self.hold_model(&tx, scope, id, "", Vec::new()).await?;
        let sql = "INSERT INTO logged_model_registration (model_id, name, version) VALUES ($1, $2, $3) \
                   ON CONFLICT DO NOTHING";
        execute(&tx, sql, vec![id.into(), model.into(), version.into()]).await?;
        // What MLflow's own server keeps in a tag.
        let all = self.registrations(&tx, &[id.to_owned()]).await?;
        let shown: Vec<serde_json::Value> = all
            .into_values()
            .flatten()
            .map(|it| serde_json::json!({ "name": it.name, "version": it.version }))
            .collect();
        let value = serde_json::Value::from(shown).to_string();
        tags::set(&tx, MODEL_TAGS, id, &[("mlflow.modelVersions".to_owned(), value)]).await?;
        commit(tx).await
    }

    async fn registrations<C: sea_orm::ConnectionTrait>(
        &self,
        db: &C,
        ids: &[String],
    ) -> Result<HashMap<String, Vec<LoggedModelRegistrationInfo>>> {
        let mut values = Values::default();
        let list = values.list(ids.iter().cloned());
        let sql = format!(
            "SELECT model_id, name, version FROM logged_model_registration WHERE model_id IN ({list}) \
             ORDER BY model_id, name, version"
        );
        let mut found: HashMap<String, Vec<LoggedModelRegistrationInfo>> = HashMap::new();
        for row in all::<RegistrationRow, _>(db, &sql, values.all).await? {
            let info = LoggedModelRegistrationInfo {
                name: Some(row.name),
                version: Some(row.version.to_string()),
            };
            found.entry(row.model_id).or_default().push(info);
        }
        Ok(found)
    }

    /// Logged models with what was logged to them.
    pub(crate) async fn whole_models(&self, rows: Vec<ModelRow>) -> Result<Vec<LoggedModel>> {
        let ids: Vec<String> = rows.iter().map(|row| row.id.clone()).collect();
        let db = self.sql.read();
        let mut tags = texts_of(db, "logged_model_tag", "model_id", &ids).await?;
        let mut params = texts_of(db, "logged_model_param", "model_id", &ids).await?;
        let mut metrics = self.model_metrics(&ids).await?;
        let models = rows.into_iter().map(|row| {
            let id = row.id.clone();
            let mut info = row.into_info();
            let tags = tags.remove(&id).unwrap_or_default().into_iter();
            info.tags = tags
                .map(|(key, value)| LoggedModelTag { key: Some(key), value: Some(value) })
                .collect();
            let params = params.remove(&id).unwrap_or_default().into_iter();
            let params = params
                .map(|(key, value)| LoggedModelParameter { key: Some(key), value: Some(value) })
                .collect();
            let data = LoggedModelData { params, metrics: metrics.remove(&id).unwrap_or_default() };
            LoggedModel { info: Some(info), data: Some(data) }
        });
        Ok(models.collect())
    }
}
