//! The file indexer: every file of a location known, found at once, and never
//! lost because a disk was away.

mod app;
mod grpc;
mod jobs;
mod settings;

use std::sync::Arc;

use access::GrantReplica;
use caller::{Keys, TokenSource};
use service_channel::{Applied, Readiness, Service, Transport};
use service_error::ServiceError;
use sql_store::{MigrationStatus, SqlSettings};
use telemetry::measured;
use tokio_util::sync::CancellationToken;

pub use settings::{Paths, Settings};

use file_records::{model, store};

use app::Indexer;
use store::Store;

/// The role's name: the audience of its tokens, the first part of its jobs' names.
pub const ROLE: &str = "file-indexer";

/// Who the file indexer talks to.
#[derive(Clone)]
pub struct Neighbours {
    /// Grants come from it, and new locations go to it.
    pub identity: Transport,
    /// Makes datasets for imports.
    pub catalog: Transport,
    /// Takes the rows and files of imports.
    pub items: Transport,
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
    paths: Paths,
    sql: &SqlSettings,
    neighbours: Neighbours,
    shutdown: CancellationToken,
) -> Result<Service, ServiceError> {
    let store = Store::open(sql).await?;
    let Neighbours { identity, catalog, items, tokens, keys } = neighbours;
    let (grants, mut background) =
        GrantReplica::new(identity.clone(), tokens.clone(), shutdown.clone());
    let indexer = Indexer::new(
        store.clone(),
        grants.clone(),
        app::Announcer::new(identity, tokens.clone()),
        file_imports::Datasets::new(catalog, items, tokens),
        settings,
        paths,
    );
    background.extend(crate::jobs::all(&indexer, &shutdown));
    let applied = Some(applied(&store));
    let readiness = vec![database_readiness(store), grants.readiness()];
    let needs = grpc::needs()?;
    let routes = grpc::routes(&indexer);
    let guarded = caller::guard(routes, ROLE, keys, needs, Arc::new(grants));
    let transport = service_channel::local(measured(ROLE, guarded));
    Ok(Service { name: ROLE, transport, http: None, jobs: background, readiness, applied })
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

/// Asks the database over the service's own connections.
fn applied(store: &Store) -> Applied {
    let store = store.clone();
    Applied::new(move || {
        let store = store.clone();
        async move { store.applied_migrations().await }
    })
}

fn database_readiness(store: Store) -> Readiness {
    Readiness::new("file-indexer.database", move || {
        let store = store.clone();
        async move { store.ping().await.map_err(|error| error.to_string()) }
    })
}

#[cfg(test)]
mod tests;
