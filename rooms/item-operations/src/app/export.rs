//! All passing rows of one snapshot as a stream of wire values.

use std::sync::Arc;

use blocks::OrderBy;
use caller::Caller;
use catalog_api::v1::Column;
use cells::columns_of;
use futures::stream::{self, BoxStream};
use futures::{StreamExt, TryStreamExt};
use items_api::v1::Item;
use service_error::ServiceError;

use crate::app::App;
use crate::app::answers::messages;
use crate::app::items::{ListRequest, RowsRequest};
use crate::app::ordered::OrderedRead;
use crate::app::stored::StoredRead;
use crate::app::watched::Watched;

/// What to export.
#[derive(Debug, Clone)]
pub struct ExportRequest {
    /// Which rows.
    pub rows: RowsRequest,
    /// Empty: storage order.
    pub order_by: String,
    /// Of a list of the same rows, to go on where a page ended; empty: all of them.
    pub page_token: String,
    /// Rows at most; 0: all.
    pub limit: i64,
}

/// The rows of an export.
pub struct Export {
    /// Of each row.
    pub columns: Vec<Column>,
    /// The version that is read.
    pub version: i64,
    /// Some rows at a time. Dropped, they stop the reading; an error ends them when the caller
    /// loses its right to them.
    pub rows: BoxStream<'static, Result<Vec<Item>, ServiceError>>,
}

impl App {
    /// The passing rows of a snapshot, in storage order or in the caller's.
    ///
    /// # Errors
    /// A filter, columns, an order or a token that do not fit; no such dataset.
    pub async fn export(
        &self,
        caller: Arc<Caller>,
        request: ExportRequest,
    ) -> Result<Export, ServiceError> {
        let limit = u64::try_from(request.limit)
            .map_err(|_| ServiceError::invalid("limit", "must not be negative"))?;
        let limit = Some(limit).filter(|limit| *limit > 0);
        let ExportRequest { rows, order_by, page_token, .. } = request;
        let list = ListRequest { page_token, order_by, ..ListRequest::first(rows, 0) };
        let start = self.start(&caller, &list).await?;
        let from = start.row_after()?;
        let (opened, schema) = (start.opened, start.schema);
        OrderBy::check(&start.order, &opened.schema)?;
        let (filter, columns) = (start.filter, columns_of(&schema));
        let batches = if start.order.is_empty() {
            let read = StoredRead { filter, schema, from, end: usize::MAX, limit };
            self.stored(&caller, &opened, read).await?
        } else {
            let read = OrderedRead { filter, schema, order: start.order, limit };
            self.ordered(&caller, &opened, read).await?
        };
        let (version, items_profile) = (opened.version, opened.items_profile);
        let watched = Watched::new(self, caller, &[opened], batches).stream();
        let shown = watched.map_ok(move |batch| stream::iter(messages(batch, items_profile)));
        Ok(Export { columns, version, rows: shown.try_flatten().boxed() })
    }
}
