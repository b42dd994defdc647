//! `quarry.identity.v1.GrantsService`.

use std::sync::Arc;

use identity_api::v1::grants_service_server::GrantsService;
use identity_api::v1::{
    self as api, AddGrantRequest, AddGrantResponse, ListGrantsRequest, ListGrantsResponse,
    RemoveGrantRequest, RemoveGrantResponse,
};
use options_api::v1 as options;
use paging::PAGE_SIZE_MAX;
use service_error::ServiceError;
use tonic::{Request, Response, Status};

use super::{answer, micros, parse, resource, resource_message, timestamp};
use crate::app::{GrantQuery, Identity, NamedGrant, NewGrant};
use crate::model::{Grant, Level};

pub struct Grants(pub Arc<Identity>);

#[tonic::async_trait]
impl GrantsService for Grants {
    async fn add_grant(
        &self,
        request: Request<AddGrantRequest>,
    ) -> Result<Response<AddGrantResponse>, Status> {
        let caller = caller::of(&request)?;
        let new = new_grant(request.into_inner())?;
        let given = self.0.add_grant(&caller, new).await;
        answer(
            given.map(|(grant, revision)| AddGrantResponse { grant: Some(named(grant)), revision }),
        )
    }

    async fn list_grants(
        &self,
        request: Request<ListGrantsRequest>,
    ) -> Result<Response<ListGrantsResponse>, Status> {
        let caller = caller::of(&request)?;
        let request = request.into_inner();
        let size = paging::page_size(request.page_size, PAGE_SIZE_MAX)?;
        let of = request.resource.as_ref().map(|of| resource("resource", of)).transpose()?;
        let query = GrantQuery { resource: of, user: request.user };
        let page = self.0.list_grants(&caller, query, size, &request.page_token).await;
        answer(page.map(|page| ListGrantsResponse {
            grants: page.entries.into_iter().map(named).collect(),
            next_page_token: page.next_page_token,
        }))
    }

    async fn remove_grant(
        &self,
        request: Request<RemoveGrantRequest>,
    ) -> Result<Response<RemoveGrantResponse>, Status> {
        let caller = caller::of(&request)?;
        let id = parse("id", &request.get_ref().id)?;
        answer(
            self.0.remove_grant(&caller, id).await.map(|revision| RemoveGrantResponse { revision }),
        )
    }
}

fn new_grant(request: AddGrantRequest) -> Result<NewGrant, ServiceError> {
    let level = match request.level() {
        options::Level::Read => Level::Read,
        options::Level::Write => Level::Write,
        options::Level::Admin => Level::Admin,
        options::Level::Owner => Level::Owner,
        options::Level::Unspecified => {
            return Err(ServiceError::invalid(
                "level",
                "must be LEVEL_READ, LEVEL_WRITE, LEVEL_ADMIN or LEVEL_OWNER",
            ));
        }
    };
    if request.user.is_empty() {
        return Err(ServiceError::invalid("user", "must be a user's name"));
    }
    let on = request
        .resource
        .as_ref()
        .ok_or_else(|| ServiceError::invalid("resource", "must be set"))?;
    Ok(NewGrant {
        resource: resource("resource", on)?,
        level,
        can_share: request.can_share,
        expires_at: request
            .expire_time
            .as_ref()
            .map(|time| micros("expire_time", time))
            .transpose()?,
        user: request.user,
    })
}

pub(super) const fn level_message(level: Level) -> options::Level {
    match level {
        Level::Read => options::Level::Read,
        Level::Write => options::Level::Write,
        Level::Admin => options::Level::Admin,
        Level::Owner => options::Level::Owner,
    }
}

/// A grant without its subject's name, which replicas do not need.
pub(super) fn message(grant: &Grant) -> api::Grant {
    api::Grant {
        id: grant.id.to_string(),
        user: String::new(),
        user_id: grant.principal.to_string(),
        resource: Some(resource_message(grant.resource)),
        level: level_message(grant.level) as i32,
        can_share: grant.can_share,
        expire_time: grant.expires_at.map(timestamp),
        create_time: Some(timestamp(grant.created_at)),
    }
}

fn named(NamedGrant { grant, user }: NamedGrant) -> api::Grant {
    api::Grant { user, ..message(&grant) }
}
