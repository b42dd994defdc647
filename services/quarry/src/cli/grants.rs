//! `quarry grants`. Grants hold ids; the catalog knows which names they have.

use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;

use catalog_api::v1::{GetDatasetRequest, GetNamespaceRequest};
use clap::Subcommand;
use files_api::v1::ListLocationsRequest;
use identity_api::v1::{AddGrantRequest, Grant, ListGrantsRequest, RemoveGrantRequest, Resource};
use options_api::v1::ResourceKind;
use serde_json::{Value as Json, json};
use service_error::ServiceError;

use super::files::root_of;
use super::parse::{Level, lifetime, moment_after};
use super::{Context, Page};
use crate::client::Client;
use crate::client::version::DatasetName;
use crate::failure::Failure;
use crate::output::{Column, column, message_json};

const COLUMNS: [Column; 6] = [
    column("id", "id"),
    column("user", "user"),
    column("level", "level"),
    column("on", "resource.name"),
    column("may share", "can_share"),
    column("expires", "expire_time"),
];
/// Datasets that are looked at to name the ones of a list of grants.
const NAMED_PAGES_MAX: usize = 10;
/// Pages that are looked through for a user's grant on a resource.
const SOUGHT_PAGES_MAX: usize = 100;

#[derive(Debug, Subcommand)]
pub enum GrantsCommand {
    /// Give a user a level on a namespace (and all in it), a dataset or a location of files
    Add {
        /// The user's name
        user: String,
        /// NAMESPACE, NAMESPACE/DATASET, or a location: /its/absolute/path or s3://bucket/prefix
        resource: String,
        /// What it may do there
        #[arg(value_enum)]
        level: Level,
        /// It may pass on what it has
        #[arg(long)]
        can_share: bool,
        /// How long, e.g. 30d [default: for ever]
        #[arg(long, value_name = "TIME", value_parser = lifetime)]
        expires: Option<Duration>,
    },
    /// Grants on a resource, or of a user
    List {
        /// NAMESPACE, NAMESPACE/DATASET, or a location: /its/absolute/path or s3://bucket/prefix
        #[arg(required_unless_present = "user")]
        resource: Option<String>,
        /// Of this user
        #[arg(long, value_name = "NAME")]
        user: Option<String>,
        #[command(flatten)]
        page: Page,
    },
    /// Take a grant back, by its id or by user and resource
    Remove {
        /// The grant's id, or the user's name
        #[arg(value_name = "ID|USER")]
        id_or_user: String,
        /// NAMESPACE, NAMESPACE/DATASET or a location, after a user's name
        resource: Option<String>,
    },
}

impl GrantsCommand {
    /// Asks identity, and the catalog for names.
    pub async fn run(self, context: &Context) -> Result<(), Failure> {
        let client = context.client()?;
        match self {
            Self::Add { user, resource, level, can_share, expires } => {
                let request = AddGrantRequest {
                    user,
                    resource: Some(resolve(&client, &resource).await?),
                    level: options_api::v1::Level::from(level).into(),
                    can_share,
                    expire_time: expires.map(moment_after),
                };
                let answer = client.grants().add_grant(request).await?.into_inner();
                let mut json = message_json("quarry.identity.v1.AddGrantResponse", &answer)?;
                json["grant"]["resource"]["name"] = resource.into();
                context.output.message(&json, "grant", &COLUMNS)
            }
            Self::List { resource, user, page } => {
                list(context, &client, resource, user, page).await
            }
            Self::Remove { id_or_user, resource } => {
                let id = match &resource {
                    None => id_or_user,
                    Some(resource) => sought(&client, &id_or_user, resource).await?.id,
                };
                client.grants().remove_grant(RemoveGrantRequest { id: id.clone() }).await?;
                context.output.answer(&json!({}), || format!("grant {id} is removed"))
            }
        }
    }
}

