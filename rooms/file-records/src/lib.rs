//! The file indexer's room for rows, as a crate: the schema `files` and its migrations.

pub mod store;

pub use file_model as model;
