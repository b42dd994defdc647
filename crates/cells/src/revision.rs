//! What tells whether a row has changed.

use arrow::array::RecordBatch;
use prost::Message;
use service_error::ServiceError;

use crate::cell;

/// A hash over all cells of a row, in the order of the columns. It depends on
/// what the cells say alone, not on where or how the row is stored. Columns that
/// are null at the end add nothing, so a column that is added later changes none.
///
/// # Errors
/// A cell that cannot be shown.
pub fn revision_of(batch: &RecordBatch, row: usize) -> Result<String, ServiceError> {
    let mut hasher = blake3::Hasher::new();
    for (field, array) in batch.schema_ref().fields().iter().zip(batch.columns()) {
        let value = cell(array, row)?;
        if value.kind.is_none() {
            continue;
        }
        for part in [field.name().as_bytes(), &value.encode_to_vec()] {
            hasher.update(&(part.len() as u64).to_le_bytes());
            hasher.update(part);
        }
    }
    Ok(hex::encode(&hasher.finalize().as_bytes()[..8]))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use std::sync::Arc;

    use super::*;
    use arrow::array::{ArrayRef, DictionaryArray, Int32Array, StringArray};
    use arrow::datatypes::Int32Type;

    #[test]
    fn a_revision_is_of_what_the_row_says() {
        let plain: ArrayRef = Arc::new(StringArray::from(vec!["a", "b", "a"]));
        let words: DictionaryArray<Int32Type> = vec!["a", "b", "a"].into_iter().collect();
        let numbers: ArrayRef = Arc::new(Int32Array::from(vec![Some(1), Some(1), None]));
        let one = RecordBatch::try_from_iter([("t", plain), ("n", numbers.clone())]).unwrap();
        let other =
            RecordBatch::try_from_iter([("t", Arc::new(words) as ArrayRef), ("n", numbers)])
                .unwrap();
        for row in 0..3 {
            assert_eq!(revision_of(&one, row).unwrap(), revision_of(&other, row).unwrap());
        }
        assert_ne!(revision_of(&one, 0).unwrap(), revision_of(&one, 1).unwrap());
        assert_ne!(revision_of(&one, 0).unwrap(), revision_of(&one, 2).unwrap());
        let narrow = one.project(&[0]).unwrap();
        assert_eq!(revision_of(&narrow, 2).unwrap(), revision_of(&one, 2).unwrap());
    }
}
