//! `quarry models facets`, `history` and `rollback`: what versions have in common,
//! where an alias was, and back there.

use clap::Args;
use models_api::v1 as api;
use quarry_client::failure::Failure;
use quarry_client::output::{Column, column, message_json};
use quarry_client::page::Page;
use serde_json::{Value as Json, json};

use crate::{ALIAS, Context, ModelName};

const FACETS: [Column; 3] =
    [column("field", "field"), column("value", "value"), column("versions", "count")];
const STEPS: [Column; 4] = [
    column("step", "seq"),
    column("version", "version"),
    column("since", "set_time"),
    column("by", "set_by"),
];

/// What `quarry models facets` is asked.
#[derive(Debug, Args)]
pub struct FacetsArgs {
    /// Only of this namespace, or of this model of it
    #[arg(value_name = "NAMESPACE[/MODEL]")]
    of: Option<String>,
    /// Fields, e.g. stage,flavor,scan,tags.team,params.solver,dataset
    #[arg(long, value_delimiter = ',', value_name = "FIELD", required = true)]
    by: Vec<String>,
    /// Only of versions like these, e.g. 'metrics.acc > 0.5'
    #[arg(long, default_value = "")]
    filter: String,
    /// At most so many values of a field
    #[arg(long, value_name = "N", default_value_t = 0)]
    limit: i32,
}

/// What `quarry models history` is asked.
#[derive(Debug, Args)]
pub struct HistoryArgs {
    #[arg(value_name = "NAMESPACE/MODEL")]
    name: ModelName,
    /// The alias
    alias: String,
    #[command(flatten)]
    page: Page,
}

/// What `quarry models rollback` is asked.
#[derive(Debug, Args)]
pub struct RollbackArgs {
    #[arg(value_name = "NAMESPACE/MODEL")]
    name: ModelName,
    /// The alias
    alias: String,
    /// Where it pointed then, in seconds since 1970 [default: one step back]
    #[arg(long, value_name = "SECONDS")]
    as_of: Option<i64>,
}

/// `quarry models facets`
pub async fn facets(context: &Context<'_>, args: FacetsArgs) -> Result<(), Failure> {
    let of = args.of.unwrap_or_default();
    let (namespace, model) = of.split_once('/').unwrap_or((&of, ""));
    let request = api::GetFacetsRequest {
        namespace: namespace.to_owned(),
        model: model.to_owned(),
        filter: args.filter,
        fields: args.by,
        values_max: args.limit,
    };
    let answer = context.client().model_versions().get_facets(request).await?.into_inner();
    let json = message_json("quarry.models.v1.GetFacetsResponse", &answer)?;
    let rows: Vec<Json> = answer
        .facets
        .iter()
        .flat_map(|facet| facet.values.iter().map(move |value| (facet, value)))
        .map(|(facet, value)| {
            json!({ "field": facet.field, "value": value.value, "count": value.count })
        })
        .collect();
    context.output.answer(&json, || quarry_client::output::table(&FACETS, &rows))
}

/// `quarry models history`
pub async fn history(context: &Context<'_>, args: HistoryArgs) -> Result<(), Failure> {
    let (page_size, page_token) = args.page.parts();
    let request = api::ListAliasHistoryRequest {
        namespace: args.name.namespace,
        model: args.name.model,
        alias: args.alias,
        page_size,
        page_token,
    };
    let answer = context.client().model_lifecycle().list_alias_history(request).await?;
    let json = message_json("quarry.models.v1.ListAliasHistoryResponse", &answer.into_inner())?;
    context.output.message(&json, "steps", &STEPS)
}

/// `quarry models rollback`
pub async fn roll_back(context: &Context<'_>, args: RollbackArgs) -> Result<(), Failure> {
    let request = api::RollBackAliasRequest {
        namespace: args.name.namespace,
        model: args.name.model,
        alias: args.alias,
        as_of: args.as_of.map(|seconds| prost_types::Timestamp { seconds, nanos: 0 }),
    };
    let answer = context.client().model_lifecycle().roll_back_alias(request).await?;
    let json = message_json("quarry.models.v1.RollBackAliasResponse", &answer.into_inner())?;
    context.output.message(&json, "alias", &ALIAS)
}
