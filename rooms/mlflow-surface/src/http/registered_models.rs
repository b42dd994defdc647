//! Registered models, their tags and aliases.

use std::collections::BTreeMap;

use axum::body::Body;
use axum::http::Response;
use mlflow_wire::proto::{
    CreateRegisteredModel, DeleteRegisteredModel, DeleteRegisteredModelAlias,
    DeleteRegisteredModelTag, GetLatestVersions, GetModelVersionByAlias, GetRegisteredModel,
    RenameRegisteredModel, SearchRegisteredModels, SetRegisteredModelAlias, SetRegisteredModelTag,
    UpdateRegisteredModel, create_registered_model, delete_registered_model,
    delete_registered_model_alias, delete_registered_model_tag, get_latest_versions,
    get_model_version_by_alias, get_registered_model, rename_registered_model,
    search_registered_models, set_registered_model_alias, set_registered_model_tag,
    update_registered_model,
};
use mlflow_wire::routes::Operation as Op;
use mlflow_wire::search::IS_PROMPT;
use mlflow_wire::{Check, MlflowError, Result, Schema, names};
use service_error::Code;

use super::asked::{Asked, answer as render};
use super::convert::{self, of_model, of_version, taken};
use super::model_versions::in_its_spelling;
use super::unserved;
use crate::app::{CreateModel, OrderedModels, SetAlias};
use crate::model::{Model, ModelVersion, VersionRef};

const NAME: (&str, &[Check]) = ("name", &[Check::Str, Check::Required]);
const BY_NAME: Schema = &[NAME];
const SEARCH: Schema = &[
    ("filter", &[Check::Str]),
    ("max_results", &[Check::Int, Check::AtMost(1000)]),
    ("order_by", &[Check::Array, Check::Strings]),
    ("page_token", &[Check::Str]),
];
const TAG: Schema = &[NAME, ("key", &[Check::Str, Check::Required]), ("value", &[Check::Str])];
const ALIAS: (&str, &[Check]) = ("alias", &[Check::Str, Check::Required]);

pub async fn answer(asked: &Asked) -> Result<Response<Body>> {
    match asked.route.operation {
        Op::CreateRegisteredModel => create(asked).await,
        Op::RenameRegisteredModel => rename(asked).await,
        Op::UpdateRegisteredModel => update(asked).await,
        Op::DeleteRegisteredModel => delete(asked).await,
        Op::GetRegisteredModel => get(asked).await,
        Op::SearchRegisteredModels => search(asked).await,
        Op::GetLatestVersions => latest(asked).await,
        Op::SetRegisteredModelTag => set_tag(asked).await,
        Op::DeleteRegisteredModelTag => delete_tag(asked).await,
        Op::SetRegisteredModelAlias => set_alias(asked).await,
        Op::DeleteRegisteredModelAlias => delete_alias(asked).await,
        Op::GetModelVersionByAlias => by_alias(asked).await,
        _ => Err(unserved(asked)),
    }
}

fn is_prompt(tags: &BTreeMap<String, String>) -> bool {
    tags.get(IS_PROMPT).is_some_and(|value| value.eq_ignore_ascii_case("true"))
}

async fn create(asked: &Asked) -> Result<Response<Body>> {
    let message: CreateRegisteredModel =
        asked.read(&[NAME, ("tags", &[Check::Array]), ("description", &[Check::Str])])?;
    names::model(message.name())?;
    let mut tags = BTreeMap::new();
    for tag in &message.tags {
        names::registry_tag(tag.key(), tag.value())?;
        tags.insert(tag.key().to_owned(), tag.value().to_owned());
    }
    let path = asked.model(message.name()).await?;
    let wants_prompt = is_prompt(&tags);
    let new = CreateModel {
        namespace: path.namespace.clone(),
        name: path.name.clone(),
        description: message.description().to_owned(),
        tags,
    };
    let registry = &asked.surface.registry;
    let made = match registry.create_model(asked.caller()?, new).await {
        Err(error) if error.code() == Code::AlreadyExists => {
            let there = registry.get_model(asked.caller()?, &path).await;
            let there = there.is_ok_and(|model| is_prompt(&model.tags));
            return Err(taken(message.name(), there, wants_prompt));
        }
        made => made.map_err(of_model(message.name()))?,
    };
    let registered_model = Some(convert::model(made, Vec::new()));
    render(&create_registered_model::Response { registered_model })
}

