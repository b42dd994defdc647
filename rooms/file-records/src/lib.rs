//! The file indexer's room for rows, as a crate, with the types and pure rules
//! that they are made of: the schema `files` and its migrations.

pub mod model;
pub mod store;
