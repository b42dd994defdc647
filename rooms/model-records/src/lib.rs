//! The model registry's room for rows and objects, as a crate, with the types
//! and pure rules that they are made of: the schema `models` and its migrations.

pub mod model;
pub mod store;
