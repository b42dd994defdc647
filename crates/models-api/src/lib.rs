//! The contract of the model registry: models, versions, artifacts, lineage,
//! events.

pub use options_api::http_body;

/// Messages, clients and servers of `quarry.models.v1`.
#[allow(
    missing_docs,
    clippy::all,
    clippy::too_many_lines,
    clippy::allow_attributes_without_reason,
    reason = "generated code"
)]
pub mod v1 {
    tonic::include_proto!("quarry.models.v1");
}

/// The encoded descriptor set: this package and all it imports, with comments
/// and options.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
