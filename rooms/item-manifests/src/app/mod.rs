//! The catalog, and what it says of a snapshot's blocks.

pub mod catalog;
pub mod manifest;
pub mod unique;
pub mod values;
