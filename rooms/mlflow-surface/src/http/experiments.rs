//! Experiments.

use axum::body::Body;
use axum::http::Response;
use mlflow_wire::proto::{
    CreateExperiment, DeleteExperiment, DeleteExperimentTag, GetExperiment, GetExperimentByName,
    RestoreExperiment, SearchDatasets, SearchExperiments, SetExperimentTag, UpdateExperiment,
    delete_experiment, delete_experiment_tag, get_experiment, get_experiment_by_name,
    restore_experiment, set_experiment_tag, update_experiment,
};
use mlflow_wire::routes::Operation as Op;
use mlflow_wire::{Check, Result, Schema};

use super::asked::{Asked, answer as render};
use super::{source, unserved};

const ID: (&str, &[Check]) = ("experiment_id", &[Check::Required, Check::Str]);
const BY_ID: Schema = &[ID];
const CREATE: Schema = &[
    ("name", &[Check::Required, Check::Str]),
    ("artifact_location", &[Check::Str]),
    ("tags", &[Check::Array]),
];
const SEARCH: Schema = &[
    ("view_type", &[Check::Int]),
    ("max_results", &[Check::Int]),
    ("order_by", &[Check::Array]),
    ("filter", &[Check::Str]),
    ("page_token", &[Check::Str]),
];
const KEY: (&str, &[Check]) = ("key", &[Check::Required, Check::Str]);

pub async fn answer(asked: &Asked) -> Result<Response<Body>> {
    let tracking = &asked.surface.tracking;
    let scope = &asked.scope().await?;
    match asked.route.operation {
        Op::CreateExperiment => {
            let message: CreateExperiment = asked.read(CREATE)?;
            source::check_location(message.artifact_location())?;
            render(&tracking.create_experiment(scope, &message).await?)
        }
        Op::GetExperiment => {
            let message: GetExperiment = asked.read(BY_ID)?;
            let experiment = Some(tracking.get_experiment(scope, message.experiment_id()).await?);
            render(&get_experiment::Response { experiment })
        }
        Op::GetExperimentByName => {
            let message: GetExperimentByName =
                asked.read(&[("experiment_name", &[Check::Required, Check::Str])])?;
            let name = message.experiment_name();
            let experiment = Some(tracking.get_experiment_by_name(scope, name).await?);
            render(&get_experiment_by_name::Response { experiment })
        }
        Op::DeleteExperiment => {
            let message: DeleteExperiment = asked.read(BY_ID)?;
            tracking.set_experiment_lifecycle(scope, message.experiment_id(), true).await?;
            render(&delete_experiment::Response {})
        }
        Op::RestoreExperiment => {
            let message: RestoreExperiment = asked.read(BY_ID)?;
            tracking.set_experiment_lifecycle(scope, message.experiment_id(), false).await?;
            render(&restore_experiment::Response {})
        }
        Op::UpdateExperiment => {
            let message: UpdateExperiment =
                asked.read(&[ID, ("new_name", &[Check::Str, Check::Required])])?;
            let (id, name) = (message.experiment_id(), message.new_name());
            tracking.rename_experiment(scope, id, name).await?;
            render(&update_experiment::Response {})
        }
        Op::SetExperimentTag => {
            let message: SetExperimentTag = asked.read(&[ID, KEY, ("value", &[Check::Str])])?;
            let (id, key, value) = (message.experiment_id(), message.key(), message.value());
            tracking.set_experiment_tag(scope, id, key, value).await?;
            render(&set_experiment_tag::Response {})
        }
        Op::DeleteExperimentTag => {
            let message: DeleteExperimentTag = asked.read(&[ID, KEY])?;
            tracking.delete_experiment_tag(scope, message.experiment_id(), message.key()).await?;
            render(&delete_experiment_tag::Response {})
        }
        Op::SearchExperiments => {
            let message: SearchExperiments = asked.read(SEARCH)?;
            render(&tracking.search_experiments(scope, &message).await?)
        }
        Op::SearchDatasets => {
            let message: SearchDatasets = asked.read(&[])?;
            render(&tracking.search_datasets(scope, &message).await?)
        }
        _ => Err(unserved(asked)),
    }
}
