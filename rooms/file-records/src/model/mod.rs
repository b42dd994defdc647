//! Types and rules that need no database.

pub mod likeness;
mod location;
mod query;

pub use location::{Location, Mode, relative_to};
pub use query::{Matcher, Query, Sort, SortBy};
