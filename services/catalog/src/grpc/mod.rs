//! The wire: requests into use cases, outcomes into messages.

mod datasets;
mod garbage;
mod manifest;
mod namespaces;
mod value;

use grpc_room::{answer, parse, timestamp};

pub use datasets::Datasets;
pub use garbage::Garbage;
pub use manifest::Manifest;
pub use namespaces::Namespaces;
