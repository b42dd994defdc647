//! Batches into the schema that a reader asked for.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch, RecordBatchOptions, new_null_array};
use arrow::compute::{CastOptions, can_cast_types, cast_with_options, take};
use arrow::datatypes::{DataType, SchemaRef};
use arrow::error::ArrowError;

/// The columns of `schema` out of a batch: by name, in its order; missing ones
/// are null, others of another type are cast.
///
/// # Errors
/// A value that the type cannot hold, or a null where none may be.
pub fn conform(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch, ArrowError> {
    if batch.schema_ref() == schema {
        return Ok(batch.clone());
    }
    let options = CastOptions { safe: false, ..CastOptions::default() };
    let column = |name: &str, data_type: &DataType| -> Result<ArrayRef, ArrowError> {
        match batch.column_by_name(name) {
            None => Ok(new_null_array(data_type, batch.num_rows())),
            Some(array) if array.data_type() == data_type => Ok(Arc::clone(array)),
            Some(array) => cast_with_options(array, data_type, &options)
                .map_err(|error| ArrowError::CastError(format!("column {name:?}: {error}"))),
        }
    };
    let columns: Result<Vec<ArrayRef>, ArrowError> =
        schema.fields().iter().map(|field| column(field.name(), field.data_type())).collect();
    let rows = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    RecordBatch::try_new_with_options(Arc::clone(schema), columns?, &rows)
}

/// Whether every value of `from` may become one of `to` without losing what it
/// says (a value that does not fit is an error, not a change).
#[must_use]
pub fn can_adapt(from: &DataType, to: &DataType) -> bool {
    let text =
        |t: &DataType| matches!(t, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View);
    let bytes =
        |t: &DataType| matches!(t, DataType::Binary | DataType::LargeBinary | DataType::BinaryView);
    let same_kind = match (from, to) {
        (from, to) if from == to => return true,
        (DataType::Null, _) => true,
        (DataType::Dictionary(_, values), to) => return can_adapt(values, to),
        (DataType::FixedSizeBinary(_), to) if bytes(to) => true,
        (DataType::Float16 | DataType::Float32, DataType::Float64)
        | (DataType::Float16, DataType::Float32) => true,
        (DataType::Timestamp(coarse, a), DataType::Timestamp(fine, b)) => a == b && coarse <= fine,
        (DataType::List(from), DataType::List(to) | DataType::LargeList(to))
        | (DataType::LargeList(from), DataType::LargeList(to)) => {
            return can_adapt(from.data_type(), to.data_type());
        }
        (from, to) => {
            (text(from) && text(to))
                || (bytes(from) && bytes(to))
                || (from.is_integer() && to.is_integer())
        }
    };
    same_kind && can_cast_types(from, to)
}

/// The numbered rows of a batch. Arrow's own `take_record_batch` refuses a batch without columns,
/// which is what a count reads.
pub(crate) fn take_rows(
    batch: &RecordBatch,
    numbers: &dyn Array,
) -> Result<RecordBatch, ArrowError> {
    let columns: Result<Vec<ArrayRef>, ArrowError> =
        batch.columns().iter().map(|column| take(column.as_ref(), numbers, None)).collect();
    let rows = RecordBatchOptions::new().with_row_count(Some(numbers.len()));
    RecordBatch::try_new_with_options(batch.schema(), columns?, &rows)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use arrow::array::{Array, Int64Array, StringArray};
    use arrow::datatypes::{Field, Schema, TimeUnit};

    #[test]
    fn columns_are_reordered_cast_and_filled() {
        let batch = RecordBatch::try_from_iter([
            ("a", Arc::new(Int64Array::from(vec![1, 2])) as ArrayRef),
            ("b", Arc::new(StringArray::from(vec!["x", "y"]))),
        ])
        .unwrap();
        let schema: SchemaRef = Arc::new(Schema::new(vec![
            Field::new("b", DataType::LargeUtf8, true),
            Field::new("c", DataType::Boolean, true),
            Field::new("a", DataType::Int32, true),
        ]));
        let out = conform(&batch, &schema).unwrap();
        assert_eq!(out.schema(), schema);
        assert_eq!(out.column(1).null_count(), 2);
    }

    #[test]
    fn what_does_not_fit_is_an_error_that_names_the_column() {
        let batch = RecordBatch::try_from_iter([(
            "a",
            Arc::new(Int64Array::from(vec![1 << 40])) as ArrayRef,
        )])
        .unwrap();
        let schema: SchemaRef = Arc::new(Schema::new(vec![Field::new("a", DataType::Int32, true)]));
        assert!(conform(&batch, &schema).unwrap_err().to_string().contains("\"a\""));
    }

    #[test]
    fn only_kinds_that_say_the_same_adapt() {
        assert!(can_adapt(&DataType::Int64, &DataType::Int32));
        assert!(can_adapt(&DataType::Utf8View, &DataType::Utf8));
        assert!(!can_adapt(&DataType::Utf8, &DataType::Int32));
        assert!(!can_adapt(&DataType::Float64, &DataType::Float32));
        let at = |unit| DataType::Timestamp(unit, None);
        assert!(can_adapt(&at(TimeUnit::Millisecond), &at(TimeUnit::Microsecond)));
        assert!(!can_adapt(&at(TimeUnit::Nanosecond), &at(TimeUnit::Microsecond)));
    }
}
