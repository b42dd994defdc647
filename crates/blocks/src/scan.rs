//! One pass over a block, step by step. It waits for the object store inside,
//! so it runs on a blocking thread.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::{Schema, SchemaRef};
use parquet::DecodeResult;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::RowSelection;
use parquet::arrow::push_decoder::{ParquetPushDecoder, ParquetPushDecoderBuilder};
use service_error::ServiceError;
use tokio::runtime::Handle;

use crate::access::Access;
use crate::adapt::conform;
use crate::error::{arrow_error, parquet_error};
use crate::footer::BlockFile;
use crate::tally::Tally;

/// Rows of a batch at most.
const BATCH_ROWS_MAX: u64 = 131_072;

/// What to read of a block.
#[derive(Debug, Clone)]
pub(crate) struct Pass {
    pub row_groups: Vec<usize>,
    /// Over the rows of `row_groups`; all if unset.
    pub selection: Option<RowSelection>,
    /// The columns to answer.
    pub schema: SchemaRef,
    /// About how large a batch should be.
    pub batch_bytes: usize,
    /// Rows of a batch where they are known.
    pub batch_rows: Option<usize>,
}

pub(crate) struct BlockScan {
    file: Arc<BlockFile>,
    decoder: ParquetPushDecoder,
    schema: SchemaRef,
    runtime: Handle,
    tally: Arc<Tally>,
}

impl BlockScan {
    pub fn new(file: Arc<BlockFile>, pass: Pass, access: &Access) -> Result<Self, ServiceError> {
        let rows = pass
            .batch_rows
            .unwrap_or_else(|| batch_rows(&file, None, &pass.schema, pass.batch_bytes));
        let mut builder = ParquetPushDecoderBuilder::new_with_metadata(file.metadata().clone())
            .with_row_groups(pass.row_groups)
            .with_projection(projection(&file, &pass.schema))
            .with_batch_size(rows.max(1));
        if let Some(selection) = pass.selection {
            builder = builder.with_row_selection(selection);
        }
        let decoder = builder.build().map_err(|error| parquet_error(file.key(), error))?;
        let (runtime, tally) = (access.runtime.clone(), Arc::clone(&access.tally));
        Ok(Self { file, decoder, schema: pass.schema, runtime, tally })
    }

    /// The next rows, in the schema that was asked for.
    pub fn next_batch(&mut self) -> Result<Option<RecordBatch>, ServiceError> {
        let failed = |error| parquet_error(self.file.key(), error);
        loop {
            match self.decoder.try_decode().map_err(failed)? {
                DecodeResult::NeedsData(ranges) => {
                    let found = self.runtime.block_on(self.file.fetch(&ranges, &self.tally))?;
                    self.decoder.push_ranges(ranges, found).map_err(failed)?;
                }
                DecodeResult::Data(batch) if batch.num_rows() == 0 => {}
                DecodeResult::Data(batch) => {
                    let batch = conform(&batch, &self.schema)
                        .map_err(|error| arrow_error(self.file.key(), error))?;
                    return Ok(Some(batch));
                }
                DecodeResult::Finished => return Ok(None),
            }
        }
    }
}

/// The columns of a schema that the file has.
fn projection(file: &BlockFile, schema: &SchemaRef) -> ProjectionMask {
    let own = file.metadata().schema();
    let roots = schema.fields().iter().filter_map(|field| own.index_of(field.name()).ok());
    ProjectionMask::roots(file.metadata().parquet_schema(), roots)
}

/// Rows that make about `bytes`, told by the footer.
pub(crate) fn batch_rows(
    file: &BlockFile,
    group: Option<usize>,
    schema: &Schema,
    bytes: usize,
) -> usize {
    let count = (bytes as u64 / row_bytes(file, group, schema)).clamp(1, BATCH_ROWS_MAX);
    usize::try_from(count).unwrap_or(1)
}

/// About what a row takes in memory, told by the footer.
pub(crate) fn row_bytes(file: &BlockFile, group: Option<usize>, schema: &Schema) -> u64 {
    let metadata = file.metadata().metadata();
    let (mut total, mut rows): (u64, u64) = (0, 0);
    let counted = |index: usize| group.is_none_or(|group| group == index);
    for (_, row_group) in metadata.row_groups().iter().enumerate().filter(|(i, _)| counted(*i)) {
        rows += u64::try_from(row_group.num_rows()).unwrap_or(0);
        for column in row_group.columns() {
            let root = column.column_path().parts().first();
            if root.is_some_and(|root| schema.index_of(root).is_ok()) {
                let encoded = u64::try_from(column.uncompressed_size()).unwrap_or(0);
                let text = column
                    .unencoded_byte_array_data_bytes()
                    .and_then(|n| u64::try_from(n).ok())
                    .unwrap_or(0);
                let slots = u64::try_from(column.num_values()).unwrap_or(0) * 4;
                // Repeated texts are small in the file and not in memory.
                total += encoded.max(text + slots);
            }
        }
    }
    (total / rows.max(1)).max(1)
}

/// Bytes that the rows of a batch take, buffers shared with other rows aside: of a dictionary's
/// values about those that so many rows can name.
#[must_use]
pub fn slice_bytes(batch: &RecordBatch) -> usize {
    let bytes = |column: &dyn Array| {
        column.to_data().get_slice_memory_size().unwrap_or_else(|_| column.get_array_memory_size())
    };
    let of = |column: &ArrayRef| match column.as_any_dictionary_opt() {
        None => bytes(column),
        Some(dictionary) => {
            let values = dictionary.values();
            let named = dictionary.len().min(values.len());
            bytes(dictionary.keys()) + bytes(values) / values.len().max(1) * named
        }
    };
    batch.columns().iter().map(of).sum()
}
