//! `quarry.identity.v1.ReplicaService`.

use std::pin::Pin;
use std::sync::Arc;

use identity_api::v1::grant_change::Change as Wire;
use identity_api::v1::replica_service_server::ReplicaService;
use identity_api::v1::{
    CheckAccessRequest, CheckAccessResponse, GetRevisionRequest, GetRevisionResponse, GrantChange,
    PutResourceRequest, PutResourceResponse, RevokedToken, RoleChange, WatchGrantsRequest,
    WatchGrantsResponse,
};
use service_error::ServiceError;
use tokio_stream::wrappers::ReceiverStream;
use tokio_stream::{Stream, StreamExt};
use tonic::{Request, Response, Status};

use super::grants::{level_message, message};
use super::{answer, parse, resource, role_message, timestamp};
use crate::app::{Identity, PutResource};
use crate::model::{Batch, Change};

/// More ancestors than a resource can have.
const CHAIN_MAX: usize = 16;

pub struct Replica(pub Arc<Identity>);

#[tonic::async_trait]
impl ReplicaService for Replica {
    type WatchGrantsStream =
        Pin<Box<dyn Stream<Item = Result<WatchGrantsResponse, Status>> + Send>>;

    async fn watch_grants(
        &self,
        request: Request<WatchGrantsRequest>,
    ) -> Result<Response<Self::WatchGrantsStream>, Status> {
        let batches = ReceiverStream::new(self.0.watch(request.get_ref().since_revision));
        Ok(Response::new(Box::pin(
            batches.map(|batch| batch.map(batch_message).map_err(Status::from)),
        )))
    }

    async fn get_revision(
        &self,
        _: Request<GetRevisionRequest>,
    ) -> Result<Response<GetRevisionResponse>, Status> {
        answer(self.0.newest_revision().await.map(|revision| GetRevisionResponse { revision }))
    }

    async fn check_access(
        &self,
        request: Request<CheckAccessRequest>,
    ) -> Result<Response<CheckAccessResponse>, Status> {
        let request = request.into_inner();
        if request.resources.len() > CHAIN_MAX {
            return Err(
                ServiceError::invalid("resources", format!("must be at most {CHAIN_MAX}")).into()
            );
        }
        let chain = request
            .resources
            .iter()
            .map(|of| resource("resources", of))
            .collect::<Result<Vec<_>, _>>()?;
        let token = match request.token_id.as_str() {
            "" => None,
            id => Some(parse("token_id", id)?),
        };
        let access =
            self.0.check_access(parse("principal_id", &request.principal_id)?, &chain, token).await;
        answer(access.map(|access| CheckAccessResponse {
            level: access.level.map(level_message).unwrap_or_default() as i32,
            refused: access.refused,
        }))
    }

    async fn put_resource(
        &self,
        request: Request<PutResourceRequest>,
    ) -> Result<Response<PutResourceResponse>, Status> {
        let caller = caller::of(&request)?;
        let put = put(request.get_ref())?;
        answer(
            self.0
                .put_resource(&caller, put)
                .await
                .map(|revision| PutResourceResponse { revision }),
        )
    }
}

fn put(request: &PutResourceRequest) -> Result<PutResource, ServiceError> {
    let of = request
        .resource
        .as_ref()
        .ok_or_else(|| ServiceError::invalid("resource", "must be set"))?;
    let owner = match request.owner_id.as_str() {
        "" => None,
        id => Some(parse("owner_id", id)?),
    };
    Ok(PutResource {
        event: parse("event_id", &request.event_id)?,
        resource: resource("resource", of)?,
        parent: request.parent.as_ref().map(|parent| resource("parent", parent)).transpose()?,
        owner,
        deleted: request.deleted,
    })
}

fn batch_message(batch: Batch) -> WatchGrantsResponse {
    WatchGrantsResponse {
        revision: batch.revision,
        reset: batch.reset,
        changes: batch
            .changes
            .iter()
            .map(|change| GrantChange { change: Some(change_message(change)) })
            .collect(),
        partial: batch.partial,
    }
}

fn change_message(change: &Change) -> Wire {
    match change {
        Change::Grant(grant) => Wire::Grant(message(grant)),
        Change::Removed(id) => Wire::RemovedGrantId(id.to_string()),
        Change::Disabled(id) => Wire::DisabledPrincipalId(id.to_string()),
        Change::Enabled(id) => Wire::EnabledPrincipalId(id.to_string()),
        Change::Revoked { token, forget_at } => Wire::RevokedToken(RevokedToken {
            token_id: token.to_string(),
            forget_time: Some(timestamp(*forget_at)),
        }),
        Change::Role { principal, role, forget_at } => Wire::RoleChange(RoleChange {
            principal_id: principal.to_string(),
            role: role_message(*role) as i32,
            forget_time: Some(timestamp(*forget_at)),
        }),
    }
}
