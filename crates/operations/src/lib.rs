//! What a role tells an operator of itself: its process, its settings, its
//! database, and the history of what it measured.

mod grpc;
mod process;
mod sample;
mod schema;
mod store;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use caller::{Keys, Refused, guard};
use ops_api::v1::ops_server::OpsServer;
use options_api::NeedTable;
use service_channel::{Applied, Job, Readiness, Transport, local};
use service_error::ServiceError;
use sql_store::{SqlSettings, now_micros};
use telemetry::{Counted, Telemetry};
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use tower::util::BoxCloneSyncService;
use tower::{ServiceExt, service_fn};

pub use process::Process;
pub use sample::rows_of;
pub use store::{HISTORY, Sample};

/// Between two samples.
pub const SAMPLE_EVERY: Duration = Duration::from_secs(60);
/// Paths of `quarry.ops.v1.Ops` begin with this.
const PREFIX: &str = "/quarry.ops.v1.Ops/";
/// A sample needs no more; statistics are asked for by one admin.
const CONNECTIONS: u32 = 2;

/// A role and what there is to tell of it.
#[derive(Clone)]
pub struct OfRole {
    /// E.g. `catalog`; the audience of its tokens.
    pub role: &'static str,
    /// Its database; none for a role without rows.
    pub database: Option<Database>,
    /// The process that it runs in.
    pub process: Arc<Process>,
    /// What the process counts.
    pub telemetry: Telemetry,
    /// Between two samples.
    pub sample_every: Duration,
}

/// Where a role's rows are.
#[derive(Debug, Clone)]
pub struct Database {
    /// E.g. `catalog`: its schema, or its file's name.
    pub schema: &'static str,
    /// How it is reached.
    pub sql: SqlSettings,
    /// The migrations that this program has for it, in order.
    pub migrations: Vec<String>,
}

impl Database {
    /// With few connections: it stands beside the role's own pool.
    #[must_use]
    pub fn new(schema: &'static str, sql: &SqlSettings, migrations: Vec<String>) -> Self {
        let sql = SqlSettings { max_connections: CONNECTIONS, ..sql.clone() };
        Self { schema, sql, migrations }
    }
}

/// The operations of one role. Clones share everything.
#[derive(Clone)]
pub struct Operations(Arc<OfRole>);

impl fmt::Debug for Operations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Operations").field("role", &self.0.role).finish_non_exhaustive()
    }
}

impl Operations {
    /// Of a role.
    #[must_use]
    pub fn new(of: OfRole) -> Self {
        Self(Arc::new(of))
    }

    /// The RPCs without a guard, for the role that asks all others and lets
    /// nobody in whom none of them lets in.
    #[must_use]
    pub fn unguarded(&self) -> Transport {
        local(Routes::new(OpsServer::new(grpc::Surface(Arc::clone(&self.0)))).prepare())
    }

    /// Whether the role's database, asked over the role's own connections, has the
    /// schema of this program.
    #[must_use]
    pub fn readiness(&self, applied: Option<Applied>) -> Option<Readiness> {
        let database = self.0.database.clone()?;
        Some(schema::readiness(self.0.role, Arc::new(database), applied?))
    }

    /// A role's transport with these RPCs beside its own. Nobody needs to be looked
    /// up, for the token was made for this very call; `refused` hears who was denied.
    ///
    /// # Errors
    /// A contract that cannot be read.
    pub fn beside(
        &self,
        own: Transport,
        keys: Keys,
        refused: Arc<dyn Refused>,
    ) -> Result<Transport, ServiceError> {
        let needs = NeedTable::from_descriptor_sets(&[ops_api::FILE_DESCRIPTOR_SET])
            .map_err(|error| ServiceError::internal(error.to_string()))?;
        let routes = Routes::new(OpsServer::new(grpc::Surface(Arc::clone(&self.0)))).prepare();
        let operations = local(guard(routes, self.0.role, keys, needs, refused));
        Ok(BoxCloneSyncService::new(service_fn(move |request: http::Request<_>| {
            let is_ours = request.uri().path().starts_with(PREFIX);
            let callee = if is_ours { operations.clone() } else { own.clone() };
            callee.oneshot(request)
        })))
    }

    /// Samples the role until `shutdown`.
    #[must_use]
    pub fn sampler(&self, shutdown: CancellationToken) -> Job {
        let of = Arc::clone(&self.0);
        Job::new("operations.sampler", async move {
            shutdown.run_until_cancelled(sample_on(&of)).await;
        })
    }
}

async fn sample_on(of: &OfRole) {
    let Some(database) = &of.database else { return };
    let mut tick = tokio::time::interval(of.sample_every);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    tick.tick().await;
    let mut before = of.telemetry.counted(of.role);
    let mut failing = false;
    loop {
        tick.tick().await;
        let now = of.telemetry.counted(of.role);
        match keep(of, database, &before, &now).await {
            Ok(()) => failing = false,
            // Once for each time it begins: the database's absence is told elsewhere.
            Err(error) if !failing => {
                failing = true;
                tracing::warn!(role = of.role, %error, "what was measured could not be kept");
            }
            Err(_) => {}
        }
        before = now;
    }
}

async fn keep(
    of: &OfRole,
    database: &Database,
    before: &Counted,
    now: &Counted,
) -> Result<(), ServiceError> {
    let mut samples = rows_of(before, now, of.sample_every);
    samples.push(Sample { metric: "database.bytes", value: store::bytes(database).await? });
    store::keep(database, of.process.instance(), of.role, now_micros(), &samples).await
}

#[cfg(test)]
mod tests;
