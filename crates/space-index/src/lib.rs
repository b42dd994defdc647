//! The searching index of one space: vectors, payload, and how far in the changes it is.

mod error;
mod index;
mod manifest;
mod private;
mod room;
mod snapshot;

pub use error::IndexError;
pub use index::{Change, Passing, Point, Search, SpaceIndex, SpaceSettings, Summary};
pub use manifest::{FileEntry, MANIFEST, Manifest};
pub use room::SharedRoom;
pub use snapshot::Builder;

#[cfg(test)]
mod tests;
