//! Builds the roles of a process and connects each to its neighbours, in
//! memory where they are here and over a socket where they are not.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use caller::{Keys, Refused, RoleSecret, Secret, TokenSource};
use http::{HeaderMap, Request};
use operations::{Database, OfRole, Operations, Process};
use service_channel::{
    Job, Readiness, Service, Transport, ending, from_router, is_grpc_path, neighbour,
};
use service_error::ServiceError;
use telemetry::{InjectLayer, Telemetry};
use tokio_util::sync::CancellationToken;
use tonic::Status;
use tonic::body::Body;
use tower::util::BoxCloneSyncService;
use tower::{Layer, ServiceExt};

use super::settings::{Role, Settings};
use crate::schemas::Schema;

/// A role that answers gRPC behind the gateway: which services are its own.
struct Callee {
    role: Role,
    /// Service names begin with one of these.
    prefixes: &'static [&'static str],
    descriptors: &'static [u8],
    /// Other products' HTTP routes that the role serves.
    surfaces: &'static [gateway::Surface],
}

/// Every role behind the gateway. A new service is a row here.
static CALLEES: [Callee; 6] = [
    Callee {
        role: Role::Identity,
        prefixes: &["quarry.identity.v1."],
        descriptors: identity_api::FILE_DESCRIPTOR_SET,
        surfaces: &[],
    },
    Callee {
        role: Role::Catalog,
        prefixes: &["quarry.catalog.v1."],
        descriptors: catalog_api::FILE_DESCRIPTOR_SET,
        surfaces: &[],
    },
    Callee {
        role: Role::ItemStore,
        prefixes: &["quarry.items.v1.", "arrow.flight.protocol.", ops_api::JOBS_PREFIX],
        descriptors: items_api::FILE_DESCRIPTOR_SET,
        surfaces: &[],
    },
    Callee {
        role: Role::VectorSearch,
        prefixes: &["quarry.vectors.v1.", ops_api::JOBS_PREFIX],
        descriptors: vectors_api::FILE_DESCRIPTOR_SET,
        surfaces: &[],
    },
    Callee {
        role: Role::ModelRegistry,
        prefixes: &["quarry.models.v1.", ops_api::JOBS_PREFIX],
        descriptors: models_api::FILE_DESCRIPTOR_SET,
        surfaces: &MLFLOW,
    },
    Callee {
        role: Role::FileIndexer,
        prefixes: &["quarry.files.v1.", ops_api::JOBS_PREFIX],
        descriptors: files_api::FILE_DESCRIPTOR_SET,
        surfaces: &[],
    },
];

/// MLflow's REST, which the model registry serves.
static MLFLOW: [gateway::Surface; 1] = [gateway::Surface {
    prefixes: mlflow_wire::routes::PREFIXES,
    open: mlflow_wire::routes::OPEN,
    bulk: mlflow_wire::routes::BULK,
    refuse: mlflow_wire::refuse,
}];

/// The built roles of a process.
pub struct Composed {
    /// The gateway's door, if the gateway is among the roles.
    pub public: Option<Transport>,
    /// The other roles, by service name.
    pub internal: Transport,
    pub jobs: Vec<Job>,
    pub readiness: Vec<Readiness>,
    /// Somebody has claimed the admin account; unknown when identity runs in
    /// another process.
    pub admin_claimed: Option<bool>,
}

/// When parts of a process end.
#[derive(Clone, Default)]
pub struct Ends {
    /// The process drains: health says so.
    pub draining: CancellationToken,
    /// The doors' connections have been told to go: streams that last end.
    pub parted: CancellationToken,
    /// The doors are closed: background work ends.
    pub stopped: CancellationToken,
}

/// What the roles tell operators of their process.
#[derive(Clone)]
pub struct Told {
    pub process: Arc<Process>,
    pub telemetry: Telemetry,
}

/// Builds `roles`.
///
/// # Errors
/// A role that cannot start (database away, object store unusable), or a
/// neighbour without a URL.
pub async fn compose(
    settings: &Settings,
    roles: &BTreeSet<Role>,
    secrets: &BTreeMap<Role, Secret>,
    ends: &Ends,
    told: &Told,
) -> Result<Composed, ServiceError> {
    let mut house = House {
        settings,
        told,
        secrets,
        ends,
        local: BTreeMap::new(),
        jobs: Vec::new(),
        readiness: Vec::new(),
    };
    let mut admin_claimed = None;
    let mut public = None;
    for role in roles {
        match role {
            Role::Identity => admin_claimed = Some(house.identity().await?),
            Role::Catalog => house.catalog().await?,
            Role::ItemStore => house.item_store().await?,
            Role::VectorSearch => house.vector_search().await?,
            Role::FileIndexer => house.file_indexer().await?,
            Role::ModelRegistry => house.model_registry().await?,
            Role::Gateway => public = Some(house.gateway().await?),
        }
    }
    Ok(Composed {
        public,
        internal: by_service(house.local),
        jobs: house.jobs,
        readiness: house.readiness,
        admin_claimed,
    })
}

