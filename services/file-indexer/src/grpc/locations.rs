//! `quarry.files.v1.LocationsService`.

use files_api::v1 as wire;
use files_api::v1::locations_service_server::LocationsService;
use service_error::ServiceError;
use tonic::{Request, Response, Status};

use super::{answer, plain, timestamp};
use crate::ROLE;
use crate::app::{CreateLocation, Indexer, ScanAsked};
use crate::model::{Location, Mode};

const LIST: &str = "locations";

/// The service over the use cases.
pub struct Locations(pub Indexer);

type Answer<T> = Result<Response<T>, Status>;

#[tonic::async_trait]
impl LocationsService for Locations {
    async fn create_location(
        &self,
        request: Request<wire::CreateLocationRequest>,
    ) -> Answer<wire::CreateLocationResponse> {
        let caller = caller::of(&request)?;
        let asked = request.into_inner();
        let mode = mode(asked.mode)?.unwrap_or(Mode::Metadata);
        plain("name", &[&asked.name])?;
        plain("path", &[&asked.path])?;
        plain("rules", &asked.rules)?;
        let create = CreateLocation {
            path: asked.path,
            name: asked.name,
            mode,
            rules: asked.rules,
            guard_percent: asked.guard_percent,
            nested: asked.nested,
            watched: asked.watched,
            device: asked.device,
            archives: asked.archives,
        };
        let made = self.0.create_location(&caller, create).await;
        answer(made.map(|(location, relocated)| wire::CreateLocationResponse {
            location: Some(to_wire(location)),
            relocated,
        }))
    }

    async fn get_location(
        &self,
        request: Request<wire::GetLocationRequest>,
    ) -> Answer<wire::GetLocationResponse> {
        let caller = caller::of(&request)?;
        let found = self.0.get_location(&caller, &request.into_inner().id).await;
        answer(found.map(|found| wire::GetLocationResponse { location: Some(to_wire(found)) }))
    }

    async fn list_locations(
        &self,
        request: Request<wire::ListLocationsRequest>,
    ) -> Answer<wire::ListLocationsResponse> {
        let caller = caller::of(&request)?;
        let asked = request.into_inner();
        let page = async {
            let size = paging::page_size(asked.page_size, paging::PAGE_SIZE_MAX)?;
            let after: i64 = paging::key(LIST, &asked.page_token)?.unwrap_or(0);
            let found = self.0.list_locations(&caller, &asked.holding, after, size + 1).await?;
            let (found, next_page_token) = paging::cut(found, size, LIST, |last| last.id);
            let locations = found.into_iter().map(to_wire).collect();
            Ok::<_, ServiceError>(wire::ListLocationsResponse { locations, next_page_token })
        };
        answer(page.await)
    }

    async fn list_volumes(
        &self,
        request: Request<wire::ListVolumesRequest>,
    ) -> Answer<wire::ListVolumesResponse> {
        let caller = caller::of(&request)?;
        answer(super::volumes::list(&self.0, &caller, request.into_inner()).await)
    }

    async fn delete_location(
        &self,
        request: Request<wire::DeleteLocationRequest>,
    ) -> Answer<wire::DeleteLocationResponse> {
        let caller = caller::of(&request)?;
        let deleted = self.0.delete_location(&caller, &request.into_inner().id).await;
        answer(deleted.map(|()| wire::DeleteLocationResponse {}))
    }

    async fn scan_location(
        &self,
        request: Request<wire::ScanLocationRequest>,
    ) -> Answer<wire::ScanLocationResponse> {
        let caller = caller::of(&request)?;
        let asked = request.into_inner();
        let mode = mode(asked.mode)?;
        let asked_for =
            ScanAsked { mode, accept_removals: asked.accept_removals, archives: asked.archives };
        let job = self.0.scan_location(&caller, &asked.id, asked_for).await;
        answer(job.map(|id| wire::ScanLocationResponse { job: format!("{ROLE}/{id}") }))
    }

    async fn verify_location(
        &self,
        request: Request<wire::VerifyLocationRequest>,
    ) -> Answer<wire::VerifyLocationResponse> {
        let caller = caller::of(&request)?;
        let job = self.0.verify_location(&caller, &request.into_inner().id).await;
        answer(job.map(|id| wire::VerifyLocationResponse { job: format!("{ROLE}/{id}") }))
    }
}

fn mode(number: i32) -> Result<Option<Mode>, ServiceError> {
    match wire::ScanMode::try_from(number) {
        Ok(wire::ScanMode::Unspecified) => Ok(None),
        Ok(wire::ScanMode::Metadata) => Ok(Some(Mode::Metadata)),
        Ok(wire::ScanMode::Content) => Ok(Some(Mode::Content)),
        Ok(wire::ScanMode::Deep) => Ok(Some(Mode::Deep)),
        Err(_) => Err(ServiceError::invalid("mode", format!("{number} is no mode"))),
    }
}

fn to_wire(location: Location) -> wire::Location {
    let micros = |micros: i64| timestamp(micros.saturating_mul(1_000));
    wire::Location {
        id: location.uuid.to_string(),
        path: location.path,
        name: location.name,
        device: location.device,
        mode: location.mode as i32,
        rules: location.rules,
        create_time: Some(micros(location.created_at)),
        scan_time: location.scanned_at.map(micros),
        entry_count: location.entries,
        file_count: location.files,
        byte_count: location.bytes,
        generation: location.generation,
        missing_count: location.missing,
        problem: location.problem,
        guard_percent: location.guard_percent,
        watched: location.watched,
        archives: location.archives,
        member_count: location.members,
    }
}
