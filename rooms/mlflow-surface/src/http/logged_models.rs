//! Logged models.

use axum::body::Body;
use axum::http::Response;
use mlflow_wire::path::unescape;
use mlflow_wire::proto::{
    CreateLoggedModel, FinalizeLoggedModel, ListLoggedModelArtifacts, LogLoggedModelParamsRequest,
    SearchLoggedModels, SetLoggedModelTags, create_logged_model, delete_logged_model,
    delete_logged_model_tag, finalize_logged_model, get_logged_model,
    log_logged_model_params_request, set_logged_model_tags,
};
use mlflow_wire::routes::Operation as Op;
use mlflow_wire::{Check, Result, Schema};

use super::asked::{Asked, answer as render};
use super::{artifacts, unserved};

const CREATE: Schema = &[
    ("experiment_id", &[Check::Str, Check::Required]),
    ("name", &[Check::Str]),
    ("model_type", &[Check::Str]),
    ("source_run_id", &[Check::Str]),
    ("params", &[Check::Array]),
    ("tags", &[Check::Array]),
];
const SEARCH: Schema = &[
    ("experiment_ids", &[Check::Array, Check::Strings, Check::Required]),
    ("filter", &[Check::Str]),
    ("datasets", &[Check::Array]),
    ("max_results", &[Check::Int]),
    ("order_by", &[Check::Array]),
    ("page_token", &[Check::Str]),
];
const MODEL: (&str, &[Check]) = ("model_id", &[Check::Str, Check::Required]);

pub async fn answer(asked: &Asked) -> Result<Response<Body>> {
    let tracking = &asked.surface.tracking;
    let scope = &asked.scope().await?;
    let id = asked.part(0);
    match asked.route.operation {
        Op::CreateLoggedModel => {
            let message: CreateLoggedModel = asked.read(CREATE)?;
            let model = Some(tracking.create_logged_model(scope, &message).await?);
            render(&create_logged_model::Response { model })
        }
        Op::SearchLoggedModels => {
            let message: SearchLoggedModels = asked.read(SEARCH)?;
            render(&tracking.search_logged_models(scope, &message).await?)
        }
        Op::GetLoggedModel => {
            let also_deleted = asked.parameter("allow_deleted");
            let also_deleted = also_deleted.is_some_and(|text| text.eq_ignore_ascii_case("true"));
            let model = Some(tracking.get_logged_model(scope, id, also_deleted).await?);
            render(&get_logged_model::Response { model })
        }
        Op::FinalizeLoggedModel => {
            let message: FinalizeLoggedModel =
                asked.read(&[MODEL, ("status", &[Check::Int, Check::Required])])?;
            let model = tracking
                .finalize_logged_model(scope, message.model_id(), message.status() as i32)
                .await?;
            render(&finalize_logged_model::Response { model: Some(model) })
        }
        Op::DeleteLoggedModel => {
            tracking.delete_logged_model(scope, id).await?;
            render(&delete_logged_model::Response {})
        }
        Op::SetLoggedModelTags => {
            let message: SetLoggedModelTags = asked.read(&[("tags", &[Check::Array])])?;
            tracking.set_logged_model_tags(scope, id, &message.tags).await?;
            render(&set_logged_model_tags::Response { model: None })
        }
        Op::DeleteLoggedModelTag => {
            let key = unescape(asked.part(1)).unwrap_or_default();
            tracking.delete_logged_model_tag(scope, id, &key).await?;
            render(&delete_logged_model_tag::Response {})
        }
        Op::LogLoggedModelParams => {
            let message: LogLoggedModelParamsRequest =
                asked.read(&[MODEL, ("params", &[Check::Array])])?;
            tracking.log_logged_model_params(scope, id, &message.params).await?;
            render(&log_logged_model_params_request::Response {})
        }
        Op::ListLoggedModelArtifacts => {
            let message: ListLoggedModelArtifacts =
                asked.read(&[("artifact_directory_path", &[Check::Str])])?;
            let model = tracking.get_logged_model(scope, id, false).await?;
            let root = model.info.and_then(|info| info.artifact_uri).unwrap_or_default();
            artifacts::list_below(asked, &root, message.artifact_directory_path.as_deref()).await
        }
        _ => Err(unserved(asked)),
    }
}
