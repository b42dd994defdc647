//! Rows of models.

use ids::{Id, ModelId, NamespaceId, PrincipalId};
use model_query::Expr;
use sea_orm::{ConnectionTrait, DatabaseTransaction, FromQueryResult};
use service_error::ServiceError;
use sql_store::{db_error, is_unique_violation, now_micros};
use uuid::Uuid;

use super::events::{self, Place};
use super::rows::{IdRow, ModelRow, into_whole_model};
use super::sql::{Values, all, execute, execute_or, number, one};
use super::whole::{Listed, whole};
use super::{OutboxEvent, Store, VisibleRows, outbox, search, tags};
use crate::model::{Change, EventKind, Model, ModelVersion, Statistics};

/// How a list of models is ordered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ModelOrder {
    /// Namespace and name.
    #[default]
    Name,
    Created,
    Updated,
}

/// Which models a search answers. A key is that of the last one before: the
/// ordered column's text or number, and the id.
#[derive(Debug, Clone, Default)]
pub struct ModelPage<'a> {
    pub namespace: Option<NamespaceId>,
    pub filter: Option<&'a Expr>,
    pub order: ModelOrder,
    pub descending: bool,
    /// The trash instead of what is live.
    pub deleted: bool,
    pub after: Option<(String, i64, Uuid)>,
    pub limit: u32,
}

/// A live model by its namespace and name.
pub(super) const OF_NAME: &str = "m.namespace_id = $1 AND m.name = $2 AND m.deleted_at IS NULL";

#[derive(Debug, FromQueryResult)]
struct Totals {
    models: i64,
    versions: Option<i64>,
    bytes: Option<i64>,
}

impl Store {
    /// Makes a model; answers what identity must learn.
    ///
    /// # Errors
    /// `AlreadyExists`.
    pub async fn create_model(&self, model: &Model) -> Result<OutboxEvent, ServiceError> {
        let tx = self.sql.begin().await?;
        let event = insert_model(&tx, model).await?;
        tx.commit().await.map_err(db_error)?;
        Ok(event)
    }

    /// The live model of a name in a namespace.
    ///
    /// # Errors
    /// The database's.
    pub async fn find_model(
        &self,
        namespace: NamespaceId,
        name: &str,
    ) -> Result<Option<Model>, ServiceError> {
        self.model_where(OF_NAME, vec![namespace.uuid().into(), name.into()]).await
    }

    /// The same with the newest version of each stage, the newest first.
    ///
    /// # Errors
    /// The database's.
    pub async fn find_model_with_latest(
        &self,
        namespace: NamespaceId,
        name: &str,
    ) -> Result<Option<(Model, Vec<ModelVersion>)>, ServiceError> {
        let json = &whole(self.sql.backend()).model_with_latest.json;
        let from = format!("model m WHERE {OF_NAME}");
        let values = vec![namespace.uuid().into(), name.into()];
        let found = self.find_whole(json, &from, values).await?;
        found.map(into_whole_model).transpose()
    }

    /// A model by its id, live or deleted.
    ///
    /// # Errors
    /// The database's.
    pub async fn find_model_by_id(&self, id: ModelId) -> Result<Option<Model>, ServiceError> {
        self.model_where("m.id = $1", vec![id.uuid().into()]).await
    }

    async fn model_where(
        &self,
        condition: &str,
        values: Vec<sea_orm::Value>,
    ) -> Result<Option<Model>, ServiceError> {
        let json = &whole(self.sql.backend()).model.json;
        let found = self.find_whole(json, &format!("model m WHERE {condition}"), values).await?;
        Ok(found.map(ModelRow::into_model))
    }

