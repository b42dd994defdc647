//! Metrics and parameters, one or a batch of them.

use std::collections::HashMap;

use mlflow_wire::proto::{LogBatch, LogMetric, LogParam, Metric, Param};
use mlflow_wire::{MlflowError, Result, names};
use sea_orm::DatabaseTransaction;

use crate::runs::either;
use crate::sql::{head, insert_all, texts_of};
use crate::{Scope, Tracking, commit};

const METRICS_MAX: usize = 1_000;
const PARAMS_MAX: usize = 100;
const TAGS_MAX: usize = 100;
const ENTITIES_MAX: usize = 1_000;

/// A metric as it is kept: infinities are the largest numbers there are, and
/// what is no number is a mark.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Point {
    pub key: String,
    pub value: f64,
    pub nan: bool,
    pub at_ms: i64,
    pub step: i64,
}

impl Point {
    /// # Errors
    /// A name or a time that MLflow refuses.
    pub(crate) fn of(metric: &Metric, path: &str) -> Result<Self> {
        let at = |field: &str| {
            if path.is_empty() { field.to_owned() } else { format!("{path}.{field}") }
        };
        names::key(metric.key(), &at("name"))?;
        if metric.timestamp() < 0 {
            return Err(MlflowError::invalid(format!(
                "Invalid value {} for parameter '{}' supplied: metric '{}' (value={:?}). \
                 Timestamp must be a nonnegative long (64-bit integer) ",
                metric.timestamp(),
                at("timestamp"),
                metric.key(),
                metric.value()
            )));
        }
        names::length("Metric name", names::KEY_MAX, metric.key())?;
        let nan = metric.value().is_nan();
        Ok(Self {
            key: metric.key().to_owned(),
            value: if nan { 0.0 } else { metric.value().clamp(f64::MIN, f64::MAX) },
            nan,
            at_ms: metric.timestamp(),
            step: metric.step(),
        })
    }

    /// Which of two is a metric's last value.
    fn is_after(&self, other: &Self) -> bool {
        (self.step, self.at_ms)
            .cmp(&(other.step, other.at_ms))
            .then(self.value.total_cmp(&other.value))
            .is_gt()
    }
}

fn point_of(metrics: &[Metric]) -> Result<Vec<Point>> {
    let points = metrics
        .iter()
        .enumerate()
        .map(|(index, metric)| Point::of(metric, &format!("metrics[{index}]")));
    points.collect()
}

fn param_of(param: &Param, path: &str) -> Result<(String, String)> {
    names::key(param.key(), path)?;
    names::length("Param key", names::KEY_MAX, param.key())?;
    let value = names::cut(param.value(), names::PARAM_VALUE_MAX);
    Ok((param.key().to_owned(), value.to_owned()))
}

impl Tracking {
    /// Logs one metric.
    ///
    /// # Errors
    /// As the names' rules, `RESOURCE_DOES_NOT_EXIST`, a run that is deleted.
    pub async fn log_metric(&self, scope: &Scope, asked: &LogMetric) -> Result<()> {
        let id = either(asked.run_id(), asked.run_uuid());
        let metric = Metric {
            key: asked.key.clone(),
            value: asked.value,
            timestamp: asked.timestamp,
            step: asked.step,
            dataset_name: asked.dataset_name.clone(),
            dataset_digest: asked.dataset_digest.clone(),
            model_id: asked.model_id.clone(),
            run_id: None,
        };
        let point = Point::of(&metric, "")?;
        let tx = self.begin().await?;
        self.hold_run(&tx, scope, id).await?;
        self.put_model_metrics(&tx, scope, id, &[metric]).await?;
        put_points(&tx, id, vec![point]).await?;
        commit(tx).await
    }

    /// Logs one parameter; the same again is nothing new.
    ///
    /// # Errors
    /// Another value for a key that has one.
    pub async fn log_param(&self, scope: &Scope, asked: &LogParam) -> Result<()> {
        let id = either(asked.run_id(), asked.run_uuid());
        let param = Param { key: asked.key.clone(), value: asked.value.clone() };
        let (key, value) = param_of(&param, "key")?;
        let tx = self.begin().await?;
        self.hold_run(&tx, scope, id).await?;
        let differing = put_params(&tx, id, vec![(key.clone(), value.clone())]).await?;
        if let Some((_, old, _)) = differing.first() {
            return Err(MlflowError::invalid(format!(
                "Changing param values is not allowed. Param with key='{key}' was already logged with value='{old}' \
                 for run ID='{id}'. Attempted logging new value '{value}'."
            )));
        }
        commit(tx).await
    }

