//! Types and rules that need no database.

mod changes;
mod dirs;
mod folding;
mod found;
pub mod likeness;
mod location;
mod query;

pub use changes::{Change, ChangeKind, Log, Logged, Merged, path_in};
pub use dirs::{ASIDE, KnownDirs, below, in_place, is_below, name_of, with_parents};
pub use folding::AnyCase;
pub use found::{FOUND_TEXT, Found, FoundContent, FoundPage, HASH_BYTES, page_in};
pub use location::{Location, Mode, Place, relative_to};
pub use query::{Locations, Matcher, Query, Sort, SortBy};
