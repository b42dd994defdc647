//! The model registry's room for rows and objects, as a crate: the schema `models`
//! and its migrations.

pub mod store;

use registry_model as model;
