//! The contract of operating the platform: what runs, as what, on what, and
//! long work that can be watched, paused and taken up again, the same in every
//! service.

/// Messages, clients and servers of `quarry.ops.v1`.
#[allow(
    missing_docs,
    clippy::all,
    clippy::too_many_lines,
    clippy::allow_attributes_without_reason,
    reason = "generated code"
)]
pub mod v1 {
    tonic::include_proto!("quarry.ops.v1");
}

/// The encoded descriptor set: this package and all it imports, with comments
/// and options.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

/// Every role answers the same paths. Where several share a
/// door, this metadata says whose are meant; the public door strips it.
pub const CALLEE_HEADER: &str = "x-quarry-callee";

/// Paths of `quarry.ops.v1` begin with this.
pub const JOBS_PREFIX: &str = "quarry.ops.v1.";
