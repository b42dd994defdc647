//! An immutable part of the index, in one file.

mod build;
mod copy;
mod format;
mod open;
mod search;
mod sketches;
mod sums;

pub use build::{BuildOptions, SegmentBuilder};
pub(crate) use copy::Copied;
pub use open::Segment;
