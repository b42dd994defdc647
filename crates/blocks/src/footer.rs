//! A block's footer and page index, read once and checked before use.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions};
use parquet::errors::ParquetError;
use parquet::file::metadata::{
    ColumnChunkMetaData, PageIndexPolicy, ParquetMetaData, ParquetMetaDataReader,
};
use service_error::{Code, ServiceError};

use crate::checksums::{Checksums, cut};
use crate::error::{damaged, decoding, parquet_error};
use crate::tally::Tally;

/// The longest footer with page index that is read.
const TAIL_BYTES_MAX: u64 = 256 << 20;
/// The least: the length of the footer and the magic number.
const TAIL_BYTES_MIN: u64 = 8;
/// The largest row group that is decoded.
const ROW_GROUP_ROWS_MAX: i64 = 16 << 20;
/// The most values of a column in a row group, those within lists counted.
const COLUMN_VALUES_MAX: i64 = 1 << 30;
/// The most bytes of a column in a row group once they are decompressed.
const COLUMN_BYTES_MAX: i64 = 4 << 30;
/// How many times larger a column may be decompressed than in the file; small
/// ones aside. No codec of ours does better on real pages.
const EXPANSION_MAX: i64 = 2_000;
const EXPANSION_FREE_BYTES: i64 = 16 << 20;
/// The most row groups of a block, and columns of one.
const ROW_GROUPS_MAX: usize = 100_000;
const COLUMNS_MAX: usize = 20_000;

/// Where a block is and what the manifest says of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlockLocation {
    /// Its name in the object store.
    pub object_key: String,
    /// Rows.
    pub row_count: u64,
    /// Bytes of the file.
    pub byte_count: u64,
    /// Bytes at the end of the file that hold page index and footer.
    pub footer_length: u64,
}

/// An open block.
#[derive(Debug)]
pub struct BlockFile {
    location: BlockLocation,
    path: Path,
    store: Arc<dyn ObjectStore>,
    metadata: ArrowReaderMetadata,
    checksums: Checksums,
    /// Tells open blocks apart in caches.
    number: u64,
}

impl BlockFile {
    /// Reads and checks the footer.
    ///
    /// # Errors
    /// `DataLoss` for an object that is missing, cut, or not what the manifest
    /// says; else as the object store fails.
    pub async fn open(
        store: Arc<dyn ObjectStore>,
        location: BlockLocation,
        tally: &Tally,
    ) -> Result<Self, ServiceError> {
        static NUMBERS: AtomicU64 = AtomicU64::new(1);
        let key = location.object_key.clone();
        let path = Path::parse(&key).map_err(|error| damaged(&key, error))?;
        let length = location.footer_length;
        if !(TAIL_BYTES_MIN..=TAIL_BYTES_MAX).contains(&length) || length > location.byte_count {
            return Err(damaged(
                &key,
                format!("a footer of {length} bytes in a file of {}", location.byte_count),
            ));
        }
        let tail = location.byte_count - length..location.byte_count;
        let bytes = fetch(&store, &path, &location, std::slice::from_ref(&tail), tally).await?;
        let tail = bytes.into_iter().next().unwrap_or_default();
        let (rows, size) = (location.row_count, location.byte_count);
        let (checksums, footer) =
            Checksums::open(&tail, size).map_err(|error| damaged(&key, error))?;
        let parsed = tokio::task::spawn_blocking(move || parse(&footer, rows, size)).await;
        let metadata = parsed
            .map_err(|error| decoding(&key, error))?
            .map_err(|error| parquet_error(&key, error))?;
        let number = NUMBERS.fetch_add(1, Ordering::Relaxed);
        Ok(Self { location, path, store, metadata, checksums, number })
    }

    /// Where it is.
    #[must_use]
    pub const fn location(&self) -> &BlockLocation {
        &self.location
    }

    /// Its footer, with page index and Arrow schema.
    #[must_use]
    pub const fn metadata(&self) -> &ArrowReaderMetadata {
        &self.metadata
    }

    pub(crate) const fn number(&self) -> u64 {
        self.number
    }

    /// Bytes that the footer takes in memory, about.
    pub(crate) fn memory_bytes(&self) -> usize {
        self.metadata.metadata().memory_size()
            + self.checksums.memory_bytes()
            + self.location.object_key.len()
    }

    pub(crate) fn key(&self) -> &str {
        &self.location.object_key
    }

