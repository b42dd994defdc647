//! When garbage goes.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use service_error::ServiceError;

/// `[items.garbage]`
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct GarbageSettings {
    /// Seconds between two collections; 0: only when asked for.
    pub seconds: u64,
    /// Seconds that an object which nothing names is left alone after it was written. At least
    /// as long as an upload may go without being renewed (`catalog.upload_lease_seconds`).
    pub grace_seconds: u64,
}

impl Default for GarbageSettings {
    fn default() -> Self {
        Self { seconds: 6 * 3_600, grace_seconds: 24 * 3_600 }
    }
}

impl GarbageSettings {
    /// How often garbage is collected unasked; `None`: never.
    #[must_use]
    pub fn interval(&self) -> Option<Duration> {
        (self.seconds > 0).then(|| Duration::from_secs(self.seconds))
    }

    /// Microseconds that a young object is left alone.
    #[must_use]
    pub fn grace_micros(&self) -> i64 {
        i64::try_from(self.grace_seconds).unwrap_or(i64::MAX).saturating_mul(1_000_000)
    }

    /// Refuses a grace that an upload may outlive.
    ///
    /// # Errors
    /// `FailedPrecondition` with reason `GRACE_TOO_SHORT`.
    pub fn check_grace(&self, upload_lease_seconds: i64) -> Result<(), ServiceError> {
        if i64::try_from(self.grace_seconds).unwrap_or(i64::MAX) >= upload_lease_seconds {
            return Ok(());
        }
        let message = format!(
            "items.garbage.grace_seconds is {} and an upload may go {upload_lease_seconds} s without \
             being renewed; make the grace at least as long",
            self.grace_seconds
        );
        Err(ServiceError::precondition(message).reason("GRACE_TOO_SHORT"))
    }
}
