//! The item store's room for rows and objects, as a crate: the schema `items`,
//! its migrations, and the files beside it.

mod store;

use item_model as model;

pub use store::{BlockFiles, Media, Store, UpkeepLease, Upload, migrate, migration_status};
