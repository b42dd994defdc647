//! MLflow's REST dialect: messages, JSON, errors, names and search grammar.

mod call;
mod check;
mod error;
mod json;
pub mod mlmodel;
pub mod names;
pub mod path;
pub mod routes;
pub mod search;
mod written;

/// MLflow's messages, generated from its contract.
#[allow(
    missing_docs,
    clippy::all,
    clippy::too_many_lines,
    clippy::allow_attributes_without_reason,
    reason = "generated code"
)]
pub mod proto {
    include!(concat!(env!("OUT_DIR"), "/mlflow.rs"));
}

/// MLflow's artifact messages, generated from its contract.
#[allow(
    missing_docs,
    clippy::all,
    clippy::too_many_lines,
    clippy::allow_attributes_without_reason,
    reason = "generated code"
)]
pub mod artifacts {
    include!(concat!(env!("OUT_DIR"), "/mlflow.artifacts.rs"));
}

pub use call::Call;
pub use check::{Check, Schema};
pub use error::{ErrorCode, MlflowError, Result, refuse};
pub use json::render;

#[cfg(test)]
mod tests;
