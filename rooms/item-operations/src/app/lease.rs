//! Leases of uploads: renewed for as long as somebody holds them, given up when he lets go
//! without a commit.

use std::sync::Arc;
use std::time::Duration;

use caller::Caller;
use ids::UploadId;
use service_error::ServiceError;
use sql_store::now_micros;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use uuid::Uuid;

use crate::app::App;
use crate::app::catalog::by_id;

/// A lease whose end is not known is renewed this often.
const RENEW_INTERVAL_MIN: Duration = Duration::from_secs(1);

impl App {
    /// An upload of our own to an existing dataset, kept however long its commit takes.
    ///
    /// # Errors
    /// A catalog that is away, or that gives the caller none.
    pub async fn leased(&self, caller: &Caller, dataset: Uuid) -> Result<Lease, ServiceError> {
        let opened = self.catalog.open_upload(caller, by_id(dataset)).await?;
        let broken = |_| ServiceError::internal("the catalog answered a malformed upload id");
        let upload: UploadId = opened.upload_id.parse().map_err(broken)?;
        let expires_at = opened.expire_time.map_or(0, |time| time.seconds);
        Ok(Lease::keep(self.clone(), Arc::new(caller.clone()), upload, expires_at, true))
    }
}

/// An upload's lease, renewed while it is held.
pub struct Lease {
    upload: UploadId,
    lost: watch::Receiver<Option<String>>,
    renewing: JoinHandle<()>,
    /// What gives the upload up when there is no commit.
    owner: Option<(App, Arc<Caller>, UploadId)>,
}

impl Lease {
    /// Keeps an upload that ends then, in seconds since 1970. `own`: nobody else gives it up.
    pub fn keep(
        app: App,
        caller: Arc<Caller>,
        upload: UploadId,
        expires_at: i64,
        own: bool,
    ) -> Self {
        let (report, lost) = watch::channel(None);
        let owner = own.then(|| (app.clone(), Arc::clone(&caller), upload));
        let renewing = tokio::spawn(async move {
            let mut expires_at = expires_at;
            loop {
                let left = Duration::from_secs(
                    u64::try_from(expires_at - now_micros() / 1_000_000).unwrap_or(0),
                );
                tokio::time::sleep((left / 3).max(RENEW_INTERVAL_MIN)).await;
                match app.catalog.renew_upload(&caller, upload).await {
                    Ok(until) => expires_at = until,
                    // Away for a while is no loss yet.
                    Err(error) if error.is_retryable() && !left.is_zero() => {}
                    Err(error) => {
                        report.send_replace(Some(error.message().to_owned()));
                        return;
                    }
                }
            }
        });
        Self { upload, lost, renewing, owner }
    }

    /// What is kept.
    pub const fn upload(&self) -> UploadId {
        self.upload
    }

    /// # Errors
    /// `Conflict` once the catalog has given the upload up.
    pub fn check(&self) -> Result<(), ServiceError> {
        match self.lost.borrow().as_ref() {
            None => Ok(()),
            Some(why) => {
                Err(ServiceError::conflict(format!("the upload was lost: {why}; put again"))
                    .reason("UPLOAD_LOST"))
            }
        }
    }

    /// The upload is committed.
    pub fn done(&mut self) {
        self.owner = None;
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.renewing.abort();
        let (Some((app, caller, upload)), Ok(runtime)) =
            (self.owner.take(), tokio::runtime::Handle::try_current())
        else {
            return;
        };
        // Given up at once, so that the sweep need not wait for the lease.
        runtime.spawn(async move {
            if let Err(error) = app.catalog.abort_upload(&caller, upload).await {
                tracing::debug!(%upload, %error, "an upload could not be given up; its lease will end");
            }
        });
    }
}
