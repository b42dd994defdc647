//! Parquet, row group by row group, in batches sized by what the footer says
//! a row weighs.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Schema};
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};
use parquet::file::metadata::ParquetMetaData;

use crate::Opened;
use crate::error::{ErrorKind, IngestError, bytes_text};
use crate::guard::guarded;
use crate::limits::Limits;
use crate::rows::{BATCH_BYTES_MAX, BATCH_ROWS_MAX};

struct ParquetBatches {
    path: PathBuf,
    reader: ParquetRecordBatchReader,
    rows_read: Arc<AtomicU64>,
    rows_total: u64,
    cell_bytes_max: u64,
    done: bool,
}

/// Opens a Parquet file.
pub(crate) fn open(path: &Path, limits: &Limits) -> Result<Opened, IngestError> {
    let file = File::open(path).map_err(|err| IngestError::io(path, err))?;
    let size = file.metadata().map_err(|err| IngestError::io(path, err))?.len();
    let broken = |err| IngestError::broken(path, "not a whole Parquet file", err);
    let builder =
        guarded(path, || ParquetRecordBatchReaderBuilder::try_new(file))?.map_err(broken)?;
    let rows_total = check_footer(path, builder.metadata(), size, limits)?;
    let rows = batch_rows(builder.metadata());
    // What pandas says about its index is of no use to a dataset.
    let schema = Arc::new(Schema::new(builder.schema().fields().clone()));
    let reader = guarded(path, || builder.with_batch_size(rows).build())?.map_err(broken)?;
    let rows_read = Arc::new(AtomicU64::new(0));
    let batches = ParquetBatches {
        path: path.to_owned(),
        reader,
        rows_read: Arc::clone(&rows_read),
        rows_total,
        cell_bytes_max: limits.row_bytes_max,
        done: false,
    };
    Ok(Opened { schema, batches: Box::new(batches), done: rows_read, rows: Some(rows_total) })
}

/// Refuses a footer that lies about the file or asks for too much; answers the
/// number of rows.
fn check_footer(
    path: &Path,
    meta: &ParquetMetaData,
    size: u64,
    limits: &Limits,
) -> Result<u64, IngestError> {
    let wrong = |message: String| IngestError::new(ErrorKind::Format, path, message);
    let mut rows = 0_u64;
    for (at, group) in meta.row_groups().iter().enumerate() {
        let bytes = u64::try_from(group.total_byte_size()).unwrap_or(u64::MAX);
        let columns: u64 = group
            .columns()
            .iter()
            .map(|column| u64::try_from(column.uncompressed_size()).unwrap_or(u64::MAX / 4096))
            .sum();
        let bytes = bytes.max(columns);
        if bytes > limits.row_group_bytes_max {
            let message = format!(
                "row group {at} has {} uncompressed, the limit is {}; write the file with smaller row groups (pyarrow: row_group_size)",
                bytes_text(bytes),
                bytes_text(limits.row_group_bytes_max)
            );
            return Err(IngestError::new(ErrorKind::Limit, path, message));
        }
        let count = u64::try_from(group.num_rows())
            .map_err(|_| wrong(format!("row group {at} claims a negative number of rows")))?;
        for column in group.columns() {
            let begin =
                column.dictionary_page_offset().unwrap_or_else(|| column.data_page_offset());
            let end = begin.checked_add(column.compressed_size());
            let inside = begin >= 4
                && end.is_some_and(|end| {
                    end >= begin && u64::try_from(end).is_ok_and(|end| end <= size)
                });
            if !inside {
                let message = format!(
                    "the footer says that row group {at} lies where the file has no bytes; it is broken or cut short"
                );
                return Err(wrong(message).column(column.column_path().string()));
            }
        }
        rows = rows.saturating_add(count);
    }
    match u64::try_from(meta.file_metadata().num_rows()) {
        Ok(said) if said == rows => Ok(rows),
        _ => Err(wrong(format!(
            "the footer says {} rows, its row groups {rows}",
            meta.file_metadata().num_rows()
        ))),
    }
}

/// So many rows that a batch takes a few MiB, by the heaviest row group.
fn batch_rows(meta: &ParquetMetaData) -> usize {
    let heaviest = meta
        .row_groups()
        .iter()
        .map(|group| {
            usize::try_from(group.total_byte_size() / group.num_rows().max(1)).unwrap_or(1)
        })
        .max()
        .unwrap_or(1);
    (BATCH_BYTES_MAX / heaviest.max(1)).clamp(1, BATCH_ROWS_MAX)
}

impl ParquetBatches {
    fn check_cells(&self, batch: &RecordBatch) -> Result<(), IngestError> {
        for (field, column) in batch.schema().fields().iter().zip(batch.columns()) {
            let longest = longest_cell(column);
            if longest > self.cell_bytes_max {
                let message = format!(
                    "a cell has {}, the limit is {}; keep large content as files (format images) and name them here",
                    bytes_text(longest),
                    bytes_text(self.cell_bytes_max)
                );
                return Err(
                    IngestError::new(ErrorKind::Limit, &self.path, message).column(field.name())
                );
            }
        }
        Ok(())
    }

