//! Indexes of a column in a row group, made in memory when it is asked about
//! again: rows by value where values are few, rows by hash where each is rare.

use std::collections::HashSet;
use std::hash::BuildHasher;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, RecordBatchOptions, UInt32Array};
use arrow::compute::take;
use arrow::datatypes::{DataType, Field, Schema};
use arrow::error::ArrowError;
use filter::Filter;
use hashbrown::{DefaultHashBuilder, HashMap};
use roaring::RoaringBitmap;

use crate::keys::KeyCodec;
use crate::rows::Rows;

/// With more values than this no index is made.
const VALUES_MAX: usize = 4_096;
/// Rows that a value has on average at least.
const ROWS_PER_VALUE_MIN: usize = 8;
/// Rows that are looked at to guess whether a column has few values.
const SAMPLE_ROWS: usize = 16_384;
const SAMPLE_VALUES_MAX: usize = 1_024;

/// The rows of each value.
#[derive(Debug)]
pub(crate) struct ValueIndex {
    /// One row a value, the last one null if the column has nulls.
    values: ArrayRef,
    rows: Vec<RoaringBitmap>,
    total: usize,
    bytes: usize,
}

/// Whether an index can be of use for the type.
pub(crate) fn indexable(data_type: &DataType) -> bool {
    match data_type {
        DataType::Dictionary(_, values) => indexable(values),
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View | DataType::Boolean => true,
        other => other.is_integer() || other.is_temporal(),
    }
}

/// Whether the first values of a column, and so most likely all, are few.
pub(crate) fn has_few_values(column: &ArrayRef) -> Result<bool, ArrowError> {
    let sample = column.slice(0, column.len().min(SAMPLE_ROWS));
    let rows = KeyCodec::new(column.data_type())?.rows(&sample)?;
    let values: HashSet<&[u8]> = (0..sample.len()).map(|row| rows.row(row).data()).collect();
    Ok(values.len() <= SAMPLE_VALUES_MAX.min(sample.len() / 2))
}

impl ValueIndex {
    /// `None` if there are too many values.
    pub fn of(column: &ArrayRef) -> Result<Option<Self>, ArrowError> {
        let codec = KeyCodec::new(column.data_type())?;
        let most = VALUES_MAX.min(column.len() / ROWS_PER_VALUE_MIN);
        // Value to its number, its first row, and its rows.
        let mut numbers: HashMap<Box<[u8]>, usize> = HashMap::default();
        let mut firsts: Vec<u32> = Vec::new();
        let mut found: Vec<RoaringBitmap> = Vec::new();
        // Part by part: a column of too many values shows it in the first.
        for begin in (0..column.len()).step_by(SAMPLE_ROWS) {
            let part = column.slice(begin, SAMPLE_ROWS.min(column.len() - begin));
            let rows = codec.rows(&part)?;
            for row in 0..part.len() {
                let place = u32::try_from(begin + row).unwrap_or(u32::MAX);
                let value = rows.row(row).data();
                let number = match numbers.get(value) {
                    Some(number) => *number,
                    None if found.len() == most => return Ok(None),
                    None => {
                        numbers.insert(value.into(), found.len());
                        firsts.push(place);
                        found.push(RoaringBitmap::new());
                        found.len() - 1
                    }
                };
                // Rows come ascending.
                let _ = found[number].try_push(place);
            }
        }
        let values = take(column, &UInt32Array::from(firsts), None)?;
        // A dictionary's own values may be many more than those in use.
        let values = match values.data_type() {
            DataType::Dictionary(_, inner) => arrow::compute::cast(&values, inner)?,
            _ => values,
        };
        let bytes = found.iter().map(|rows| rows.serialized_size() + 64).sum::<usize>()
            + values.get_array_memory_size();
        Ok(Some(Self { values, rows: found, total: column.len(), bytes }))
    }

    /// The rows that pass a filter of this column alone. `None` if reading the
    /// column is as fast.
    pub fn passing(&self, filter: &Filter, field: &Field) -> Result<Option<Rows>, ArrowError> {
        let data_type = match field.data_type() {
            DataType::Dictionary(_, values) => values.as_ref(),
            other => other,
        };
        let values = if self.values.data_type() == data_type {
            Arc::clone(&self.values)
        } else {
            arrow::compute::cast(&self.values, data_type)?
        };
        let schema = Arc::new(Schema::new(vec![Field::new(field.name(), data_type.clone(), true)]));
        let options = RecordBatchOptions::new().with_row_count(Some(values.len()));
        let batch = RecordBatch::try_new_with_options(schema, vec![values], &options)?;
        let passing = filter.evaluate(&batch)?;
        let chosen: Vec<&RoaringBitmap> =
            passing.values().set_indices().filter_map(|number| self.rows.get(number)).collect();
        if chosen.len() == self.rows.len() {
            return Ok(Some(Rows::All(self.total)));
        }
        Ok(match chosen.as_slice() {
            [] => Some(Rows::Set(RoaringBitmap::new())),
            [only] => Some(Rows::Set((*only).clone())),
            // As many small sets as this are slower to join than to look.
            many if many.len() > 64 => None,
            many => {
                let mut all = RoaringBitmap::new();
                many.iter().for_each(|rows| all |= *rows);
                Some(Rows::Set(all))
            }
        })
    }

