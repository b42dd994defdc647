//! What a webhook is sent: MLflow's own shape, so that its receivers read it,
//! with what is ours beside it.

use std::collections::BTreeMap;

use mlflow_wire::search::IS_PROMPT;
use serde_json::{Value as Json, json};

use crate::model::{Event, EventKind, Model, ModelVersion, Of, Subscription};

/// The template of a prompt's version.
const PROMPT_TEXT: &str = "mlflow.prompt.text";
/// Tags by which MLflow knows its prompts; they are told in other ways.
const PROMPT_TAGS: [&str; 2] = [IS_PROMPT, "_mlflow_prompt_type"];

/// Whether MLflow takes a model for one of its prompts.
#[must_use]
pub fn is_prompt(model: &Model) -> bool {
    model.tags.get(IS_PROMPT).is_some_and(|value| value.eq_ignore_ascii_case("true"))
}

/// The body of a delivery to whom is told of models, or of prompts.
#[must_use]
pub fn payload(
    event: &Event,
    of: Of,
    model: Option<&Model>,
    version: Option<&ModelVersion>,
) -> String {
    let (entity, action) = words(event.change.kind, of);
    let data = match of {
        Of::Prompts => prompt(event, model, version),
        Of::Everything | Of::Models => data(event, model, version),
    };
    json!({
        "entity": entity,
        "action": action,
        "timestamp": timestamp(event.at),
        "workspace": event.namespace,
        "data": data,
        "event": { "seq": event.seq, "id": event.id.to_string(), "actor": event.actor.to_string() },
    })
    .to_string()
}

/// The body of a trial: MLflow's own example of what the event would bring.
#[must_use]
pub fn example(of: Subscription, namespace: &str, at: i64) -> String {
    use EventKind as Kind;
    let (entity, action) = words(of.kind, of.of);
    let is_prompt = of.of == Of::Prompts;
    let (name, what) = if is_prompt {
        ("example_prompt", "prompt")
    } else {
        ("example_model", "registered model")
    };
    let tags = json!({ "example_key": "example_value" });
    let data = match of.kind {
        Kind::ModelCreated => json!({
            "name": name, "tags": tags, "description": format!("An example {what}"),
        }),
        Kind::VersionCreated if is_prompt => json!({
            "name": name, "version": "1", "template": "Hello {{name}}!", "tags": tags,
            "description": "An example prompt version",
        }),
        Kind::VersionCreated => json!({
            "name": name, "version": "1", "source": "models:/123", "run_id": "abcd1234abcd5678",
            "tags": tags, "description": "An example model version",
        }),
        Kind::ModelTagSet => {
            json!({ "name": name, "key": "example_key", "value": "example_value" })
        }
        Kind::ModelTagDeleted => json!({ "name": name, "key": "example_key" }),
        Kind::VersionTagSet => json!({
            "name": name, "version": "1", "key": "example_key", "value": "example_value",
        }),
        Kind::VersionTagDeleted => json!({ "name": name, "version": "1", "key": "example_key" }),
        Kind::AliasSet => json!({ "name": name, "alias": "example_alias", "version": "1" }),
        Kind::AliasDeleted => json!({ "name": name, "alias": "example_alias" }),
        _ => json!({ "name": name, "version": "1", "subject": "", "before": "", "after": "" }),
    };
    json!({
        "entity": entity, "action": action, "timestamp": timestamp(at), "workspace": namespace,
        "data": data,
    })
    .to_string()
}

