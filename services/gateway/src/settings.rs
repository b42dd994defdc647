//! What the public door allows.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The limits of the public door, section `[gateway]`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// The body of a JSON request, or one line of a streamed one, in bytes.
    /// Larger ones are refused with 413: bulk goes over Arrow Flight.
    pub json_body_bytes_max: usize,
    /// One message of an answer that is rendered as JSON, in bytes.
    pub json_message_bytes_max: usize,
    /// How long a JSON call may take that is no stream, in seconds.
    pub json_timeout_seconds: u64,
    /// The body of a call to a foreign surface (MLflow, …) that is no file, in
    /// bytes; larger ones are refused with 413 or the surface's own code.
    pub surface_body_bytes_max: usize,
    /// Calls a second that one token may make on foreign surfaces; a second's
    /// worth may come at once. 0: no limit.
    pub surface_calls_per_second_max: u32,
    /// Calls under way at once, open streams included; beyond it new ones are
    /// answered UNAVAILABLE at once. Health is exempt.
    pub in_flight_max: usize,
    /// Credentials whose internal tokens are kept.
    pub cached_tokens_max: u64,
    /// How long an internal token is used for, in seconds; at most 30, and
    /// never past its expiry.
    pub cached_token_seconds: u64,
    /// Whether clients may ask which services there are
    /// (`grpc.reflection.v1`).
    pub reflection: bool,
}

/// A revoked token is refused by the services themselves within a second; this
/// only bounds how old the rest of an internal token's claims can be.
const CACHED_TOKEN_SECONDS_MAX: u64 = 30;

impl Default for Settings {
    fn default() -> Self {
        Self {
            json_body_bytes_max: 4 << 20,
            json_message_bytes_max: 64 << 20,
            json_timeout_seconds: 60,
            surface_body_bytes_max: 16 << 20,
            surface_calls_per_second_max: 0,
            in_flight_max: 10_000,
            cached_tokens_max: 50_000,
            cached_token_seconds: CACHED_TOKEN_SECONDS_MAX,
            reflection: true,
        }
    }
}

impl Settings {
    pub(crate) fn json_limits(&self) -> transcode::Limits {
        transcode::Limits {
            request_bytes_max: self.json_body_bytes_max,
            message_bytes_max: self.json_message_bytes_max,
        }
    }

    pub(crate) fn json_timeout(&self) -> Duration {
        Duration::from_secs(self.json_timeout_seconds.max(1))
    }

    pub(crate) fn cached_token_time(&self) -> Duration {
        Duration::from_secs(self.cached_token_seconds.min(CACHED_TOKEN_SECONDS_MAX))
    }
}
