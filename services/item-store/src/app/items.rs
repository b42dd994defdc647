//! Pages, look-ups, counts and statistics.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use caller::Caller;
use catalog_api::v1::get_head_request::At;
use catalog_api::v1::{Column, ColumnStatistics};
use filter::{Filter, Pruned};
use futures::{StreamExt, TryStreamExt};
use items_api::v1::{GetStatisticsResponse, Item};
use service_error::ServiceError;
use sql_store::now_micros;

use crate::app::App;
use crate::app::catalog::by_name;
use crate::app::manifest;
use crate::app::reading::{Opened, filter_hash};
use crate::app::values::{columns_of, is_uuid, items_of, uuid_text};
use crate::model::{Address, PageToken, hash_of};

/// The most rows of a page.
const PAGE_ROWS_MAX: u32 = 10_000;
/// A page ends when its rows take about this much memory.
const PAGE_BYTES_MAX: usize = 8 << 20;
const PAGE_TOKEN: &str = "page_token";

const LIST: &str = "quarry.items.v1.ItemsService/ListItems";
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
    /// The version that was read.
    pub version: i64,
}

/// Where a page begins, and in which list.
struct Start {
    opened: Opened,
    filter: Option<Arc<Filter>>,
    schema: SchemaRef,
    columns_hash: String,
    block: usize,
    row: u64,
}

impl App {
    /// A page of rows in storage order.
    ///
    /// # Errors
    /// A filter, columns or a token that do not fit; no such dataset.
    pub async fn list_items(
        &self,
        caller: &Caller,
        request: ListRequest,
    ) -> Result<RowPage, ServiceError> {
        let size = paging::page_size(request.page_size, PAGE_ROWS_MAX)? as usize;
        let mut start = self.start(caller, &request).await?;
        let manifest = self.manifest(caller, &start.opened).await?;
        let mut found: Vec<RecordBatch> = Vec::new();
        let (mut rows, mut bytes) = (0, 0);
        let mut next = None;
        while let Some(block) = manifest.get(start.block) {
            let pruned = start.filter.as_ref().map_or(Pruned::All, |filter| block.prune(filter));
            if pruned != Pruned::None {
                let schemas = (Arc::clone(&start.schema), Arc::clone(&start.opened.schema));
                let limits = (size - rows, PAGE_BYTES_MAX.saturating_sub(bytes).max(1));
                let filter = start.filter.clone().filter(|_| pruned == Pruned::Maybe);
                let page =
                    self.reader.page(&block.location, start.row, limits, filter, schemas).await?;
                rows += page.batch.num_rows();
                bytes += blocks::slice_bytes(&page.batch);
                found.push(page.batch);
                if let Some(row) = page.next {
                    next = Some((start.block, row));
                    break;
                }
            }
            (start.block, start.row) = (start.block + 1, 0);
            if rows >= size || bytes >= PAGE_BYTES_MAX {
                next = Some((start.block, 0));
                break;
            }
        }
        let next = next.filter(|(block, _)| *block < manifest.len());
        let mut items = Vec::with_capacity(rows);
        for batch in &found {
            items.extend(items_of(batch, start.opened.items_profile)?);
        }
        Ok(RowPage {
            columns: columns_of(&start.schema),
            items,
            next_page_token: next
                .map_or_else(|| Ok(String::new()), |at| self.token(caller, &start, at))?,
            version: start.opened.version,
        })
    }

