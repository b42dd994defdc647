//! The only public door: gRPC and Arrow Flight relayed unread, gRPC-Web, and
//! JSON from the same contracts, on one port, with authentication once.

mod credentials;
mod documents;
mod door;
mod exchange;
mod handshake;
mod headers;
mod jobs;
mod json;
mod load;
mod methods;
mod operations;
mod own;
mod rate;
mod relay;
mod settings;
mod surface;
mod web;

use std::fmt;
use std::time::Duration;

use ::settings::RoleSecret;
use service_channel::{Readiness, Service, Transport};
use service_error::ServiceError;
use tokio_util::sync::CancellationToken;

pub use crate::settings::Settings;
pub use crate::surface::Surface;

use door::Door;
use exchange::Exchange;

const READY_TIME_MAX: Duration = Duration::from_secs(1);

/// A role behind the door.
#[derive(Clone)]
pub struct Upstream {
    /// The audience of its internal tokens, e.g. `"item-store"`.
    pub audience: &'static str,
    /// Its gRPC services are those whose full names begin with one of these,
    /// e.g. `"quarry.items.v1."`; the longest wins.
    pub prefixes: &'static [&'static str],
    /// Its encoded descriptor set, with imports, comments and options.
    pub descriptors: &'static [u8],
    /// Its HTTP surfaces in other products' words.
    pub surfaces: &'static [Surface],
    /// How to call it.
    pub transport: Transport,
}

impl fmt::Debug for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upstream")
            .field("audience", &self.audience)
            .field("prefixes", &self.prefixes)
            .finish_non_exhaustive()
    }
}

/// Whom the gateway calls.
#[derive(Debug)]
pub struct Neighbours {
    /// Where credentials are exchanged and the public keys come from.
    pub identity: Transport,
    /// The gateway's own secret, shown to identity with every exchange.
    pub service_secret: RoleSecret,
    /// Every role that the outside may reach, identity among them.
    pub upstreams: Vec<Upstream>,
    /// `quarry.ops.v1.Ops` of the process that runs the door, without a guard.
    pub operations: Option<Transport>,
}

/// Builds the door. Its `transport` takes every HTTP request of the public
/// port; once `draining` fires, its health says so.
///
/// # Errors
/// Contracts that cannot be served together: two routes on one path, a
/// binding that does not fit its method.
pub async fn build(
    settings: Settings,
    neighbours: Neighbours,
    draining: CancellationToken,
) -> Result<Service, ServiceError> {
    let Neighbours { identity, service_secret, upstreams, operations } = neighbours;
    let exchange = Exchange::new(identity.clone(), service_secret, &settings);
    let readiness = vec![identity_answers(exchange.clone())];
    let door = Door::new(settings, exchange, upstreams, operations, draining)?;
    Ok(Service {
        name: "gateway",
        transport: door.into_transport(),
        http: None,
        jobs: Vec::new(),
        readiness,
        applied: None,
    })
}

fn identity_answers(exchange: Exchange) -> Readiness {
    Readiness::new("gateway.identity", move || {
        let exchange = exchange.clone();
        async move {
            match tokio::time::timeout(READY_TIME_MAX, exchange.jwks()).await {
                Ok(Ok(_)) => Ok(()),
                Ok(Err(error)) => Err(error.to_string()),
                Err(_) => Err("identity does not answer".to_owned()),
            }
        }
    })
}

#[cfg(test)]
mod tests;
