//! The model registry's use cases and jobs, as a crate: who may do what with
//! which model, and in what order things happen. Nothing here knows a wire.

pub mod app;
pub mod jobs;
pub mod settings;

use model_records::store;
use registry_model as model;
