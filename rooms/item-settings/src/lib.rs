//! The section `[items]`, as a crate: what the item store can be told.

pub mod settings;
