//! How many rows of a batch are shaped at once: a few bytes on the wire may
//! stand for very many in memory.

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::DataType;

/// Rows of a piece at most.
const PIECE_ROWS_MAX: usize = 1 << 17;
/// Bytes that the repeated values of a piece may take once they are written out.
const PIECE_BYTES_MAX: usize = 32 << 20;

/// The rows of a batch in pieces, each of which stays small when nulls, made
/// ids and the values of dictionaries are written out.
pub fn pieces(batch: &RecordBatch) -> impl Iterator<Item = RecordBatch> {
    let per_row =
        batch.columns().iter().map(|column| repeated(column)).fold(0, usize::saturating_add);
    let step = (PIECE_BYTES_MAX / per_row.max(1)).clamp(1, PIECE_ROWS_MAX);
    let (batch, rows) = (batch.clone(), batch.num_rows());
    (0..rows).step_by(step).map(move |begin| batch.slice(begin, step.min(rows - begin)))
}

/// Bytes of one row, at most, that other rows may share in memory.
fn repeated(array: &dyn Array) -> usize {
    match array.data_type() {
        DataType::Dictionary(..) => longest(array.as_any_dictionary().values()),
        DataType::Utf8View | DataType::BinaryView => longest(array),
        DataType::Struct(_) => {
            let columns = array.as_struct().columns().iter();
            columns.map(|column| repeated(column)).fold(0, usize::saturating_add)
        }
        DataType::List(_) => {
            let lists = array.as_list::<i32>();
            in_lists(lists.values(), most(lists.offsets().lengths()))
        }
        DataType::LargeList(_) => {
            let lists = array.as_list::<i64>();
            in_lists(lists.values(), most(lists.offsets().lengths()))
        }
        DataType::FixedSizeList(_, length) => {
            let length = usize::try_from(*length).unwrap_or(0);
            in_lists(array.as_fixed_size_list().values(), length)
        }
        DataType::Map(..) => {
            let maps = array.as_map();
            in_lists(maps.entries(), most(maps.offsets().lengths()))
        }
        _ => 0,
    }
}

/// Of the longest list.
fn in_lists(values: &dyn Array, length: usize) -> usize {
    repeated(values).saturating_mul(length)
}

fn most(lengths: impl Iterator<Item = usize>) -> usize {
    lengths.max().unwrap_or(0)
}

/// Bytes of the longest value.
fn longest(values: &dyn Array) -> usize {
    match values.data_type() {
        DataType::Utf8 => most(values.as_string::<i32>().offsets().lengths()),
        DataType::LargeUtf8 => most(values.as_string::<i64>().offsets().lengths()),
        DataType::Binary => most(values.as_binary::<i32>().offsets().lengths()),
        DataType::LargeBinary => most(values.as_binary::<i64>().offsets().lengths()),
        DataType::Utf8View => most(values.as_string_view().lengths().map(|n| n as usize)),
        DataType::BinaryView => most(values.as_binary_view().lengths().map(|n| n as usize)),
        kind => kind.primitive_width().unwrap_or_else(|| values.get_array_memory_size()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use std::sync::Arc;

    use arrow::array::{ArrayRef, DictionaryArray, Int32Array, NullArray, StringArray};

    use super::*;

    fn batch(array: impl Array + 'static) -> RecordBatch {
        RecordBatch::try_from_iter([("a", Arc::new(array) as ArrayRef)]).unwrap()
    }

    #[test]
    fn ordinary_rows_are_one_piece() {
        let texts = StringArray::from(vec!["some words"; 10_000]);
        assert_eq!(pieces(&batch(texts)).count(), 1);
        let few: DictionaryArray<arrow::datatypes::Int32Type> =
            vec!["games", "web"].into_iter().cycle().take(100_000).collect();
        assert_eq!(pieces(&batch(few)).count(), 1);
    }

    #[test]
    fn rows_that_weigh_nothing_on_the_wire_come_in_pieces() {
        let rows: usize = pieces(&batch(NullArray::new(1 << 20)))
            .inspect(|piece| assert!(piece.num_rows() <= PIECE_ROWS_MAX))
            .map(|piece| piece.num_rows())
            .sum();
        assert_eq!(rows, 1 << 20);
    }

    #[test]
    fn a_long_value_that_all_rows_share_is_written_out_a_few_times_only() {
        let long: ArrayRef = Arc::new(StringArray::from(vec!["x".repeat(1 << 20)]));
        let keys = Int32Array::from(vec![0; 1_000]);
        let shared = DictionaryArray::try_new(keys, Arc::clone(&long)).unwrap();
        assert!(pieces(&batch(shared)).all(|piece| piece.num_rows() <= 32));
        let views = arrow::compute::cast(&long, &DataType::Utf8View).unwrap();
        let views = arrow::compute::take(&views, &Int32Array::from(vec![0; 1_000]), None).unwrap();
        let views = RecordBatch::try_from_iter([("a", views)]).unwrap();
        assert!(pieces(&views).all(|piece| piece.num_rows() <= 32));
    }
}
