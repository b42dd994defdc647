//! What was logged to runs, gathered for whole pages of them.

use std::collections::HashMap;

use mlflow_wire::Result;
use mlflow_wire::proto::{Metric, Param, Run, RunData, RunTag};
use sea_orm::FromQueryResult;

use crate::Tracking;
use crate::runs::RunRow;
use crate::sql::{Values, all, texts_of};

#[derive(Debug, FromQueryResult)]
struct LastRow {
    run_id: String,
    key: String,
    value: f64,
    nan: i64,
    at_ms: i64,
    step: i64,
}

/// A stored metric's value: what is no number is kept as 0 beside a mark.
pub(crate) fn value_of(value: f64, nan: i64) -> f64 {
    if nan == 0 { value } else { f64::NAN }
}

impl Tracking {
    /// Runs with their data, inputs and outputs; as many queries for one as
    /// for a page.
    pub(crate) async fn whole_runs(&self, rows: Vec<RunRow>) -> Result<Vec<Run>> {
        let ids: Vec<String> = rows.iter().map(|row| row.id.clone()).collect();
        let db = self.sql.read();
        let mut tags = texts_of(db, "run_tag", "run_id", &ids).await?;
        let mut params = texts_of(db, "run_param", "run_id", &ids).await?;
        let mut metrics = self.last_metrics(&ids).await?;
        let mut inputs = self.inputs_of(&ids).await?;
        let mut outputs = self.outputs_of(&ids).await?;
        let runs = rows.into_iter().map(|row| {
            let id = row.id.clone();
            let tags = tags.remove(&id).unwrap_or_default().into_iter();
            let params = params.remove(&id).unwrap_or_default().into_iter();
            let data = RunData {
                metrics: metrics.remove(&id).unwrap_or_default(),
                params: params
                    .map(|(key, value)| Param { key: Some(key), value: Some(value) })
                    .collect(),
                tags: tags
                    .map(|(key, value)| RunTag { key: Some(key), value: Some(value) })
                    .collect(),
            };
            Run {
                info: Some(row.into_info()),
                data: Some(data),
                inputs: Some(inputs.remove(&id).unwrap_or_default()),
                outputs: Some(outputs.remove(&id).unwrap_or_default()),
            }
        });
        Ok(runs.collect())
    }

    async fn last_metrics(&self, ids: &[String]) -> Result<HashMap<String, Vec<Metric>>> {
        let mut found: HashMap<String, Vec<Metric>> = HashMap::new();
        for some in ids.chunks(crate::inputs::IDS_MAX) {
            let mut values = Values::default();
            let list = values.list(some.iter().cloned());
            let sql = format!(
                "SELECT run_id, key, value, nan, at_ms, step FROM run_metric_last \
                 WHERE run_id IN ({list}) ORDER BY run_id, key"
            );
            for row in all::<LastRow, _>(self.sql.read(), &sql, values.all).await? {
                let metric = Metric {
                    key: Some(row.key),
                    value: Some(value_of(row.value, row.nan)),
                    timestamp: Some(row.at_ms),
                    step: Some(row.step),
                    ..Metric::default()
                };
                found.entry(row.run_id).or_default().push(metric);
            }
        }
        Ok(found)
    }
}
