//! Which Arrow types can be stored, and which have an order that keys need.

use arrow::datatypes::DataType;

/// Whether a key column may have the type: its values have one total order,
/// the same in Arrow, Parquet and SQL. Floats have not (NaN, two zeros).
#[must_use]
pub fn is_orderable(kind: &DataType) -> bool {
    kind.is_integer()
        || matches!(
            kind,
            DataType::Utf8
                | DataType::LargeUtf8
                | DataType::Utf8View
                | DataType::Binary
                | DataType::LargeBinary
                | DataType::BinaryView
                | DataType::FixedSizeBinary(_)
                | DataType::Date32
                | DataType::Date64
                | DataType::Time32(_)
                | DataType::Time64(_)
                | DataType::Timestamp(..)
                | DataType::Decimal32(..)
                | DataType::Decimal64(..)
                | DataType::Decimal128(..)
                | DataType::Decimal256(..)
        )
}

/// Whether Parquet takes the type itself; what is nested in it is asked apart.
#[must_use]
pub fn is_storable(kind: &DataType) -> bool {
    match kind {
        DataType::Union(..)
        | DataType::RunEndEncoded(..)
        | DataType::ListView(_)
        | DataType::LargeListView(_)
        | DataType::Interval(_) => false,
        DataType::Struct(fields) => !fields.is_empty(),
        DataType::FixedSizeBinary(width) => *width > 0,
        DataType::FixedSizeList(_, length) => *length > 0,
        // Arrow knows decimals of hundreds, Parquet does not.
        DataType::Decimal32(precision, scale)
        | DataType::Decimal64(precision, scale)
        | DataType::Decimal128(precision, scale)
        | DataType::Decimal256(precision, scale) => {
            u8::try_from(*scale).is_ok_and(|scale| scale <= *precision)
        }
        _ => true,
    }
}
