//! `quarry items filters`.

use clap::{Args, Subcommand};
use items_api::v1::{
    CreateFilterRequest, DeleteFilterRequest, GetFilterRequest, ListFiltersRequest,
    UpdateFilterRequest,
};
use serde_json::json;

use super::{Context, Page};
use crate::client::version::DatasetName;
use crate::failure::Failure;
use crate::output::{Column, column, message_json};

const COLUMNS: [Column; 4] = [
    column("name", "name"),
    column("filter", "filter"),
    column("description", "description"),
    column("updated", "update_time"),
];

#[derive(Debug, Subcommand)]
pub enum FiltersCommand {
    /// Keep a filter under a name; it must fit the dataset
    Create {
        #[command(flatten)]
        named: Named,
        /// E.g. 'width > 3000 AND is_favorite = true'
        filter: String,
        /// What it is for
        #[arg(long, default_value = "")]
        description: String,
    },
    /// The filters of a dataset
    List {
        #[arg(value_name = "NAMESPACE/DATASET")]
        dataset: DatasetName,
        #[command(flatten)]
        page: Page,
    },
    /// One filter
    Show(Named),
    /// Change a filter
    Update {
        #[command(flatten)]
        named: Named,
        /// What it says now
        #[arg(long, value_name = "F")]
        filter: Option<String>,
        /// What it is for
        #[arg(long)]
        description: Option<String>,
        /// Only if the filter still has this revision
        #[arg(long, value_name = "N", default_value_t = 0)]
        revision: i64,
    },
    /// Forget a filter
    Delete(Named),
}

/// A filter of a dataset.
#[derive(Debug, Args)]
pub struct Named {
    #[arg(value_name = "NAMESPACE/DATASET")]
    dataset: DatasetName,
    /// A letter, then letters, digits, '_' and '-'
    name: String,
}

impl FiltersCommand {
    /// Asks the item store.
    pub async fn run(self, context: &Context) -> Result<(), Failure> {
        let mut filters = context.client()?.filters();
        match self {
            Self::Create { named, filter, description } => {
                let Named { dataset: DatasetName { namespace, dataset }, name } = named;
                let request = CreateFilterRequest { namespace, dataset, name, filter, description };
                let answer = filters.create_filter(request).await?.into_inner();
                let json = message_json("quarry.items.v1.CreateFilterResponse", &answer)?;
                context.output.message(&json, "filter", &COLUMNS)
            }
            Self::List { dataset: DatasetName { namespace, dataset }, page } => {
                let (page_size, page_token) = page.parts();
                let request = ListFiltersRequest { namespace, dataset, page_size, page_token };
                let answer = filters.list_filters(request).await?.into_inner();
                let json = message_json("quarry.items.v1.ListFiltersResponse", &answer)?;
                context.output.message(&json, "filters", &COLUMNS)
            }
            Self::Show(Named { dataset: DatasetName { namespace, dataset }, name }) => {
                let request = GetFilterRequest { namespace, dataset, name };
                let answer = filters.get_filter(request).await?.into_inner();
                let json = message_json("quarry.items.v1.GetFilterResponse", &answer)?;
                context.output.message(&json, "filter", &COLUMNS)
            }
            Self::Update { named, filter, description, revision } => {
                let Named { dataset: DatasetName { namespace, dataset }, name } = named;
                let request =
                    UpdateFilterRequest { namespace, dataset, name, filter, description, revision };
                let answer = filters.update_filter(request).await?.into_inner();
                let json = message_json("quarry.items.v1.UpdateFilterResponse", &answer)?;
                context.output.message(&json, "filter", &COLUMNS)
            }
            Self::Delete(Named { dataset: DatasetName { namespace, dataset }, name }) => {
                let request = DeleteFilterRequest { namespace, dataset, name: name.clone() };
                filters.delete_filter(request).await?;
                let said = format!("saved filter {name} is forgotten");
                context.output.answer(&json!({ "deleted": name }), || said)
            }
        }
    }
}
