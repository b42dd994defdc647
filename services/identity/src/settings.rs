//! What an operator can set about identity, and what the process gives it.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use settings::Secret;
use sql_store::SqlSettings;

/// The section `[identity]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Seconds that an internal token lives: 5 to 60.
    pub internal_token_seconds: u64,
    /// Days after which a new signing key takes over.
    pub signing_key_days: u64,
    /// Hours for which changes of grants are kept; a replica that was away for
    /// longer takes the whole state.
    pub change_log_hours: u64,
    /// Roles that show a token which their Kubernetes cluster projected for them.
    pub projected: projected_tokens::Settings,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            internal_token_seconds: 60,
            signing_key_days: 90,
            change_log_hours: 24,
            projected: projected_tokens::Settings::default(),
        }
    }
}

impl Settings {
    /// Within the bound that everybody who verifies a token relies on.
    pub(crate) fn token_life(&self) -> Duration {
        Duration::from_secs(self.internal_token_seconds.clamp(5, 60))
    }
}

/// What the process gives identity.
#[derive(Clone)]
pub struct Platform {
    /// Where the rows are.
    pub sql: SqlSettings,
    /// Where the first admin's token is written.
    pub data_dir: PathBuf,
    /// A token that claims the admin account.
    pub admin_token_file: Option<PathBuf>,
    /// The platform's roles and their secrets, e.g. `("catalog", …)`.
    pub service_secrets: Vec<(String, Secret)>,
}

impl fmt::Debug for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Platform")
            .field("sql", &self.sql)
            .field("data_dir", &self.data_dir)
            .finish_non_exhaustive()
    }
}
