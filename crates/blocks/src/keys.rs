//! Keys as bytes whose order is the keys' order.

use arrow::array::{Array, ArrayRef};
use arrow::datatypes::DataType;
use arrow::error::ArrowError;
use arrow::row::{RowConverter, Rows, SortField};

/// Turns a key column into comparable rows.
#[derive(Debug)]
pub(crate) struct KeyCodec {
    converter: RowConverter,
}

impl KeyCodec {
    pub fn new(data_type: &DataType) -> Result<Self, ArrowError> {
        let converter = RowConverter::new(vec![SortField::new(data_type.clone())])?;
        Ok(Self { converter })
    }

    pub fn rows(&self, column: &ArrayRef) -> Result<Rows, ArrowError> {
        self.converter.convert_columns(std::slice::from_ref(column))
    }

    /// The bytes of the first value.
    pub fn bytes(&self, column: &ArrayRef) -> Result<Box<[u8]>, ArrowError> {
        Ok(self.rows(column)?.row(0).data().into())
    }
}

/// The first sixteen bytes as a number: compares as the bytes do, ties aside.
pub(crate) fn prefix(bytes: &[u8]) -> u128 {
    let mut first = [0u8; 16];
    let length = bytes.len().min(16);
    first[..length].copy_from_slice(&bytes[..length]);
    u128::from_be_bytes(first)
}

/// A key as text, for messages.
pub(crate) fn shown(column: &dyn Array, row: usize) -> String {
    if let (DataType::FixedSizeBinary(16), Some(ids)) =
        (column.data_type(), column.as_any().downcast_ref::<arrow::array::FixedSizeBinaryArray>())
    {
        let hex: String = ids.value(row).iter().map(|b| format!("{b:02x}")).collect();
        return format!(
            "{}-{}-{}-{}-{}",
            &hex[..8],
            &hex[8..12],
            &hex[12..16],
            &hex[16..20],
            &hex[20..]
        );
    }
    let text = arrow::util::display::array_value_to_string(column, row).unwrap_or_default();
    text.chars().take(100).collect()
}

/// The least and the greatest value of a column, each as an array of one;
/// nulls aside, `None` if there is nothing else.
///
/// # Errors
/// A type without an order.
pub fn min_and_max(column: &ArrayRef) -> Result<Option<(ArrayRef, ArrayRef)>, ArrowError> {
    let rows = KeyCodec::new(column.data_type())?.rows(column)?;
    let valid = || (0..column.len()).filter(|i| column.is_valid(*i));
    let least = valid().min_by(|a, b| rows.row(*a).cmp(&rows.row(*b)));
    let greatest = valid().max_by(|a, b| rows.row(*a).cmp(&rows.row(*b)));
    Ok(least
        .zip(greatest)
        .map(|(least, greatest)| (column.slice(least, 1), column.slice(greatest, 1))))
}
