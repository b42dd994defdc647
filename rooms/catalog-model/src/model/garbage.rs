//! What may be deleted.

use ids::{DatasetId, UploadId};

/// An object that a listing found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedObject {
    /// As its key says.
    pub dataset: DatasetId,
    /// As its key says.
    pub upload: UploadId,
    /// The whole key.
    pub object_key: String,
}

/// Whether anything may name an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// A block, or of an upload that may still commit.
    Kept,
    /// Nothing names it, and nothing will.
    Garbage,
    /// Of a dataset that this catalog never had.
    Unknown,
}

/// What was taken out of the history of datasets.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Expired {
    /// Snapshots that were no version.
    pub snapshots: u64,
    /// Blocks that only they saw.
    pub blocks: u64,
}