/// The roles that are being built, each after those it calls.
struct House<'a> {
    settings: &'a Settings,
    told: &'a Told,
    secrets: &'a BTreeMap<Role, Secret>,
    ends: &'a Ends,
    local: BTreeMap<Role, Transport>,
    jobs: Vec<Job>,
    readiness: Vec<Readiness>,
}

impl House<'_> {
    /// Builds identity; answers whether the admin account is claimed.
    async fn identity(&mut self) -> Result<bool, ServiceError> {
        let secrets = self.secrets.iter();
        let platform = identity::Platform {
            sql: self.settings.sql(),
            data_dir: self.settings.data_dir.clone(),
            admin_token_file: self.settings.admin_token_file.clone(),
            service_secrets: secrets
                .map(|(role, secret)| (role.name().to_owned(), secret.clone()))
                .collect(),
        };
        let built =
            identity::build(self.settings.identity.clone(), platform, self.ends.stopped.clone())
                .await?;
        self.add_with(Role::Identity, built.service, built.refused).await?;
        Ok(built.admin_claimed)
    }

    async fn catalog(&mut self) -> Result<(), ServiceError> {
        let identity = self.neighbour(Role::Identity, Role::Catalog)?;
        let neighbours = catalog::Neighbours {
            tokens: self.tokens(Role::Catalog, &identity)?,
            keys: Keys::new(identity.clone()),
            identity,
        };
        let sql = self.settings.sql();
        let shutdown = self.ends.stopped.clone();
        let service =
            catalog::build(self.settings.catalog.clone(), &sql, neighbours, shutdown).await?;
        self.add(Role::Catalog, service).await
    }

    async fn item_store(&mut self) -> Result<(), ServiceError> {
        let identity = self.neighbour(Role::Identity, Role::ItemStore)?;
        let neighbours = item_store::Neighbours {
            catalog: self.neighbour(Role::Catalog, Role::ItemStore)?,
            tokens: self.tokens(Role::ItemStore, &identity)?,
            keys: Keys::new(identity.clone()),
            identity,
        };
        let mut settings = self.settings.items.clone();
        settings.sql = Some(self.settings.sql());
        settings.object_store_url = self.settings.objects();
        let service = item_store::build(settings, neighbours, self.ends.stopped.clone()).await?;
        self.add(Role::ItemStore, service).await
    }

    async fn model_registry(&mut self) -> Result<(), ServiceError> {
        let identity = self.neighbour(Role::Identity, Role::ModelRegistry)?;
        let neighbours = model_registry::Neighbours {
            catalog: self.neighbour(Role::Catalog, Role::ModelRegistry)?,
            tokens: self.tokens(Role::ModelRegistry, &identity)?,
            keys: Keys::new(identity.clone()),
            identity,
        };
        let platform = model_registry::Platform {
            sql: self.settings.sql(),
            object_store_url: self.settings.objects(),
        };
        let settings = self.settings.models.clone();
        let shutdown = self.ends.stopped.clone();
        let service = model_registry::build(settings, platform, neighbours, shutdown).await?;
        self.add(Role::ModelRegistry, service).await
    }

    async fn file_indexer(&mut self) -> Result<(), ServiceError> {
        let identity = self.neighbour(Role::Identity, Role::FileIndexer)?;
        let neighbours = file_indexer::Neighbours {
            catalog: self.neighbour(Role::Catalog, Role::FileIndexer)?,
            items: self.neighbour(Role::ItemStore, Role::FileIndexer)?,
            tokens: self.tokens(Role::FileIndexer, &identity)?,
            keys: Keys::new(identity.clone()),
            identity,
        };
        let is_loopback =
            super::settings::address("listen", &self.settings.listen)?.ip().is_loopback();
        let paths = file_indexer::Paths {
            allowed: self.settings.paths.allowed.clone(),
            any_for_admins: is_loopback,
            closed: self.settings.data_dir.clone(),
            closed_objects: self.settings.objects(),
        };
        let sql = self.settings.sql();
        let stopped = self.ends.stopped.clone();
        let settings = self.settings.files.clone();
        let service = file_indexer::build(settings, paths, &sql, neighbours, stopped).await?;
        self.add(Role::FileIndexer, service).await
    }

    async fn vector_search(&mut self) -> Result<(), ServiceError> {
        let identity = self.neighbour(Role::Identity, Role::VectorSearch)?;
        let neighbours = vector_search::Neighbours {
            catalog: self.neighbour(Role::Catalog, Role::VectorSearch)?,
            items: self.neighbour(Role::ItemStore, Role::VectorSearch)?,
            tokens: self.tokens(Role::VectorSearch, &identity)?,
            keys: Keys::new(identity.clone()),
            identity,
        };
        let mut settings = self.settings.vectors.clone();
        settings.sql = Some(self.settings.sql());
        settings.object_store_url = self.settings.objects();
        let service = vector_search::build(settings, neighbours, self.ends.stopped.clone()).await?;
        self.add(Role::VectorSearch, service).await
    }

    async fn gateway(&mut self) -> Result<Transport, ServiceError> {
        let mut upstreams = Vec::with_capacity(CALLEES.len());
        for callee in &CALLEES {
            upstreams.push(gateway::Upstream {
                audience: callee.role.name(),
                prefixes: callee.prefixes,
                descriptors: callee.descriptors,
                surfaces: callee.surfaces,
                // Behind the door's own forms (JSON, gRPC-Web), which say the end in their way.
                transport: self.ending(self.neighbour(callee.role, Role::Gateway)?),
            });
        }
        let neighbours = gateway::Neighbours {
            identity: self.neighbour(Role::Identity, Role::Gateway)?,
            service_secret: self.secret(Role::Gateway)?,
            upstreams,
            operations: Some(self.operations(Role::Gateway).await?.unguarded()),
        };
        let draining = self.ends.draining.clone();
        let service = gateway::build(self.settings.gateway.clone(), neighbours, draining).await?;
        let transport = service.transport.clone();
        self.jobs.extend(service.jobs);
        self.readiness.extend(service.readiness);
        Ok(transport)
    }

    async fn add(&mut self, role: Role, service: Service) -> Result<(), ServiceError> {
        let identity = self.neighbour(Role::Identity, role)?;
        let tokens = self.tokens(role, &identity)?;
        let (refused, audit) = access::denials(identity, tokens, self.ends.stopped.clone());
        self.jobs.push(audit);
        self.add_with(role, service, refused).await
    }

    async fn add_with(
        &mut self,
        role: Role,
        service: Service,
        refused: Arc<dyn Refused>,
    ) -> Result<(), ServiceError> {
        let identity = match role {
            Role::Identity => service.transport.clone(),
            _ => self.neighbour(Role::Identity, role)?,
        };
        let operations = self.operations(role).await?;
        self.jobs.push(operations.sampler(self.ends.stopped.clone()));
        self.readiness.extend(operations.readiness(service.applied));
        let grpc = operations.beside(service.transport, Keys::new(identity), refused)?;
        let transport = match service.http {
            Some(router) => beside(grpc, from_router(router)),
            None => grpc,
        };
        self.local.insert(role, self.ending(transport));
        self.jobs.extend(service.jobs);
        self.readiness.extend(service.readiness);
        Ok(())
    }

    /// A callee whose lasting streams end with this process.
    fn ending(&self, callee: Transport) -> Transport {
        ending(callee, self.ends.parted.clone())
    }

    /// What a role tells operators.
    async fn operations(&self, role: Role) -> Result<Operations, ServiceError> {
        let database = match Schema::of(role) {
            Some(schema) => {
                let sql = self.settings.sql();
                let known = schema.status(&sql).await?.into_iter().map(|one| one.name).collect();
                Some(Database::new(schema.name, &sql, known))
            }
            None => None,
        };
        let sample_every = Duration::from_secs(self.settings.telemetry.history_seconds.max(1));
        Ok(Operations::new(OfRole {
            role: role.name(),
            database,
            process: Arc::clone(&self.told.process),
            telemetry: self.told.telemetry.clone(),
            sample_every,
        }))
    }

    /// A role as `asker` calls it: in memory if it is in this process, over a
    /// socket otherwise. Over a socket the trace goes along in the headers, in memory
    /// the caller's span is around the call.
    fn neighbour(&self, role: Role, asker: Role) -> Result<Transport, ServiceError> {
        let transport = match (self.local.get(&role), self.settings.neighbours.of(role)) {
            (Some(local), _) => return Ok(local.clone()),
            (None, Some(url)) => neighbour(url)?,
            (None, None) => {
                let key = role.name().replace('-', "_");
                let variable = key.to_uppercase();
                return Err(ServiceError::invalid(
                    &format!("neighbours.{key}"),
                    format!(
                        "{asker} needs the URL of {role}, which does not run in this process; set QUARRY_NEIGHBOURS__{variable}"
                    ),
                ));
            }
        };
        Ok(BoxCloneSyncService::new(InjectLayer.layer(transport)))
    }

    fn tokens(&self, role: Role, identity: &Transport) -> Result<TokenSource, ServiceError> {
        Ok(TokenSource::new(identity.clone(), self.secret(role)?))
    }

    /// What a role shows to identity. A role that was given a file follows it:
    /// projected tokens are renewed.
    fn secret(&self, role: Role) -> Result<RoleSecret, ServiceError> {
        let secret = self.secrets.get(&role).cloned();
        let secret =
            secret.ok_or_else(|| ServiceError::internal(format!("{role} has no secret")))?;
        let file = self.settings.service_token_file.as_ref();
        // With identity in the process all secrets are known, and none is of this file.
        Ok(match file.filter(|_| self.secrets.len() == 1) {
            Some(path) => RoleSecret::of_file(path.clone(), secret),
            None => secret.into(),
        })
    }
}

