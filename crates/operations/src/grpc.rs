//! `quarry.ops.v1.Ops` of one role.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use ops_api::v1 as wire;
use ops_api::v1::ops_server::Ops;
use service_error::ServiceError;
use sql_store::now_micros;
use tonic::{Request, Response, Status};

use crate::store::{self, Point, Series, Statistics};
use crate::{OfRole, SAMPLE_EVERY};

const HOURS_DEFAULT: i32 = 24;
const HOURS_MAX: i32 = 168;
/// Points of a span whose step is not given.
const POINTS_DEFAULT: u64 = 288;
/// More points of one metric are not answered.
const POINTS_MAX: u64 = 2_000;
const METRICS_MAX: usize = 100;

/// The RPCs.
pub struct Surface(pub Arc<OfRole>);

type Answer<T> = Result<Response<T>, Status>;

impl Surface {
    /// Whether a request that names a service means this one.
    fn is_meant(&self, service: &str) -> bool {
        service.is_empty() || service == self.0.role
    }
}

#[tonic::async_trait]
impl Ops for Surface {
    async fn get_info(&self, _: Request<wire::GetInfoRequest>) -> Answer<wire::GetInfoResponse> {
        let process = &self.0.process;
        let info = wire::ProcessInfo {
            instance: process.instance().to_owned(),
            version: process.version().to_owned(),
            roles: vec![self.0.role.to_owned()],
            start_time: Some(time(process.started_at()).into()),
            host: process.host().to_owned(),
            pid: std::process::id(),
            time: Some(time(now_micros()).into()),
        };
        Ok(Response::new(wire::GetInfoResponse { processes: vec![info], unreachable: Vec::new() }))
    }

    async fn list_settings(
        &self,
        _: Request<wire::ListSettingsRequest>,
    ) -> Answer<wire::ListSettingsResponse> {
        let process = &self.0.process;
        let settings = process.settings().iter().cloned().map(|listed| wire::Setting {
            key: listed.key,
            value: listed.value,
            source: listed.source,
            secret: listed.secret,
        });
        let settings = wire::ProcessSettings {
            instance: process.instance().to_owned(),
            roles: vec![self.0.role.to_owned()],
            settings: settings.collect(),
        };
        let processes = vec![settings];
        Ok(Response::new(wire::ListSettingsResponse { processes, unreachable: Vec::new() }))
    }

    async fn get_database_statistics(
        &self,
        request: Request<wire::GetDatabaseStatisticsRequest>,
    ) -> Answer<wire::GetDatabaseStatisticsResponse> {
        let asked = request.into_inner();
        let mut services = Vec::new();
        if let Some(database) = self.0.database.as_ref().filter(|_| self.is_meant(&asked.service)) {
            let found = store::statistics(database, asked.exact).await?;
            services.push(to_wire(self.0.role, database.schema, &database.migrations, found));
        }
        Ok(Response::new(wire::GetDatabaseStatisticsResponse { services, unreachable: Vec::new() }))
    }

    async fn optimize_database(
        &self,
        request: Request<wire::OptimizeDatabaseRequest>,
    ) -> Answer<wire::OptimizeDatabaseResponse> {
        let asked = request.into_inner();
        let mut services = Vec::new();
        if let Some(database) = self.0.database.as_ref().filter(|_| self.is_meant(&asked.service)) {
            let began = Instant::now();
            let tidied = store::tidy(database, asked.vacuum).await?;
            services.push(wire::OptimizedDatabase {
                service: self.0.role.to_owned(),
                byte_count_before: tidied.before,
                byte_count: tidied.after,
                duration_ms: i64::try_from(began.elapsed().as_millis()).unwrap_or(i64::MAX),
            });
        }
        Ok(Response::new(wire::OptimizeDatabaseResponse { services, unreachable: Vec::new() }))
    }

    async fn get_metrics_history(
        &self,
        request: Request<wire::GetMetricsHistoryRequest>,
    ) -> Answer<wire::GetMetricsHistoryResponse> {
        let asked = request.into_inner();
        let (since, step) = span(&asked)?;
        let mut series = Vec::new();
        if let Some(database) = self.0.database.as_ref().filter(|_| self.is_meant(&asked.component))
        {
            let found = store::series(database, since, step, &asked.metrics).await?;
            series.extend(found.into_iter().map(|one| series_to_wire(self.0.role, one)));
        }
        Ok(Response::new(wire::GetMetricsHistoryResponse { series, unreachable: Vec::new() }))
    }
}

/// Since when, in microseconds UTC, and how long a point is.
fn span(asked: &wire::GetMetricsHistoryRequest) -> Result<(i64, Duration), ServiceError> {
    let hours = match asked.hours {
        0 => HOURS_DEFAULT,
        hours @ 1..=HOURS_MAX => hours,
        other => {
            let message = format!("{other} is not between 1 and {HOURS_MAX}");
            return Err(ServiceError::invalid("hours", message));
        }
    };
    if asked.metrics.len() > METRICS_MAX {
        let message = format!("{} names; at most {METRICS_MAX}", asked.metrics.len());
        return Err(ServiceError::invalid("metrics", message));
    }
    let seconds = u64::from(hours.unsigned_abs()) * 3_600;
    let least = SAMPLE_EVERY.as_secs().max(seconds.div_ceil(POINTS_MAX));
    let step = match u64::try_from(asked.step_seconds) {
        Ok(0) => least.max(seconds / POINTS_DEFAULT),
        Ok(step) if step >= least => step,
        _ => {
            let message = format!("{} is less than {least} for {hours} hours", asked.step_seconds);
            return Err(ServiceError::invalid("step_seconds", message));
        }
    };
    let back = i64::try_from(seconds).unwrap_or(i64::MAX) * 1_000_000;
    Ok((now_micros() - back, Duration::from_secs(step)))
}

fn to_wire(
    service: &str,
    schema: &str,
    known: &[String],
    found: Statistics,
) -> wire::ServiceDatabase {
    let pending = known.iter().filter(|name| !found.applied.contains(name)).cloned().collect();
    let unknown = found.applied.iter().filter(|name| !known.contains(name)).cloned().collect();
    // In this program's order, unless another one has gone further.
    let newest = known.iter().rev().find(|name| found.applied.contains(name));
    wire::ServiceDatabase {
        service: service.to_owned(),
        engine: found.engine.to_owned(),
        version: found.version,
        vector_version: found.vector_version,
        schema: schema.to_owned(),
        byte_count: found.bytes,
        tables: found
            .tables
            .into_iter()
            .map(|table| wire::TableStatistics {
                name: table.name,
                row_count: table.rows,
                is_estimate: table.is_estimate,
                byte_count: table.bytes,
            })
            .collect(),
        schema_version: newest.cloned().unwrap_or_default(),
        pending,
        unknown,
    }
}

fn series_to_wire(component: &str, series: Series) -> wire::MetricSeries {
    let point = |point: Point| wire::MetricPoint {
        time: Some(time(point.at).into()),
        sample_count: point.count,
        mean: point.mean,
        min: point.min,
        max: point.max,
        sum: point.sum,
    };
    wire::MetricSeries {
        component: component.to_owned(),
        metric: series.metric,
        points: series.points.into_iter().map(point).collect(),
    }
}

/// A time that was taken here; the message's own type is made of it.
fn time(micros: i64) -> SystemTime {
    UNIX_EPOCH + Duration::from_micros(micros.max(0).cast_unsigned())
}