    /// Models that a caller may see and that pass a filter, a page of them.
    ///
    /// # Errors
    /// The database's.
    pub async fn search_models(
        &self,
        visible: &VisibleRows,
        page: &ModelPage<'_>,
    ) -> Result<Vec<Model>, ServiceError> {
        let mut values = Values::new(self.sql.backend());
        let mut conditions = vec![visible.condition(&mut values)];
        conditions.push(format!("m.deleted_at IS {}NULL", if page.deleted { "NOT " } else { "" }));
        if let Some(namespace) = page.namespace {
            let id = values.add(namespace.uuid());
            conditions.push(format!("m.namespace_id = {id}"));
        }
        if let Some(filter) = page.filter {
            conditions.push(search::models(filter, &mut values));
        }
        let (columns, key) = match page.order {
            ModelOrder::Name => (vec!["m.namespace", "m.name", "m.id"], None),
            ModelOrder::Created => (vec!["m.created_at", "m.id"], Some("m.created_at")),
            ModelOrder::Updated => (vec!["m.updated_at", "m.id"], Some("m.updated_at")),
        };
        if let Some((text, number, id)) = &page.after {
            let sign = if page.descending { "<" } else { ">" };
            let mut last = match key {
                None => {
                    // The names cannot hold the character between.
                    let (namespace, name) = text.split_once('/').unwrap_or(("", text));
                    vec![values.add(namespace), values.add(name)]
                }
                Some(_) => vec![values.add(*number)],
            };
            last.push(values.add(*id));
            conditions.push(format!("({}) {sign} ({})", columns.join(", "), last.join(", ")));
        }
        let direction = if page.descending { " DESC" } else { "" };
        let order: Vec<String> =
            columns.iter().map(|column| format!("{column}{direction}")).collect();
        let limit = values.add(i64::from(page.limit));
        let keys = columns.iter().enumerate().map(|(at, column)| format!(", {column} AS k{at}"));
        let sql = format!(
            "SELECT m.id AS id{} FROM model m WHERE {} ORDER BY {} LIMIT {limit}",
            keys.collect::<String>(),
            conditions.join(" AND "),
            order.join(", ")
        );
        let listed = Listed {
            shape: &whole(self.sql.backend()).model,
            page: sql,
            descending: vec![page.descending; columns.len()],
            rows_max: page.limit,
        };
        let rows: Vec<ModelRow> = self.list_whole(&listed, values.all).await?;
        Ok(rows.into_iter().map(ModelRow::into_model).collect())
    }

    /// Changes a model's description, its name, or both.
    ///
    /// # Errors
    /// `NotFound`, `AlreadyExists` for the new name.
    pub async fn update_model(
        &self,
        model: &Model,
        description: Option<&str>,
        name: Option<&str>,
        actor: PrincipalId,
    ) -> Result<(), ServiceError> {
        let tx = self.sql.begin().await?;
        let place = lock_model(&tx, model.id).await?;
        let mut changes = Vec::new();
        if let Some(description) = description {
            let sql = "UPDATE model SET description = $1 WHERE id = $2";
            execute(&tx, sql, [description.into(), model.id.uuid().into()]).await?;
            changes.push(
                Change::of_model(EventKind::ModelUpdated)
                    .about("description")
                    .values(&model.description, description),
            );
        }
        if let Some(name) = name.filter(|name| **name != place.model) {
            let sql = "UPDATE model SET name = $1 WHERE id = $2";
            let values = [name.into(), model.id.uuid().into()];
            execute_or(&tx, sql, values, |error| taken(error, &place.namespace, name)).await?;
            // A version tells its model's name: as in MLflow, it was changed with it.
            let sql =
                "UPDATE version SET updated_at = $1 WHERE model_id = $2 AND deleted_at IS NULL";
            execute(&tx, sql, [now_micros().into(), model.id.uuid().into()]).await?;
            changes.push(Change::of_model(EventKind::ModelRenamed).values(&place.model, name));
        }
        for change in changes {
            events::append(&tx, &place, change, actor).await?;
        }
        tx.commit().await.map_err(db_error)
    }

