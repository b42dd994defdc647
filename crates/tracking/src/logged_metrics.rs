//! Metrics of logged models, each of a run and perhaps of a dataset.

use std::collections::HashMap;

use mlflow_wire::Result;
use mlflow_wire::proto::Metric;
use sea_orm::{DatabaseTransaction, FromQueryResult};

use crate::metrics::Point;
use crate::sql::{Values, all, insert_all};
use crate::{Scope, Tracking};

#[derive(Debug, FromQueryResult)]
struct MetricRow {
    model_id: String,
    key: String,
    at_ms: i64,
    step: i64,
    run_id: String,
    value: f64,
    dataset_name: String,
    dataset_digest: String,
}

fn optional(text: String) -> Option<String> {
    Some(text).filter(|text| !text.is_empty())
}

impl Tracking {
    /// Logs those metrics that name a model to it.
    pub(crate) async fn put_model_metrics(
        &self,
        tx: &DatabaseTransaction,
        scope: &Scope,
        run: &str,
        metrics: &[Metric],
    ) -> Result<()> {
        let mut rows = Vec::new();
        for (index, metric) in metrics.iter().enumerate() {
            if metric.model_id().is_empty() {
                continue;
            }
            let path = if metrics.len() == 1 { String::new() } else { format!("metrics[{index}]") };
            let point = Point::of(metric, &path)?;
            self.hold_model(tx, scope, metric.model_id(), "", Vec::new()).await?;
            rows.push(vec![
                metric.model_id().into(),
                point.key.into(),
                point.at_ms.into(),
                point.step.into(),
                run.into(),
                point.value.into(),
                metric.dataset_name().into(),
                metric.dataset_digest().into(),
            ]);
        }
        let into = "logged_model_metric (model_id, key, at_ms, step, run_id, value, dataset_name, dataset_digest)";
        insert_all(tx, into, rows, "ON CONFLICT DO NOTHING").await
    }

    /// The newest value of each metric, run and dataset of some models.
    pub(crate) async fn model_metrics(
        &self,
        ids: &[String],
    ) -> Result<HashMap<String, Vec<Metric>>> {
        let mut found: HashMap<String, Vec<Metric>> = HashMap::new();
        for some in ids.chunks(crate::inputs::IDS_MAX) {
            let mut values = Values::default();
            let list = values.list(some.iter().cloned());
            let sql = format!(
                "SELECT model_id, key, at_ms, step, run_id, value, dataset_name, dataset_digest \
                 FROM logged_model_metric WHERE model_id IN ({list}) \
                 ORDER BY model_id, key, at_ms, step, run_id"
            );
            for row in all::<MetricRow, _>(self.sql.read(), &sql, values.all).await? {
                let metric = Metric {
                    key: Some(row.key),
                    value: Some(row.value),
                    timestamp: Some(row.at_ms),
                    step: Some(row.step),
                    dataset_name: optional(row.dataset_name),
                    dataset_digest: optional(row.dataset_digest),
                    model_id: Some(row.model_id.clone()),
                    run_id: Some(row.run_id),
                };
                found.entry(row.model_id).or_default().push(metric);
            }
        }
        Ok(found)
    }
}
