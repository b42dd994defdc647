//! The wire: each file converts one proto service's messages and calls `app`.

mod audit;
mod exchange;
mod grants;
mod replica;
mod resources;
mod tokens;
mod users;

use std::sync::Arc;

use identity_api::v1::audit_service_server::AuditServiceServer;
use identity_api::v1::exchange_service_server::ExchangeServiceServer;
use identity_api::v1::grants_service_server::GrantsServiceServer;
use identity_api::v1::replica_service_server::ReplicaServiceServer;
use identity_api::v1::resources_service_server::ResourcesServiceServer;
use identity_api::v1::tokens_service_server::TokensServiceServer;
use identity_api::v1::users_service_server::UsersServiceServer;
use options_api::v1 as options;
use prost_types::Timestamp;
use service_error::ServiceError;
use tonic::service::Routes;
use tonic::{Response, Status};

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

/// An answer, or its error.
fn reply<T>(result: Result<T, ServiceError>) -> Result<Response<T>, Status> {
    Ok(Response::new(result?))
}

fn timestamp(micros: i64) -> Timestamp {
    let nanos = i32::try_from(micros.rem_euclid(1_000_000) * 1_000).unwrap_or_default();
    Timestamp { seconds: micros.div_euclid(1_000_000), nanos }
}

fn micros(field: &str, time: &Timestamp) -> Result<i64, ServiceError> {
    let micros = time
        .seconds
        .checked_mul(1_000_000)
        .and_then(|micros| micros.checked_add(i64::from(time.nanos) / 1_000));
    micros.ok_or_else(|| ServiceError::invalid(field, "is no time that can be stored"))
}

fn parse<T: std::str::FromStr<Err: std::fmt::Display>>(
    field: &str,
    text: &str,
) -> Result<T, ServiceError> {
    text.parse().map_err(|error| ServiceError::invalid(field, error))
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
    fn times_round_trip_to_the_microsecond() {
        for time in [0, 1, -1, 1_700_000_000_123_456, -62_135_596_800_000_000] {
            assert_eq!(micros("t", &timestamp(time)).unwrap(), time);
        }
        assert!(micros("t", &Timestamp { seconds: i64::MAX, nanos: 0 }).is_err());
    }

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