    /// Puts a model into the trash; its name is free at once.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn delete_model(
        &self,
        id: ModelId,
        actor: PrincipalId,
    ) -> Result<OutboxEvent, ServiceError> {
        let tx = self.sql.begin().await?;
        let place = lock_model(&tx, id).await?;
        let sql = "UPDATE model SET deleted_at = $1 WHERE id = $2";
        execute(&tx, sql, [now_micros().into(), id.uuid().into()]).await?;
        // In the trash it lies in no namespace, and keeps its grants.
        let nowhere = NamespaceId::from_uuid(Uuid::nil());
        let told = outbox::append(&tx, id, nowhere, Some(actor)).await?;
        events::append(&tx, &place, Change::of_model(EventKind::ModelDeleted), actor).await?;
        tx.commit().await.map_err(db_error)?;
        Ok(told)
    }

    /// Takes a model out of the trash.
    ///
    /// # Errors
    /// `NotFound` if it is not in it, `AlreadyExists` if its name was taken.
    pub async fn restore_model(
        &self,
        model: &Model,
        actor: PrincipalId,
    ) -> Result<OutboxEvent, ServiceError> {
        let tx = self.sql.begin().await?;
        let sql = "UPDATE model SET deleted_at = NULL, updated_at = $1, revision = revision + 1 \
                   WHERE id = $2 AND deleted_at IS NOT NULL";
        let values = [now_micros().into(), model.id.uuid().into()];
        let failed = |error| taken(error, &model.namespace, &model.name);
        if execute_or(&tx, sql, values, failed).await? == 0 {
            return Err(ServiceError::not_found("deleted model", model.id));
        }
        let place = place_of(model);
        let told = outbox::append(&tx, model.id, model.namespace_id, Some(actor)).await?;
        events::append(&tx, &place, Change::of_model(EventKind::ModelRestored), actor).await?;
        tx.commit().await.map_err(db_error)?;
        Ok(told)
    }

    /// Live models of a namespace, at most `limit`.
    ///
    /// # Errors
    /// The database's.
    pub async fn models_in(
        &self,
        namespace: NamespaceId,
        limit: u32,
    ) -> Result<Vec<ModelId>, ServiceError> {
        let sql = "SELECT id FROM model WHERE deleted_at IS NULL AND namespace_id = $1 LIMIT $2";
        let values = [namespace.uuid().into(), i64::from(limit).into()];
        let rows: Vec<IdRow> = all(self.read(), sql, values).await?;
        Ok(rows.into_iter().map(|row| ModelId::from_uuid(row.id)).collect())
    }

    /// Counts and sizes over what a caller may see.
    ///
    /// # Errors
    /// The database's.
    pub async fn statistics(
        &self,
        visible: &VisibleRows,
        namespace: Option<NamespaceId>,
    ) -> Result<Statistics, ServiceError> {
        let mut values = Values::new(self.sql.backend());
        let mut condition = format!("m.deleted_at IS NULL AND {}", visible.condition(&mut values));
        if let Some(namespace) = namespace {
            let id = values.add(namespace.uuid());
            condition.push_str(&format!(" AND m.namespace_id = {id}"));
        }
        let sql = format!(
            "SELECT COUNT(*) AS models, CAST(SUM(m.version_count) AS bigint) AS versions, \
             CAST(SUM(m.byte_count) AS bigint) AS bytes FROM model m WHERE {condition}"
        );
        let totals: Option<Totals> = one(self.read(), &sql, values.all.clone()).await?;
        let sql = format!(
            "SELECT COUNT(*) FROM deployment d JOIN model m ON m.id = d.model_id \
             WHERE d.deleted_at IS NULL AND {condition}"
        );
        let deployments = number(self.read(), &sql, values.all).await?.unwrap_or_default();
        let totals = totals.unwrap_or(Totals { models: 0, versions: None, bytes: None });
        Ok(Statistics {
            models: totals.models,
            versions: totals.versions.unwrap_or_default(),
            bytes: totals.bytes.unwrap_or_default(),
            deployments,
        })
    }
}

