//! Types and pure rules of identity: no I/O, no wire, no SQL.

mod audit;
mod base62;
mod change;
mod grant;
mod principal;
mod token;

pub use audit::{AuditEvent, Outcome};
#[cfg(test)]
pub use base62::encode as test_base62;
pub use change::{Batch, Change};
pub use grant::{Authority, Grant, Level, Resource, ResourceKind};
pub use principal::{Kind, Principal, Role, check_display_name, check_name};
pub use token::{Made, Presented, Scope, Token, check_description, expiry_after, fingerprint};

/// Rows of a page that was asked for, and where it continues.
#[derive(Debug, Clone, Default)]
pub struct PageOf<T> {
    /// At most as many as were asked for.
    pub entries: Vec<T>,
    /// Empty on the last page.
    pub next_page_token: String,
}
