//! Dictionaries that are larger than a message may be: rows go out with the values that they
//! name, as a dictionary of their own.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, RecordBatchOptions};
use arrow::error::ArrowError;
use arrow_select::dictionary::garbage_collect_any_dictionary;

/// Values of one dictionary; each goes out as a message.
const VALUES_BYTES_MAX: usize = 2 << 20;

fn values_bytes(column: &ArrayRef) -> usize {
    let values = column.as_any_dictionary_opt().map(|dictionary| dictionary.values().to_data());
    values.map_or(0, |values| values.get_slice_memory_size().unwrap_or(usize::MAX))
}

fn largest(batch: &RecordBatch) -> usize {
    batch.columns().iter().map(values_bytes).max().unwrap_or(0)
}

/// The rows of a batch in batches whose dictionaries fit a message each.
pub fn fitting(batch: &RecordBatch) -> Result<Vec<RecordBatch>, ArrowError> {
    let mut fitting = Vec::with_capacity(1);
    if largest(batch) <= VALUES_BYTES_MAX {
        fitting.push(batch.clone());
    } else {
        cut(batch, &mut fitting)?;
    }
    Ok(fitting)
}

fn cut(batch: &RecordBatch, fitting: &mut Vec<RecordBatch>) -> Result<(), ArrowError> {
    let (compact, rows) = (compacted(batch)?, batch.num_rows());
    let largest = largest(&compact);
    if largest <= VALUES_BYTES_MAX || rows <= 1 {
        fitting.push(compact);
        return Ok(());
    }
    // A little below the bound: values are not all of one length.
    let step = rows.saturating_mul(VALUES_BYTES_MAX / 8 * 7) / largest;
    let step = step.clamp(1, rows / 2);
    for begin in (0..rows).step_by(step) {
        cut(&compact.slice(begin, step.min(rows - begin)), fitting)?;
    }
    Ok(())
}

/// The rows with the values that they name and no others, where a dictionary is large.
fn compacted(batch: &RecordBatch) -> Result<RecordBatch, ArrowError> {
    let column = |column: &ArrayRef| match column.as_any_dictionary_opt() {
        Some(dictionary) if values_bytes(column) > VALUES_BYTES_MAX / 2 => {
            garbage_collect_any_dictionary(dictionary)
        }
        _ => Ok(Arc::clone(column)),
    };
    let columns: Result<Vec<ArrayRef>, ArrowError> = batch.columns().iter().map(column).collect();
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    RecordBatch::try_new_with_options(batch.schema(), columns?, &options)
}
