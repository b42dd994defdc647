//! What can be set about the catalog.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The `[catalog]` section.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// How long an upload may go without being renewed before it is given up.
    pub upload_lease_seconds: u64,
    /// How long a repeated commit is known by its idempotency key.
    pub idempotency_days: u64,
    /// How long a create call waits until its owner's grant is known here.
    pub grant_wait_seconds: u64,
    /// How long a snapshot that is no version is kept after it was replaced. Page tokens, tickets
    /// and streams live for an hour; what reads longer is told that its snapshot is gone.
    pub snapshot_lease_seconds: u64,
    /// How long what a deleted dataset held is kept.
    pub deleted_retention_seconds: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            upload_lease_seconds: 600,
            idempotency_days: 7,
            grant_wait_seconds: 5,
            snapshot_lease_seconds: 2 * 3600,
            deleted_retention_seconds: 30 * 24 * 3600,
        }
    }
}

impl Settings {
    pub(crate) fn lease_micros(&self) -> i64 {
        micros(Duration::from_secs(self.upload_lease_seconds))
    }

    pub(crate) fn idempotency_micros(&self) -> i64 {
        micros(Duration::from_secs(self.idempotency_days.saturating_mul(24 * 3600)))
    }

    pub(crate) fn snapshot_lease_micros(&self) -> i64 {
        micros(Duration::from_secs(self.snapshot_lease_seconds))
    }

    pub(crate) fn deleted_retention_micros(&self) -> i64 {
        micros(Duration::from_secs(self.deleted_retention_seconds))
    }

    pub(crate) const fn grant_wait(&self) -> Duration {
        Duration::from_secs(self.grant_wait_seconds)
    }
}

fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}
