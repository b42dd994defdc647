//! Blocks: immutable Parquet files sorted by key. Written from batches in
//! bounded memory, read by position, by filter or by key.

mod adapt;
mod budget;
mod duplicates;
mod encode;
mod error;
mod footer;
mod keys;
mod order;
mod plan;
mod read;
mod scan;
mod sink;
mod statistics;
mod stream;
mod survey;
mod writer;

#[cfg(test)]
mod tests;

pub use adapt::{can_adapt, conform};
pub use budget::{ByteBudget, Held};
pub use duplicates::{Duplicate, KeyedBlock, find_duplicate};
pub use encode::Compression;
pub use error::parquet_error;
pub use footer::{BlockFile, BlockLocation};
pub use keys::min_and_max;
pub use read::{BlockReader, Page, ReaderSettings};
pub use scan::slice_bytes;
pub use statistics::ColumnStats;
pub use stream::{ScanPlan, ScanRange};
pub use survey::BlockSurvey;
pub use writer::{BlockOptions, BlockWriter, WrittenBlock};
