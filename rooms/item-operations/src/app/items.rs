//! Look-ups, counts and statistics.

use std::sync::Arc;

use blocks::{Position, Tally, Walk};
use caller::Caller;
use catalog_api::v1::{Column, ColumnStatistics};
use cells::{columns_of, is_uuid, items_of, uuid_text};
use filter::Filter;
use items_api::v1::{GetStatisticsResponse, Item};
use service_error::ServiceError;

use crate::app::App;
use crate::app::looking::PAGE_BYTES_MAX;
use crate::app::manifest;
use crate::model::Address;

const GET: &str = "quarry.items.v1.ItemsService/GetItem";
const COUNT: &str = "quarry.items.v1.ItemsService/CountItems";
const STATISTICS: &str = "quarry.items.v1.ItemsService/GetStatistics";

/// Rows of a dataset at a version.
#[derive(Debug, Clone)]
pub struct RowsRequest {
    /// The dataset.
    pub address: Address,
    /// Empty: the newest.
    pub version: String,
    /// Empty: all rows.
    pub filter: String,
    /// Empty: all columns.
    pub columns: Vec<String>,
}

/// A page of them.
#[derive(Debug, Clone)]
pub struct ListRequest {
    /// Which rows.
    pub rows: RowsRequest,
    /// 0: the default.
    pub page_size: i32,
    /// Empty: the first page.
    pub page_token: String,
    /// Empty: storage order.
    pub order_by: String,
    /// Rows to pass over before the first page.
    pub skip: i64,
}

impl ListRequest {
    /// The first page in storage order.
    pub fn first(rows: RowsRequest, page_size: i32) -> Self {
        let page_token = String::new();
        Self { rows, page_size, page_token, order_by: String::new(), skip: 0 }
    }
}

/// A page of rows.
#[derive(Debug, Clone)]
pub struct RowPage {
    /// The columns of each row.
    pub columns: Vec<Column>,
    /// The rows.
    pub items: Vec<Item>,
    /// Empty on the last page.
    pub next_page_token: String,
    /// Empty on the first page.
    pub previous_page_token: String,
    /// The version that was read.
    pub version: i64,
}

impl App {
    /// One row by its key.
    ///
    /// # Errors
    /// `NotFound`; a dataset without a key; a text that is no key of its type.
    pub async fn get_item(
        &self,
        caller: &Caller,
        request: RowsRequest,
        key: &str,
    ) -> Result<RowPage, ServiceError> {
        let opened = self.open(caller, &request.address, &request.version, GET).await?;
        if opened.key.is_empty() {
            let message =
                format!("dataset {} has no key column; list it with a filter", opened.address);
            return Err(ServiceError::precondition(message).reason("NO_KEY"));
        }
        let schema = opened.project(&request.columns)?;
        let spelled = opened.spelled_key(key);
        let filter = Filter::equals(&opened.schema, &opened.key, &spelled)
            .map_err(|error| ServiceError::invalid("key", error.message))?;
        let filter = Arc::new(filter);
        let look = self.look(caller, &opened, Some(filter), &Arc::default()).await?;
        let walk = Walk { from: Position { block: 0, row: 0 }, back: false, limit: 1 };
        let rows = self.reader.walk(look.blocks(), &look.reading, walk, look.prune()).await?;
        let found =
            self.reader.rows(look.blocks(), &rows, &schema, &look.reading, PAGE_BYTES_MAX).await?;
        if let Some(batch) = found.first().filter(|batch| batch.num_rows() > 0) {
            return Ok(RowPage {
                columns: columns_of(&schema),
                items: items_of(batch, opened.items_profile)?,
                next_page_token: String::new(),
                previous_page_token: String::new(),
                version: opened.version,
            });
        }
        let shown: String = key.chars().take(100).collect();
        Err(ServiceError::not_found("item", format!("{shown} in {}", opened.address))
            .reason("ITEM_NOT_FOUND"))
    }

    /// How many rows pass, and at which version.
    ///
    /// # Errors
    /// A filter that does not fit; no such dataset.
    pub async fn count_items(
        &self,
        caller: &Caller,
        request: &RowsRequest,
    ) -> Result<(i64, i64), ServiceError> {
        self.count_tallied(caller, request, &Arc::default()).await
    }

    /// As [`App::count_items`], with its costs added up.
    pub async fn count_tallied(
        &self,
        caller: &Caller,
        request: &RowsRequest,
        tally: &Arc<Tally>,
    ) -> Result<(i64, i64), ServiceError> {
        let opened = self.open(caller, &request.address, &request.version, COUNT).await?;
        let Some(filter) = self.filter(&opened, &request.filter).await? else {
            let rows = self.view(caller, &opened).await?.row_count;
            return Ok((i64::try_from(rows).unwrap_or(i64::MAX), opened.version));
        };
        let look = self.look(caller, &opened, Some(filter), tally).await?;
        let counted = self.reader.count(look.blocks(), &look.reading, look.prune()).await?;
        Ok((i64::try_from(counted).unwrap_or(i64::MAX), opened.version))
    }

    /// Totals, and each column's nulls and bounds.
    ///
    /// # Errors
    /// No such dataset.
    pub async fn statistics(
        &self,
        caller: &Caller,
        address: &Address,
        version: &str,
    ) -> Result<GetStatisticsResponse, ServiceError> {
        let opened = self.open(caller, address, version, STATISTICS).await?;
        let view = self.view(caller, &opened).await?;
        let mut columns = Vec::with_capacity(opened.schema.fields().len());
        for field in opened.schema.fields() {
            let mut total = ColumnStatistics {
                column: field.name().clone(),
                exact: true,
                ..ColumnStatistics::default()
            };
            let bounds = manifest::merged(&view.blocks, field.name())?;
            total.null_count = bounds.null_count;
            let uuid = is_uuid(field, opened.items_profile);
            let shown = |value: Option<catalog_api::v1::Value>| {
                value.map(|v| if uuid { uuid_text(v) } else { v })
            };
            let exact = bounds.exact && view.tail.is_none();
            (total.min, total.max, total.exact) = (shown(bounds.min), shown(bounds.max), exact);
            columns.push(total);
        }
        Ok(GetStatisticsResponse {
            row_count: i64::try_from(view.row_count).unwrap_or(i64::MAX),
            byte_count: opened.byte_count,
            block_count: opened.block_count,
            version: opened.version,
            columns,
        })
    }
}
