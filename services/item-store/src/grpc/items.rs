//! `quarry.items.v1.ItemsService`.

use futures::stream::{self, BoxStream, StreamExt};
use items_api::v1::items_service_server::ItemsService;
use items_api::v1::{
    CountItemsRequest, CountItemsResponse, ExportItemsRequest, ExportItemsResponse, GetItemRequest,
    GetItemResponse, GetStatisticsRequest, GetStatisticsResponse, ListItemsRequest,
    ListItemsResponse,
};
use service_error::ServiceError;
use tonic::{Request, Response, Status};

use crate::app::{App, Export, ExportRequest, ListRequest, RowsRequest};
use crate::model::Address;

#[derive(Debug, Clone)]
pub(super) struct ItemsGrpc {
    app: App,
}

impl ItemsGrpc {
    /// The service over the use cases.
    pub const fn new(app: App) -> Self {
        Self { app }
    }
}

#[tonic::async_trait]
impl ItemsService for ItemsGrpc {
    type ExportItemsStream = BoxStream<'static, Result<ExportItemsResponse, Status>>;

    async fn list_items(
        &self,
        request: Request<ListItemsRequest>,
    ) -> Result<Response<ListItemsResponse>, Status> {
        let caller = caller::of(&request)?;
        let request = request.into_inner();
        let rows = RowsRequest {
            address: Address::new(&request.namespace, &request.dataset)?,
            version: request.version,
            filter: request.filter,
            columns: request.columns,
        };
        let list = ListRequest {
            rows,
            page_size: request.page_size,
            page_token: request.page_token,
            order_by: request.order_by,
            skip: request.skip,
        };
        let page = self.app.list_items(&caller, list).await?;
        Ok(Response::new(ListItemsResponse {
            columns: page.columns,
            items: page.items,
            next_page_token: page.next_page_token,
            previous_page_token: page.previous_page_token,
            version: page.version,
        }))
    }

    async fn export_items(
        &self,
        request: Request<ExportItemsRequest>,
    ) -> Result<Response<Self::ExportItemsStream>, Status> {
        let caller = caller::of(&request)?;
        let request = request.into_inner();
        let rows = RowsRequest {
            address: Address::new(&request.namespace, &request.dataset)?,
            version: request.version,
            filter: request.filter,
            columns: request.columns,
        };
        let request = ExportRequest {
            rows,
            order_by: request.order_by,
            page_token: request.page_token,
            limit: request.limit,
        };
        Ok(Response::new(sent(self.app.export(caller, request).await?)))
    }

    async fn get_item(
        &self,
        request: Request<GetItemRequest>,
    ) -> Result<Response<GetItemResponse>, Status> {
        let caller = caller::of(&request)?;
        let request = request.into_inner();
        let rows = RowsRequest {
            address: Address::new(&request.namespace, &request.dataset)?,
            version: request.version,
            filter: String::new(),
            columns: request.columns,
        };
        let found = self.app.get_item(&caller, rows, &request.key).await?;
        let item = found.items.into_iter().next();
        let item =
            item.ok_or_else(|| ServiceError::internal("the item was found and is not there"))?;
        Ok(Response::new(GetItemResponse {
            columns: found.columns,
            item: Some(item),
            version: found.version,
        }))
    }

    async fn count_items(
        &self,
        request: Request<CountItemsRequest>,
    ) -> Result<Response<CountItemsResponse>, Status> {
        let caller = caller::of(&request)?;
        let request = request.into_inner();
        let rows = RowsRequest {
            address: Address::new(&request.namespace, &request.dataset)?,
            version: request.version,
            filter: request.filter,
            columns: Vec::new(),
        };
        let (count, version) = self.app.count_items(&caller, &rows).await?;
        Ok(Response::new(CountItemsResponse { count, version }))
    }

    async fn get_statistics(
        &self,
        request: Request<GetStatisticsRequest>,
    ) -> Result<Response<GetStatisticsResponse>, Status> {
        let caller = caller::of(&request)?;
        let request = request.into_inner();
        let address = Address::new(&request.namespace, &request.dataset)?;
        Ok(Response::new(self.app.statistics(&caller, &address, &request.version).await?))
    }
}

/// The columns, the rows, and how many they were: what lacks its count was cut.
fn sent(export: Export) -> BoxStream<'static, Result<ExportItemsResponse, Status>> {
    let Export { columns, version, rows } = export;
    let first =
        ExportItemsResponse { columns, version: Some(version), ..ExportItemsResponse::default() };
    let rows = stream::unfold(Some((rows, 0)), |state| async move {
        let (mut rows, count) = state?;
        let none = ExportItemsResponse::default();
        Some(match rows.next().await {
            Some(Ok(items)) => {
                let count = count + i64::try_from(items.len()).unwrap_or(0);
                (Ok(ExportItemsResponse { items, ..none }), Some((rows, count)))
            }
            Some(Err(error)) => (Err(Status::from(error)), None),
            None => (Ok(ExportItemsResponse { count: Some(count), ..none }), None),
        })
    });
    stream::once(std::future::ready(Ok(first))).chain(rows).boxed()
}
