//! Keys as bytes: equal for equal keys of one type, in every version.

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::{DataType, Int64Type, UInt64Type};
use service_error::ServiceError;

/// The bytes of one key of a key column.
///
/// # Errors
/// `InvalidArgument` for a null; a type that cannot be shown.
pub fn key_bytes(column: &dyn Array, row: usize) -> Result<Vec<u8>, ServiceError> {
    if column.is_null(row) {
        return Err(
            ServiceError::invalid("key", "is null; every row needs a key").reason("KEY_NULL")
        );
    }
    let wide = |to: &DataType| {
        arrow::compute::cast(&column.slice(row, 1), to)
            .map_err(|error| ServiceError::internal(format!("a key cannot be read: {error}")))
    };
    Ok(match column.data_type() {
        DataType::Utf8 => column.as_string::<i32>().value(row).as_bytes().to_vec(),
        DataType::LargeUtf8 => column.as_string::<i64>().value(row).as_bytes().to_vec(),
        DataType::Utf8View => column.as_string_view().value(row).as_bytes().to_vec(),
        DataType::Binary => column.as_binary::<i32>().value(row).to_vec(),
        DataType::LargeBinary => column.as_binary::<i64>().value(row).to_vec(),
        DataType::BinaryView => column.as_binary_view().value(row).to_vec(),
        DataType::FixedSizeBinary(_) => column.as_fixed_size_binary().value(row).to_vec(),
        DataType::Dictionary(_, values) => return key_bytes(&wide(values)?, 0),
        data_type if data_type.is_signed_integer() => {
            wide(&DataType::Int64)?.as_primitive::<Int64Type>().value(0).to_be_bytes().to_vec()
        }
        data_type if data_type.is_unsigned_integer() => {
            wide(&DataType::UInt64)?.as_primitive::<UInt64Type>().value(0).to_be_bytes().to_vec()
        }
        other => {
            let text = arrow::util::display::array_value_to_string(column, row);
            text.map_err(|error| ServiceError::internal(format!("a key of {other}: {error}")))?
                .into_bytes()
        }
    })
}

/// The bytes of every key of a column.
///
/// # Errors
/// As [`key_bytes`].
pub fn keys_of(column: &ArrayRef) -> Result<Vec<Vec<u8>>, ServiceError> {
    (0..column.len()).map(|row| key_bytes(column, row)).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use std::sync::Arc;

    use super::*;
    use arrow::array::{Int32Array, Int64Array, LargeStringArray, StringArray};

    #[test]
    fn equal_keys_are_equal_bytes_whatever_their_width() {
        assert_eq!(
            key_bytes(&Int32Array::from(vec![-7]), 0).unwrap(),
            key_bytes(&Int64Array::from(vec![-7]), 0).unwrap()
        );
        assert_eq!(
            key_bytes(&StringArray::from(vec!["é"]), 0).unwrap(),
            key_bytes(&LargeStringArray::from(vec!["é"]), 0).unwrap()
        );
        let words: ArrayRef = Arc::new(StringArray::from(vec![Some("a"), None]));
        assert!(keys_of(&words).unwrap_err().reason_is("KEY_NULL"));
    }
}