    /// Logs metrics, parameters and tags at once, all of them or none.
    ///
    /// # Errors
    /// As those of each, or more than a batch may hold.
    pub async fn log_batch(&self, scope: &Scope, asked: &LogBatch) -> Result<()> {
        let id = asked.run_id();
        names::run_id(id)?;
        let points = point_of(&asked.metrics)?;
        let params: Result<Vec<_>> = asked
            .params
            .iter()
            .enumerate()
            .map(|(index, param)| param_of(param, &format!("params[{index}].key")))
            .collect();
        let params = params?;
        limits(asked)?;
        unique(&params)?;
        let tx = self.begin().await?;
        self.hold_run(&tx, scope, id).await?;
        let differing = put_params(&tx, id, params).await?;
        if !differing.is_empty() {
            let shown: Vec<String> = differing
                .iter()
                .map(|(key, old, new)| {
                    format!("{{'key': '{key}', 'old_value': '{old}', 'new_value': '{new}'}}")
                })
                .collect();
            return Err(MlflowError::invalid(format!(
                "Changing param values is not allowed. Params were already logged='[{}]' for run ID='{id}'.",
                shown.join(", ")
            )));
        }
        self.put_model_metrics(&tx, scope, id, &asked.metrics).await?;
        put_points(&tx, id, points).await?;
        self.put_batch_tags(&tx, id, &asked.tags).await?;
        commit(tx).await
    }
}

fn limits(asked: &LogBatch) -> Result<()> {
    let (metrics, params, tags) = (asked.metrics.len(), asked.params.len(), asked.tags.len());
    for (what, limit, count) in [
        ("metrics", METRICS_MAX, metrics),
        ("params", PARAMS_MAX, params),
        ("tags", TAGS_MAX, tags),
        ("metrics, params, and tags", ENTITIES_MAX, metrics + params + tags),
    ] {
        if count > limit {
            return Err(MlflowError::invalid(format!(
                "A batch logging request can contain at most {limit} {what}. Got {count} {what}. \
                 Please split up {what} across multiple requests and try again."
            )));
        }
    }
    Ok(())
}

fn unique(params: &[(String, String)]) -> Result<()> {
    let mut seen = std::collections::HashSet::new();
    let twice: Vec<&str> = params
        .iter()
        .filter(|(key, _)| !seen.insert(key.as_str()))
        .map(|(key, _)| key.as_str())
        .collect();
    if twice.is_empty() {
        return Ok(());
    }
    Err(MlflowError::invalid(format!(
        "Duplicate parameter keys have been submitted: ['{}']. Please ensure the request contains only one param \
         value per param key.",
        twice.join("', '")
    )))
}

/// Adds parameters; answers (key, old, new) of those that have another value.
async fn put_params(
    tx: &DatabaseTransaction,
    id: &str,
    params: Vec<(String, String)>,
) -> Result<Vec<(String, String, String)>> {
    if params.is_empty() {
        return Ok(Vec::new());
    }
    let known = texts_of(tx, "run_param", "run_id", &[id.to_owned()]).await?;
    let known: HashMap<String, String> = known.into_values().flatten().collect();
    let mut differing = Vec::new();
    let mut rows = Vec::new();
    for (key, value) in params {
        match known.get(&key) {
            Some(old) if *old != value => differing.push((key, old.clone(), value)),
            Some(_) => {}
            None => {
                let head = head(&value);
                rows.push(vec![id.into(), key.into(), value.into(), head.into()]);
            }
        }
    }
    insert_all(tx, "run_param (run_id, key, value, head)", rows, "").await?;
    Ok(differing)
}

async fn put_points(tx: &DatabaseTransaction, id: &str, points: Vec<Point>) -> Result<()> {
    let mut last: HashMap<&str, &Point> = HashMap::new();
    for point in &points {
        let known = last.entry(&point.key).or_insert(point);
        if point.is_after(known) {
            *known = point;
        }
    }
    let row = |point: &Point| {
        vec![
            id.into(),
            point.key.clone().into(),
            point.at_ms.into(),
            point.step.into(),
            point.value.into(),
            i64::from(point.nan).into(),
        ]
    };
    let columns = "(run_id, key, at_ms, step, value, nan)";
    let rows = points.iter().map(row).collect();
    insert_all(tx, &format!("run_metric {columns}"), rows, "ON CONFLICT DO NOTHING").await?;
    let newer = "ON CONFLICT (run_id, key) DO UPDATE SET at_ms = excluded.at_ms, step = excluded.step, \
                 value = excluded.value, nan = excluded.nan \
                 WHERE (excluded.step, excluded.at_ms, excluded.value) \
                 > (run_metric_last.step, run_metric_last.at_ms, run_metric_last.value)";
    let rows = last.into_values().map(row).collect();
    insert_all(tx, &format!("run_metric_last {columns}"), rows, newer).await
}
