//! Rows of deployments, and of what versions were made from.

use ids::{DeploymentId, Id, ModelId, ModelVersionId, PrincipalId};
use sea_orm::FromQueryResult;
use service_error::ServiceError;
use sql_store::{db_error, now_micros};
use uuid::Uuid;

use super::data::{INPUT_DATASET, INPUT_MODEL, put_inputs};
use super::models::lock_model;
use super::rows::into_versions;
use super::sql::{Values, all, execute, one};
use super::whole::{Listed, whole};
use super::{Store, VisibleRows, events, tags};
use crate::model::{
    BaseModel, Change, DatasetVersion, Deployment, DeploymentState, EventKind, ModelVersion,
};

const COLUMNS: &str = "d.id, m.namespace, m.name AS model, d.number, d.environment, d.name, \
    d.state, d.endpoint, d.replicas, d.ready_replicas, d.message, d.created_at, d.updated_at, \
    d.created_by";

#[derive(Debug, FromQueryResult)]
struct Row {
    id: Uuid,
    namespace: String,
    model: String,
    number: i64,
    environment: String,
    name: String,
    state: i16,
    endpoint: String,
    replicas: i64,
    ready_replicas: i64,
    message: String,
    created_at: i64,
    updated_at: i64,
    created_by: Uuid,
}

impl Row {
    fn into_deployment(self) -> Result<Deployment, ServiceError> {
        let state = DeploymentState::of(self.state)
            .ok_or_else(|| ServiceError::internal("an unknown state of a deployment is stored"))?;
        Ok(Deployment {
            id: Id::from_uuid(self.id),
            namespace: self.namespace,
            model: self.model,
            number: self.number,
            environment: self.environment,
            name: self.name,
            state,
            endpoint: self.endpoint,
            replicas: self.replicas,
            ready_replicas: self.ready_replicas,
            message: self.message,
            created_at: self.created_at,
            updated_at: self.updated_at,
            created_by: Id::from_uuid(self.created_by),
        })
    }
}

/// How many deployments are in a state.
#[derive(Debug, Clone, PartialEq, Eq, FromQueryResult)]
pub struct DeploymentCount {
    pub environment: String,
    pub state: i16,
    pub count: i64,
}

/// Which deployments a list answers.
#[derive(Debug, Clone, Default)]
pub struct DeploymentPage {
    pub namespace: Option<ids::NamespaceId>,
    pub model: Option<ModelId>,
    /// Empty: of all.
    pub environment: String,
    pub after: Option<(String, String, Uuid)>,
    pub limit: u32,
}

/// What a version was made from, or what was made from it.
#[derive(Debug, Clone, PartialEq, Eq, FromQueryResult)]
pub struct InputRow {
    pub version_id: Uuid,
    pub source_id: Uuid,
    pub source_version: i64,
    pub source_name: String,
    pub context: String,
    pub at: i64,
}

impl Store {
    /// Records where a version runs.
    ///
    /// # Errors
    /// `NotFound` if the model is gone.
    pub async fn put_deployment(
        &self,
        model: ModelId,
        put: &Deployment,
        actor: PrincipalId,
    ) -> Result<(), ServiceError> {
        let tx = self.sql.begin().await?;
        let place = lock_model(&tx, model).await?;
        let now = now_micros();
        let sql = "UPDATE deployment SET number = $1, state = $2, endpoint = $3, replicas = $4, \
                   ready_replicas = $5, message = $6, updated_at = $7, revision = revision + 1 \
                   WHERE model_id = $8 AND environment = $9 AND name = $10 AND deleted_at IS NULL";
        let values = [
            put.number.into(),
            (put.state as i16).into(),
            put.endpoint.clone().into(),
            put.replicas.into(),
            put.ready_replicas.into(),
            put.message.clone().into(),
            now.into(),
            model.uuid().into(),
            put.environment.clone().into(),
            put.name.clone().into(),
        ];
        if execute(&tx, sql, values.clone()).await? == 0 {
            let sql = "INSERT INTO deployment (number, state, endpoint, replicas, ready_replicas, \
                       message, created_at, updated_at, model_id, environment, name, id, \
                       created_by, revision) \
                       VALUES ($1, $2, $3, $4, $5, $6, $7, $7, $8, $9, $10, $11, $12, 1)";
            let own = [DeploymentId::new().uuid().into(), actor.uuid().into()];
            execute(&tx, sql, values.into_iter().chain(own)).await?;
        }
        let change = Change::of_version(EventKind::DeploymentChanged, put.number)
            .about(format!("{}/{}", put.environment, put.name))
            .values("", &format!("{:?}", put.state).to_lowercase());
        events::append(&tx, &place, change, actor).await?;
        tx.commit().await.map_err(db_error)
    }

