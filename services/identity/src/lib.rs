//! Users, tokens, grants and the audit; credentials into internal tokens.

mod app;
mod grpc;
mod jobs;
mod model;
mod settings;
mod store;

use std::fmt;
use std::sync::Arc;

use caller::{Keys, Refused, guard};
use options_api::NeedTable;
use service_channel::{Applied, Readiness, Service, local};
use service_error::ServiceError;
use telemetry::measured;
use tokio_util::sync::CancellationToken;

pub use settings::{Platform, Settings};
pub use sql_store::{MigrationStatus, SqlSettings};

use app::{Identity, SERVICE};

/// Identity as the process runs it.
pub struct Built {
    /// The role.
    pub service: Service,
    /// Its own audit of what is denied, for RPCs that stand beside its own.
    pub refused: Arc<dyn Refused>,
    /// Somebody has claimed the admin account, so that the platform may listen
    /// beyond loopback.
    pub admin_claimed: bool,
}

impl fmt::Debug for Built {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Built").field("service", &self.service).finish_non_exhaustive()
    }
}

/// Opens and migrates the store, sees to the signing key and the first admin,
/// and builds the role; its jobs run until `shutdown`.
///
/// # Errors
/// A database or data dir that can't be used, or a claiming token that is none.
pub async fn build(
    settings: Settings,
    platform: Platform,
    shutdown: CancellationToken,
) -> Result<Built, ServiceError> {
    let identity = Identity::open(settings, &platform).await?;
    let needs = NeedTable::from_descriptor_sets(&[identity_api::FILE_DESCRIPTOR_SET])
        .map_err(|error| ServiceError::internal(error.to_string()))?;
    // Its own keys, asked as everybody asks for them.
    let keys = Keys::new(local(grpc::key_routes(&identity)));
    let refused = Arc::clone(&identity);
    let transport =
        local(measured(SERVICE, guard(grpc::routes(&identity), SERVICE, keys, needs, refused)));
    let database = Arc::clone(&identity);
    let readiness = Readiness::new("identity.database", move || {
        let identity = Arc::clone(&database);
        async move { identity.ping().await.map_err(|error| error.to_string()) }
    });
    let asked = Arc::clone(&identity);
    let applied = Applied::new(move || {
        let identity = Arc::clone(&asked);
        async move { identity.applied_migrations().await }
    });
    let refused: Arc<dyn Refused> = Arc::clone(&identity) as _;
    Ok(Built {
        admin_claimed: identity.is_claimed(),
        refused,
        service: Service {
            name: SERVICE,
            transport,
            http: None,
            jobs: jobs::all(&identity, &shutdown),
            readiness: vec![readiness],
            applied: Some(applied),
        },
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
