//! The gRPC services that the door answers itself: health and reflection.

use ops_door::{Drain, health};
use service_channel::{Transport, ending, local};
use service_error::ServiceError;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use tonic_reflection::server::Builder;

use crate::Upstream;
use crate::methods::{FLIGHT_DESCRIPTORS, Methods};

const HEALTH: &str = "grpc.health.v1.Health";
const HEALTH_CHECK: &str = "/grpc.health.v1.Health/Check";
const REFLECTION: &str = "grpc.reflection.v1.ServerReflection";
const REFLECTION_ALPHA: &str = "grpc.reflection.v1alpha.ServerReflection";

/// Whether a gRPC path is answered here, without a credential.
pub fn is_own(path: &str) -> bool {
    service_of(path)
        .is_some_and(|service| [HEALTH, REFLECTION, REFLECTION_ALPHA].contains(&service))
}

/// Whether a path is the health check, which is answered however busy the door
/// is. Watching health stays open, so it takes a place like any stream.
pub fn is_health_check(path: &str) -> bool {
    path == HEALTH_CHECK
}

fn service_of(path: &str) -> Option<&str> {
    Some(path.strip_prefix('/')?.split_once('/')?.0)
}

/// Health of the door and, if it is on, reflection of all that the outside may
/// call.
///
/// # Errors
/// Contracts that cannot be described.
pub fn services(
    upstreams: &[Upstream],
    methods: &Methods,
    reflection: bool,
    draining: CancellationToken,
) -> Result<Transport, ServiceError> {
    let health = health(methods.services(), Vec::new(), Drain::from(draining.clone()));
    let mut routes = Routes::new(health);
    if reflection {
        let broken = |error| ServiceError::internal(format!("reflection: {error}"));
        routes = routes
            .add_service(describe(upstreams, methods).build_v1().map_err(broken)?)
            .add_service(describe(upstreams, methods).build_v1alpha().map_err(broken)?);
    }
    Ok(ending(local(routes.prepare()), draining))
}

fn describe<'a>(upstreams: &[Upstream], methods: &Methods) -> Builder<'a> {
    let mut builder = Builder::configure()
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET);
    for upstream in upstreams {
        builder = builder.register_encoded_file_descriptor_set(upstream.descriptors);
    }
    builder = builder.register_encoded_file_descriptor_set(FLIGHT_DESCRIPTORS);
    for service in
        methods.services().iter().map(String::as_str).chain([HEALTH, REFLECTION, REFLECTION_ALPHA])
    {
        builder = builder.with_service_name(service);
    }
    builder
}