    fn next_batch(&mut self) -> Result<Option<RecordBatch>, IngestError> {
        let reader = &mut self.reader;
        let before = self.rows_read.load(Ordering::Relaxed);
        let next = guarded(&self.path, || reader.next())?;
        let Some(batch) = next else {
            if before != self.rows_total {
                let message =
                    format!("the footer says {} rows, the file has {before}", self.rows_total);
                return Err(IngestError::new(ErrorKind::Format, &self.path, message));
            }
            return Ok(None);
        };
        let what = format!("cannot be read after row {before}");
        let batch = batch.map_err(|err| IngestError::broken(&self.path, &what, err))?;
        self.check_cells(&batch)?;
        self.rows_read.fetch_add(batch.num_rows() as u64, Ordering::Relaxed);
        Ok(Some(batch))
    }
}

fn longest_cell(column: &dyn Array) -> u64 {
    let steps = |offsets: &[i32]| {
        offsets.windows(2).map(|pair| i64::from(pair[1]) - i64::from(pair[0])).max()
    };
    let wide = |offsets: &[i64]| offsets.windows(2).map(|pair| pair[1] - pair[0]).max();
    let longest = match column.data_type() {
        DataType::Utf8 => steps(column.as_string::<i32>().value_offsets()),
        DataType::Binary => steps(column.as_binary::<i32>().value_offsets()),
        DataType::LargeUtf8 => wide(column.as_string::<i64>().value_offsets()),
        DataType::LargeBinary => wide(column.as_binary::<i64>().value_offsets()),
        _ => None,
    };
    u64::try_from(longest.unwrap_or(0)).unwrap_or(0)
}

impl Iterator for ParquetBatches {
    type Item = Result<RecordBatch, IngestError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.done {
            return None;
        }
        let next = self.next_batch().transpose();
        self.done = !matches!(next, Some(Ok(_)));
        next
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use arrow::array::{ArrayRef, BinaryArray, Int64Array};
    use parquet::arrow::ArrowWriter;
    use parquet::file::properties::WriterProperties;

    use super::*;

    fn file(cell_bytes: usize, rows: i64) -> Vec<u8> {
        let ids: ArrayRef = Arc::new(Int64Array::from_iter_values(0..rows));
        let cells: ArrayRef =
            Arc::new(BinaryArray::from_iter_values((0..rows).map(|n| vec![n as u8; cell_bytes])));
        let batch = RecordBatch::try_from_iter([("id", ids), ("cell", cells)]).unwrap();
        let properties =
            WriterProperties::builder().set_max_row_group_row_count(Some(1000)).build();
        let mut writer =
            ArrowWriter::try_new(Vec::new(), batch.schema(), Some(properties)).unwrap();
        writer.write(&batch).unwrap();
        writer.into_inner().unwrap()
    }

    fn read(bytes: &[u8], limits: &Limits) -> Result<usize, IngestError> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.parquet");
        std::fs::write(&path, bytes).unwrap();
        let opened = open(&path, limits)?;
        opened.batches.map(|batch| batch.map(|batch| batch.num_rows())).sum()
    }

    #[test]
    fn heavy_rows_come_in_small_batches() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.parquet");
        std::fs::write(&path, file(100_000, 300)).unwrap();
        let opened = open(&path, &Limits::default()).unwrap();
        assert_eq!(opened.rows, Some(300));
        let batches: Vec<_> = opened.batches.map(Result::unwrap).collect();
        assert!(batches.iter().all(|batch| batch.get_array_memory_size() < 4 * BATCH_BYTES_MAX));
        assert_eq!(batches.iter().map(RecordBatch::num_rows).sum::<usize>(), 300);
    }

    #[test]
    fn limits_are_named() {
        let err = read(&file(5000, 10), &Limits { row_bytes_max: 4096, ..Limits::default() })
            .unwrap_err();
        assert_eq!((err.kind(), err.column_name()), (ErrorKind::Limit, Some("cell")));
        assert!(err.to_string().contains("4 KiB"), "{err}");
        let err =
            read(&file(5000, 1000), &Limits { row_group_bytes_max: 1 << 20, ..Limits::default() })
                .unwrap_err();
        assert!(
            err.to_string().contains("row group 0") && err.to_string().contains("1 MiB"),
            "{err}"
        );
    }

    #[test]
    fn a_cut_or_lying_file_is_refused() {
        let whole = file(10, 3000);
        assert_eq!(read(&whole, &Limits::default()).unwrap(), 3000);
        assert_eq!(
            read(&whole[..whole.len() / 2], &Limits::default()).unwrap_err().kind(),
            ErrorKind::Format
        );
        let mut moved = b"PAR1".to_vec();
        moved.extend_from_slice(&whole[whole.len() - 2000..]);
        assert_eq!(read(&moved, &Limits::default()).unwrap_err().kind(), ErrorKind::Format);
    }

    #[test]
    fn flipped_bytes_never_panic() {
        let whole = file(10, 200);
        for at in 0..whole.len() {
            if at % 5 == 0 {
                let mut bytes = whole.clone();
                bytes[at] ^= 0x55;
                drop(read(&bytes, &Limits::default()));
            }
        }
    }
}
