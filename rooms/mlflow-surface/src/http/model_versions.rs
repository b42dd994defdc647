//! Versions of registered models.

use std::collections::BTreeMap;

use axum::body::Body;
use axum::http::Response;
use mlflow_wire::proto::{
    CreateModelVersion, DeleteModelVersion, DeleteModelVersionTag, GetModelVersion,
    GetModelVersionDownloadUri, SearchModelVersions, SetModelVersionTag,
    TransitionModelVersionStage, UpdateModelVersion, create_model_version, delete_model_version,
    delete_model_version_tag, get_model_version, get_model_version_download_uri,
    search_model_versions, set_model_version_tag, transition_model_version_stage,
    update_model_version,
};
use mlflow_wire::routes::Operation as Op;
use mlflow_wire::{Check, MlflowError, Result, Schema, names};

use super::asked::{Asked, answer as render};
use super::convert::{self, of_model, of_version};
use super::{source, unserved};
use crate::app::{CreateVersion, OrderedVersions, version_address};
use crate::model::{ModelPath, ModelVersion, NewVersion, VersionRef};

const NAME: (&str, &[Check]) = ("name", &[Check::Str, Check::Required]);
const VERSION: (&str, &[Check]) = ("version", &[Check::Str, Check::Required]);
const BY_VERSION: Schema = &[NAME, VERSION];
const CREATE: Schema = &[
    NAME,
    ("source", &[Check::Str, Check::Required]),
    ("run_id", &[Check::Str]),
    ("tags", &[Check::Array]),
    ("run_link", &[Check::Str]),
    ("description", &[Check::Str]),
    ("model_id", &[Check::Str]),
];
const SEARCH: Schema = &[
    ("filter", &[Check::Str]),
    ("max_results", &[Check::Int, Check::AtMost(200_000)]),
    ("order_by", &[Check::Array, Check::Strings]),
    ("page_token", &[Check::Str]),
];

pub async fn answer(asked: &Asked) -> Result<Response<Body>> {
    match asked.route.operation {
        Op::CreateModelVersion => create(asked).await,
        Op::UpdateModelVersion => update(asked).await,
        Op::TransitionModelVersionStage => transition(asked).await,
        Op::DeleteModelVersion => delete(asked).await,
        Op::GetModelVersion => get(asked).await,
        Op::SearchModelVersions => search(asked).await,
        Op::GetModelVersionDownloadUri => download_uri(asked).await,
        Op::SetModelVersionTag => set_tag(asked).await,
        Op::DeleteModelVersionTag => delete_tag(asked).await,
        _ => Err(unserved(asked)),
    }
}

/// A version by the texts of a request.
pub async fn named(asked: &Asked, name: &str, version: &str) -> Result<(ModelPath, i64)> {
    names::model(name)?;
    let number = names::version(version)?;
    Ok((asked.model(name).await?, number))
}

pub async fn found(asked: &Asked, name: &str, version: &str) -> Result<ModelVersion> {
    let (path, number) = named(asked, name, version).await?;
    let registry = &asked.surface.registry;
    let found =
        registry.get_version(asked.caller()?, &path, &VersionRef::Number(number), None).await;
    found.map_err(of_version(name, number))
}

async fn create(asked: &Asked) -> Result<Response<Body>> {
    let message: CreateModelVersion = asked.read(CREATE)?;
    let name = message.name();
    let origin = source::resolve(asked, &message).await?;
    names::model(name)?;
    let mut tags = BTreeMap::new();
    for tag in &message.tags {
        names::registry_tag(tag.key(), tag.value())?;
        tags.insert(tag.key().to_owned(), tag.value().to_owned());
    }
    let path = asked.model(name).await?;
    let new = NewVersion {
        description: message.description().to_owned(),
        source: origin.source,
        run_id: origin.run_id,
        run_link: message.run_link().to_owned(),
        logged_model_id: origin.model_id.clone(),
        tags,
        metrics: origin.metrics,
        params: origin.params,
        datasets: origin.datasets,
        flavors: origin.flavors,
        tree: origin.tree,
        ..NewVersion::default()
    };
    let create = CreateVersion { new, copy_from: origin.copy_from, ..CreateVersion::default() };
    let registry = &asked.surface.registry;
    let made = registry.create_version(asked.caller()?, &path, create).await;
    let made = made.map_err(of_model(name))?;
    if let Some(scope) = origin.scope.filter(|_| !origin.model_id.is_empty()) {
        let tracking = &asked.surface.tracking;
        tracking.registered(&scope, &origin.model_id, name, made.number).await?;
    }
    let model_version = Some(convert::version(made));
    render(&create_model_version::Response { model_version })
}

async fn get(asked: &Asked) -> Result<Response<Body>> {
    let message: GetModelVersion = asked.read(BY_VERSION)?;
    let version = found(asked, message.name(), message.version()).await?;
    let model_version = Some(convert::version(version));
    render(&get_model_version::Response { model_version })
}

