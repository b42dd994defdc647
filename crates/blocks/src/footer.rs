//! A block's footer and page index, read once and checked before use.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions};
use parquet::errors::ParquetError;
use parquet::file::metadata::{PageIndexPolicy, ParquetMetaData, ParquetMetaDataReader};
use service_error::{Code, ServiceError};

use crate::error::{damaged, decoding, parquet_error};

/// The longest footer with page index that is read.
const TAIL_BYTES_MAX: u64 = 256 << 20;
/// The least: the length of the footer and the magic number.
const TAIL_BYTES_MIN: u64 = 8;
/// The largest row group that is decoded.
const ROW_GROUP_ROWS_MAX: i64 = 16 << 20;

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
    ) -> Result<Self, ServiceError> {
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
        let bytes = fetch(&store, &path, &location, std::slice::from_ref(&tail)).await?;
        let tail = bytes.into_iter().next().unwrap_or_default();
        let (rows, size) = (location.row_count, location.byte_count);
        let parsed = tokio::task::spawn_blocking(move || parse(&tail, rows, size)).await;
        let metadata = parsed
            .map_err(|error| decoding(&key, error))?
            .map_err(|error| parquet_error(&key, error))?;
        Ok(Self { location, path, store, metadata })
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

    /// Bytes that the footer takes in memory, about.
    pub(crate) fn memory_bytes(&self) -> usize {
        self.metadata.metadata().memory_size() + self.location.object_key.len()
    }

    pub(crate) fn key(&self) -> &str {
        &self.location.object_key
    }

    pub(crate) async fn fetch(&self, ranges: &[Range<u64>]) -> Result<Vec<Bytes>, ServiceError> {
        fetch(&self.store, &self.path, &self.location, ranges).await
    }
}

async fn fetch(
    store: &Arc<dyn ObjectStore>,
    path: &Path,
    location: &BlockLocation,
    ranges: &[Range<u64>],
) -> Result<Vec<Bytes>, ServiceError> {
    let key = &location.object_key;
    if ranges.iter().any(|range| range.start > range.end || range.end > location.byte_count) {
        return Err(damaged(key, "the footer points beyond the file"));
    }
    let failed = match store.get_ranges(path, ranges).await {
        Ok(found) => {
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

fn check(metadata: &ParquetMetaData, rows: u64, size: u64) -> Result<(), ParquetError> {
    let lie = |what: String| Err(ParquetError::General(what));
    let mut sum: i64 = 0;
    for row_group in metadata.row_groups() {
        let count = row_group.num_rows();
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
