//! Rows of metrics, parameters, inputs and cards.

use std::collections::BTreeMap;

use ids::{Id, ModelId, ModelVersionId, PrincipalId};
use sea_orm::{ConnectionTrait, DatabaseTransaction, FromQueryResult, Value};
use service_error::ServiceError;
use sql_store::{db_error, now_micros};
use uuid::Uuid;

use super::models::lock_model;
use super::sql::{OwnedText, all, by_owner, execute, head, insert_all, one};
use super::{Store, events, tags};
use crate::model::{BaseModel, Card, Change, DatasetVersion, EventKind, MetricPoint, ModelVersion};

/// Kinds of a lineage row.
pub const INPUT_DATASET: i16 = 1;
pub const INPUT_MODEL: i16 = 2;

#[derive(Debug, FromQueryResult)]
struct PointRow {
    key: String,
    step: i64,
    value: Option<f64>,
    at: i64,
}

impl From<PointRow> for MetricPoint {
    fn from(row: PointRow) -> Self {
        let value = row.value.unwrap_or(f64::NAN);
        Self { key: row.key, value, step: row.step, at: row.at }
    }
}

#[derive(Debug, FromQueryResult)]
struct CardRow {
    markdown: String,
    updated_at: i64,
    updated_by: Uuid,
}

impl Store {
    /// Adds points and parameters to a version.
    ///
    /// # Errors
    /// `NotFound`; `FailedPrecondition` for a parameter that has another value.
    pub async fn log_data(
        &self,
        version: &ModelVersion,
        metrics: &[MetricPoint],
        params: &BTreeMap<String, String>,
        actor: PrincipalId,
    ) -> Result<(), ServiceError> {
        let tx = self.sql.begin().await?;
        let place = lock_model(&tx, version.model_id).await?;
        tags::touch(&tx, version).await?;
        refuse_changed(&tx, version, params).await?;
        put_metrics(&tx, version.id, metrics).await?;
        put_params(&tx, version.id, params).await?;
        let said = format!("{} points, {} params", metrics.len(), params.len());
        let change =
            Change::of_version(EventKind::VersionDataLogged, version.number).values("", &said);
        events::append(&tx, &place, change, actor).await?;
        tx.commit().await.map_err(db_error)
    }

    /// The last point of each metric, by key.
    ///
    /// # Errors
    /// The database's.
    pub async fn last_points(
        &self,
        version: ModelVersionId,
    ) -> Result<Vec<MetricPoint>, ServiceError> {
        last_points_of(self.read(), version).await
    }

    /// Points of a metric after a step, by step.
    ///
    /// # Errors
    /// The database's.
    pub async fn points(
        &self,
        version: ModelVersionId,
        key: &str,
        after: Option<i64>,
        limit: u32,
    ) -> Result<Vec<MetricPoint>, ServiceError> {
        let sql = "SELECT key, step, value, at FROM metric WHERE version_id = $1 AND key = $2 \
                   AND step >= $3 ORDER BY step LIMIT $4";
        let from = after.map_or(i64::MIN, |step| step.saturating_add(1));
        let values = [version.uuid().into(), key.into(), from.into(), i64::from(limit).into()];
        let rows: Vec<PointRow> = all(self.read(), sql, values).await?;
        Ok(rows.into_iter().map(MetricPoint::from).collect())
    }

    /// A version's parameters.
    ///
    /// # Errors
    /// The database's.
    pub async fn params(
        &self,
        version: ModelVersionId,
    ) -> Result<BTreeMap<String, String>, ServiceError> {
        let sql = "SELECT version_id AS owner, key, value FROM param WHERE version_id = $1";
        let rows: Vec<OwnedText> = all(self.read(), sql, [version.uuid().into()]).await?;
        Ok(by_owner(rows).remove(&version.uuid()).unwrap_or_default())
    }

    /// The card of a model (number 0) or of a version.
    ///
    /// # Errors
    /// The database's.
    pub async fn card(&self, model: ModelId, number: i64) -> Result<Option<Card>, ServiceError> {
        let sql = "SELECT markdown, updated_at, updated_by FROM card \
                   WHERE model_id = $1 AND number = $2";
        let row: Option<CardRow> =
            one(self.read(), sql, [model.uuid().into(), number.into()]).await?;
        Ok(row.map(|row| Card {
            markdown: row.markdown,
            updated_at: row.updated_at,
            updated_by: Id::from_uuid(row.updated_by),
        }))
    }

    /// Writes the card of a model (number 0) or of a version.
    ///
    /// # Errors
    /// `NotFound` for the model.
    pub async fn set_card(
        &self,
        model: ModelId,
        number: i64,
        markdown: &str,
        actor: PrincipalId,
    ) -> Result<(), ServiceError> {
        let tx = self.sql.begin().await?;
        let place = lock_model(&tx, model).await?;
        let sql = "INSERT INTO card (model_id, number, markdown, updated_at, updated_by) \
                   VALUES ($1, $2, $3, $4, $5) ON CONFLICT (model_id, number) DO UPDATE SET \
                   markdown = excluded.markdown, updated_at = excluded.updated_at, \
                   updated_by = excluded.updated_by";
        let values = [
            model.uuid().into(),
            number.into(),
            markdown.into(),
            now_micros().into(),
            actor.uuid().into(),
        ];
        execute(&tx, sql, values).await?;
        events::append(&tx, &place, Change::of_version(EventKind::CardSet, number), actor).await?;
        tx.commit().await.map_err(db_error)
    }
}

