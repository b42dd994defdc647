//! `quarry items`.

use clap::{Args, Subcommand};
use items_api::v1::{CountItemsRequest, GetItemRequest, Item, ListItemsRequest};
use serde::Serialize;
use serde_json::json;
use service_error::ServiceError;

use super::analysis::AnalysisCommand;
use super::filters::FiltersCommand;
use super::{Context, edits};
use crate::client::version::DatasetName;
use crate::failure::Failure;
use crate::output::{RowJson, cell_text, text_table};

/// The most rows that a page of the API holds.
const PAGE_ROWS_MAX: u32 = 10_000;
const ROWS_DEFAULT: u32 = 100;
/// The most rows that one answer holds; `export` has no such limit.
const ROWS_MAX: i64 = 1_000_000;

#[derive(Debug, Subcommand)]
pub enum ItemsCommand {
    /// Rows in storage order
    List {
        #[command(flatten)]
        rows: Rows,
        /// At most so many [default: 100]
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=ROWS_MAX))]
        limit: Option<u32>,
        /// Go on where another page ended
        #[arg(long, value_name = "T", default_value = "")]
        page_token: String,
        /// Only these columns
        #[arg(long, value_name = "C,…", value_delimiter = ',')]
        columns: Vec<String>,
        /// E.g. 'width desc, title' [default: storage order]
        #[arg(long, value_name = "O", default_value = "")]
        order_by: String,
        /// Pass over so many rows first
        #[arg(long, value_name = "N", default_value_t = 0)]
        skip: i64,
    },
    /// One row by its key
    Get {
        #[arg(value_name = "NAMESPACE/DATASET")]
        dataset: DatasetName,
        /// As text; a UUID for an items dataset
        key: String,
        /// A number or an alias [default: the newest]
        #[arg(long, value_name = "V", default_value = "")]
        version: String,
        /// Only these columns
        #[arg(long, value_name = "C,…", value_delimiter = ',')]
        columns: Vec<String>,
    },
    /// Make a row
    Create {
        #[arg(value_name = "NAMESPACE/DATASET")]
        dataset: DatasetName,
        #[command(flatten)]
        cells: edits::Cells,
    },
    /// Change cells of a row
    Patch {
        #[arg(value_name = "NAMESPACE/DATASET")]
        dataset: DatasetName,
        /// As text; a UUID for an items dataset
        key: String,
        #[command(flatten)]
        cells: edits::Cells,
        /// Only if the row still is this one
        #[arg(long, value_name = "R", default_value = "")]
        revision: String,
    },
    /// Delete rows by their keys
    Delete {
        #[arg(value_name = "NAMESPACE/DATASET")]
        dataset: DatasetName,
        /// As text; UUIDs for an items dataset
        #[arg(value_name = "KEY", required = true)]
        keys: Vec<String>,
    },
    /// Bring deleted rows back
    Restore {
        #[arg(value_name = "NAMESPACE/DATASET")]
        dataset: DatasetName,
        /// As text; UUIDs for an items dataset
        #[arg(value_name = "KEY", required = true)]
        keys: Vec<String>,
        /// As they were at this version [default: before they were deleted]
        #[arg(long, value_name = "V", default_value = "")]
        version: String,
    },
    /// Add tags to rows, or take them off
    Tag {
        #[arg(value_name = "NAMESPACE/DATASET")]
        dataset: DatasetName,
        /// As text; UUIDs for an items dataset
        #[arg(value_name = "KEY", required = true)]
        keys: Vec<String>,
        /// A tag to add
        #[arg(long, value_name = "T")]
        add: Vec<String>,
        /// A tag to take off
        #[arg(long, value_name = "T")]
        remove: Vec<String>,
    },
    /// How many rows pass a filter
    Count {
        #[command(flatten)]
        rows: Rows,
    },
    /// Filters that are kept under names: saved:NAME is one of them in any filter
    #[command(subcommand)]
    Filters(FiltersCommand),
    #[command(flatten)]
    Analysis(AnalysisCommand),
}

/// Which rows.
#[derive(Debug, Args)]
pub struct Rows {
    #[arg(value_name = "NAMESPACE/DATASET")]
    pub dataset: DatasetName,
    /// E.g. 'width > 3000 AND is_favorite = true' or saved:NAME
    #[arg(long, value_name = "F", default_value = "")]
    pub filter: String,
    /// A number or an alias [default: the newest]
    #[arg(long, value_name = "V", default_value = "")]
    pub version: String,
}