async fn list(
    context: &Context,
    client: &Client,
    resource: Option<String>,
    user: Option<String>,
    page: Page,
) -> Result<(), Failure> {
    let (page_size, page_token) = page.parts();
    let found = match &resource {
        Some(name) => Some(resolve(client, name).await?),
        None => None,
    };
    let request = ListGrantsRequest {
        resource: found.clone(),
        user: user.unwrap_or_default(),
        page_size,
        page_token,
    };
    let answer = client.grants().list_grants(request).await?.into_inner();
    let names = match (resource, found) {
        (Some(name), Some(found)) => HashMap::from([(found.id, name)]),
        _ => names(client, &answer.grants).await?,
    };
    let mut json = message_json("quarry.identity.v1.ListGrantsResponse", &answer)?;
    for grant in json["grants"].as_array_mut().into_iter().flatten() {
        let id = grant["resource"]["id"].as_str().unwrap_or_default();
        grant["resource"]["name"] = names.get(id).map_or(Json::Null, |name| name.as_str().into());
    }
    context.output.message(&json, "grants", &COLUMNS)
}

/// The id of a namespace, a dataset or a location.
async fn resolve(client: &Client, name: &str) -> Result<Resource, Failure> {
    if name.starts_with('/') || name.starts_with("s3://") {
        let what = "grants are on whole locations";
        let location = root_of(client, "resource", Path::new(name), what).await?;
        return Ok(Resource { kind: ResourceKind::Location.into(), id: location.id });
    }
    let gone = || ServiceError::internal("the catalog answered nothing");
    if !name.contains('/') {
        let request = GetNamespaceRequest { name: name.to_owned() };
        let answer = client.namespaces().get_namespace(request).await?.into_inner();
        let id = answer.namespace.ok_or_else(gone)?.id;
        return Ok(Resource { kind: ResourceKind::Namespace.into(), id });
    }
    let name: DatasetName = name.parse().map_err(Failure::usage)?;
    let request = GetDatasetRequest { namespace: name.namespace, name: name.dataset };
    let answer = client.datasets().get_dataset(request).await?.into_inner();
    let id = answer.dataset.ok_or_else(gone)?.id;
    Ok(Resource { kind: ResourceKind::Dataset.into(), id })
}

/// The names of what the caller may see, as far as a few pages go.
async fn names(client: &Client, grants: &[Grant]) -> Result<HashMap<String, String>, Failure> {
    let is_of = |grant: &Grant, kind| grant.resource.as_ref().is_some_and(|on| on.kind() == kind);
    let mut names = HashMap::new();
    let mut token = String::new();
    if grants.iter().any(|grant| is_of(grant, ResourceKind::Location)) {
        let request = ListLocationsRequest { page_size: 1000, ..Default::default() };
        let page = client.locations().list_locations(request).await?.into_inner();
        names.extend(page.locations.into_iter().map(|location| (location.id, location.path)));
    }
    for _ in 0..NAMED_PAGES_MAX {
        let request = catalog_api::v1::ListNamespacesRequest { page_size: 1000, page_token: token };
        let page = client.namespaces().list_namespaces(request).await?.into_inner();
        names.extend(page.namespaces.into_iter().map(|namespace| (namespace.id, namespace.name)));
        token = page.next_page_token;
        if token.is_empty() {
            break;
        }
    }
    token = String::new();
    for _ in 0..NAMED_PAGES_MAX {
        let request = catalog_api::v1::ListDatasetsRequest {
            page_size: 1000,
            page_token: token,
            ..Default::default()
        };
        let page = client.datasets().list_datasets(request).await?.into_inner();
        let named = page
            .datasets
            .into_iter()
            .map(|dataset| (dataset.id, format!("{}/{}", dataset.namespace, dataset.name)));
        names.extend(named);
        token = page.next_page_token;
        if token.is_empty() {
            break;
        }
    }
    Ok(names)
}

/// A user's grant on a resource.
async fn sought(client: &Client, user: &str, name: &str) -> Result<Grant, Failure> {
    let resource = resolve(client, name).await?;
    let mut token = String::new();
    for _ in 0..SOUGHT_PAGES_MAX {
        let request = ListGrantsRequest {
            resource: Some(resource.clone()),
            user: String::new(),
            page_size: 1000,
            page_token: token,
        };
        let page = client.grants().list_grants(request).await?.into_inner();
        if let Some(grant) = page.grants.into_iter().find(|grant| grant.user == user) {
            return Ok(grant);
        }
        token = page.next_page_token;
        if token.is_empty() {
            break;
        }
    }
    Err(ServiceError::not_found("grant", format!("of {user} on {name}")).into())
}