    /// A deployment of a model.
    ///
    /// # Errors
    /// The database's.
    pub async fn deployment(
        &self,
        model: ModelId,
        environment: &str,
        name: &str,
    ) -> Result<Option<Deployment>, ServiceError> {
        let sql = format!(
            "SELECT {COLUMNS} FROM deployment d JOIN model m ON m.id = d.model_id \
             WHERE d.model_id = $1 AND d.environment = $2 AND d.name = $3 AND d.deleted_at IS NULL"
        );
        let values = [model.uuid().into(), environment.into(), name.into()];
        let row: Option<Row> = one(self.read(), &sql, values).await?;
        row.map(Row::into_deployment).transpose()
    }

    /// Removes the record of a deployment; answers whether it was there.
    ///
    /// # Errors
    /// `NotFound` if the model is gone.
    pub async fn delete_deployment(
        &self,
        model: ModelId,
        environment: &str,
        name: &str,
        actor: PrincipalId,
    ) -> Result<bool, ServiceError> {
        let tx = self.sql.begin().await?;
        let place = lock_model(&tx, model).await?;
        let sql = "UPDATE deployment SET deleted_at = $1 \
                   WHERE model_id = $2 AND environment = $3 AND name = $4 AND deleted_at IS NULL";
        let values = [now_micros().into(), model.uuid().into(), environment.into(), name.into()];
        let there = execute(&tx, sql, values).await? > 0;
        if there {
            let change = Change::of_model(EventKind::DeploymentDeleted)
                .about(format!("{environment}/{name}"));
            events::append(&tx, &place, change, actor).await?;
        }
        tx.commit().await.map_err(db_error)?;
        Ok(there)
    }

    /// Deployments that a caller may see, a page of them, and how many are in
    /// which state over all pages.
    ///
    /// # Errors
    /// The database's.
    pub async fn deployments(
        &self,
        visible: &VisibleRows,
        page: &DeploymentPage,
    ) -> Result<(Vec<Deployment>, Vec<DeploymentCount>), ServiceError> {
        let mut values = Values::new(self.sql.backend());
        let mut conditions = vec![
            visible.condition(&mut values),
            "m.deleted_at IS NULL AND d.deleted_at IS NULL".to_owned(),
        ];
        if let Some(namespace) = page.namespace {
            conditions.push(format!("m.namespace_id = {}", values.add(namespace.uuid())));
        }
        if let Some(model) = page.model {
            conditions.push(format!("d.model_id = {}", values.add(model.uuid())));
        }
        if !page.environment.is_empty() {
            conditions.push(format!("d.environment = {}", values.add(page.environment.clone())));
        }
        let from = "FROM deployment d JOIN model m ON m.id = d.model_id WHERE";
        let all_of = conditions.join(" AND ");
        let sql = format!(
            "SELECT d.environment, d.state, COUNT(*) AS count {from} {all_of} \
             GROUP BY d.environment, d.state ORDER BY d.environment, d.state"
        );
        let counts = all(self.read(), &sql, values.all.clone()).await?;
        if let Some((environment, name, id)) = &page.after {
            let environment = values.add(environment.clone());
            let name = values.add(name.clone());
            let id = values.add(*id);
            conditions
                .push(format!("(d.environment, d.name, d.id) > ({environment}, {name}, {id})"));
        }
        let limit = values.add(i64::from(page.limit));
        let sql = format!(
            "SELECT {COLUMNS} {from} {} ORDER BY d.environment, d.name, d.id LIMIT {limit}",
            conditions.join(" AND ")
        );
        let rows: Vec<Row> = all(self.read(), &sql, values.all).await?;
        let found = rows.into_iter().map(Row::into_deployment).collect::<Result<_, _>>()?;
        Ok((found, counts))
    }

