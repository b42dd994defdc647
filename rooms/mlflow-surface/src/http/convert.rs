//! The registry's models and versions as MLflow's messages.

use mlflow_wire::proto::{
    ModelVersion as VersionMessage, ModelVersionStatus, ModelVersionTag, RegisteredModel,
    RegisteredModelAlias, RegisteredModelTag,
};
use mlflow_wire::{ErrorCode, MlflowError};
use service_error::ServiceError;

use crate::model::{Model, ModelVersion, VersionStatus};

/// A version's message.
pub fn version(version: ModelVersion) -> VersionMessage {
    let status = match version.status {
        VersionStatus::Pending => ModelVersionStatus::PendingRegistration,
        VersionStatus::Ready => ModelVersionStatus::Ready,
        VersionStatus::Failed => ModelVersionStatus::FailedRegistration,
    };
    let tags = version.tags.into_iter();
    VersionMessage {
        name: Some(version.model),
        version: Some(version.number.to_string()),
        creation_timestamp: Some(version.created_at / 1_000),
        last_updated_timestamp: Some(version.updated_at / 1_000),
        current_stage: Some(version.stage),
        description: Some(version.description),
        source: Some(version.source),
        run_id: Some(version.run_id),
        run_link: Some(version.run_link),
        status: Some(status as i32),
        status_message: Some(version.status_message).filter(|text| !text.is_empty()),
        tags: tags
            .map(|(key, value)| ModelVersionTag { key: Some(key), value: Some(value) })
            .collect(),
        aliases: version.aliases,
        ..VersionMessage::default()
    }
}

/// A model's message, with the newest version of each stage.
pub fn model(model: Model, latest: Vec<ModelVersion>) -> RegisteredModel {
    let tags = model.tags.into_iter();
    let aliases = model.aliases.into_iter();
    RegisteredModel {
        name: Some(model.name),
        creation_timestamp: Some(model.created_at / 1_000),
        last_updated_timestamp: Some(model.updated_at / 1_000),
        description: Some(model.description).filter(|text| !text.is_empty()),
        latest_versions: latest.into_iter().map(version).collect(),
        tags: tags
            .map(|(key, value)| RegisteredModelTag { key: Some(key), value: Some(value) })
            .collect(),
        aliases: aliases
            .map(|alias| RegisteredModelAlias {
                alias: Some(alias.name),
                version: Some(alias.number.to_string()),
            })
            .collect(),
        ..RegisteredModel::default()
    }
}

/// The registry's refusal in MLflow's words for a model.
pub fn of_model(name: &str) -> impl Fn(ServiceError) -> MlflowError {
    move |error| {
        if error.reason_is("MODEL_NOT_FOUND") {
            return MlflowError::missing(format!("Registered Model with name={name} not found"));
        }
        error.into()
    }
}

/// The registry's refusal in MLflow's words for a version.
pub fn of_version(name: &str, number: i64) -> impl Fn(ServiceError) -> MlflowError {
    move |error| {
        if error.reason_is("MODEL_NOT_FOUND") || error.reason_is("MODEL_VERSION_NOT_FOUND") {
            return MlflowError::missing(format!(
                "Model Version (name={name}, version={number}) not found"
            ));
        }
        error.into()
    }
}

/// That a model's name is taken.
pub fn taken(name: &str, is_prompt: bool, wanted_prompt: bool) -> MlflowError {
    let kind = |is_prompt: bool| if is_prompt { "Prompt" } else { "Registered Model" };
    let message = if is_prompt == wanted_prompt {
        format!("{} (name={name}) already exists.", kind(wanted_prompt))
    } else {
        format!(
            "Tried to create a {} with name '{name}', but the name is already taken by a {}. MLflow does not allow \
             creating a model and a prompt with the same name.",
            kind(wanted_prompt).to_lowercase(),
            kind(is_prompt).to_lowercase()
        )
    };
    MlflowError::new(ErrorCode::ResourceAlreadyExists, message)
}