/// A role's gRPC services and its plain HTTP as one callee.
fn beside(grpc: Transport, http: Transport) -> Transport {
    BoxCloneSyncService::new(tower::service_fn(move |request: Request<Body>| {
        let callee = if is_grpc_path(request.uri().path()) { grpc.clone() } else { http.clone() };
        async move { callee.oneshot(request).await }
    }))
}

/// One callee made of several, told apart by the service's name or the
/// surface's prefix.
fn by_service(local: BTreeMap<Role, Transport>) -> Transport {
    BoxCloneSyncService::new(tower::service_fn(move |request: Request<Body>| {
        let callee = callee_of(request.uri().path())
            .or_else(|| callee_meant(request.headers()))
            .and_then(|role| local.get(&role))
            .cloned();
        let path = request.uri().path().to_owned();
        async move {
            match callee {
                Some(callee) => callee.oneshot(request).await,
                None => Err(Status::unimplemented(format!("this process does not serve {path}"))),
            }
        }
    }))
}

/// Several roles answer the same path (their jobs): the caller says whose it means.
fn callee_meant(headers: &HeaderMap) -> Option<Role> {
    headers.get(ops_api::CALLEE_HEADER)?.to_str().ok()?.parse().ok()
}

fn callee_of(path: &str) -> Option<Role> {
    let service = path.strip_prefix('/')?;
    if service.starts_with(ops_api::JOBS_PREFIX) {
        return None;
    }
    let is_its = |callee: &&Callee| {
        callee.prefixes.iter().any(|prefix| service.starts_with(prefix))
            || callee.surfaces.iter().any(|surface| surface.serves(path))
    };
    CALLEES.iter().find(is_its).map(|callee| callee.role)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn every_method_has_its_callee() {
        assert_eq!(callee_of("/quarry.catalog.v1.ManifestService/GetHead"), Some(Role::Catalog));
        assert_eq!(callee_of("/arrow.flight.protocol.FlightService/DoGet"), Some(Role::ItemStore));
        assert_eq!(callee_of("/quarry.identity.v1.ExchangeService/GetKeys"), Some(Role::Identity));
        assert_eq!(callee_of("/somebody.else.v1.Service/Call"), None);
        assert_eq!(callee_of(""), None);
    }

    #[tokio::test]
    async fn a_missing_neighbour_is_named_with_its_variable() {
        let settings = Settings::default();
        let ends = Ends::default();
        let telemetry = telemetry::start(&settings.telemetry, "test").unwrap();
        let process = Arc::new(Process::new("0", Vec::new(), Vec::new()));
        let told = Told { process, telemetry };
        let secrets = BTreeMap::from([(Role::Catalog, Secret::new("secret"))]);
        let error = compose(&settings, &[Role::Catalog].into(), &secrets, &ends, &told)
            .await
            .err()
            .unwrap();
        assert_eq!(error.field_name(), Some("neighbours.identity"));
        assert!(error.message().contains("QUARRY_NEIGHBOURS__IDENTITY"), "{error}");
    }
}
