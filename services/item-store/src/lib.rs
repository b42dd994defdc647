//! Items over Arrow Flight and `quarry.items.v1`: puts become Parquet blocks
//! and versions of the catalog, reads go straight at them.

mod grpc;

use std::sync::Arc;

use access::GrantReplica;
use caller::{Keys, TokenSource, guard};
use service_channel::{Applied, Readiness, Service, Transport, local};
use service_error::ServiceError;
use telemetry::measured;
use tokio_util::sync::CancellationToken;

pub use item_operations::settings::{BlockSettings, FlightSettings, QuerySettings, Settings};
pub use item_records::BlockFiles;
pub use sql_store::{MigrationStatus, SqlSettings};

use item_model as model;
use item_operations::{app, jobs, settings};
use item_records as store;

use app::App;
use store::Store;

/// The role's name, also the audience of its tokens.
const ITEM_STORE: &str = "item-store";

/// Whom the item store calls, and how it knows its callers.
pub struct Neighbours {
    /// For the grant replica.
    pub identity: Transport,
    /// For heads, blocks, uploads and commits.
    pub catalog: Transport,
    /// Tokens for neighbours.
    pub tokens: TokenSource,
    /// Verifies the tokens of callers.
    pub keys: Keys,
}

impl std::fmt::Debug for Neighbours {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Neighbours").finish_non_exhaustive()
    }
}

/// Opens and migrates the store and builds the role; its jobs run until
/// `shutdown`.
///
/// # Errors
/// A database or an object store that can't be used.
pub async fn build(
    settings: Settings,
    neighbours: Neighbours,
    shutdown: CancellationToken,
) -> Result<Service, ServiceError> {
    let (service, ..) = assemble(settings, neighbours, shutdown).await?;
    Ok(service)
}

/// The role, and what tests look at inside it.
async fn assemble(
    settings: Settings,
    neighbours: Neighbours,
    shutdown: CancellationToken,
) -> Result<(Service, App, GrantReplica), ServiceError> {
    let sql = settings
        .sql
        .clone()
        .ok_or_else(|| ServiceError::internal("the item store was given no database"))?;
    let store = Store::open(&sql, &settings.object_store_url).await?;
    store.migrate().await?;
    assemble_over(store, settings, neighbours, shutdown).await
}

/// The role over a store that is open and migrated.
async fn assemble_over(
    store: Store,
    settings: Settings,
    neighbours: Neighbours,
    shutdown: CancellationToken,
) -> Result<(Service, App, GrantReplica), ServiceError> {
    let (access, mut jobs) =
        GrantReplica::new(neighbours.identity, neighbours.tokens.clone(), shutdown.clone());
    let refused: Arc<GrantReplica> = Arc::new(access.clone());
    let grants = access.clone();
    let (flight, sweep_seconds) = (settings.flight.clone(), settings.sweep_seconds);
    let app =
        App::new(settings, neighbours.catalog, neighbours.tokens, access, store.clone()).await?;
    let durable = store.jobs(ITEM_STORE);
    let routes = grpc::routes(&app, durable.clone(), &flight);
    jobs.extend(jobs::all(&app, sweep_seconds, &shutdown));
    jobs.push(jobs::garbage(&app, durable.clone(), &shutdown));
    jobs.push(jobs::runner(&app, durable).start(shutdown));
    let service = Service {
        name: ITEM_STORE,
        transport: local(measured(
            ITEM_STORE,
            guard(routes, ITEM_STORE, neighbours.keys, grpc::needs()?, refused),
        )),
        http: None,
        jobs,
        readiness: vec![grants.readiness(), database(&store), objects(&store)],
        applied: Some(applied(&store)),
    };
    Ok((service, app, grants))
}

/// Asks the database over the service's own connections.
fn applied(store: &Store) -> Applied {
    let store = store.clone();
    Applied::new(move || {
        let store = store.clone();
        async move { store.applied_migrations().await }
    })
}

fn database(store: &Store) -> Readiness {
    let store = store.clone();
    Readiness::new("item-store.database", move || {
        let store = store.clone();
        async move { store.ping().await.map_err(|error| error.to_string()) }
    })
}

fn objects(store: &Store) -> Readiness {
    let blobs = store.blobs().clone();
    Readiness::new("item-store.objects", move || {
        let blobs = blobs.clone();
        async move { blobs.ping().await.map_err(|error| error.to_string()) }
    })
}

/// Runs the migrations that have not run.
///
/// # Errors
/// A database that can't be used, or a schema of another version.
pub async fn migrate(sql: &SqlSettings) -> Result<(), ServiceError> {
    store::migrate(sql).await
}

/// The migrations and which of them have run. Changes nothing.
///
/// # Errors
/// A database that can't be used.
pub async fn migration_status(sql: &SqlSettings) -> Result<Vec<MigrationStatus>, ServiceError> {
    store::migration_status(sql).await
}

#[cfg(test)]
mod tests;
