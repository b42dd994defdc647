//! All values of a metric.

use mlflow_wire::proto::{
    GetMetricHistory, GetMetricHistoryBulkInterval, Metric, MetricWithRunId, get_metric_history,
    get_metric_history_bulk_interval,
};
use mlflow_wire::{MlflowError, Result};
use sea_orm::FromQueryResult;

use crate::run_data::value_of;
use crate::runs::either;
use crate::search::{Column, Kind, Listing, Paged};
use crate::sql::{Values, all};
use crate::{Scope, Tracking};

/// The most values that are answered at once.
const POINTS_MAX: u32 = 25_000;
/// The most values of a request that asks for all; the rest has a token.
const HISTORY_MAX: u32 = 200_000;
/// Runs of one bulk request.
const RUNS_MAX: usize = 100;

#[derive(Debug, FromQueryResult)]
struct PointRow {
    value: f64,
    nan: i64,
    at_ms: i64,
    step: i64,
}

impl Tracking {
    /// A metric's values by time, step and value; all, or a page of them.
    ///
    /// # Errors
    /// `RESOURCE_DOES_NOT_EXIST`, or a token of another list.
    pub async fn metric_history(
        &self,
        scope: &Scope,
        asked: &GetMetricHistory,
    ) -> Result<get_metric_history::Response> {
        let size = match asked.max_results {
            Some(size) if size <= 0 => {
                return Err(MlflowError::invalid(format!(
                    "Invalid value {size} for parameter 'max_results' supplied. It must be a positive integer."
                )));
            }
            Some(size) => u32::try_from(size).unwrap_or(POINTS_MAX).min(POINTS_MAX),
            None => HISTORY_MAX,
        };
        let id = either(asked.run_id(), asked.run_uuid());
        self.run_row(scope, id).await?;
        let columns = [
            ("at_ms", Kind::Integer),
            ("step", Kind::Integer),
            ("value", Kind::Real),
            ("nan", Kind::Integer),
        ];
        let columns = columns.map(|(sql, kind)| Column::new(sql, true, kind)).to_vec();
        let mut values = Values::default();
        let conditions = vec![
            format!("run_id = {}", values.add(id)),
            format!("key = {}", values.add(asked.metric_key())),
        ];
        let listing = Listing {
            name: format!("history:{id}:{}", asked.metric_key()),
            token: asked.page_token(),
            size,
            columns: "value, nan, at_ms, step",
            from: "run_metric".to_owned(),
            conditions,
            values,
            paged: Paged { columns },
        };
        let (rows, next_page_token) = listing.read::<PointRow>(&self.sql).await?;
        let metrics = rows.into_iter().map(|row| Metric {
            key: asked.metric_key.clone(),
            value: Some(value_of(row.value, row.nan)),
            timestamp: Some(row.at_ms),
            step: Some(row.step),
            ..Metric::default()
        });
        Ok(get_metric_history::Response { metrics: metrics.collect(), next_page_token })
    }

    /// Values of a metric of several runs, evenly thinned to so many each; the
    /// first and the last are kept.
    ///
    /// # Errors
    /// `RESOURCE_DOES_NOT_EXIST`; half an interval.
    pub async fn metric_history_bulk(
        &self,
        scope: &Scope,
        asked: &GetMetricHistoryBulkInterval,
    ) -> Result<get_metric_history_bulk_interval::Response> {
        const POINTS_DEFAULT: i32 = 2_500;
        let (from, to) = interval(asked)?;
        if asked.run_ids.len() > RUNS_MAX {
            return Err(MlflowError::invalid(format!(
                "GetMetricHistoryBulkInterval request cannot specify more than {RUNS_MAX} run_ids. \
                 Received {} run_ids.",
                asked.run_ids.len()
            )));
        }
        for id in &asked.run_ids {
            self.run_row(scope, id).await?;
        }
        let most = i64::from(asked.max_results.unwrap_or(POINTS_DEFAULT).clamp(1, POINTS_DEFAULT));
        let mut metrics = Vec::new();
        for id in &asked.run_ids {
            // Row n of count c is kept where n * most / c steps up, and at the ends.
            let sql = "SELECT value, nan, at_ms, step FROM (SELECT value, nan, at_ms, step, \
                       ROW_NUMBER() OVER (ORDER BY step, at_ms, value, nan) - 1 AS n, COUNT(*) OVER () AS c \
                       FROM run_metric WHERE run_id = $1 AND key = $2 AND step >= $3 AND step <= $4) AS points \
                       WHERE c <= $5 OR n = c - 1 OR ($5 > 1 AND (n = 0 OR (n * ($5 - 1)) / NULLIF(c - 1, 0) \
                       <> ((n - 1) * ($5 - 1)) / NULLIF(c - 1, 0))) ORDER BY n";
            let values = vec![
                id.clone().into(),
                asked.metric_key().into(),
                from.into(),
                to.into(),
                most.into(),
            ];
            let rows: Vec<PointRow> = all(self.sql.read(), sql, values).await?;
            metrics.extend(rows.into_iter().map(|row| MetricWithRunId {
                key: asked.metric_key.clone(),
                value: Some(value_of(row.value, row.nan)),
                timestamp: Some(row.at_ms),
                step: Some(row.step),
                run_id: Some(id.clone()),
            }));
        }
        Ok(get_metric_history_bulk_interval::Response { metrics })
    }
}

fn interval(asked: &GetMetricHistoryBulkInterval) -> Result<(i64, i64)> {
    match (asked.start_step, asked.end_step) {
        (None, None) => Ok((i64::MIN, i64::MAX)),
        (Some(from), Some(to)) if from <= to => Ok((from.into(), to.into())),
        (Some(from), Some(to)) => Err(MlflowError::invalid(format!(
            "end_step must be greater than start_step. Found start_step={from} and end_step={to}."
        ))),
        _ => Err(MlflowError::invalid(
            "If either start step or end step are specified, both must be specified.",
        )),
    }
}
