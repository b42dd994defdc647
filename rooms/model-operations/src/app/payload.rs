//! What a webhook is sent: MLflow's own shape, so that its receivers read it,
//! with what is ours beside it.

use serde_json::{Value as Json, json};

use crate::model::{Event, EventKind, Model, ModelVersion};

/// The body of a delivery.
#[must_use]
pub fn payload(event: &Event, model: Option<&Model>, version: Option<&ModelVersion>) -> String {
    let (entity, action) = words(event.change.kind);
    json!({
        "entity": entity,
        "action": action,
        "timestamp": timestamp(event.at),
        "workspace": event.namespace,
        "data": data(event, model, version),
        "event": { "seq": event.seq, "id": event.id.to_string(), "actor": event.actor.to_string() },
    })
    .to_string()
}

/// MLflow's words for what it knows, and words of the same kind for the rest.
#[must_use]
pub const fn words(kind: EventKind) -> (&'static str, &'static str) {
    use EventKind as Kind;
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