    async fn start(&self, caller: &Caller, request: &ListRequest) -> Result<Start, ServiceError> {
        let rows = &request.rows;
        let columns: Vec<&str> = rows.columns.iter().map(String::as_str).collect();
        let columns_hash = hash_of(&columns);
        if request.page_token.is_empty() {
            let opened = self.open(caller, &rows.address, &rows.version, LIST).await?;
            let (filter, schema) = (opened.filter(&rows.filter)?, opened.project(&rows.columns)?);
            return Ok(Start { opened, filter, schema, columns_hash, block: 0, row: 0 });
        }
        let sealed = URL_SAFE_NO_PAD.decode(&request.page_token).map_err(|_| {
            ServiceError::invalid(PAGE_TOKEN, "is no page token; repeat the list without one")
                .reason("PAGE_TOKEN_INVALID")
        })?;
        let token: PageToken = self.sealing.open_sealed(PAGE_TOKEN, &sealed).await?;
        if !matches!(rows.version.as_str(), "" | "latest")
            && rows.version != token.version.to_string()
        {
            return Err(ServiceError::invalid(
                PAGE_TOKEN,
                "was made at another version; repeat the list without a token",
            )
            .reason("PAGE_TOKEN_INVALID"));
        }
        let at = Some(At::Snapshot(token.snapshot));
        let mut opened = self.open_at(caller, by_name(&rows.address), at, LIST).await?;
        opened.version = token.version;
        let (filter, schema) = (opened.filter(&rows.filter)?, opened.project(&rows.columns)?);
        let hash = filter_hash(filter.as_deref());
        token.check(caller.principal, opened.dataset, &hash, &columns_hash, now_micros())?;
        Ok(Start { opened, filter, schema, columns_hash, block: token.block, row: token.row })
    }

    fn token(
        &self,
        caller: &Caller,
        start: &Start,
        (block, row): (usize, u64),
    ) -> Result<String, ServiceError> {
        let token = PageToken {
            dataset: start.opened.dataset,
            snapshot: start.opened.snapshot,
            version: start.opened.version,
            filter_hash: filter_hash(start.filter.as_deref()),
            columns_hash: start.columns_hash.clone(),
            block,
            row,
            principal: caller.principal,
            expires_at: now_micros() + self.settings.ticket_micros(),
        };
        Ok(URL_SAFE_NO_PAD.encode(self.sealing.seal(PAGE_TOKEN, &token)?))
    }

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
        let manifest = self.manifest(caller, &opened).await?;
        for block in manifest.iter().filter(|block| block.prune(&filter) != Pruned::None) {
            let schemas = (Arc::clone(&schema), Arc::clone(&opened.schema));
            let page = self
                .reader
                .page(&block.location, 0, (1, PAGE_BYTES_MAX), Some(Arc::clone(&filter)), schemas)
                .await?;
            if page.batch.num_rows() > 0 {
                return Ok(RowPage {
                    columns: columns_of(&schema),
                    items: items_of(&page.batch, opened.items_profile)?,
                    next_page_token: String::new(),
                    version: opened.version,
                });
            }
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
        let opened = self.open(caller, &request.address, &request.version, COUNT).await?;
        let Some(filter) = opened.filter(&request.filter)? else {
            return Ok((opened.row_count, opened.version));
        };
        let manifest = self.manifest(caller, &opened).await?;
        let mut sure = 0;
        let mut unsure = Vec::new();
        for block in manifest.iter() {
            match block.prune(&filter) {
                Pruned::None => {}
                Pruned::All => sure += block.location.row_count,
                Pruned::Maybe => unsure.push(block.location.clone()),
            }
        }
        let (reader, schema) = (&self.reader, &opened.schema);
        let counted: u64 = futures::stream::iter(unsure)
            .map(|location| {
                let (filter, schema) = (Arc::clone(&filter), Arc::clone(schema));
                async move { reader.count(&location, filter, schema).await }
            })
            .buffer_unordered(reader.decoders())
            .try_fold(0, |sum, count| async move { Ok(sum + count) })
            .await?;
        Ok((i64::try_from(sure + counted).unwrap_or(i64::MAX), opened.version))
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
        let manifest = self.manifest(caller, &opened).await?;
        let mut columns = Vec::with_capacity(opened.schema.fields().len());
        for field in opened.schema.fields() {
            let mut total = ColumnStatistics {
                column: field.name().clone(),
                exact: true,
                ..ColumnStatistics::default()
            };
            let bounds = manifest::merged(&manifest, field.name())?;
            total.null_count = bounds.null_count;
            let uuid = is_uuid(field, opened.items_profile);
            let shown = |value: Option<catalog_api::v1::Value>| {
                value.map(|v| if uuid { uuid_text(v) } else { v })
            };
            (total.min, total.max, total.exact) =
                (shown(bounds.min), shown(bounds.max), bounds.exact);
            columns.push(total);
        }
        Ok(GetStatisticsResponse {
            row_count: opened.row_count,
            byte_count: opened.byte_count,
            block_count: opened.block_count,
            version: opened.version,
            columns,
        })
    }
}
