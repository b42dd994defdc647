//! Types and rules that need no database.

mod dirs;
mod folding;
pub mod likeness;
mod location;
mod query;

pub use dirs::{ASIDE, KnownDirs, below, is_below, name_of};
pub use folding::AnyCase;
pub use location::{Location, Mode, Place, relative_to};
pub use query::{Locations, Matcher, Query, Sort, SortBy};
