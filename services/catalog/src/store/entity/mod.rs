//! The tables, one module each.

pub mod block;
pub mod block_column_stats;
pub mod block_deletion;
pub mod block_use;
pub mod branch;
pub mod dataset;
pub mod dataset_property;
pub mod doomed_object;
pub mod idempotency;
pub mod namespace;
pub mod outbox;
pub mod purged_dataset;
pub mod snapshot;
pub mod upload;
pub mod version;
