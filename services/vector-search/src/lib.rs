//! Vector search: spaces of vectors with payload, found by similarity. SQL is
//! the truth; what is searched is an index in memory and mapped files that
//! follows it.

mod app;
mod grpc;
mod jobs;
mod settings;

use std::sync::Arc;

use access::GrantReplica;
use caller::{Keys, TokenSource, guard};
use options_api::NeedTable;
use service_channel::{Applied, Readiness, Service, Transport, local};
use service_error::ServiceError;
use telemetry::measured;
use tokio_util::sync::CancellationToken;
use vector_records::{model, store};

pub use settings::{PostgresIndex, Settings};
pub use sql_store::{MigrationStatus, SqlSettings};

use app::{App, Around};
use store::Store;

/// The role's name, also the audience of its tokens.
const VECTOR_SEARCH: &str = "vector-search";
/// Below the data directory, unless the settings say otherwise.
const INDEX_DIR: &str = "vectors-index";

/// Whom the vector search calls, and how it knows its callers.
pub struct Neighbours {
    /// For the grant replica.
    pub identity: Transport,
    /// For who owns a space.
    pub catalog: Transport,
    /// For the rows that a load reads.
    pub items: Transport,
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
        .ok_or_else(|| ServiceError::internal("the vector search was given no database"))?;
    let store = Store::open(&sql, &settings.object_store_url).await?;
    store.migrate().await?;
    let (grants, mut jobs) =
        GrantReplica::new(neighbours.identity, neighbours.tokens.clone(), shutdown.clone());
    let refused: Arc<GrantReplica> = Arc::new(grants.clone());
    let index_dir = settings.index_dir.clone().unwrap_or_else(|| sql.data_dir.join(INDEX_DIR));
    let poll = settings.poll();
    let around =
        Around { catalog: neighbours.catalog, items: neighbours.items, tokens: neighbours.tokens };
    let durable = store.jobs(VECTOR_SEARCH);
    let app =
        App::new(settings, index_dir, around, grants.clone(), store.clone(), durable.clone())?;
    let sets = [vectors_api::FILE_DESCRIPTOR_SET, ops_api::FILE_DESCRIPTOR_SET];
    let needs = NeedTable::from_descriptor_sets(&sets).map_err(|error| {
        ServiceError::internal("the vector search's needs can't be read").caused_by(error)
    })?;
    jobs.extend(crate::jobs::all(&app, poll, &shutdown));
    jobs.push(crate::jobs::runner(&app, durable.clone()).start(shutdown.clone()));
    let guarded =
        guard(grpc::routes(&app, durable), VECTOR_SEARCH, neighbours.keys, needs, refused);
    let service = Service {
        name: VECTOR_SEARCH,
        transport: local(measured(VECTOR_SEARCH, guarded)),
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
    Readiness::new("vector-search.database", move || {
        let store = store.clone();
        async move { store.ping().await.map_err(|error| error.to_string()) }
    })
}

fn objects(store: &Store) -> Readiness {
    let blobs = store.blobs().clone();
    Readiness::new("vector-search.objects", move || {
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
