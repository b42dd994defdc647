//! `quarry.identity.v1.ResourcesService`.

use std::sync::Arc;

use identity_api::v1::resources_service_server::ResourcesService;
use identity_api::v1::{ChildCount, CountChildrenRequest, CountChildrenResponse};
use options_api::v1 as options;
use service_error::ServiceError;
use tonic::{Request, Response, Status};

use super::{answer, resource};
use crate::app::Identity;
use crate::model::ResourceKind;

pub struct Resources(pub Arc<Identity>);

#[tonic::async_trait]
impl ResourcesService for Resources {
    async fn count_children(
        &self,
        request: Request<CountChildrenRequest>,
    ) -> Result<Response<CountChildrenResponse>, Status> {
        let parent = request.into_inner().parent;
        let parent = parent.ok_or_else(|| ServiceError::invalid("parent", "must be set"))?;
        let counts = self.0.child_counts(resource("parent", &parent)?).await;
        answer(counts.map(|counts| {
            CountChildrenResponse {
                counts: counts
                    .into_iter()
                    .map(|(kind, count)| ChildCount { kind: kind_message(kind) as i32, count })
                    .collect(),
            }
        }))
    }
}

const fn kind_message(kind: ResourceKind) -> options::ResourceKind {
    match kind {
        ResourceKind::Namespace => options::ResourceKind::Namespace,
        ResourceKind::Dataset => options::ResourceKind::Dataset,
        ResourceKind::Model => options::ResourceKind::Model,
        ResourceKind::Location => options::ResourceKind::Location,
    }
}
