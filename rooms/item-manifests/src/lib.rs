//! What the item store knows of its blocks before it reads one: a room, as a crate.

mod app;

pub use app::{catalog, manifest, unique, values};

use item_model as model;
