//! `system_metrics`: a sample a minute, seven days.

use std::collections::BTreeMap;
use std::time::Duration;

use sea_orm::{ConnectionTrait, Statement, Value};
use service_error::ServiceError;
use sql_store::db_error;

use super::{get, open};
use crate::Database;

/// How long samples are kept.
pub const HISTORY: Duration = Duration::from_secs(7 * 24 * 3_600);

/// One number of one moment.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sample {
    /// E.g. `rpc.requests`.
    pub metric: &'static str,
    /// In the unit that its name ends with; else a count.
    pub value: f64,
}

/// One metric's points, oldest first.
#[derive(Debug, Clone, PartialEq)]
pub struct Series {
    pub metric: String,
    pub points: Vec<Point>,
}

/// The samples of one step, of all replicas.
#[derive(Debug, Clone, PartialEq)]
pub struct Point {
    /// Where the step began, microseconds UTC.
    pub at: i64,
    pub count: i64,
    pub mean: f64,
    pub min: f64,
    pub max: f64,
    pub sum: f64,
}

/// Writes the samples of a moment and drops what is older than [`HISTORY`].
///
/// # Errors
/// A database that is away.
pub async fn keep(
    database: &Database,
    instance: &str,
    component: &str,
    at: i64,
    samples: &[Sample],
) -> Result<(), ServiceError> {
    let store = open(database).await?;
    let backend = store.backend();
    let kept = store
        .write(async |tx| {
            for sample in samples {
                let row = Statement::from_sql_and_values(
                    backend,
                    "INSERT INTO system_metrics (at, instance, component, metric, value)
                     VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING",
                    [
                        at.into(),
                        instance.into(),
                        component.into(),
                        sample.metric.into(),
                        sample.value.into(),
                    ],
                );
                tx.execute_raw(row).await.map_err(db_error)?;
            }
            let oldest = at - i64::try_from(HISTORY.as_micros()).unwrap_or(i64::MAX);
            let old = Statement::from_sql_and_values(
                backend,
                "DELETE FROM system_metrics WHERE at < $1",
                [oldest.into()],
            );
            tx.execute_raw(old).await.map(drop).map_err(db_error)
        })
        .await;
    store.close().await?;
    kept
}

/// The samples since a time, as points of `step` each, by metric.
///
/// # Errors
/// A database that is away.
pub async fn series(
    database: &Database,
    since: i64,
    step: Duration,
    metrics: &[String],
) -> Result<Vec<Series>, ServiceError> {
    let step = i64::try_from(step.as_micros()).unwrap_or(i64::MAX).max(1);
    let mut values: Vec<Value> = vec![step.into(), since.into()];
    let mut wanted = String::new();
    if !metrics.is_empty() {
        let places: Vec<String> = (3..metrics.len() + 3).map(|at| format!("${at}")).collect();
        wanted = format!("AND metric IN ({})", places.join(", "));
        values.extend(metrics.iter().map(|metric| metric.as_str().into()));
    }
    let text = format!(
        "SELECT metric, at / $1 AS bucket, COUNT(*) AS samples, AVG(value) AS mean,
                MIN(value) AS low, MAX(value) AS high, SUM(value) AS total
         FROM system_metrics WHERE at >= $2 {wanted}
         GROUP BY metric, at / $1 ORDER BY metric, bucket"
    );
    let store = open(database).await?;
    let query = Statement::from_sql_and_values(store.backend(), text, values);
    let rows = store.read().query_all_raw(query).await.map_err(db_error)?;
    store.close().await?;
    let mut found: BTreeMap<String, Vec<Point>> = BTreeMap::new();
    for row in &rows {
        let point = Point {
            at: get::<i64>(row, "bucket")? * step,
            count: get(row, "samples")?,
            mean: get(row, "mean")?,
            min: get(row, "low")?,
            max: get(row, "high")?,
            sum: get(row, "total")?,
        };
        found.entry(get(row, "metric")?).or_default().push(point);
    }
    Ok(found.into_iter().map(|(metric, points)| Series { metric, points }).collect())
}
