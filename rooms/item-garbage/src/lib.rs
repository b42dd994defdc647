//! The end of what nothing names: a room of the item store, as a crate.

mod app;
pub mod settings;

pub use app::{COLLECT_GARBAGE, Collector};

use item_records as store;
