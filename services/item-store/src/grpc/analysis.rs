//! `quarry.items.v1.AnalysisService`.

use items_api::v1::analysis_service_server::AnalysisService;
use items_api::v1::{
    DescribeItemsRequest, DescribeItemsResponse, ExplainItemsRequest, ExplainItemsResponse,
    GetFacetsRequest, GetFacetsResponse, GetItemsAtRequest, GetItemsAtResponse,
    PreviewItemsRequest, PreviewItemsResponse, SampleItemsRequest, SampleItemsResponse,
    SummarizeItemsRequest, SummarizeItemsResponse,
};
use tonic::{Request, Response, Status};

use crate::app::{App, RowsRequest};
use crate::model::Address;

/// Converts, asks a use case, converts back.
pub(crate) struct AnalysisGrpc {
    app: App,
}

impl AnalysisGrpc {
    /// The service over the use cases.
    pub const fn new(app: App) -> Self {
        Self { app }
    }
}

fn rows(
    (namespace, dataset): (&str, &str),
    version: String,
    filter: String,
    columns: Vec<String>,
) -> Result<RowsRequest, Status> {
    Ok(RowsRequest { address: Address::new(namespace, dataset)?, version, filter, columns })
}

#[tonic::async_trait]
impl AnalysisService for AnalysisGrpc {
    async fn describe_items(
        &self,
        request: Request<DescribeItemsRequest>,
    ) -> Result<Response<DescribeItemsResponse>, Status> {
        let caller = caller::of(&request)?;
        let request = request.into_inner();
        let address = Address::new(&request.namespace, &request.dataset)?;
        Ok(Response::new(self.app.describe_items(&caller, &address, &request.version).await?))
    }

    async fn preview_items(
        &self,
        request: Request<PreviewItemsRequest>,
    ) -> Result<Response<PreviewItemsResponse>, Status> {
        let caller = caller::of(&request)?;
        let request = request.into_inner();
        let name = (request.namespace.as_str(), request.dataset.as_str());
        let rows = rows(name, request.version, String::new(), request.columns)?;
        let (page, row_count) = self.app.preview_items(&caller, rows).await?;
        Ok(Response::new(PreviewItemsResponse {
            columns: page.columns,
            items: page.items,
            version: page.version,
            row_count,
        }))
    }

    async fn summarize_items(
        &self,
        request: Request<SummarizeItemsRequest>,
    ) -> Result<Response<SummarizeItemsResponse>, Status> {
        let caller = caller::of(&request)?;
        Ok(Response::new(self.app.summarize_items(&caller, request.get_ref()).await?))
    }

    async fn get_facets(
        &self,
        request: Request<GetFacetsRequest>,
    ) -> Result<Response<GetFacetsResponse>, Status> {
        let caller = caller::of(&request)?;
        Ok(Response::new(self.app.facets(&caller, request.get_ref()).await?))
    }

    async fn sample_items(
        &self,
        request: Request<SampleItemsRequest>,
    ) -> Result<Response<SampleItemsResponse>, Status> {
        let caller = caller::of(&request)?;
        let request = request.into_inner();
        let name = (request.namespace.as_str(), request.dataset.as_str());
        let rows = rows(name, request.version, request.filter, request.columns)?;
        let page = self.app.sample_items(&caller, rows, request.size, request.seed).await?;
        Ok(Response::new(SampleItemsResponse {
            columns: page.columns,
            items: page.items,
            version: page.version,
        }))
    }

    async fn get_items_at(
        &self,
        request: Request<GetItemsAtRequest>,
    ) -> Result<Response<GetItemsAtResponse>, Status> {
        let caller = caller::of(&request)?;
        let request = request.into_inner();
        let name = (request.namespace.as_str(), request.dataset.as_str());
        let rows = rows(name, request.version, String::new(), request.columns)?;
        let page = self.app.items_at(&caller, rows, &request.positions).await?;
        Ok(Response::new(GetItemsAtResponse {
            columns: page.columns,
            items: page.items,
            version: page.version,
        }))
    }

    async fn explain_items(
        &self,
        request: Request<ExplainItemsRequest>,
    ) -> Result<Response<ExplainItemsResponse>, Status> {
        let caller = caller::of(&request)?;
        Ok(Response::new(self.app.explain_items(&caller, request.into_inner()).await?))
    }
}