/// A model with the newest version of each stage.
async fn whole(asked: &Asked, model: Model) -> Result<mlflow_wire::proto::RegisteredModel> {
    let latest = asked.surface.registry.latest_versions(std::slice::from_ref(&model)).await?;
    Ok(convert::model(model, latest.into_values().flatten().collect()))
}

async fn found(asked: &Asked, name: &str) -> Result<(Model, Vec<ModelVersion>)> {
    names::model(name)?;
    let path = asked.model(name).await?;
    let registry = &asked.surface.registry;
    registry.get_model_with_latest(asked.caller()?, &path).await.map_err(of_model(name))
}

async fn get(asked: &Asked) -> Result<Response<Body>> {
    let message: GetRegisteredModel = asked.read(BY_NAME)?;
    let (model, latest) = found(asked, message.name()).await?;
    let registered_model = Some(convert::model(model, latest));
    render(&get_registered_model::Response { registered_model })
}

async fn rename(asked: &Asked) -> Result<Response<Body>> {
    let message: RenameRegisteredModel =
        asked.read(&[NAME, ("new_name", &[Check::Str, Check::Required])])?;
    if message.new_name().trim().is_empty() {
        return Err(names::missing_value("new_name"));
    }
    names::model(message.new_name())?;
    names::model(message.name())?;
    let path = asked.model(message.name()).await?;
    let registry = &asked.surface.registry;
    let renamed = registry
        .update_model(asked.caller()?, &path, None, Some(message.new_name()))
        .await
        .map_err(|error| match error.code() {
            Code::AlreadyExists => taken(message.new_name(), false, false),
            _ => of_model(message.name())(error),
        })?;
    let registered_model = Some(whole(asked, renamed).await?);
    render(&rename_registered_model::Response { registered_model })
}

async fn update(asked: &Asked) -> Result<Response<Body>> {
    let message: UpdateRegisteredModel = asked.read(&[NAME, ("description", &[Check::Str])])?;
    names::model(message.name())?;
    let path = asked.model(message.name()).await?;
    let registry = &asked.surface.registry;
    let updated = registry
        .update_model(asked.caller()?, &path, Some(message.description()), None)
        .await
        .map_err(of_model(message.name()))?;
    let registered_model = Some(whole(asked, updated).await?);
    render(&update_registered_model::Response { registered_model })
}

async fn delete(asked: &Asked) -> Result<Response<Body>> {
    let message: DeleteRegisteredModel = asked.read(BY_NAME)?;
    names::model(message.name())?;
    let path = asked.model(message.name()).await?;
    let registry = &asked.surface.registry;
    registry.delete_model(asked.caller()?, &path).await.map_err(of_model(message.name()))?;
    render(&delete_registered_model::Response {})
}

async fn search(asked: &Asked) -> Result<Response<Body>> {
    let message: SearchRegisteredModels = asked.read(SEARCH)?;
    let ordered = OrderedModels {
        namespace: asked.namespace().await?,
        filter: message.filter().to_owned(),
        order_by: message.order_by.clone(),
        page_token: message.page_token().to_owned(),
        limit: message.max_results(),
    };
    let registry = &asked.surface.registry;
    let (models, token) = registry.ordered_models(asked.caller()?, &ordered).await?;
    let registered_models =
        models.into_iter().map(|(model, latest)| convert::model(model, latest)).collect();
    render(&search_registered_models::Response { registered_models, next_page_token: token })
}

