//! A role's secret that may be replaced while it is in use.

use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::Secret;

/// A file is read again after so long. A kubelet renews a projected token when
/// a fifth of its life is left: two minutes of the shortest.
const AGAIN_AFTER: Duration = Duration::from_secs(30);

/// What a role shows to identity: a secret for good, or what a file holds now.
/// Clones share it.
#[derive(Clone)]
pub struct RoleSecret(Arc<Kept>);

enum Kept {
    Fixed(Secret),
    File { path: PathBuf, again_after: Duration, known: Mutex<(Instant, Secret)> },
}

impl RoleSecret {
    /// What `path` holds, read as `known` just now.
    #[must_use]
    pub fn of_file(path: PathBuf, known: Secret) -> Self {
        Self::read_again_after(path, known, AGAIN_AFTER)
    }

    pub(crate) fn read_again_after(path: PathBuf, known: Secret, again_after: Duration) -> Self {
        let known = Mutex::new((Instant::now(), known));
        Self(Arc::new(Kept::File { path, again_after, known }))
    }

    /// The secret of now. A file that cannot be read gives what it held before.
    #[must_use]
    pub fn current(&self) -> Secret {
        match self.0.as_ref() {
            Kept::Fixed(secret) => secret.clone(),
            Kept::File { path, again_after, known } => {
                let mut known = known.lock().unwrap_or_else(PoisonError::into_inner);
                if known.0.elapsed() >= *again_after {
                    let secret = Secret::from_file(path).unwrap_or_else(|_| known.1.clone());
                    *known = (Instant::now(), secret);
                }
                known.1.clone()
            }
        }
    }
}

impl From<Secret> for RoleSecret {
    fn from(secret: Secret) -> Self {
        Self(Arc::new(Kept::Fixed(secret)))
    }
}

impl fmt::Debug for RoleSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}
