//! What the outside may call, and who answers: read from the contracts once.

use std::collections::HashMap;

use options_api::NeedTable;
use prost_reflect::{DescriptorPool, MethodDescriptor};
use service_error::ServiceError;
use transcode::Exposure;

use crate::Upstream;

/// The contract of Arrow Flight, for reflection.
pub const FLIGHT_DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/flight.bin"));
/// The service whose handshake the door answers itself.
pub const FLIGHT_SERVICE: &str = "arrow.flight.protocol.FlightService";
/// Takes service secrets in its requests: for the roles alone.
const EXCHANGE_SERVICE: &str = "quarry.identity.v1.ExchangeService";

/// One method that the outside may call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Callable {
    /// Index of the upstream that answers.
    pub upstream: usize,
    /// It needs no credential.
    pub public: bool,
}

/// All of them, by gRPC path.
#[derive(Debug)]
pub struct Methods {
    by_path: HashMap<String, Callable>,
    services: Vec<String>,
    pool: DescriptorPool,
}

impl Methods {
    /// Reads the contracts of all upstreams.
    ///
    /// # Errors
    /// A descriptor set that cannot be read, a method that states no need.
    pub fn read(upstreams: &[Upstream]) -> Result<Self, ServiceError> {
        let broken = |error: &dyn std::fmt::Display| {
            ServiceError::internal(format!("the contracts cannot be read: {error}"))
        };
        let sets: Vec<&[u8]> = upstreams.iter().map(|upstream| upstream.descriptors).collect();
        let needs = NeedTable::from_descriptor_sets(&sets).map_err(|error| broken(&error))?;
        let mut pool = DescriptorPool::new();
        for set in sets.into_iter().chain([FLIGHT_DESCRIPTORS]) {
            pool.decode_file_descriptor_set(set).map_err(|error| broken(&error))?;
        }
        let mut methods =
            Self { by_path: HashMap::new(), services: Vec::new(), pool: pool.clone() };
        for service in pool.services() {
            let Some(upstream) = answering(upstreams, service.full_name()) else {
                continue;
            };
            let before = methods.by_path.len();
            for method in service.methods() {
                let path = path_of(&method);
                if let Some(public) = openness(&needs, service.full_name(), &path) {
                    methods.by_path.insert(path, Callable { upstream, public });
                }
            }
            if methods.by_path.len() > before {
                methods.services.push(service.full_name().to_owned());
            }
        }
        Ok(methods)
    }

    /// The method of a gRPC path, if the outside may call it.
    pub fn get(&self, path: &str) -> Option<Callable> {
        self.by_path.get(path).copied()
    }

    /// How a method is exposed over HTTP.
    pub fn exposure(&self, method: &MethodDescriptor) -> Exposure {
        match self.get(&path_of(method)) {
            None => Exposure::Hidden,
            Some(Callable { public: true, .. }) => Exposure::Public,
            Some(_) => Exposure::Authenticated,
        }
    }

    /// Full names of the services with at least one method for the outside.
    pub fn services(&self) -> &[String] {
        &self.services
    }

    /// Every message and service of the contracts.
    pub fn pool(&self) -> &DescriptorPool {
        &self.pool
    }
}

fn path_of(method: &MethodDescriptor) -> String {
    format!("/{}/{}", method.parent_service().full_name(), method.name())
}

fn answering(upstreams: &[Upstream], service: &str) -> Option<usize> {
    let candidates = upstreams.iter().enumerate().flat_map(|(index, upstream)| {
        upstream
            .prefixes
            .iter()
            .filter(|prefix| service.starts_with(**prefix))
            .map(move |prefix| (prefix.len(), index))
    });
    // Of equals the first: `max_by_key` alone would take the last.
    candidates
        .max_by_key(|(length, index)| (*length, std::cmp::Reverse(*index)))
        .map(|(_, index)| index)
}

/// Whether the outside may call a method at all, and if so without a
/// credential. What no contract speaks of is closed.
fn openness(needs: &NeedTable, service: &str, path: &str) -> Option<bool> {
    if service == EXCHANGE_SERVICE {
        return None;
    }
    match needs.need(path) {
        Some(need) if need.service_only => None,
        Some(need) => Some(need.public),
        None if service == FLIGHT_SERVICE => Some(false),
        None => None,
    }
}
