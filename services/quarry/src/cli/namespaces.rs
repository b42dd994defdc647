//! `quarry namespaces`.

use catalog_api::v1::{
    CreateNamespaceRequest, DeleteNamespaceRequest, GetNamespaceRequest, ListNamespacesRequest,
};
use clap::Subcommand;
use serde_json::json;

use super::{Context, Page};
use crate::failure::Failure;
use crate::output::{Column, column, message_json};

const COLUMNS: [Column; 3] = [
    column("name", "name"),
    column("description", "description"),
    column("created", "create_time"),
];

#[derive(Debug, Subcommand)]
pub enum NamespacesCommand {
    /// Make a namespace; you become its owner
    Create {
        /// Of a-z, 0-9, '_', '-', '.'; at most 128 characters
        name: String,
        /// What it is for
        #[arg(long, default_value = "")]
        description: String,
    },
    /// The namespaces that you may see
    List(Page),
    /// One namespace
    Show {
        /// Which
        name: String,
    },
    /// Delete a namespace that holds no dataset
    Delete {
        /// Which
        name: String,
    },
}

impl NamespacesCommand {
    /// Asks the catalog.
    pub async fn run(self, context: &Context) -> Result<(), Failure> {
        let mut namespaces = context.client()?.namespaces();
        let (json, list) = match self {
            Self::Create { name, description } => {
                let answer = namespaces
                    .create_namespace(CreateNamespaceRequest { name, description })
                    .await?;
                (
                    message_json(
                        "quarry.catalog.v1.CreateNamespaceResponse",
                        &answer.into_inner(),
                    )?,
                    "namespace",
                )
            }
            Self::List(page) => {
                let (page_size, page_token) = page.parts();
                let answer = namespaces
                    .list_namespaces(ListNamespacesRequest { page_size, page_token })
                    .await?;
                (
                    message_json("quarry.catalog.v1.ListNamespacesResponse", &answer.into_inner())?,
                    "namespaces",
                )
            }
            Self::Show { name } => {
                let answer = namespaces.get_namespace(GetNamespaceRequest { name }).await?;
                (
                    message_json("quarry.catalog.v1.GetNamespaceResponse", &answer.into_inner())?,
                    "namespace",
                )
            }
            Self::Delete { name } => {
                namespaces.delete_namespace(DeleteNamespaceRequest { name: name.clone() }).await?;
                return context
                    .output
                    .answer(&json!({}), || format!("namespace {name} is deleted"));
            }
        };
        context.output.message(&json, list, &COLUMNS)
    }
}
