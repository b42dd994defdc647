//! `quarry.items.v1.FiltersService`.

use items_api::v1::filters_service_server::FiltersService;
use items_api::v1::{
    CreateFilterRequest, CreateFilterResponse, DeleteFilterRequest, DeleteFilterResponse,
    GetFilterRequest, GetFilterResponse, ListFiltersRequest, ListFiltersResponse, SavedFilter,
    UpdateFilterRequest, UpdateFilterResponse,
};
use tonic::{Request, Response, Status};

use crate::app::{App, FilterChange};
use crate::model::{self, Address};

/// Converts, asks a use case, converts back.
pub(super) struct FiltersGrpc {
    pub app: App,
}

#[tonic::async_trait]
impl FiltersService for FiltersGrpc {
    async fn create_filter(
        &self,
        request: Request<CreateFilterRequest>,
    ) -> Result<Response<CreateFilterResponse>, Status> {
        let caller = caller::of(&request)?;
        let request = request.into_inner();
        let address = Address::new(&request.namespace, &request.dataset)?;
        let new = (&*request.name, &*request.filter, &*request.description);
        let filter = self.app.create_filter(&caller, &address, new).await?;
        Ok(Response::new(CreateFilterResponse { filter: Some(shown(filter)) }))
    }

    async fn get_filter(
        &self,
        request: Request<GetFilterRequest>,
    ) -> Result<Response<GetFilterResponse>, Status> {
        let caller = caller::of(&request)?;
        let request = request.into_inner();
        let address = Address::new(&request.namespace, &request.dataset)?;
        let filter = self.app.get_filter(&caller, &address, &request.name).await?;
        Ok(Response::new(GetFilterResponse { filter: Some(shown(filter)) }))
    }

    async fn list_filters(
        &self,
        request: Request<ListFiltersRequest>,
    ) -> Result<Response<ListFiltersResponse>, Status> {
        let caller = caller::of(&request)?;
        let request = request.into_inner();
        let address = Address::new(&request.namespace, &request.dataset)?;
        let page = (request.page_size, &*request.page_token);
        let (filters, next_page_token) = self.app.list_filters(&caller, &address, page).await?;
        let filters = filters.into_iter().map(shown).collect();
        Ok(Response::new(ListFiltersResponse { filters, next_page_token }))
    }

    async fn update_filter(
        &self,
        request: Request<UpdateFilterRequest>,
    ) -> Result<Response<UpdateFilterResponse>, Status> {
        let caller = caller::of(&request)?;
        let request = request.into_inner();
        let address = Address::new(&request.namespace, &request.dataset)?;
        let change = FilterChange {
            filter: request.filter,
            description: request.description,
            revision: request.revision,
        };
        let filter = self.app.update_filter(&caller, &address, &request.name, change).await?;
        Ok(Response::new(UpdateFilterResponse { filter: Some(shown(filter)) }))
    }

    async fn delete_filter(
        &self,
        request: Request<DeleteFilterRequest>,
    ) -> Result<Response<DeleteFilterResponse>, Status> {
        let caller = caller::of(&request)?;
        let request = request.into_inner();
        let address = Address::new(&request.namespace, &request.dataset)?;
        self.app.delete_filter(&caller, &address, &request.name).await?;
        Ok(Response::new(DeleteFilterResponse {}))
    }
}

fn shown(filter: model::SavedFilter) -> SavedFilter {
    let time = |micros: i64| {
        let nanos = i32::try_from(micros.rem_euclid(1_000_000) * 1_000).unwrap_or(0);
        Some(prost_types::Timestamp { seconds: micros.div_euclid(1_000_000), nanos })
    };
    SavedFilter {
        name: filter.name,
        filter: filter.filter,
        description: filter.description,
        revision: filter.revision,
        created_by: filter.created_by.to_string(),
        create_time: time(filter.created_at),
        update_time: time(filter.updated_at),
    }
}
