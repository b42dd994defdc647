//! What a catalog is made of, and the rules that need no database.

pub mod block;
pub mod commit;
pub mod dataset;
pub mod deletion;
pub mod garbage;
pub mod name;
pub mod outbox;
pub mod scalar;
pub mod schema;
pub mod statistics;
pub mod upload;

pub use block::{Block, BlockCursor, ManifestEntry, StoredBlock};
pub use commit::{
    CommitMode, CommitPlan, Committed, Footing, Totals, UniqueColumns, WatermarkMove,
};
pub use dataset::{
    Dataset, DatasetRef, Head, MAIN_BRANCH, Namespace, NewDataset, Snapshot, Version, VersionRef,
};
pub use deletion::{BlockDeletion, BlockNow, BlockRemoval};
pub use garbage::{Expired, ListedObject, Verdict};
pub use name::Name;
pub use outbox::{OutboxEvent, ResourceChange};
pub use scalar::Scalar;
pub use statistics::{ColumnStats, fold_statistics};
pub use upload::{Upload, UploadState};
