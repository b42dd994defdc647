//! The wire: each file converts one proto service's messages and calls `app`.

mod audit;
mod exchange;
mod grants;
mod replica;
mod resources;
mod tokens;
mod users;

use std::sync::Arc;

use grpc_room::{answer, micros, parse, timestamp};
use identity_api::v1::audit_service_server::AuditServiceServer;
use identity_api::v1::exchange_service_server::ExchangeServiceServer;
use identity_api::v1::grants_service_server::GrantsServiceServer;
use identity_api::v1::replica_service_server::ReplicaServiceServer;
use identity_api::v1::resources_service_server::ResourcesServiceServer;
use identity_api::v1::tokens_service_server::TokensServiceServer;
use identity_api::v1::users_service_server::UsersServiceServer;
use options_api::v1 as options;
use service_error::ServiceError;
use tonic::service::Routes;

use crate::app::Identity;
use crate::model::{Resource, ResourceKind, Role};

/// Every service of identity.
pub fn routes(identity: &Arc<Identity>) -> Routes {
    Routes::new(UsersServiceServer::new(users::Users(Arc::clone(identity))))
        .add_service(TokensServiceServer::new(tokens::Tokens(Arc::clone(identity))))
        .add_service(GrantsServiceServer::new(grants::Grants(Arc::clone(identity))))
        .add_service(AuditServiceServer::new(audit::Audit(Arc::clone(identity))))
        .add_service(ExchangeServiceServer::new(exchange::Exchange(Arc::clone(identity))))
        .add_service(ReplicaServiceServer::new(replica::Replica(Arc::clone(identity))))
        .add_service(ResourcesServiceServer::new(resources::Resources(Arc::clone(identity))))
        .prepare()
}

/// Only what asks for keys, for identity's own guard.
pub fn key_routes(identity: &Arc<Identity>) -> Routes {
    Routes::new(ExchangeServiceServer::new(exchange::Exchange(Arc::clone(identity)))).prepare()
}

fn resource(field: &str, resource: &identity_api::v1::Resource) -> Result<Resource, ServiceError> {
    let kind = match resource.kind() {
        options::ResourceKind::Namespace => ResourceKind::Namespace,
        options::ResourceKind::Dataset => ResourceKind::Dataset,
        options::ResourceKind::Model => ResourceKind::Model,
        options::ResourceKind::Location => ResourceKind::Location,
        options::ResourceKind::Unspecified | options::ResourceKind::Any => {
            return Err(ServiceError::invalid(
                &format!("{field}.kind"),
                "must be RESOURCE_KIND_NAMESPACE, RESOURCE_KIND_DATASET, RESOURCE_KIND_MODEL or RESOURCE_KIND_LOCATION",
            ));
        }
    };
    let id = uuid::Uuid::try_parse(&resource.id).map_err(|_| {
        ServiceError::invalid(&format!("{field}.id"), "must be the resource's id, a UUID")
    })?;
    Ok(Resource { kind, id })
}

fn resource_message(resource: Resource) -> identity_api::v1::Resource {
    let kind = match resource.kind {
        ResourceKind::Namespace => options::ResourceKind::Namespace,
        ResourceKind::Dataset => options::ResourceKind::Dataset,
        ResourceKind::Location => options::ResourceKind::Location,
        ResourceKind::Model => options::ResourceKind::Model,
    };
    identity_api::v1::Resource { kind: kind as i32, id: resource.id.to_string() }
}

const fn role_message(role: Role) -> options::Role {
    match role {
        Role::Viewer => options::Role::Viewer,
        Role::User => options::Role::User,
        Role::Admin => options::Role::Admin,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn a_resource_needs_kind_and_id() {
        let good = identity_api::v1::Resource {
            kind: options::ResourceKind::Dataset as i32,
            id: uuid::Uuid::nil().to_string(),
        };
        assert_eq!(resource_message(resource("resource", &good).unwrap()), good);
        let any =
            identity_api::v1::Resource { kind: options::ResourceKind::Any as i32, ..good.clone() };
        assert_eq!(resource("resource", &any).unwrap_err().field_name(), Some("resource.kind"));
        let unnamed = identity_api::v1::Resource { id: "vision".into(), ..good };
        assert_eq!(resource("resource", &unnamed).unwrap_err().field_name(), Some("resource.id"));
    }
}
