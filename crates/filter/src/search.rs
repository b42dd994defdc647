//! Substrings of text columns, searched through a column's bytes as one: a
//! search for each row costs more to begin than to run.

use arrow::array::{Array, AsArray, BooleanArray, BooleanBufferBuilder, GenericStringArray};
use arrow::array::{ArrayRef, OffsetSizeTrait, Scalar};
use arrow::compute::kernels::comparison::contains as contains_each;
use arrow::datatypes::DataType;
use arrow::error::ArrowError;
use memchr::memmem::Finder;

/// Which values hold a text (an array of one). Null where a value is.
pub(crate) fn contains(array: &ArrayRef, text: &ArrayRef) -> Result<BooleanArray, ArrowError> {
    match array.data_type() {
        DataType::Utf8 if text.data_type() == &DataType::Utf8 => {
            Ok(through(array.as_string::<i32>(), text.as_string::<i32>().value(0)))
        }
        DataType::LargeUtf8 if text.data_type() == &DataType::LargeUtf8 => {
            Ok(through(array.as_string::<i64>(), text.as_string::<i64>().value(0)))
        }
        _ => contains_each(array, &Scalar::new(ArrayRef::clone(text))),
    }
}

fn through<O: OffsetSizeTrait>(array: &GenericStringArray<O>, text: &str) -> BooleanArray {
    let rows = array.len();
    let mut found = BooleanBufferBuilder::new(rows);
    if text.is_empty() {
        found.append_n(rows, true);
        return BooleanArray::new(found.finish(), array.nulls().cloned());
    }
    found.append_n(rows, false);
    let finder = Finder::new(text.as_bytes());
    let offsets = array.value_offsets();
    let bytes = array.value_data();
    let end = offsets[rows].as_usize();
    let (mut row, mut at) = (0, offsets[0].as_usize());
    while let Some(hit) = finder.find(&bytes[at..end]) {
        let begin = at + hit;
        row = row_at(offsets, row, begin);
        let row_end = offsets[row + 1].as_usize();
        if begin + text.len() <= row_end {
            found.set_bit(row, true);
            at = row_end;
        } else {
            // Over the border of two values: no value holds it. The bytes of a
            // character are never searched from its middle.
            at = begin + 1;
        }
    }
    BooleanArray::new(found.finish(), array.nulls().cloned())
}

/// The row whose value holds a byte, from `row` on: near ones first.
fn row_at<O: OffsetSizeTrait>(offsets: &[O], row: usize, byte: usize) -> usize {
    let mut step = 1;
    let mut low = row;
    while offsets.get(low + step).is_some_and(|offset| offset.as_usize() <= byte) {
        low += step;
        step *= 2;
    }
    let high = (low + step).min(offsets.len());
    low + offsets[low..high].partition_point(|offset| offset.as_usize() <= byte).saturating_sub(1)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use arrow::array::{LargeStringArray, StringArray};
    use proptest::prelude::*;
    use std::sync::Arc;

    proptest! {
        #[test]
        fn the_whole_is_searched_as_each_value_is(
            values in prop::collection::vec(prop::option::of("[abß]{0,5}"), 0..40),
            text in "[abß]{0,3}",
            skip in 0usize..5,
        ) {
            let naive: Vec<Option<bool>> =
                values.iter().map(|v| v.as_ref().map(|v| v.contains(&text))).collect();
            let skip = skip.min(values.len());
            let array: ArrayRef = Arc::new(StringArray::from(values.clone()));
            let array = array.slice(skip, values.len() - skip);
            let wanted: ArrayRef = Arc::new(StringArray::from(vec![text.as_str()]));
            let found: Vec<Option<bool>> = contains(&array, &wanted).unwrap().iter().collect();
            prop_assert_eq!(&found, &naive[skip..]);
            let array: ArrayRef = Arc::new(LargeStringArray::from(values));
            let wanted: ArrayRef = Arc::new(LargeStringArray::from(vec![text.as_str()]));
            let found: Vec<Option<bool>> = contains(&array, &wanted).unwrap().iter().collect();
            prop_assert_eq!(found, naive);
        }
    }

    #[test]
    fn a_text_over_two_values_is_in_neither() {
        let array: ArrayRef = Arc::new(StringArray::from(vec!["xa", "bx", "", "ab"]));
        let wanted: ArrayRef = Arc::new(StringArray::from(vec!["ab"]));
        let found = contains(&array, &wanted).unwrap();
        assert_eq!(found.values().set_indices().collect::<Vec<_>>(), [3]);
    }
}
