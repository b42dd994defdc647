//! Who is asking: internal tokens verified once at a role's door, and tokens
//! for the next role.
//!
//! Identity travels in metadata only. A role never forwards the token it was
//! called with: it asks identity for one whose audience is the next callee.

mod claims;
mod guard;
mod keys;
mod outbound;

use std::sync::Arc;

use ids::{PrincipalId, TokenId};
use options_api::v1::Role;
use service_error::ServiceError;

pub use claims::{Actor, Claims, ISSUER, LEEWAY_SECONDS, TOKEN_TYPE, scope};
pub use guard::{AcceptAll, Gate, Guarded, Refused, enforce, guard};
pub use keys::Keys;
pub use outbound::{Bearer, TokenSource, authorized};
pub use settings::{RoleSecret, Secret};

/// The principal behind a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// The user, service account or platform role.
    pub principal: PrincipalId,
    /// Its name when the token was made; for messages and the audit, not for
    /// decisions.
    pub name: String,
    /// Its global role.
    pub role: Role,
    /// The token it presented may only read.
    pub read_only: bool,
    /// The opaque token it presented, if that is how it came.
    pub token: Option<TokenId>,
    /// The platform role that calls on its behalf.
    pub actor: Option<String>,
    /// The caller is itself a platform role.
    pub service: bool,
    /// The internal token, to be exchanged for the next callee's.
    pub jwt: Secret,
    /// When the internal token expires, in seconds since the epoch.
    pub expires_at: i64,
}

/// The caller of a request that passed the guard.
///
/// # Errors
/// `UNAUTHENTICATED` for a method that is open to everybody, called by nobody.
pub fn of<T>(request: &tonic::Request<T>) -> Result<Arc<Caller>, ServiceError> {
    request.extensions().get::<Arc<Caller>>().cloned().ok_or_else(|| {
        ServiceError::unauthenticated(
            "the call needs a token: send `authorization: Bearer <token>`",
        )
    })
}

#[cfg(test)]
mod tests;