#[derive(Serialize)]
struct ListDocument<'a> {
    items: Vec<RowJson<'a>>,
    #[serde(skip_serializing_if = "str::is_empty")]
    next_page_token: &'a str,
}

#[derive(Serialize)]
struct GetDocument<'a> {
    item: RowJson<'a>,
    version: i64,
}

impl ItemsCommand {
    /// Asks the item store.
    pub async fn run(self, context: &Context) -> Result<(), Failure> {
        match self {
            Self::List { rows, limit, page_token, columns, order_by, skip } => {
                let request = ListItemsRequest {
                    namespace: rows.dataset.namespace,
                    dataset: rows.dataset.dataset,
                    version: rows.version,
                    filter: rows.filter,
                    columns,
                    page_size: 0,
                    page_token,
                    order_by,
                    skip,
                };
                list(context, request, limit.unwrap_or(ROWS_DEFAULT)).await
            }
            Self::Get { dataset, key, version, columns } => {
                let request = GetItemRequest {
                    namespace: dataset.namespace,
                    dataset: dataset.dataset,
                    key,
                    version,
                    columns,
                };
                get(context, request).await
            }
            Self::Create { dataset, cells } => edits::create(context, dataset, &cells).await,
            Self::Patch { dataset, key, cells, revision } => {
                edits::patch(context, dataset, key, revision, &cells).await
            }
            Self::Delete { dataset, keys } => edits::delete(context, dataset, keys).await,
            Self::Restore { dataset, keys, version } => {
                edits::restore(context, dataset, keys, version).await
            }
            Self::Tag { dataset, keys, add, remove } => {
                edits::tag(context, dataset, keys, (add, remove)).await
            }
            Self::Count { rows } => {
                let request = CountItemsRequest {
                    namespace: rows.dataset.namespace,
                    dataset: rows.dataset.dataset,
                    version: rows.version,
                    filter: rows.filter,
                };
                let count =
                    context.client()?.items().count_items(request).await?.into_inner().count;
                context.output.answer(&json!({ "count": count }), || count.to_string())
            }
            Self::Filters(command) => command.run(context).await,
            Self::Analysis(command) => command.run(context).await,
        }
    }
}

/// Takes pages until `limit` rows are there or none are left.
async fn list(context: &Context, mut request: ListItemsRequest, limit: u32) -> Result<(), Failure> {
    let mut items_client = context.client()?.items();
    let mut items: Vec<Item> = Vec::new();
    let mut left = limit;
    let columns = loop {
        request.page_size = i32::try_from(left.min(PAGE_ROWS_MAX)).unwrap_or(i32::MAX);
        let page = items_client.list_items(request.clone()).await?.into_inner();
        left = left.saturating_sub(u32::try_from(page.items.len()).unwrap_or(u32::MAX));
        items.extend(page.items);
        request.page_token = page.next_page_token;
        request.skip = 0;
        if left == 0 || request.page_token.is_empty() {
            break page.columns;
        }
    };
    let document = ListDocument {
        items: items
            .iter()
            .map(|item| RowJson { columns: &columns, values: &item.values })
            .collect(),
        next_page_token: &request.page_token,
    };
    context.output.answer(&document, || {
        let titles: Vec<_> = columns.iter().map(|column| column.name.as_str()).collect();
        text_table(&titles, items.iter().map(|item| item.values.iter().map(cell_text).collect()))
    })?;
    context.output.more(Some(request.page_token.as_str()).filter(|token| !token.is_empty()));
    Ok(())
}

async fn get(context: &Context, request: GetItemRequest) -> Result<(), Failure> {
    let answer = context.client()?.items().get_item(request).await?.into_inner();
    let item = answer.item.ok_or_else(|| ServiceError::internal("the server answered no item"))?;
    let row = RowJson { columns: &answer.columns, values: &item.values };
    let document = GetDocument { item: row, version: answer.version };
    context.output.answer(&document, || {
        let cells = answer.columns.iter().zip(&item.values);
        text_table(
            &["column", "value"],
            cells.map(|(column, value)| vec![column.name.clone(), cell_text(value)]),
        )
    })
}
