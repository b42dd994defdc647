//! Values as bytes that tell them apart, and back.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, BooleanArray, FixedSizeBinaryArray, StringArray,
    make_array,
};
use arrow::buffer::Buffer;
use arrow::compute::cast;
use arrow::datatypes::DataType;
use arrow::error::ArrowError;

/// The type that values of a column have once dictionaries and views are
/// resolved; `None` for nested types, which have no values to tell apart.
pub(crate) fn plain_type(data_type: &DataType) -> Option<DataType> {
    match data_type {
        DataType::Dictionary(_, values) => plain_type(values),
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => Some(DataType::Utf8),
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView => Some(DataType::Binary),
        DataType::FixedSizeBinary(_) | DataType::Boolean => Some(data_type.clone()),
        other if other.primitive_width().is_some() => Some(other.clone()),
        _ => None,
    }
}

/// A column in its plain type.
pub(crate) fn plain(array: &ArrayRef) -> Result<Option<ArrayRef>, ArrowError> {
    match plain_type(array.data_type()) {
        None => Ok(None),
        Some(plain) if &plain == array.data_type() => Ok(Some(Arc::clone(array))),
        // Large offsets are looked at as they are.
        Some(_) if matches!(array.data_type(), DataType::LargeUtf8 | DataType::LargeBinary) => {
            Ok(Some(Arc::clone(array)))
        }
        Some(plain) => cast(array, &plain).map(Some),
    }
}

/// Shows each value that is not null of a plain column, with its row.
pub(crate) fn each<F: FnMut(usize, &[u8])>(array: &ArrayRef, mut f: F) {
    let rows = (0..array.len()).filter(|row| array.is_valid(*row));
    match array.data_type() {
        DataType::Utf8 => {
            let texts = array.as_string::<i32>();
            rows.for_each(|row| f(row, texts.value(row).as_bytes()));
        }
        DataType::LargeUtf8 => {
            let texts = array.as_string::<i64>();
            rows.for_each(|row| f(row, texts.value(row).as_bytes()));
        }
        DataType::Binary => {
            let bytes = array.as_binary::<i32>();
            rows.for_each(|row| f(row, bytes.value(row)));
        }
        DataType::LargeBinary => {
            let bytes = array.as_binary::<i64>();
            rows.for_each(|row| f(row, bytes.value(row)));
        }
        DataType::FixedSizeBinary(_) => {
            let bytes = array.as_fixed_size_binary();
            rows.for_each(|row| f(row, bytes.value(row)));
        }
        DataType::Boolean => {
            let flags = array.as_boolean();
            rows.for_each(|row| f(row, &[u8::from(flags.value(row))]));
        }
        other => {
            let Some(width) = other.primitive_width() else { return };
            let data = array.to_data();
            let Some(buffer) = data.buffers().first() else { return };
            let bytes = &buffer.as_slice()[data.offset() * width..];
            rows.for_each(|row| f(row, &bytes[row * width..(row + 1) * width]));
        }
    }
}

/// A value as an array of one in its plain type.
pub(crate) fn back(bytes: &[u8], plain: &DataType) -> Result<ArrayRef, ArrowError> {
    Ok(match plain {
        DataType::Utf8 => {
            Arc::new(StringArray::from(vec![String::from_utf8_lossy(bytes).as_ref()]))
        }
        DataType::Binary => Arc::new(BinaryArray::from(vec![bytes])),
        DataType::FixedSizeBinary(_) => {
            Arc::new(FixedSizeBinaryArray::try_from_iter(std::iter::once(bytes))?)
        }
        DataType::Boolean => Arc::new(BooleanArray::from(vec![bytes == [1]])),
        other => {
            let data = arrow::array::ArrayData::builder(other.clone())
                .len(1)
                .add_buffer(Buffer::from(bytes.to_vec()))
                .align_buffers(true)
                .build()?;
            make_array(data)
        }
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use arrow::array::{Decimal128Array, DictionaryArray, Int32Array, StringViewArray};
    use arrow::datatypes::Int8Type;

    #[test]
    fn values_come_back_as_they_were() {
        let words: DictionaryArray<Int8Type> =
            vec![Some("a"), None, Some("b")].into_iter().collect();
        let decimals = Decimal128Array::from(vec![1, -250]).with_precision_and_scale(9, 2).unwrap();
        let arrays: [ArrayRef; 6] = [
            Arc::new(Int32Array::from(vec![Some(7), None, Some(-1)])),
            Arc::new(words),
            Arc::new(decimals),
            Arc::new(StringViewArray::from(vec!["a long text that is no prefix", "b"])),
            Arc::new(BooleanArray::from(vec![Some(true), None, Some(false)])),
            Arc::new(Int32Array::from(vec![5, 6, 7, 8]).slice(2, 2)),
        ];
        for array in arrays {
            let plain_array = plain(&array).unwrap().unwrap();
            let kind = plain_type(array.data_type()).unwrap();
            let mut seen = 0;
            each(&plain_array, |row, bytes| {
                let value = back(bytes, &kind).unwrap();
                let expected = cast(&array.slice(row, 1), &kind).unwrap();
                assert_eq!(&value, &expected);
                seen += 1;
            });
            assert_eq!(seen, array.len() - array.null_count());
        }
    }
}
