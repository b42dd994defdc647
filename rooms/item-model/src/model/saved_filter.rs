//! A filter under a name.

use ids::PrincipalId;

/// A filter that is kept under a name of its dataset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SavedFilter {
    /// Its name.
    pub name: String,
    /// Its text, as it was written.
    pub filter: String,
    /// What it is for.
    pub description: String,
    /// Counts its changes, from 1.
    pub revision: i64,
    /// Who made it.
    pub created_by: PrincipalId,
    /// Microseconds UTC.
    pub created_at: i64,
    /// Microseconds UTC.
    pub updated_at: i64,
}
