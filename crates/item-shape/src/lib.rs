//! The shape of rows that arrive: new schemas, fit, and what the server fills in.

mod fit;
mod ids_column;
mod incoming;
mod pieces;

pub use fit::check_fit;
pub use ids_column::{keys, spelled_id};
pub use incoming::{Incoming, NewShape, new_shape};
pub use pieces::pieces;
