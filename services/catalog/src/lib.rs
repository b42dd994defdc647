//! The catalog: namespaces, datasets, immutable versions and the manifest of
//! blocks behind them. The row that a commit writes is the commit point: a block
//! that nobody committed does not exist.

mod app;
mod grpc;
mod jobs;
mod settings;
mod store;

use std::sync::Arc;

use access::GrantReplica;
use caller::{Keys, TokenSource};
use catalog_api::v1::datasets_service_server::DatasetsServiceServer;
use catalog_api::v1::garbage_service_server::GarbageServiceServer;
use catalog_api::v1::manifest_service_server::ManifestServiceServer;
use catalog_api::v1::namespaces_service_server::NamespacesServiceServer;
use options_api::NeedTable;
use service_channel::{Applied, CONTROL_MESSAGE_BYTES_MAX, Readiness, Service, Transport};
use service_error::ServiceError;
use sql_store::{MigrationStatus, SqlSettings};
use telemetry::measured;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;

pub use catalog_model::StoredBlock;
pub use settings::Settings;

use catalog_model as model;

use app::{Catalog, Outbox};
use store::Store;

/// The role's name: the audience of its tokens, its schema, its metrics.
pub const ROLE: &str = "catalog";

/// Who the catalog talks to.
#[derive(Clone)]
pub struct Neighbours {
    /// Grants come from it, and changes go to it.
    pub identity: Transport,
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
    sql: &SqlSettings,
    neighbours: Neighbours,
    shutdown: CancellationToken,
) -> Result<Service, ServiceError> {
    let store = Store::open(sql).await?;
    store.migrate().await?;
    let Neighbours { identity, tokens, keys } = neighbours;
    let (grants, mut jobs) = GrantReplica::new(identity.clone(), tokens.clone(), shutdown.clone());
    let outbox = Outbox::new(store.clone(), identity, tokens);
    let catalog = Catalog::new(store.clone(), grants.clone(), outbox, settings);
    jobs.extend(jobs::jobs(&catalog, &shutdown));
    let applied = Some(applied(&store));
    let readiness = vec![database_readiness(store), grants.readiness()];
    let transport = transport(catalog, keys, grants)?;
    Ok(Service { name: ROLE, transport, http: None, jobs, readiness, applied })
}

/// Brings the database's schema up to date.
///
/// # Errors
/// A database that is away or can't be migrated.
pub async fn migrate(sql: &SqlSettings) -> Result<(), ServiceError> {
    Store::open(sql).await?.migrate().await
}

/// The migrations and whether each has run.
///
/// # Errors
/// A database that is away.
pub async fn migration_status(sql: &SqlSettings) -> Result<Vec<MigrationStatus>, ServiceError> {
    Store::open(sql).await?.migration_status().await
}

/// Some of the blocks that snapshots use, after the one of an id, in the order
/// of ids: what `quarry db verify --blocks` compares files with.
///
/// # Errors
/// A database that is away.
pub async fn stored_blocks(
    sql: &SqlSettings,
    after: uuid::Uuid,
    limit: u32,
) -> Result<Vec<StoredBlock>, ServiceError> {
    Store::open(sql).await?.stored_blocks(after, limit).await
}

fn transport(
    catalog: Catalog,
    keys: Keys,
    grants: GrantReplica,
) -> Result<Transport, ServiceError> {
    let needs =
        NeedTable::from_descriptor_sets(&[catalog_api::FILE_DESCRIPTOR_SET]).map_err(|error| {
            ServiceError::internal("the catalog's needs can't be read").caused_by(error)
        })?;
    let mut routes = Routes::builder();
    routes.add_service(NamespacesServiceServer::new(grpc::Namespaces(catalog.clone())));
    routes.add_service(
        DatasetsServiceServer::new(grpc::Datasets(catalog.clone()))
            .max_decoding_message_size(CONTROL_MESSAGE_BYTES_MAX),
    );
    routes.add_service(GarbageServiceServer::new(grpc::Garbage(catalog.clone())));
    routes.add_service(
        ManifestServiceServer::new(grpc::Manifest(catalog))
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

fn database_readiness(store: Store) -> Readiness {
    Readiness::new("catalog.database", move || {
        let store = store.clone();
        async move { store.ping().await.map_err(|error| error.to_string()) }
    })
}

#[cfg(test)]
mod tests;
