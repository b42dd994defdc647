//! What grant replicas are told.

use ids::{GrantId, PrincipalId, TokenId};

use super::{Grant, Role};

/// One change, in the order of its revision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// A grant as it is now.
    Grant(Grant),
    /// A grant that is gone.
    Removed(GrantId),
    /// A principal whose tokens are refused from now on.
    Disabled(PrincipalId),
    /// Not any more.
    Enabled(PrincipalId),
    /// A token that is refused; `forget_at` is when no internal token made
    /// from it is left (microseconds UTC).
    Revoked { token: TokenId, forget_at: i64 },
    /// Internal tokens with a higher role are refused until `forget_at`.
    Role { principal: PrincipalId, role: Role, forget_at: i64 },
}

/// Changes that bring a replica to a revision.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Batch {
    /// Reached once this batch is applied, unless `partial`.
    pub revision: i64,
    /// Forget everything first.
    pub reset: bool,
    /// More of the same revision follows.
    pub partial: bool,
    pub changes: Vec<Change>,
}
