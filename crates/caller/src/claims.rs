//! The claims of an internal token.

use serde::{Deserialize, Serialize};

/// `iss` of every internal token.
pub const ISSUER: &str = "quarry";

/// `typ` of every internal token. Compared by hand: the library accepts any.
pub const TOKEN_TYPE: &str = "quarry-internal+jwt";

/// How far the clocks of two roles may differ, in seconds.
pub const LEEWAY_SECONDS: u64 = 5;

/// Values of the `scope` claim.
pub mod scope {
    /// Everything the principal may do.
    pub const FULL: &str = "full";
    /// Only calls that change nothing.
    pub const READ: &str = "read";
}

/// The body of an internal token (EdDSA, at most 60 s).
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Claims {
    /// Always [`ISSUER`].
    pub iss: String,
    /// The role that is called.
    pub aud: String,
    /// The principal's id.
    pub sub: String,
    /// The principal's name.
    pub name: String,
    /// `admin`, `user`, `viewer`, or `service` for a platform role.
    pub role: String,
    /// One of [`scope`].
    pub scope: String,
    /// The platform role that calls for the principal (RFC 8693).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub act: Option<Actor>,
    /// The opaque token that the principal presented.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tid: Option<String>,
    /// Issued at, seconds since the epoch.
    pub iat: i64,
    /// Expires at, seconds since the epoch.
    pub exp: i64,
    /// Unique per token.
    pub jti: String,
}

/// The `act` claim.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Actor {
    /// The acting platform role's name.
    pub sub: String,
}
