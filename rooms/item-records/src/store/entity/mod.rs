//! Rows as they are in the database.

pub mod key_ring;
pub mod media;
pub mod saved_filter;
pub mod upload;
