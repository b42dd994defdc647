//! The file indexer's room for types and rules that need no database, as a crate.

pub mod likeness;
mod location;
mod query;

pub use location::{Location, Mode, Place, relative_to};
pub use query::{Locations, Matcher, Query, Sort, SortBy};
