//! `quarry.items.v1.MaintenanceService`.

use ::jobs::Jobs;
use items_api::v1 as wire;
use items_api::v1::maintenance_service_server::MaintenanceService;
use tonic::{Request, Response, Status};

use crate::ITEM_STORE;
use crate::app::App;

/// The service over the use cases and the jobs that do the work.
pub(super) struct MaintenanceGrpc {
    pub app: App,
    pub jobs: Jobs,
}

#[tonic::async_trait]
impl MaintenanceService for MaintenanceGrpc {
    async fn collect_garbage(
        &self,
        request: Request<wire::CollectGarbageRequest>,
    ) -> Result<Response<wire::CollectGarbageResponse>, Status> {
        let caller = caller::of(&request)?;
        let dry_run = request.into_inner().dry_run;
        let job = self.app.collector().submit(&self.jobs, &caller, dry_run).await?;
        Ok(Response::new(wire::CollectGarbageResponse { job: format!("{ITEM_STORE}/{job}") }))
    }
}