    /// Adds what a version was made from.
    ///
    /// # Errors
    /// `NotFound` if the version is gone.
    pub async fn add_inputs(
        &self,
        version: &ModelVersion,
        datasets: &[DatasetVersion],
        models: &[BaseModel],
        actor: PrincipalId,
    ) -> Result<(), ServiceError> {
        let tx = self.sql.begin().await?;
        let place = lock_model(&tx, version.model_id).await?;
        tags::touch(&tx, version).await?;
        put_inputs(&tx, version.id, datasets, models).await?;
        let named = datasets
            .iter()
            .map(|d| format!("{}@{}", d.name, d.version))
            .chain(models.iter().map(|m| format!("{}@{}", m.name, m.version)));
        let said = named.collect::<Vec<_>>().join(", ");
        let change = Change::of_version(EventKind::LineageAdded, version.number).values("", &said);
        events::append(&tx, &place, change, actor).await?;
        tx.commit().await.map_err(db_error)
    }

    /// What a version was made from: datasets, and models.
    ///
    /// # Errors
    /// The database's.
    pub async fn inputs(
        &self,
        version: ModelVersionId,
    ) -> Result<(Vec<InputRow>, Vec<InputRow>), ServiceError> {
        let sql = "SELECT version_id, source_id, source_version, source_name, context, at \
                   FROM lineage WHERE version_id = $1 AND kind = $2 ORDER BY source_name, source_version";
        let of = version.uuid();
        let datasets = all(self.read(), sql, [of.into(), INPUT_DATASET.into()]).await?;
        let models = all(self.read(), sql, [of.into(), INPUT_MODEL.into()]).await?;
        Ok((datasets, models))
    }

    /// Rows of what was made from a dataset (version 0: from any version).
    ///
    /// # Errors
    /// The database's.
    pub async fn made_from_dataset(
        &self,
        dataset: Uuid,
        version: i64,
        limit: u32,
    ) -> Result<Vec<InputRow>, ServiceError> {
        self.made_from(INPUT_DATASET, dataset, version, limit).await
    }

    /// Rows of what was made from a version of a model.
    ///
    /// # Errors
    /// The database's.
    pub async fn made_from_model(
        &self,
        model: Uuid,
        version: i64,
        limit: u32,
    ) -> Result<Vec<InputRow>, ServiceError> {
        self.made_from(INPUT_MODEL, model, version, limit).await
    }

    async fn made_from(
        &self,
        kind: i16,
        source: Uuid,
        version: i64,
        limit: u32,
    ) -> Result<Vec<InputRow>, ServiceError> {
        let sql = "SELECT version_id, source_id, source_version, source_name, context, at \
                   FROM lineage WHERE kind = $1 AND source_id = $2 AND ($3 = 0 OR source_version = $3) \
                   ORDER BY version_id LIMIT $4";
        let values = [kind.into(), source.into(), version.into(), i64::from(limit).into()];
        all(self.read(), sql, values).await
    }

    /// Live versions of these ids that a caller may see.
    ///
    /// # Errors
    /// The database's.
    pub async fn versions_by_id(
        &self,
        visible: &VisibleRows,
        ids: &[Uuid],
    ) -> Result<Vec<ModelVersion>, ServiceError> {
        let mut values = Values::new(self.sql.backend());
        let of_these = values.is_one_of("v.id", ids.iter().copied());
        let seen = visible.condition(&mut values);
        let listed = Listed {
            shape: &whole(self.sql.backend()).version,
            page: format!(
                "SELECT v.id AS id, m.namespace AS k0, m.name AS k1, v.number AS k2 FROM version v \
                 JOIN model m ON m.id = v.model_id WHERE {of_these} AND {seen} \
                 AND v.deleted_at IS NULL AND m.deleted_at IS NULL"
            ),
            descending: vec![false; 3],
            rows_max: u32::try_from(ids.len()).unwrap_or(u32::MAX),
        };
        into_versions(self.list_whole(&listed, values.all).await?)
    }
}
