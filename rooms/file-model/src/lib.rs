//! The file indexer's room for types and rules that need no database, as a crate.

mod model;

pub use model::*;
