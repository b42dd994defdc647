//! Runs and what is logged to them.

use axum::body::Body;
use axum::http::Response;
use mlflow_wire::proto::{
    CreateRun, DeleteRun, DeleteTag, GetMetricHistory, GetMetricHistoryBulkInterval, GetRun,
    LogBatch, LogInputs, LogMetric, LogModel, LogOutputs, LogParam, RestoreRun, SearchRuns, SetTag,
    UpdateRun, create_run, delete_run, delete_tag, get_run, log_batch, log_inputs, log_metric,
    log_model, log_outputs, log_param, restore_run, set_tag, update_run,
};
use mlflow_wire::routes::Operation as Op;
use mlflow_wire::{Check, MlflowError, Result, Schema};
use tracking::{DatasetEdge, NamedDataset, Resolved};

use super::asked::{Asked, answer as render};
use super::unserved;

const ID: (&str, &[Check]) = ("run_id", &[Check::Required, Check::Str]);
const BY_ID: Schema = &[ID];
const KEY: (&str, &[Check]) = ("key", &[Check::Required, Check::Str]);
const CREATE: Schema =
    &[("experiment_id", &[Check::Str]), ("start_time", &[Check::Int]), ("run_name", &[Check::Str])];
const UPDATE: Schema =
    &[ID, ("end_time", &[Check::Int]), ("status", &[Check::Str]), ("run_name", &[Check::Str])];
const METRIC: Schema = &[
    ID,
    KEY,
    ("value", &[Check::Required, Check::Float]),
    ("timestamp", &[Check::Int, Check::Required]),
    ("step", &[Check::Int]),
    ("model_id", &[Check::Str]),
    ("dataset_name", &[Check::Str]),
    ("dataset_digest", &[Check::Str]),
];
const BATCH: Schema = &[
    ("run_id", &[Check::Str, Check::Required]),
    ("metrics", &[Check::Array, Check::Each(&["key", "value", "timestamp"])]),
    ("params", &[Check::Array, Check::Each(&["key"])]),
    ("tags", &[Check::Array, Check::Each(&["key"])]),
];
const SEARCH: Schema = &[
    ("experiment_ids", &[Check::Array]),
    ("filter", &[Check::Str]),
    ("max_results", &[Check::Int, Check::AtMost(50_000)]),
    ("order_by", &[Check::Array, Check::Strings]),
];
const HISTORY: Schema = &[
    ("run_id", &[Check::Str, Check::Required]),
    ("metric_key", &[Check::Str, Check::Required]),
    ("page_token", &[Check::Str]),
];

pub async fn answer(asked: &Asked) -> Result<Response<Body>> {
    match asked.route.operation {
        Op::CreateRun
        | Op::UpdateRun
        | Op::DeleteRun
        | Op::RestoreRun
        | Op::GetRun
        | Op::SearchRuns
        | Op::SetTag
        | Op::DeleteTag => of_run(asked).await,
        _ => logged(asked).await,
    }
}

/// The run that a message names by its new or its old field.
fn named<'a>(id: &'a str, old: &'a str) -> &'a str {
    if id.is_empty() { old } else { id }
}

async fn of_run(asked: &Asked) -> Result<Response<Body>> {
    let tracking = &asked.surface.tracking;
    let scope = &asked.scope().await?;
    match asked.route.operation {
        Op::CreateRun => {
            let message: CreateRun = asked.read(CREATE)?;
            let run = Some(tracking.create_run(scope, &message).await?);
            render(&create_run::Response { run })
        }
        Op::GetRun => {
            let message: GetRun = asked.read(BY_ID)?;
            let id = named(message.run_id(), message.run_uuid());
            let run = Some(tracking.get_run(scope, id).await?);
            render(&get_run::Response { run })
        }
        Op::UpdateRun => {
            let message: UpdateRun = asked.read(UPDATE)?;
            let run_info = Some(tracking.update_run(scope, &message).await?);
            render(&update_run::Response { run_info })
        }
        Op::DeleteRun => {
            let message: DeleteRun = asked.read(BY_ID)?;
            tracking.set_run_lifecycle(scope, message.run_id(), true).await?;
            render(&delete_run::Response {})
        }
        Op::RestoreRun => {
            let message: RestoreRun = asked.read(BY_ID)?;
            tracking.set_run_lifecycle(scope, message.run_id(), false).await?;
            render(&restore_run::Response {})
        }
        Op::SearchRuns => {
            let message: SearchRuns = asked.read(SEARCH)?;
            render(&tracking.search_runs(scope, &message).await?)
        }
        Op::SetTag => {
            let message: SetTag = asked.read(&[ID, KEY, ("value", &[Check::Str])])?;
            let id = named(message.run_id(), message.run_uuid());
            tracking.set_run_tag(scope, id, message.key(), message.value()).await?;
            render(&set_tag::Response {})
        }
        _ => {
            let message: DeleteTag = asked.read(&[ID, KEY])?;
            tracking.delete_run_tag(scope, message.run_id(), message.key()).await?;
            render(&delete_tag::Response {})
        }
    }
}

