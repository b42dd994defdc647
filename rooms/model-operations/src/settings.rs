//! What can be set about the model registry.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The `[models]` section.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// The namespace of callers that name none: clients of MLflow.
    pub default_namespace: String,
    /// How long a create call waits until its owner's grant is known here.
    pub grant_wait_seconds: u64,
    /// How long an upload may go without a part before it is given up.
    pub upload_lease_seconds: u64,
    /// How long what is deleted can be restored.
    pub retention_days: u64,
    /// Webhooks may be sent to loopback and private addresses.
    pub webhooks_allow_private: bool,
    /// The files of a new version are scanned by a job that its registration
    /// queues.
    pub scan_on_register: bool,
    /// Signed downloads name the object store itself where it can sign; off
    /// where clients do not reach it.
    pub direct_downloads: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            default_namespace: "default".to_owned(),
            grant_wait_seconds: 5,
            upload_lease_seconds: 24 * 3_600,
            retention_days: 30,
            webhooks_allow_private: false,
            scan_on_register: true,
            direct_downloads: true,
        }
    }
}

impl Settings {
    pub(crate) const fn grant_wait(&self) -> Duration {
        Duration::from_secs(self.grant_wait_seconds)
    }

    pub(crate) fn lease_micros(&self) -> i64 {
        micros(self.upload_lease_seconds)
    }

    pub(crate) fn retention_micros(&self) -> i64 {
        micros(self.retention_days.saturating_mul(24 * 3_600))
    }
}

fn micros(seconds: u64) -> i64 {
    i64::try_from(seconds.saturating_mul(1_000_000)).unwrap_or(i64::MAX)
}
