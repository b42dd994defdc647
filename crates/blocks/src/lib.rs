//! Blocks: immutable Parquet files sorted by key. Written from batches in
//! bounded memory, read by position, by filter or by key.

mod access;
mod adapt;
mod budget;
mod checksums;
mod coded;
mod duplicates;
mod encode;
mod error;
mod find;
mod fold;
mod footer;
mod hot;
mod index;
mod judge;
mod keys;
mod locate;
mod memory;
mod order;
mod ordered;
mod plan;
mod read;
mod rows;
mod sample;
mod scan;
mod sink;
mod statistics;
mod stream;
mod survey;
mod tally;
mod unique;
mod writer;

#[cfg(test)]
mod tests;

pub use adapt::{can_adapt, conform};
pub use budget::{ByteBudget, Held};
pub use coded::first_coded;
pub use duplicates::{Duplicate, KeyedBlock, find_duplicate};
pub use encode::Compression;
pub use error::parquet_error;
pub use find::{Position, Walk};
pub use fold::{BytesOf, Keep};
pub use footer::{BlockFile, BlockLocation};
pub use keys::min_and_max;
pub use locate::locate;
pub use ordered::{OrderBy, Ordering, Ranked};
pub use read::{BlockReader, ReaderSettings, Reading};
pub use rows::BlockRows;
pub use scan::slice_bytes;
pub use statistics::ColumnStats;
pub use stream::{ScanPlan, ScanRange};
pub use survey::BlockSurvey;
pub use tally::{Cost, Tally};
pub use unique::{Repeated, find_repeated, find_value, first_repeated, value_text};
pub use writer::{BlockOptions, BlockWriter, WrittenBlock};
