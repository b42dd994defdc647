//! The item store's use cases and jobs, as a crate: who may do what with which
//! rows, and in what order things happen. Nothing here knows a wire.

pub mod app;
pub mod jobs;

pub use item_settings::settings;

use item_model as model;
use item_records as store;
