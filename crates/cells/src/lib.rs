//! Cells: Arrow's arrays into the wire's values, and back.

mod read;
mod revision;
mod write;

pub use read::{array_of, cell, columns_of, is_uuid, items_of, uuid_text};
pub use revision::revision_of;
pub use write::column_of;