/// Inserts a model with its tags and both events.
pub async fn insert_model(
    tx: &DatabaseTransaction,
    model: &Model,
) -> Result<OutboxEvent, ServiceError> {
    let sql = "INSERT INTO model (id, namespace_id, namespace, name, description, created_at, \
               updated_at, created_by, last_version, latest_version, version_count, byte_count, \
               revision) VALUES ($1, $2, $3, $4, $5, $6, $6, $7, 0, 0, 0, 0, 1)";
    let values = [
        model.id.uuid().into(),
        model.namespace_id.uuid().into(),
        model.namespace.clone().into(),
        model.name.clone().into(),
        model.description.clone().into(),
        model.created_at.into(),
        model.created_by.uuid().into(),
    ];
    execute_or(tx, sql, values, |error| taken(error, &model.namespace, &model.name)).await?;
    tags::put(tx, tags::Owner::Model, model.id.uuid(), &model.tags).await?;
    let place = place_of(model);
    let created = Change::of_model(EventKind::ModelCreated);
    let told = outbox::append(tx, model.id, model.namespace_id, Some(model.created_by)).await?;
    events::append(tx, &place, created, model.created_by).await?;
    Ok(told)
}

#[derive(Debug, FromQueryResult)]
struct PlaceRow {
    namespace_id: Uuid,
    namespace: String,
    name: String,
}

/// Takes the row lock of a live model, so that it is not deleted meanwhile, and
/// notes the change.
pub async fn lock_model(tx: &DatabaseTransaction, id: ModelId) -> Result<Place, ServiceError> {
    let sql = "UPDATE model SET revision = revision + 1, updated_at = $1 \
               WHERE id = $2 AND deleted_at IS NULL RETURNING namespace_id, namespace, name";
    let row: Option<PlaceRow> = one(tx, sql, [now_micros().into(), id.uuid().into()]).await?;
    place_of_row(id, row)
}

/// The same for what is no change of the model.
pub async fn hold_model(tx: &DatabaseTransaction, id: ModelId) -> Result<Place, ServiceError> {
    let sql = "UPDATE model SET revision = revision + 1 \
               WHERE id = $1 AND deleted_at IS NULL RETURNING namespace_id, namespace, name";
    place_of_row(id, one(tx, sql, [id.uuid().into()]).await?)
}

fn place_of_row(id: ModelId, row: Option<PlaceRow>) -> Result<Place, ServiceError> {
    let row = row.ok_or_else(|| ServiceError::not_found("model", id))?;
    Ok(Place {
        namespace_id: row.namespace_id,
        namespace: row.namespace,
        model_id: id.uuid(),
        model: row.name,
    })
}

/// Recounts what is kept on a model's row, after versions came or went.
pub async fn recount<C: ConnectionTrait>(tx: &C, id: ModelId) -> Result<(), ServiceError> {
    let sql = "UPDATE model SET \
        latest_version = COALESCE((SELECT MAX(number) FROM version WHERE model_id = $1 AND deleted_at IS NULL), 0), \
        version_count = (SELECT COUNT(*) FROM version WHERE model_id = $1 AND deleted_at IS NULL), \
        byte_count = COALESCE((SELECT CAST(SUM(byte_count) AS bigint) FROM version WHERE model_id = $1 AND deleted_at IS NULL), 0) \
        WHERE id = $1";
    execute(tx, sql, [id.uuid().into()]).await.map(drop)
}

/// Where a model's events belong.
pub fn place_of(model: &Model) -> Place {
    Place {
        namespace_id: Id::uuid(model.namespace_id),
        namespace: model.namespace.clone(),
        model_id: model.id.uuid(),
        model: model.name.clone(),
    }
}

fn taken(error: sea_orm::DbErr, namespace: &str, name: &str) -> ServiceError {
    if is_unique_violation(&error) {
        ServiceError::already_exists("model", format!("{namespace}/{name}"))
    } else {
        db_error(error)
    }
}
