//! The model registry: models, versions and what hangs on them. A version is
//! seen when its bytes are; its number is given in the transaction that writes it.

mod grpc;

use std::sync::Arc;

use access::GrantReplica;
use caller::{Gate, Keys, TokenSource};
use models_api::v1::artifacts_service_server::ArtifactsServiceServer;
use models_api::v1::events_service_server::EventsServiceServer;
use models_api::v1::lifecycle_service_server::LifecycleServiceServer;
use models_api::v1::lineage_service_server::LineageServiceServer;
use models_api::v1::models_service_server::ModelsServiceServer;
use models_api::v1::trust_service_server::TrustServiceServer;
use models_api::v1::versions_service_server::VersionsServiceServer;
use options_api::NeedTable;
use service_channel::{Applied, CONTROL_MESSAGE_BYTES_MAX, Readiness, Service, Transport};
use service_error::ServiceError;
use sql_store::{MigrationStatus, SqlSettings};
use telemetry::measured;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;

pub use model_operations::settings::Settings;

use model_operations::{app, jobs};
use model_records::store;
use registry_model as model;

use app::{Catalog, Outbox, Registry};
use store::Store;

/// The role's name: the audience of its tokens, its metrics.
pub const ROLE: &str = "model-registry";

/// Where its rows and its objects are.
#[derive(Debug, Clone)]
pub struct Platform {
    /// The database.
    pub sql: SqlSettings,
    /// The object store's URL.
    pub object_store_url: String,
}

/// Who the registry talks to.
#[derive(Clone)]
pub struct Neighbours {
    /// Grants come from it, and changes go to it.
    pub identity: Transport,
    /// Names of namespaces and datasets are its.
    pub catalog: Transport,
    /// Tokens for calls to neighbours.
    pub tokens: TokenSource,
    /// Verifies the tokens of callers.
    pub keys: Keys,
}

/// Opens and migrates the database and builds the service; its jobs end when
/// `shutdown` fires.
///
/// # Errors
/// A database that is away or can't be migrated.
pub async fn build(
    settings: Settings,
    platform: Platform,
    neighbours: Neighbours,
    shutdown: CancellationToken,
) -> Result<Service, ServiceError> {
    let store = Store::open(&platform.sql, &platform.object_store_url).await?;
    store.migrate().await?;
    let Neighbours { identity, catalog, tokens, keys } = neighbours;
    let (grants, mut jobs) = GrantReplica::new(identity.clone(), tokens.clone(), shutdown.clone());
    let outbox = Outbox::new(store.clone(), identity, tokens.clone());
    let catalog = Catalog::new(catalog, tokens);
    let registry = Registry::new(store.clone(), grants.clone(), outbox, catalog, settings)?;
    jobs.extend(jobs::jobs(&registry, &shutdown));
    jobs.push(jobs::runner(&registry).start(shutdown.clone()));
    let applied = Some(applied(&store));
    let readiness = vec![database_readiness(&store), objects_readiness(&store), grants.readiness()];
    let gate = Gate::new(ROLE, keys.clone(), Arc::new(grants.clone()));
    let surface = mlflow_surface::Surface::new(registry.clone(), store.tracking(), gate);
    let transport = transport(registry, keys, grants)?;
    let http = Some(surface.router());
    Ok(Service { name: ROLE, transport, http, jobs, readiness, applied })
}

/// Brings the database's schema up to date.
///
/// # Errors
/// A database that is away or can't be migrated.
pub async fn migrate(sql: &SqlSettings) -> Result<(), ServiceError> {
    store::migrate(sql).await
}

/// The migrations and whether each has run.
///
/// # Errors
/// A database that is away.
pub async fn migration_status(sql: &SqlSettings) -> Result<Vec<MigrationStatus>, ServiceError> {
    store::migration_status(sql).await
}

fn transport(
    registry: Registry,
    keys: Keys,
    grants: GrantReplica,
) -> Result<Transport, ServiceError> {
    let sets = [models_api::FILE_DESCRIPTOR_SET, ops_api::FILE_DESCRIPTOR_SET];
    let needs = NeedTable::from_descriptor_sets(&sets).map_err(|error| {
        ServiceError::internal("the registry's needs can't be read").caused_by(error)
    })?;
    let mut routes = Routes::builder();
    routes.add_service(
        ModelsServiceServer::new(grpc::Models(registry.clone()))
            .max_decoding_message_size(CONTROL_MESSAGE_BYTES_MAX),
    );
    routes.add_service(
        VersionsServiceServer::new(grpc::Versions(registry.clone()))
            .max_decoding_message_size(CONTROL_MESSAGE_BYTES_MAX),
    );
    routes.add_service(
        TrustServiceServer::new(grpc::Trust(registry.clone()))
            .max_decoding_message_size(CONTROL_MESSAGE_BYTES_MAX),
    );
    let lifecycle = grpc::Lifecycle(registry.clone());
    routes.add_service(LifecycleServiceServer::new(lifecycle.clone()));
    routes.add_service(LineageServiceServer::new(lifecycle));
    routes.add_service(EventsServiceServer::new(grpc::Events::new(registry.clone())));
    routes.add_service(::jobs::service(registry.jobs().clone()));
    routes.add_service(
        ArtifactsServiceServer::new(grpc::Artifacts(registry))
            .max_decoding_message_size(CONTROL_MESSAGE_BYTES_MAX),
    );
    let guarded = caller::guard(routes.routes().prepare(), ROLE, keys, needs, Arc::new(grants));
    Ok(service_channel::local(measured(ROLE, guarded)))
}

/// Asks the database over the service's own connections.
fn applied(store: &Store) -> Applied {
    let store = store.clone();
    Applied::new(move || {
        let store = store.clone();
        async move { store.applied_migrations().await }
    })
}

fn database_readiness(store: &Store) -> Readiness {
    let store = store.clone();
    Readiness::new("model-registry.database", move || {
        let store = store.clone();
        async move { store.ping().await.map_err(|error| error.to_string()) }
    })
}

fn objects_readiness(store: &Store) -> Readiness {
    let blobs = store.blobs().clone();
    Readiness::new("model-registry.objects", move || {
        let blobs = blobs.clone();
        async move { blobs.ping().await.map_err(|error| error.to_string()) }
    })
}

#[cfg(test)]
mod tests;
