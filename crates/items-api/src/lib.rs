//! The contract of the item store beside Arrow Flight: pages, look-ups, counts,
//! statistics, media.

/// Messages, clients and servers of `quarry.items.v1`.
#[allow(
    missing_docs,
    clippy::all,
    clippy::too_many_lines,
    clippy::allow_attributes_without_reason,
    reason = "generated code"
)]
pub mod v1 {
    tonic::include_proto!("quarry.items.v1");
}

/// The encoded descriptor set: this package and all it imports, with comments
/// and options.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

pub use options_api::http_body;
