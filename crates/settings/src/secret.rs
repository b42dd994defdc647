//! Text that must not reach a log.

use std::fmt;
use std::path::Path;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use service_error::ServiceError;

/// What stands for a secret that is set.
pub const SET: &str = "set";

/// A password, token or key. Neither `Debug` nor `Display` shows it, and it
/// serializes as [`SET`], so that a listing of settings says no more.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a secret text.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// Reads a secret from a file, without the white space around it.
    ///
    /// # Errors
    /// `FailedPrecondition` naming the file when it can't be read or is empty.
    pub fn from_file(path: &Path) -> Result<Self, ServiceError> {
        let text = std::fs::read_to_string(path).map_err(|error| {
            let message = format!("the secret in {} can't be read: {error}", path.display());
            ServiceError::precondition(message).reason("SECRET_UNREADABLE")
        })?;
        match text.trim() {
            "" => {
                let message = format!("{} holds no secret: it is empty", path.display());
                Err(ServiceError::precondition(message).reason("SECRET_UNREADABLE"))
            }
            secret => Ok(Self::new(secret)),
        }
    }

    /// The text itself, for the one place that needs it.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Self)
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(SET)
    }
}
