//! Upkeep that one of several replicas does at a time. A lease saves the others
//! the work and no more: what two do at once, the fence and the catalog's
//! compare-and-swap keep right.

use std::time::Duration;

use ::jobs::Jobs;
use caller::Caller;
use options_api::v1::{Authz, Role};
use service_error::ServiceError;
use tokio::task::JoinHandle;

use crate::app::App;
use crate::app::catalog::ourselves;
use crate::store::UpkeepLease;

/// How long the work of a replica that is gone waits for the next one.
const LEASE_MICROS: i64 = 15_000_000;
const COLLECT: &str = "quarry.items.v1.MaintenanceService/CollectGarbage";
const RENEW_INTERVAL: Duration = Duration::from_secs(5);

/// Stops renewing when the work ends, however it ends.
struct Renewing(JoinHandle<()>);

impl Drop for Renewing {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl App {
    /// Does work that bears a name, unless another replica is at it: `None`.
    ///
    /// # Errors
    /// The work's; a database that is away.
    pub async fn alone<T>(
        &self,
        name: &str,
        work: impl Future<Output = Result<T, ServiceError>>,
    ) -> Result<Option<T>, ServiceError> {
        let Some(lease) = self.store.take_lease(name, LEASE_MICROS).await? else {
            return Ok(None);
        };
        let renewing = Renewing(tokio::spawn(renew(self.clone(), lease.clone())));
        let done = work.await;
        drop(renewing);
        // Its end comes by itself if this fails.
        if let Err(error) = self.store.end_lease(&lease).await {
            tracing::debug!(%error, name, "a lease of upkeep ends by itself");
        }
        done.map(Some)
    }

    /// Queues a collection of garbage for this role, if no replica did in this
    /// interval.
    ///
    /// # Errors
    /// A database that is away.
    pub async fn collect_in_turn(&self, jobs: &Jobs) -> Result<(), ServiceError> {
        let Some(every) = self.garbage_interval() else { return Ok(()) };
        let turn = i64::try_from((every / 10 * 9).as_micros()).unwrap_or(i64::MAX / 4);
        if self.store.take_lease("collect-garbage", turn).await?.is_some() {
            self.collector().submit(jobs, &ourselves(), false).await?;
        }
        Ok(())
    }

    /// Lets pass whoever may have garbage collected: admins, and this role.
    ///
    /// # Errors
    /// `PermissionDenied`.
    pub fn check_maintainer(&self, caller: &Caller) -> Result<(), ServiceError> {
        let need = Authz { role: Role::Admin as i32, ..Authz::default() };
        self.admit(caller, &need, COLLECT)
    }
}

async fn renew(app: App, lease: UpkeepLease) {
    loop {
        tokio::time::sleep(RENEW_INTERVAL).await;
        match app.store.renew_lease(&lease, LEASE_MICROS).await {
            Ok(true) => {}
            Ok(false) => {
                tracing::info!(name = lease.name, "another replica took over a piece of upkeep");
                return;
            }
            Err(error) => tracing::warn!(%error, "a lease of upkeep could not be prolonged"),
        }
    }
}