async fn logged(asked: &Asked) -> Result<Response<Body>> {
    let tracking = &asked.surface.tracking;
    let scope = &asked.scope().await?;
    match asked.route.operation {
        Op::LogMetric => {
            tracking.log_metric(scope, &asked.read::<LogMetric>(METRIC)?).await?;
            render(&log_metric::Response {})
        }
        Op::LogParam => {
            let message: LogParam = asked.read(&[ID, KEY, ("value", &[Check::Str])])?;
            tracking.log_param(scope, &message).await?;
            render(&log_param::Response {})
        }
        Op::LogBatch => {
            tracking.log_batch(scope, &asked.read::<LogBatch>(BATCH)?).await?;
            render(&log_batch::Response {})
        }
        Op::LogModel => {
            let message: LogModel = asked.read(&[
                ("run_id", &[Check::Str, Check::Required]),
                ("model_json", &[Check::Str, Check::Required]),
            ])?;
            tracking.log_model(scope, message.run_id(), message.model_json()).await?;
            render(&log_model::Response {})
        }
        Op::LogInputs => {
            let message: LogInputs =
                asked.read(&[ID, ("datasets", &[Check::Array]), ("models", &[Check::Array])])?;
            let resolved = resolve(asked, &message).await?;
            tracking.log_inputs(scope, &message, &resolved).await?;
            render(&log_inputs::Response {})
        }
        Op::LogOutputs => {
            let message: LogOutputs =
                asked.read(&[ID, ("models", &[Check::Required, Check::Array])])?;
            tracking.log_outputs(scope, &message).await?;
            render(&log_outputs::Response {})
        }
        Op::GetMetricHistory => {
            let message: GetMetricHistory = asked.read(HISTORY)?;
            render(&tracking.metric_history(scope, &message).await?)
        }
        Op::GetMetricHistoryBulkInterval => {
            let message: GetMetricHistoryBulkInterval = asked.read(&[
                ("run_ids", &[Check::Required, Check::Array, Check::Strings]),
                ("metric_key", &[Check::Required, Check::Str]),
                ("max_results", &[Check::Int]),
            ])?;
            render(&tracking.metric_history_bulk(scope, &message).await?)
        }
        _ => Err(unserved(asked)),
    }
}

/// Which of a run's datasets are the catalog's: those whose source says so and
/// that the caller may read.
async fn resolve(asked: &Asked, message: &LogInputs) -> Result<Resolved> {
    let (mut resolved, origin) = (Resolved::new(), asked.origin());
    for input in &message.datasets {
        let source = input.dataset.as_ref().map(|dataset| dataset.source()).unwrap_or_default();
        let Some(named) = NamedDataset::of_source(source, &origin) else { continue };
        if resolved.contains_key(source) {
            continue;
        }
        let registry = &asked.surface.registry;
        let NamedDataset { namespace, dataset, version } = &named;
        let found = registry
            .dataset(asked.caller()?, namespace, dataset, version.unwrap_or(0))
            .await
            .map_err(|error| {
                MlflowError::invalid(format!(
                    "The dataset source '{source}' names no dataset version that you may read: {}",
                    error.message()
                ))
            })?;
        let edge = DatasetEdge {
            id: found.id,
            name: found.name,
            version: found.version,
            context: String::new(),
        };
        resolved.insert(source.to_owned(), edge);
    }
    Ok(resolved)
}
