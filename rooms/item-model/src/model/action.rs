//! The Flight actions that are offered. What is not here is refused.

/// A Flight action.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Action {
    /// Its type on the wire.
    pub name: &'static str,
    /// For `ListActions`.
    pub description: &'static str,
}

/// All actions. Each reads only and needs Read on the dataset it names.
pub const ACTIONS: &[Action] = &[Action {
    name: "quarry.describe",
    description: "Body {\"dataset\":\"ns/name\",\"version\":…}; answers JSON: id, schema, key, version, row, byte and block counts, \
                  and each column's nulls, least and greatest value.",
}];
