//! What was done and denied.

use ids::PrincipalId;

/// Whether it happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    Allowed = 1,
    Denied = 2,
}

/// One row of the audit; for denials, all alike within a minute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditEvent {
    /// Grows with each new row; 0 before it is stored.
    pub number: i64,
    /// Microseconds UTC; a denial's minute.
    pub at: i64,
    /// Nobody if the call was not authenticated.
    pub principal: Option<PrincipalId>,
    /// Its name at that time.
    pub principal_name: String,
    /// The role that decided.
    pub service: String,
    /// The method.
    pub action: String,
    /// `dataset/<id>`, `user/<id>`, `token/<id>`, …
    pub resource: String,
    pub outcome: Outcome,
    pub detail: String,
    pub count: i64,
}
