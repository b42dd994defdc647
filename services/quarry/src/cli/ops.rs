//! `quarry ops`: what runs, as what, on what.

use clap::Subcommand;
use ops_api::v1 as wire;
use serde_json::{Value as Json, json};

use super::Context;
use crate::failure::Failure;
use crate::output::{Column, column, message_json, note, table};

const PROCESSES: [Column; 6] = [
    column("roles", "roles"),
    column("version", "version"),
    column("host", "host"),
    column("pid", "pid"),
    column("started", "start_time"),
    column("instance", "instance"),
];
const SETTINGS: [Column; 4] = [
    column("roles", "roles"),
    column("key", "key"),
    column("value", "value"),
    column("source", "source"),
];
const TABLES: [Column; 5] = [
    column("service", "service"),
    column("table", "name"),
    column("rows", "row_count"),
    column("estimate", "is_estimate"),
    column("bytes", "byte_count"),
];
const OPTIMIZED: [Column; 4] = [
    column("service", "service"),
    column("bytes before", "byte_count_before"),
    column("bytes", "byte_count"),
    column("ms", "duration_ms"),
];
const POINTS: [Column; 7] = [
    column("component", "component"),
    column("metric", "metric"),
    column("time", "time"),
    column("mean", "mean"),
    column("min", "min"),
    column("max", "max"),
    column("sum", "sum"),
];

#[derive(Debug, Subcommand)]
pub enum OpsCommand {
    /// The processes and the roles that they run
    Info,
    /// Every setting, its value and where it came from; of secrets only that they are set
    Settings {
        /// Only those that were set
        #[arg(long)]
        set: bool,
    },
    /// Sizes, rows and migrations of each service's database
    Database {
        /// Of this service alone, e.g. catalog
        #[arg(long, value_name = "NAME")]
        service: Option<String>,
        /// Count every row instead of taking the database's estimate
        #[arg(long)]
        exact: bool,
    },
    /// Let each service's database look at its tables anew, for better plans
    Optimize {
        /// Of this service alone, e.g. file-indexer
        #[arg(long, value_name = "NAME")]
        service: Option<String>,
        /// Give free space back too; on SQLite writers wait for it
        #[arg(long)]
        vacuum: bool,
    },
    /// What the services measured of themselves
    Metrics {
        /// So far back
        #[arg(long, default_value_t = 24, value_name = "N")]
        hours: i32,
        /// Of this service alone, e.g. catalog
        #[arg(long, value_name = "NAME")]
        component: Option<String>,
        /// This metric alone, e.g. rpc.requests; may be repeated
        #[arg(long, value_name = "NAME")]
        metric: Vec<String>,
        /// Length of a point
        #[arg(long, value_name = "SECONDS")]
        step: Option<i32>,
    },
}

impl OpsCommand {
    pub async fn run(self, context: &Context) -> Result<(), Failure> {
        let mut ops = context.client()?.ops();
        match self {
            Self::Info => {
                let said = ops.get_info(wire::GetInfoRequest {}).await?.into_inner();
                absent(&said.unreachable);
                let document = message_json("quarry.ops.v1.GetInfoResponse", &said)?;
                context
                    .output
                    .answer(&document, || table(&PROCESSES, &list(&document, "processes")))
            }
            Self::Settings { set } => {
                let said = ops.list_settings(wire::ListSettingsRequest {}).await?.into_inner();
                absent(&said.unreachable);
                let rows = settings_of(said, set);
                context.output.answer(&json!({ "settings": rows }), || table(&SETTINGS, &rows))
            }
            Self::Database { service, exact } => {
                let service = service.unwrap_or_default();
                let asked = wire::GetDatabaseStatisticsRequest { service, exact };
                let said = ops.get_database_statistics(asked).await?.into_inner();
                absent(&said.unreachable);
                let document = message_json("quarry.ops.v1.GetDatabaseStatisticsResponse", &said)?;
                context.output.answer(&document, || {
                    table(&TABLES, &inner(&document, "services", "tables", &["service"]))
                })
            }
            Self::Optimize { service, vacuum } => {
                let service = service.unwrap_or_default();
                let asked = wire::OptimizeDatabaseRequest { service, vacuum };
                let said = ops.optimize_database(asked).await?.into_inner();
                absent(&said.unreachable);
                let document = message_json("quarry.ops.v1.OptimizeDatabaseResponse", &said)?;
                context.output.answer(&document, || table(&OPTIMIZED, &list(&document, "services")))
            }
            Self::Metrics { hours, component, metric, step } => {
                let asked = wire::GetMetricsHistoryRequest {
                    hours,
                    component: component.unwrap_or_default(),
                    metrics: metric,
                    step_seconds: step.unwrap_or_default(),
                };
                let said = ops.get_metrics_history(asked).await?.into_inner();
                absent(&said.unreachable);
                let document = message_json("quarry.ops.v1.GetMetricsHistoryResponse", &said)?;
                context.output.answer(&document, || {
                    table(&POINTS, &inner(&document, "series", "points", &["component", "metric"]))
                })
            }
        }
    }
}

fn absent(unreachable: &[String]) {
    if !unreachable.is_empty() {
        note(&format!("no answer from {}", unreachable.join(", ")));
    }
}

fn settings_of(said: wire::ListSettingsResponse, only_set: bool) -> Vec<Json> {
    let mut rows = Vec::new();
    for process in said.processes {
        let roles = process.roles.join(",");
        for one in process.settings {
            if only_set && one.source == "default" {
                continue;
            }
            rows.push(json!({
                "roles": roles,
                "key": one.key,
                "value": one.value,
                "source": one.source,
                "secret": one.secret,
            }));
        }
    }
    rows
}

fn list(document: &Json, name: &str) -> Vec<Json> {
    document[name].as_array().cloned().unwrap_or_default()
}

/// The rows of a list in each of another list's rows, with some of the outer
/// row's fields.
fn inner(document: &Json, outer: &str, name: &str, fields: &[&str]) -> Vec<Json> {
    let mut rows = Vec::new();
    for above in list(document, outer) {
        for mut row in list(&above, name) {
            for field in fields {
                row[*field] = above[*field].clone();
            }
            rows.push(row);
        }
    }
    rows
}