async fn latest(asked: &Asked) -> Result<Response<Body>> {
    let message: GetLatestVersions =
        asked.read(&[NAME, ("stages", &[Check::Array, Check::Strings])])?;
    let (_, latest) = found(asked, message.name()).await?;
    let path = asked.model(message.name()).await?;
    let known = asked.surface.registry.model_stages(asked.caller()?, &path).await?;
    let stages: Result<Vec<String>> =
        message.stages.iter().map(|stage| in_its_spelling(&known, stage)).collect();
    let stages = stages?;
    let mut wanted: Vec<_> = latest
        .into_iter()
        .filter(|version| stages.is_empty() || stages.contains(&version.stage))
        .collect();
    wanted.sort_by_key(|version| version.number);
    let model_versions = wanted.into_iter().map(convert::version).collect();
    render(&get_latest_versions::Response { model_versions })
}

async fn set_tag(asked: &Asked) -> Result<Response<Body>> {
    let message: SetRegisteredModelTag = asked.read(TAG)?;
    names::model(message.name())?;
    names::registry_tag(message.key(), message.value())?;
    let path = asked.model(message.name()).await?;
    let tags = BTreeMap::from([(message.key().to_owned(), message.value().to_owned())]);
    let registry = &asked.surface.registry;
    let set = registry.set_model_tags(asked.caller()?, &path, &tags).await;
    set.map_err(of_model(message.name()))?;
    render(&set_registered_model_tag::Response {})
}

async fn delete_tag(asked: &Asked) -> Result<Response<Body>> {
    let message: DeleteRegisteredModelTag =
        asked.read(&[NAME, ("key", &[Check::Str, Check::Required])])?;
    names::model(message.name())?;
    names::key(message.key(), "key")?;
    let path = asked.model(message.name()).await?;
    let registry = &asked.surface.registry;
    let deleted = registry.delete_model_tag(asked.caller()?, &path, message.key()).await;
    deleted.map_err(of_model(message.name()))?;
    render(&delete_registered_model_tag::Response {})
}

async fn set_alias(asked: &Asked) -> Result<Response<Body>> {
    let message: SetRegisteredModelAlias =
        asked.read(&[NAME, ALIAS, ("version", &[Check::Str, Check::Required])])?;
    names::model(message.name())?;
    names::alias(message.alias())?;
    names::alias_is_free(message.alias())?;
    let number = names::version(message.version())?;
    let path = asked.model(message.name()).await?;
    let alias = SetAlias {
        alias: message.alias().to_owned(),
        to: VersionRef::Number(number),
        protected: None,
        expected: None,
    };
    let registry = &asked.surface.registry;
    let set = registry.set_alias(asked.caller()?, &path, &alias).await;
    set.map_err(of_version(message.name(), number))?;
    render(&set_registered_model_alias::Response {})
}

async fn delete_alias(asked: &Asked) -> Result<Response<Body>> {
    let message: DeleteRegisteredModelAlias = asked.read(&[NAME, ALIAS])?;
    names::model(message.name())?;
    names::alias(message.alias())?;
    let path = asked.model(message.name()).await?;
    let registry = &asked.surface.registry;
    let deleted = registry.delete_alias(asked.caller()?, &path, message.alias()).await;
    deleted.map_err(of_model(message.name()))?;
    render(&delete_registered_model_alias::Response {})
}

async fn by_alias(asked: &Asked) -> Result<Response<Body>> {
    let message: GetModelVersionByAlias = asked.read(&[NAME, ALIAS])?;
    let (name, alias) = (message.name(), message.alias());
    names::model(name)?;
    names::alias(alias)?;
    let is_latest = alias.eq_ignore_ascii_case("latest");
    let which = if is_latest { VersionRef::Latest } else { VersionRef::Alias(alias.to_owned()) };
    let path = asked.model(name).await?;
    let registry = &asked.surface.registry;
    let version =
        registry.get_version(asked.caller()?, &path, &which, None).await.map_err(|error| {
            if !error.reason_is("MODEL_VERSION_NOT_FOUND") {
                return of_model(name)(error);
            }
            if is_latest {
                MlflowError::missing(format!("Latest version not found for model {name}."))
            } else {
                MlflowError::invalid(format!("Registered model alias {alias} not found."))
            }
        })?;
    let model_version = Some(convert::version(version));
    render(&get_model_version_by_alias::Response { model_version })
}
