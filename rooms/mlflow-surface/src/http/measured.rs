//! What a run or a logged model says of the version that is made of it.

use std::collections::BTreeMap;

use futures::StreamExt;
use mlflow_wire::proto::{LoggedModelData, Metric, RunData};
use mlflow_wire::{Result, mlmodel};
use tracking::Scope;

use super::asked::Asked;
use crate::app::{PARAMS_MAX, POINTS_MAX};
use crate::model::MetricPoint;

/// A version's last points and parameters: the run's, and over them the logged
/// model's own. No more of them than a version takes, the first by key.
pub fn data(
    run: Option<RunData>,
    logged: Option<LoggedModelData>,
) -> (Vec<MetricPoint>, BTreeMap<String, String>) {
    let (run, logged) = (run.unwrap_or_default(), logged.unwrap_or_default());
    let mut points: BTreeMap<String, MetricPoint> = BTreeMap::new();
    for metric in run.metrics.into_iter().chain(logged.metrics) {
        let point = point(metric);
        let known = points.entry(point.key.clone()).or_insert_with(|| point.clone());
        // A logged model has a row for each step and dataset.
        if (point.step, point.at) >= (known.step, known.at) {
            *known = point;
        }
    }
    let pairs = run
        .params
        .into_iter()
        .map(|param| (param.key, param.value))
        .chain(logged.params.into_iter().map(|param| (param.key, param.value)));
    let params: BTreeMap<String, String> = pairs
        .filter_map(|(key, value)| Some((key?, value.unwrap_or_default())))
        .filter(|(key, _)| !key.is_empty())
        .collect();
    let points = points.into_values().filter(|point| !point.key.is_empty());
    (points.take(POINTS_MAX).collect(), params.into_iter().take(PARAMS_MAX).collect())
}

fn point(metric: Metric) -> MetricPoint {
    MetricPoint {
        value: metric.value(),
        step: metric.step(),
        at: metric.timestamp().saturating_mul(1_000),
        key: metric.key.unwrap_or_default(),
    }
}

/// The flavors that the MLmodel file of a directory names; none without one.
///
/// # Errors
/// The registry's.
pub async fn flavors(asked: &Asked, scope: &Scope, directory: &str) -> Result<Vec<String>> {
    let path = if directory.is_empty() {
        mlmodel::FILE.to_owned()
    } else {
        format!("{directory}/{}", mlmodel::FILE)
    };
    let registry = &asked.surface.registry;
    let caller = asked.caller()?;
    let opened = registry.open_tree_file(caller, &scope.name, &path, None).await;
    let (entry, mut pieces) = match opened {
        Err(error) if error.reason_is("FILE_NOT_FOUND") => return Ok(Vec::new()),
        opened => opened?,
    };
    if usize::try_from(entry.byte_count).map_or(true, |bytes| bytes > mlmodel::BYTES_MAX) {
        return Ok(Vec::new());
    }
    let mut bytes = Vec::new();
    while let Some(piece) = pieces.next().await {
        bytes.extend_from_slice(&piece?);
    }
    Ok(mlmodel::flavors(&String::from_utf8_lossy(&bytes)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use mlflow_wire::proto::{LoggedModelParameter, Param};

    fn metric(key: &str, value: f64, step: i64) -> Metric {
        Metric {
            key: Some(key.to_owned()),
            value: Some(value),
            step: Some(step),
            timestamp: Some(7),
            ..Metric::default()
        }
    }

    #[test]
    fn a_logged_model_has_the_last_word_and_the_last_step_counts() {
        let param = |value: &str| Param { key: Some("c".into()), value: Some(value.to_owned()) };
        let run = RunData {
            metrics: vec![metric("acc", 0.5, 3), metric("loss", 1.0, 0)],
            params: vec![param("1")],
            ..RunData::default()
        };
        let logged = LoggedModelData {
            metrics: vec![metric("acc", 0.9, 3), metric("acc", 0.1, 2)],
            params: vec![LoggedModelParameter { key: Some("c".into()), value: Some("2".into()) }],
        };
        let (points, params) = data(Some(run), Some(logged));
        let shown: Vec<_> =
            points.iter().map(|it| (it.key.as_str(), it.value, it.step, it.at)).collect();
        assert_eq!(shown, [("acc", 0.9, 3, 7_000), ("loss", 1.0, 0, 7_000)]);
        assert_eq!(params, BTreeMap::from([("c".to_owned(), "2".to_owned())]));
        let many = RunData {
            metrics: (0..POINTS_MAX + 5).map(|at| metric(&format!("m{at}"), 0.0, 0)).collect(),
            ..RunData::default()
        };
        assert_eq!(data(Some(many), None).0.len(), POINTS_MAX);
    }
}
