//! The vector search's room for rows and snapshots, as a crate, with the types
//! and pure rules that they are made of: the schema `vectors` and its migrations.

pub mod model;
pub mod store;
