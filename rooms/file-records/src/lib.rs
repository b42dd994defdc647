//! The file indexer's room for rows, as a crate: what reads and writes the schema `files`.

pub mod store;

pub use file_model as model;