async fn update(asked: &Asked) -> Result<Response<Body>> {
    let message: UpdateModelVersion =
        asked.read(&[NAME, VERSION, ("description", &[Check::Str])])?;
    let (path, number) = named(asked, message.name(), message.version()).await?;
    let registry = &asked.surface.registry;
    let which = VersionRef::Number(number);
    let description = Some(message.description());
    let updated = registry.update_version(asked.caller()?, &path, &which, description, None).await;
    let updated = updated.map_err(of_version(message.name(), number))?;
    let model_version = Some(convert::version(updated));
    render(&update_model_version::Response { model_version })
}

/// A stage as its namespace writes it.
///
/// # Errors
/// One that the namespace has not.
pub fn in_its_spelling(known: &[String], stage: &str) -> Result<String> {
    let found = known.iter().find(|known| known.eq_ignore_ascii_case(stage));
    found.cloned().ok_or_else(|| {
        names::stage(stage).err().unwrap_or_else(|| {
            MlflowError::invalid(format!("Invalid Model Version stage: {stage}."))
        })
    })
}

async fn transition(asked: &Asked) -> Result<Response<Body>> {
    let message: TransitionModelVersionStage = asked.read(&[
        NAME,
        VERSION,
        ("stage", &[Check::Str, Check::Required]),
        ("archive_existing_versions", &[Check::Bool]),
    ])?;
    let (path, number) = named(asked, message.name(), message.version()).await?;
    let registry = &asked.surface.registry;
    let archive = message.archive_existing_versions();
    let known = registry.model_stages(asked.caller()?, &path).await.map_err(|error| {
        names::stage(message.stage())
            .err()
            .unwrap_or_else(|| of_version(message.name(), number)(error))
    })?;
    let stage = in_its_spelling(&known, message.stage())?;
    if archive {
        names::may_archive(&stage, message.stage())?;
    }
    let moved = registry
        .move_to_stage(asked.caller()?, &path, &VersionRef::Number(number), &stage, archive)
        .await
        .map_err(of_version(message.name(), number))?;
    let model_version = Some(convert::version(moved));
    render(&transition_model_version_stage::Response { model_version })
}

async fn delete(asked: &Asked) -> Result<Response<Body>> {
    let message: DeleteModelVersion = asked.read(BY_VERSION)?;
    let (path, number) = named(asked, message.name(), message.version()).await?;
    let registry = &asked.surface.registry;
    let deleted =
        registry.delete_version(asked.caller()?, &path, &VersionRef::Number(number)).await;
    deleted.map_err(of_version(message.name(), number))?;
    render(&delete_model_version::Response {})
}

async fn search(asked: &Asked) -> Result<Response<Body>> {
    let message: SearchModelVersions = asked.read(SEARCH)?;
    let ordered = OrderedVersions {
        namespace: asked.namespace().await?,
        filter: message.filter().to_owned(),
        order_by: message.order_by.clone(),
        page_token: message.page_token().to_owned(),
        limit: message.max_results(),
    };
    let registry = &asked.surface.registry;
    let (versions, next_page_token) = registry.ordered_versions(asked.caller()?, &ordered).await?;
    let model_versions = versions.into_iter().map(convert::version).collect();
    render(&search_model_versions::Response { model_versions, next_page_token })
}

async fn download_uri(asked: &Asked) -> Result<Response<Body>> {
    let message: GetModelVersionDownloadUri = asked.read(&[])?;
    let version = found(asked, message.name(), message.version()).await?;
    // A version's own files are those that were registered, scanned and signed, and
    // never change; what lies where it was logged may have been written anew.
    let artifact_uri = if version.file_count > 0 {
        version_address(version.id)
    } else {
        source::location(asked, &version.source).await?
    };
    render(&get_model_version_download_uri::Response { artifact_uri: Some(artifact_uri) })
}

async fn set_tag(asked: &Asked) -> Result<Response<Body>> {
    let message: SetModelVersionTag = asked.read(&[
        NAME,
        VERSION,
        ("key", &[Check::Str, Check::Required]),
        ("value", &[Check::Str]),
    ])?;
    let (path, number) = named(asked, message.name(), message.version()).await?;
    names::registry_tag(message.key(), message.value())?;
    let tags = BTreeMap::from([(message.key().to_owned(), message.value().to_owned())]);
    let registry = &asked.surface.registry;
    let which = VersionRef::Number(number);
    let set = registry.set_version_tags(asked.caller()?, &path, &which, &tags).await;
    set.map_err(of_version(message.name(), number))?;
    render(&set_model_version_tag::Response {})
}

async fn delete_tag(asked: &Asked) -> Result<Response<Body>> {
    let message: DeleteModelVersionTag =
        asked.read(&[NAME, VERSION, ("key", &[Check::Str, Check::Required])])?;
    let (path, number) = named(asked, message.name(), message.version()).await?;
    names::key(message.key(), "key")?;
    let registry = &asked.surface.registry;
    let which = VersionRef::Number(number);
    let deleted = registry.delete_version_tag(asked.caller()?, &path, &which, message.key()).await;
    deleted.map_err(of_version(message.name(), number))?;
    render(&delete_model_version_tag::Response {})
}