/// The last point of each metric of a version, by key.
pub async fn last_points_of<C: ConnectionTrait>(
    db: &C,
    version: ModelVersionId,
) -> Result<Vec<MetricPoint>, ServiceError> {
    let sql = "SELECT key, step, value, at FROM metric_last WHERE version_id = $1 ORDER BY key";
    let rows: Vec<PointRow> = all(db, sql, [version.uuid().into()]).await?;
    Ok(rows.into_iter().map(MetricPoint::from).collect())
}

async fn refuse_changed(
    tx: &DatabaseTransaction,
    version: &ModelVersion,
    params: &BTreeMap<String, String>,
) -> Result<(), ServiceError> {
    if params.is_empty() {
        return Ok(());
    }
    let sql = "SELECT version_id AS owner, key, value FROM param WHERE version_id = $1";
    let rows: Vec<OwnedText> = all(tx, sql, [version.id.uuid().into()]).await?;
    for row in rows {
        if params.get(&row.key).is_some_and(|value| *value != row.value) {
            let message = format!(
                "parameter {} of version {} is {:?} and is never changed; log it under another key",
                row.key, version.number, row.value
            );
            return Err(ServiceError::precondition(message)
                .reason("PARAM_CHANGED")
                .field("params"));
        }
    }
    Ok(())
}

/// Adds points; those of the same key and step are replaced, and the one with
/// the highest step is the metric's last.
pub async fn put_metrics(
    tx: &DatabaseTransaction,
    version: ModelVersionId,
    points: &[MetricPoint],
) -> Result<(), ServiceError> {
    // One statement may not meet the same row twice.
    let mut each: BTreeMap<(&str, i64), &MetricPoint> = BTreeMap::new();
    let mut last: BTreeMap<&str, &MetricPoint> = BTreeMap::new();
    for point in points {
        each.insert((&point.key, point.step), point);
        let known = last.entry(&point.key).or_insert(point);
        if point.step >= known.step {
            *known = point;
        }
    }
    let row = |point: &&MetricPoint| -> Vec<Value> {
        // Neither database compares NaN as IEEE does: it is kept as an absence.
        let value = Some(point.value).filter(|value| !value.is_nan());
        vec![
            version.uuid().into(),
            point.key.clone().into(),
            point.step.into(),
            value.into(),
            point.at.into(),
        ]
    };
    let columns = "(version_id, key, step, value, at)";
    let behind = "ON CONFLICT (version_id, key, step) DO UPDATE SET value = excluded.value, at = excluded.at";
    insert_all(tx, &format!("metric {columns}"), each.values().map(row).collect(), behind).await?;
    let behind = "ON CONFLICT (version_id, key) DO UPDATE SET step = excluded.step, \
                  value = excluded.value, at = excluded.at WHERE excluded.step >= metric_last.step";
    insert_all(tx, &format!("metric_last {columns}"), last.values().map(row).collect(), behind)
        .await
        .map(drop)
}

/// Sets parameters that are not there yet.
pub async fn put_params(
    tx: &DatabaseTransaction,
    version: ModelVersionId,
    params: &BTreeMap<String, String>,
) -> Result<(), ServiceError> {
    let row = |(key, value): (&String, &String)| -> Vec<Value> {
        let number = value.trim().parse::<f64>().ok().filter(|number| number.is_finite());
        vec![
            version.uuid().into(),
            key.clone().into(),
            value.clone().into(),
            head(value).into(),
            number.into(),
        ]
    };
    let into = "param (version_id, key, value, head, number)";
    let behind = "ON CONFLICT (version_id, key) DO NOTHING";
    insert_all(tx, into, params.iter().map(row).collect(), behind).await.map(drop)
}

/// Adds what a version was made from.
pub async fn put_inputs(
    tx: &DatabaseTransaction,
    version: ModelVersionId,
    datasets: &[DatasetVersion],
    models: &[BaseModel],
) -> Result<(), ServiceError> {
    let now = now_micros();
    let row = |kind: i16, source: Uuid, number: i64, name: &str, context: &str| -> Vec<Value> {
        vec![
            version.uuid().into(),
            kind.into(),
            source.into(),
            number.into(),
            name.into(),
            context.into(),
            now.into(),
        ]
    };
    let datasets =
        datasets.iter().map(|d| row(INPUT_DATASET, d.id.uuid(), d.version, &d.name, &d.context));
    let models =
        models.iter().map(|m| row(INPUT_MODEL, m.id.uuid(), m.version, &m.name, &m.relation));
    let into = "lineage (version_id, kind, source_id, source_version, source_name, context, at)";
    insert_all(tx, into, datasets.chain(models).collect(), "ON CONFLICT DO NOTHING").await.map(drop)
}
