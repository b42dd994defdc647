//! Payload, vectors, questions and spaces, from the wire and back.

mod payload;
mod question;
mod spaces;

pub use payload::{payload_from_wire, payload_to_wire, value_to_wire, vector_to_wire};
pub use question::{consistency_from_wire, k_from_wire, question_from_wire};
pub use spaces::{element_from_wire, metric_from_wire, space_to_wire};