    pub fn memory_bytes(&self) -> usize {
        self.bytes
    }
}

/// Rows by the hash of their value, for columns whose values are rarely the
/// same: an open table of row numbers with a few bits of the hash beside.
#[derive(Debug)]
pub(crate) struct RowHashes {
    hasher: DefaultHashBuilder,
    /// 0: free; else the row number and one.
    slots: Vec<u32>,
    marks: Vec<u8>,
}

/// A longer way to a free slot means that values repeat: no use for a table.
const STEPS_MAX: usize = 512;

impl RowHashes {
    /// `None` if values repeat.
    pub fn of(column: &ArrayRef) -> Result<Option<Self>, ArrowError> {
        let size = (column.len() * 2).next_power_of_two().max(16);
        let mut table = Self {
            hasher: DefaultHashBuilder::default(),
            slots: vec![0; size],
            marks: vec![0; size],
        };
        for (row, hash) in table.hashes(column)?.into_iter().enumerate() {
            let (mut at, mark) = table.place(hash);
            let mut steps = 0;
            while table.slots[at] != 0 {
                at = (at + 1) & (size - 1);
                steps += 1;
            }
            if steps > STEPS_MAX {
                return Ok(None);
            }
            table.slots[at] = u32::try_from(row + 1).unwrap_or(u32::MAX);
            table.marks[at] = mark;
        }
        Ok(Some(table))
    }

    /// The hash of each value: a text as it is, others as keys.
    fn hashes(&self, column: &ArrayRef) -> Result<Vec<u64>, ArrowError> {
        let hash = |value: &[u8]| self.hasher.hash_one(value);
        if let Some(texts) = column.as_string_opt::<i32>() {
            // A null's text is empty; whoever finds it compares.
            return Ok((0..texts.len()).map(|row| hash(texts.value(row).as_bytes())).collect());
        }
        let rows = KeyCodec::new(column.data_type())?.rows(column)?;
        Ok((0..column.len()).map(|row| hash(rows.row(row).data())).collect())
    }

    fn place(&self, hash: u64) -> (usize, u8) {
        let at = usize::try_from(hash & 0xffff_ffff).unwrap_or(0) & (self.slots.len() - 1);
        (at, u8::try_from(hash >> 56).unwrap_or(0))
    }

    /// Rows that may have the value (an array of one), all that do among them.
    pub fn candidates(&self, value: &ArrayRef) -> Result<RoaringBitmap, ArrowError> {
        let hash = self.hashes(&value.slice(0, 1))?.first().copied().unwrap_or(0);
        let (mut at, mark) = self.place(hash);
        let mut found = RoaringBitmap::new();
        while self.slots[at] != 0 {
            if self.marks[at] == mark {
                found.insert(self.slots[at] - 1);
            }
            at = (at + 1) & (self.slots.len() - 1);
        }
        Ok(found)
    }

    pub fn memory_bytes(&self) -> usize {
        self.slots.len() * 5
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use arrow::array::{Int32Array, StringArray};

    #[test]
    fn an_index_passes_the_rows_that_the_filter_passes() {
        let column: ArrayRef =
            Arc::new((0..10_000).map(|n| (n % 7 != 0).then_some(n % 100)).collect::<Int32Array>());
        let field = Field::new("n", DataType::Int32, true);
        let schema = Arc::new(Schema::new(vec![field.clone()]));
        let batch = RecordBatch::try_new(Arc::clone(&schema), vec![Arc::clone(&column)]).unwrap();
        let index = ValueIndex::of(&column).unwrap().unwrap();
        for text in
            ["n = 5", "n = null", "n != 5", "n > 90", "n IN (3, 4)", "n = 1000", "n != null"]
        {
            let filter = Filter::parse(text, &schema).unwrap();
            let expected = Rows::Mask(filter.evaluate(&batch).unwrap().values().clone());
            if let Some(found) = index.passing(&filter, &field).unwrap() {
                assert_eq!(found.ranges(), expected.ranges(), "{text}");
            }
        }
        assert!(
            index.passing(&Filter::parse("n = 5", &schema).unwrap(), &field).unwrap().is_some()
        );
    }

    #[test]
    fn many_values_are_no_index_but_a_table() {
        let column: ArrayRef =
            Arc::new((0..20_000).map(|n| Some(format!("v{}", n / 2))).collect::<StringArray>());
        assert!(ValueIndex::of(&column).unwrap().is_none());
        let table = RowHashes::of(&column).unwrap().unwrap();
        for n in [0u32, 7, 19_999] {
            let rows = table.candidates(&column.slice(n as usize, 1)).unwrap();
            assert!(rows.contains(n) && rows.contains(n ^ 1) && rows.len() < 10, "{rows:?}");
        }
        let absent: ArrayRef = Arc::new(StringArray::from(vec!["nowhere"]));
        assert!(table.candidates(&absent).unwrap().len() < 5);
        let same: ArrayRef = Arc::new(StringArray::from(vec!["same"; 5_000]));
        assert!(RowHashes::of(&same).unwrap().is_none());
    }
}