/// MLflow's words for what it knows, and words of the same kind for the rest.
#[must_use]
pub const fn words(kind: EventKind, of: Of) -> (&'static str, &'static str) {
    use EventKind as Kind;
    match (kind, of) {
        (Kind::ModelCreated, Of::Prompts) => return ("prompt", "created"),
        (Kind::VersionCreated, Of::Prompts) => return ("prompt_version", "created"),
        (Kind::ModelTagSet, Of::Prompts) => return ("prompt_tag", "set"),
        (Kind::ModelTagDeleted, Of::Prompts) => return ("prompt_tag", "deleted"),
        (Kind::VersionTagSet, Of::Prompts) => return ("prompt_version_tag", "set"),
        (Kind::VersionTagDeleted, Of::Prompts) => return ("prompt_version_tag", "deleted"),
        (Kind::AliasSet, Of::Prompts) => return ("prompt_alias", "created"),
        (Kind::AliasDeleted, Of::Prompts) => return ("prompt_alias", "deleted"),
        _ => {}
    }
    match kind {
        Kind::ModelCreated => ("registered_model", "created"),
        Kind::ModelUpdated => ("registered_model", "updated"),
        Kind::ModelRenamed => ("registered_model", "renamed"),
        Kind::ModelDeleted => ("registered_model", "deleted"),
        Kind::ModelRestored => ("registered_model", "restored"),
        Kind::ModelPurged => ("registered_model", "purged"),
        Kind::ModelTagSet => ("registered_model_tag", "set"),
        Kind::ModelTagDeleted => ("registered_model_tag", "deleted"),
        Kind::VersionCreated => ("model_version", "created"),
        Kind::VersionUpdated => ("model_version", "updated"),
        Kind::VersionDeleted => ("model_version", "deleted"),
        Kind::VersionRestored => ("model_version", "restored"),
        Kind::VersionReady => ("model_version", "ready"),
        Kind::VersionFailed => ("model_version", "failed"),
        Kind::VersionTagSet => ("model_version_tag", "set"),
        Kind::VersionTagDeleted => ("model_version_tag", "deleted"),
        Kind::AliasSet => ("model_version_alias", "created"),
        Kind::AliasDeleted => ("model_version_alias", "deleted"),
        Kind::StageRequested => ("model_version_stage", "requested"),
        Kind::StageApproved => ("model_version_stage", "approved"),
        Kind::StageRejected => ("model_version_stage", "rejected"),
        Kind::StageChanged => ("model_version_stage", "changed"),
        Kind::DeploymentChanged => ("deployment", "changed"),
        Kind::DeploymentDeleted => ("deployment", "deleted"),
        Kind::CardSet => ("model_card", "set"),
        Kind::VersionDataLogged => ("model_version_data", "logged"),
        Kind::LineageAdded => ("model_version_lineage", "added"),
        Kind::VersionScanned => ("model_version_scan", "finished"),
        Kind::VersionSigned => ("model_version_signature", "added"),
    }
}

/// What is told of a prompt where it differs from a model.
fn prompt(event: &Event, model: Option<&Model>, version: Option<&ModelVersion>) -> Json {
    let plain = |tags: &BTreeMap<String, String>| -> BTreeMap<String, String> {
        let own = tags.iter().filter(|(key, _)| !PROMPT_TAGS.contains(&key.as_str()));
        own.map(|(key, value)| (key.clone(), value.clone())).collect()
    };
    match event.change.kind {
        EventKind::ModelCreated => json!({
            "name": event.model,
            "tags": model.map(|model| plain(&model.tags)),
            "description": model.map(|model| &model.description),
        }),
        EventKind::VersionCreated => {
            let mut tags = version.map(|version| plain(&version.tags)).unwrap_or_default();
            let template = tags.remove(PROMPT_TEXT);
            let description =
                version.map(|version| &version.description).filter(|text| !text.is_empty());
            json!({
                "name": event.model,
                "version": event.change.number.to_string(),
                "template": template,
                "tags": tags,
                "description": description,
            })
        }
        _ => data(event, model, version),
    }
}

fn data(event: &Event, model: Option<&Model>, version: Option<&ModelVersion>) -> Json {
    use EventKind as Kind;
    let name = &event.model;
    let number = event.change.number.to_string();
    let subject = &event.change.subject;
    match event.change.kind {
        Kind::ModelCreated => json!({
            "name": name,
            "tags": model.map(|model| &model.tags),
            "description": model.map(|model| &model.description),
        }),
        Kind::VersionCreated => json!({
            "name": name,
            "version": number,
            "source": event.change.after,
            "run_id": version.map(|version| &version.run_id).filter(|id| !id.is_empty()),
            "tags": version.map(|version| &version.tags),
            "description": version.map(|version| &version.description),
        }),
        Kind::VersionTagSet => json!({
            "name": name, "version": number, "key": subject, "value": event.change.after,
        }),
        Kind::VersionTagDeleted => json!({ "name": name, "version": number, "key": subject }),
        Kind::ModelTagSet => json!({ "name": name, "key": subject, "value": event.change.after }),
        Kind::ModelTagDeleted => json!({ "name": name, "key": subject }),
        Kind::AliasSet => json!({ "name": name, "alias": subject, "version": number }),
        Kind::AliasDeleted => json!({ "name": name, "alias": subject }),
        _ => json!({
            "name": name,
            "version": Some(number).filter(|_| event.change.number > 0),
            "subject": subject,
            "before": event.change.before,
            "after": event.change.after,
        }),
    }
}

fn timestamp(micros: i64) -> String {
    let time = chrono::DateTime::from_timestamp_micros(micros).unwrap_or_default();
    time.to_rfc3339_opts(chrono::SecondsFormat::Micros, false)
}
