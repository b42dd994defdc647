//! The file indexer's room for the schema `files`, as a crate: its migrations, and how each
//! database takes thousands of rows.

mod store;

pub use store::{Migrator, bulk};
