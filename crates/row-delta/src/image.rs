//! Row images: batches as Arrow streams that say their own schema, so that one
//! written before a column was added can still be read.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions, new_null_array};
use arrow::buffer::Buffer;
use arrow::compute::{cast, interleave_record_batch};
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use arrow::ipc::reader::StreamDecoder;
use arrow::ipc::writer::StreamWriter;
use service_error::ServiceError;

/// One change of one row.
#[derive(Debug, Clone)]
pub struct DeltaRow {
    /// Its place in the order of all changes of the branch.
    pub seq: i64,
    /// [`crate::key_bytes`] of the row's key.
    pub key: Arc<[u8]>,
    /// The row is there after the change; otherwise it is deleted, and the
    /// image holds its key alone.
    pub live: bool,
    /// The batch that holds the image.
    pub batch: Arc<RecordBatch>,
    /// The image's row in it.
    pub row: usize,
}

/// Encodes a batch.
///
/// # Errors
/// Columns that Arrow cannot write.
pub fn encode_image(batch: &RecordBatch) -> Result<Vec<u8>, ServiceError> {
    let failed = |error: ArrowError| ServiceError::internal(format!("a row image: {error}"));
    let mut writer = StreamWriter::try_new(Vec::new(), batch.schema_ref()).map_err(failed)?;
    writer.write(batch).map_err(failed)?;
    writer.into_inner().map_err(failed)
}

/// Decodes what [`encode_image`] wrote.
///
/// # Errors
/// `DataLoss` for bytes that are something else.
pub fn decode_image(bytes: &[u8]) -> Result<RecordBatch, ServiceError> {
    let damaged = |what: String| ServiceError::data_loss(format!("a row image is damaged: {what}"));
    // Not `StreamReader`, which takes as much memory as a message says that it is long.
    let read = || -> Result<Option<RecordBatch>, ArrowError> {
        let (mut decoder, mut left) = (StreamDecoder::new(), Buffer::from(bytes));
        while !left.is_empty() {
            if let Some(batch) = decoder.decode(&mut left)? {
                return Ok(Some(batch));
            }
        }
        Ok(None)
    };
    // Arrow's readers panic on some bytes that no writer makes.
    match catch_unwind(AssertUnwindSafe(read)) {
        Ok(Ok(Some(batch))) => Ok(batch),
        Ok(Ok(None)) => Err(damaged("it is empty".to_owned())),
        Ok(Err(error)) => Err(damaged(error.to_string())),
        Err(_) => Err(damaged("it lies about its buffers".to_owned())),
    }
}

/// The images of live rows as one batch of a schema, in their order.
///
/// # Errors
/// An image that does not fit the schema.
pub fn tail(rows: &[DeltaRow], schema: &SchemaRef) -> Result<RecordBatch, ServiceError> {
    let failed = |error: ArrowError| {
        ServiceError::data_loss(format!("a row image does not fit the dataset: {error}"))
    };
    // Rows of one write stand together: their batch is taken once.
    let mut batches: Vec<RecordBatch> = Vec::new();
    let mut places = Vec::with_capacity(rows.len());
    let mut last: Option<*const RecordBatch> = None;
    for row in rows.iter().filter(|row| row.live) {
        let this = Arc::as_ptr(&row.batch);
        if last != Some(this) {
            batches.push(fitted(&row.batch, schema).map_err(failed)?);
            last = Some(this);
        }
        places.push((batches.len() - 1, row.row));
    }
    if batches.is_empty() {
        return Ok(RecordBatch::new_empty(Arc::clone(schema)));
    }
    let batches: Vec<&RecordBatch> = batches.iter().collect();
    interleave_record_batch(&batches, &places).map_err(failed)
}

/// A batch in a schema: missing columns are null, others are cast.
fn fitted(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch, ArrowError> {
    if batch.schema_ref() == schema {
        return Ok(batch.clone());
    }
    let columns = schema.fields().iter().map(|field| -> Result<ArrayRef, ArrowError> {
        match batch.column_by_name(field.name()) {
            None => Ok(new_null_array(field.data_type(), batch.num_rows())),
            Some(array) if array.data_type() == field.data_type() => Ok(Arc::clone(array)),
            Some(array) => cast(array, field.data_type()),
        }
    });
    let columns = columns.collect::<Result<Vec<_>, _>>()?;
    let rows = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    RecordBatch::try_new_with_options(Arc::clone(schema), columns, &rows)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use arrow::array::{AsArray, Int64Array, StringArray};
    use arrow::datatypes::{DataType, Field, Int64Type, Schema};

    fn row(batch: &Arc<RecordBatch>, row: usize, seq: i64, live: bool) -> DeltaRow {
        DeltaRow { seq, key: Arc::from(&b"k"[..]), live, batch: Arc::clone(batch), row }
    }

    #[test]
    fn images_come_back_and_take_a_later_schema() {
        let first = RecordBatch::try_from_iter([
            ("id", Arc::new(Int64Array::from(vec![1, 2])) as ArrayRef),
            ("t", Arc::new(StringArray::from(vec!["a", "b"]))),
        ])
        .unwrap();
        let back = Arc::new(decode_image(&encode_image(&first).unwrap()).unwrap());
        assert_eq!(*back, first);
        let schema: SchemaRef = Arc::new(Schema::new(vec![
            Field::new("id", DataType::Int64, true),
            Field::new("new", DataType::Boolean, true),
            Field::new("t", DataType::LargeUtf8, true),
        ]));
        let rows = [row(&back, 1, 1, true), row(&back, 0, 2, false), row(&back, 0, 3, true)];
        let tail = tail(&rows, &schema).unwrap();
        assert_eq!(tail.column(0).as_primitive::<Int64Type>().values(), &[2, 1]);
        assert_eq!(tail.column(1).null_count(), 2);
        assert!(decode_image(&encode_image(&first).unwrap()[..40]).is_err());
    }
}
