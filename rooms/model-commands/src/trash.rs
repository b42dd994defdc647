//! `quarry models delete`, `restore`, and the lists of `list`.

use clap::Args;
use models_api::v1 as api;
use quarry_client::failure::Failure;
use quarry_client::output::{Column, column, message_json};
use quarry_client::page::Page;
use serde_json::json;

use super::{Context, MODELS, VERSIONS, VersionName};

const DELETED: [Column; 6] = [
    column("id", "id"),
    column("namespace", "namespace"),
    column("name", "name"),
    column("versions", "version_count"),
    column("bytes", "byte_count"),
    column("deleted", "delete_time"),
];

/// What `quarry models list` is asked.
#[derive(Debug, Args)]
pub struct ListArgs {
    /// Only of this namespace
    namespace: Option<String>,
    /// e.g. 'tags.team = "vision"'
    #[arg(long, default_value = "")]
    filter: String,
    /// What is in the trash, with the ids that `restore` takes
    #[arg(long)]
    deleted: bool,
    #[command(flatten)]
    page: Page,
}

/// What `quarry models delete` is asked.
#[derive(Debug, Args)]
pub struct DeleteArgs {
    /// The whole model if no version is named
    #[arg(value_name = "NAMESPACE/MODEL[@VERSION]")]
    version: VersionName,
}

/// What `quarry models restore` is asked.
#[derive(Debug, Args)]
pub struct RestoreArgs {
    /// A model's id, as `delete` and `list --deleted` say it, or a version's number
    #[arg(value_name = "ID|NAMESPACE/MODEL@NUMBER")]
    what: String,
}

/// `quarry models list`
pub async fn list(context: &Context<'_>, args: ListArgs) -> Result<(), Failure> {
    let (page_size, page_token) = args.page.parts();
    let request = api::SearchModelsRequest {
        namespace: args.namespace.unwrap_or_default(),
        filter: args.filter,
        deleted: args.deleted,
        page_size,
        page_token,
        ..Default::default()
    };
    let answer = context.client().models().search_models(request).await?;
    let json = message_json("quarry.models.v1.SearchModelsResponse", &answer.into_inner())?;
    context.output.message(&json, "models", if args.deleted { &DELETED } else { &MODELS })
}

/// `quarry models delete`
pub async fn delete(context: &Context<'_>, args: DeleteArgs) -> Result<(), Failure> {
    let VersionName { of, version } = args.version;
    if version.is_empty() {
        let (name, namespace) = (of.model, of.namespace);
        let request = api::DeleteModelRequest { namespace, name };
        let id = context.client().models().delete_model(request).await?.into_inner().id;
        let json = json!({ "id": id });
        return context
            .output
            .answer(&json, || format!("in the trash; `quarry models restore {id}` takes it out"));
    }
    let request = api::DeleteVersionRequest { namespace: of.namespace, model: of.model, version };
    context.client().model_versions().delete_version(request).await?;
    context.output.answer(&json!({}), || "in the trash".to_owned())
}

/// `quarry models restore`
pub async fn restore(context: &Context<'_>, args: RestoreArgs) -> Result<(), Failure> {
    if !args.what.contains('/') {
        let request = api::RestoreModelRequest { id: args.what };
        let answer = context.client().models().restore_model(request).await?;
        let json = message_json("quarry.models.v1.RestoreModelResponse", &answer.into_inner())?;
        return context.output.message(&json, "model", &MODELS);
    }
    let VersionName { of, version } = args.what.parse().map_err(Failure::usage)?;
    let request = api::RestoreVersionRequest { namespace: of.namespace, model: of.model, version };
    let answer = context.client().model_versions().restore_version(request).await?;
    let json = message_json("quarry.models.v1.RestoreVersionResponse", &answer.into_inner())?;
    context.output.message(&json, "version", &VERSIONS)
}