    /// Ranges of the data. Every byte of a block that is read after its footer
    /// comes through here, and none unchecked.
    pub(crate) async fn fetch(
        &self,
        ranges: &[Range<u64>],
        tally: &Tally,
    ) -> Result<Vec<Bytes>, ServiceError> {
        if !ranges.iter().all(|range| self.checksums.cover(range)) {
            return Err(damaged(self.key(), "the footer points beyond the data"));
        }
        let whole = self.checksums.whole_pieces(ranges);
        let read = fetch(&self.store, &self.path, &self.location, &whole, tally).await?;
        for (piece, bytes) in whole.iter().zip(&read) {
            self.checksums.check(piece.start, bytes).map_err(|error| damaged(self.key(), error))?;
        }
        Ok(cut(ranges, &whole, &read))
    }
}

async fn fetch(
    store: &Arc<dyn ObjectStore>,
    path: &Path,
    location: &BlockLocation,
    ranges: &[Range<u64>],
    tally: &Tally,
) -> Result<Vec<Bytes>, ServiceError> {
    let key = &location.object_key;
    if ranges.is_empty() {
        return Ok(Vec::new());
    }
    let failed = match store.get_ranges(path, ranges).await {
        Ok(found) => {
            tally.fetched(ranges);
            let whole = found
                .iter()
                .zip(ranges)
                .all(|(bytes, range)| bytes.len() as u64 == range.end - range.start);
            if whole {
                return Ok(found);
            }
            return Err(damaged(key, "the file is shorter than it was"));
        }
        Err(error) => error,
    };
    // A cut file fails a read in words of its own on every store.
    match store.head(path).await {
        Ok(meta) if meta.size != location.byte_count => {
            let why =
                format!("the file has {} bytes instead of {}", meta.size, location.byte_count);
            Err(damaged(key, why))
        }
        Err(object_store::Error::NotFound { .. }) => Err(damaged(key, "the file is gone")),
        _ => {
            let error = blob_store::object_error(failed);
            if error.code() == Code::NotFound {
                Err(damaged(key, "the file is gone"))
            } else {
                Err(error)
            }
        }
    }
}

fn parse(tail: &Bytes, rows: u64, size: u64) -> Result<ArrowReaderMetadata, ParquetError> {
    let mut reader = ParquetMetaDataReader::new().with_page_index_policy(PageIndexPolicy::Optional);
    match reader.try_parse_sized(tail, size) {
        Ok(()) => {}
        Err(ParquetError::NeedMoreData(_)) => {
            return Err(ParquetError::General(
                "the footer is longer than the manifest says".to_owned(),
            ));
        }
        Err(error) => return Err(error),
    }
    let metadata = reader.finish()?;
    check(&metadata, rows, size)?;
    ArrowReaderMetadata::try_new(Arc::new(metadata), ArrowReaderOptions::new())
}

/// Whether decoding a column takes no more than any honest writer makes it.
fn bounded(column: &ColumnChunkMetaData) -> bool {
    let (packed, unpacked) = (column.compressed_size(), column.uncompressed_size());
    column.num_values() <= COLUMN_VALUES_MAX
        && unpacked <= COLUMN_BYTES_MAX
        && (unpacked <= EXPANSION_FREE_BYTES || unpacked / EXPANSION_MAX <= packed)
}

fn check(metadata: &ParquetMetaData, rows: u64, size: u64) -> Result<(), ParquetError> {
    let lie = |what: String| Err(ParquetError::General(what));
    let mut sum: i64 = 0;
    if metadata.num_row_groups() > ROW_GROUPS_MAX {
        return lie(format!("{} row groups", metadata.num_row_groups()));
    }
    for row_group in metadata.row_groups() {
        let count = row_group.num_rows();
        if row_group.num_columns() > COLUMNS_MAX {
            return lie(format!("{} columns", row_group.num_columns()));
        }
        if !(0..=ROW_GROUP_ROWS_MAX).contains(&count) {
            return lie(format!("a row group of {count} rows"));
        }
        sum += count;
        for column in row_group.columns() {
            if column.num_values() < 0
                || column.compressed_size() < 0
                || column.uncompressed_size() < 0
            {
                return lie(format!("column {} has a negative size", column.column_path()));
            }
            if !bounded(column) {
                return lie(format!("column {} expands beyond all bounds", column.column_path()));
            }
            let (start, length) = column.byte_range();
            if start.checked_add(length).is_none_or(|end| end > size) {
                return lie(format!("column {} ends beyond the file", column.column_path()));
            }
        }
    }
    if u64::try_from(sum) != Ok(rows) || metadata.file_metadata().num_rows() != sum {
        let claimed = metadata.file_metadata().num_rows();
        return lie(format!(
            "{sum} rows in row groups, {claimed} in the footer, {rows} in the manifest"
        ));
    }
    Ok(())
}
