//! One column, summed up.

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::DataType;
use arrow::error::ArrowError;

use crate::counter::Counter;
use crate::hll::{Hll, hash};
use crate::numbers::{Numbers, floats};
use crate::values::{back, each, plain, plain_type};

/// What one pass over a column tells. Summaries of parts merge into that of
/// the whole.
#[derive(Debug, Clone)]
pub struct Summary {
    data_type: DataType,
    /// Rows.
    pub rows: u64,
    /// Rows that are null.
    pub nulls: u64,
    least: Option<ArrayRef>,
    greatest: Option<ArrayRef>,
    numbers: Option<Numbers>,
    counter: Counter,
    distinct: Hll,
    /// Elements were counted, not values.
    elements: bool,
}

/// A value and how often it is there.
#[derive(Debug, Clone)]
pub struct Frequent {
    /// An array of one.
    pub value: ArrayRef,
    /// Rows (elements of lists) with it.
    pub count: u64,
}

impl Summary {
    /// Of no rows of a type.
    #[must_use]
    pub fn empty(data_type: &DataType) -> Self {
        Self {
            data_type: data_type.clone(),
            rows: 0,
            nulls: 0,
            least: None,
            greatest: None,
            numbers: None,
            counter: Counter::default(),
            distinct: Hll::default(),
            elements: element_type(data_type).is_some(),
        }
    }

    /// Sums up a piece of a column. `json` columns hold JSON texts: elements of
    /// arrays are counted one by one.
    ///
    /// # Errors
    /// A type that Arrow cannot cast as it says.
    pub fn of(array: &ArrayRef, json: bool) -> Result<Self, ArrowError> {
        let mut summary = Self::empty(array.data_type());
        summary.rows = array.len() as u64;
        summary.nulls = array.logical_null_count() as u64;
        if let Some(element) = element_type(array.data_type()) {
            if plain_type(element).is_some() {
                summary.add_elements(array)?;
            }
            return Ok(summary);
        }
        let Some(values) = plain(array)? else { return Ok(summary) };
        if json && matches!(values.data_type(), DataType::Utf8 | DataType::LargeUtf8) {
            summary.elements = true;
            each(&values, |_, text| summary.add_json(text));
            return Ok(summary);
        }
        each(&values, |_, bytes| summary.add(bytes));
        summary.numbers = floats(&values)?.map(|values| Numbers::of(&values));
        if let Some((least, greatest)) = bounds(&values) {
            summary.least = Some(values.slice(least, 1));
            summary.greatest = Some(values.slice(greatest, 1));
        }
        Ok(summary)
    }

    fn add(&mut self, bytes: &[u8]) {
        self.distinct.add(hash(bytes));
        self.counter.add(bytes, 1);
    }

    fn add_elements(&mut self, array: &ArrayRef) -> Result<(), ArrowError> {
        let elements = match array.data_type() {
            DataType::List(_) => {
                let list = array.as_list::<i32>();
                let (first, last) = (list.value_offsets()[0], list.value_offsets()[list.len()]);
                list.values().slice(first as usize, (last - first) as usize)
            }
            DataType::LargeList(_) => {
                let list = array.as_list::<i64>();
                let (first, last) = (list.value_offsets()[0], list.value_offsets()[list.len()]);
                list.values().slice(first as usize, (last - first) as usize)
            }
            _ => return Ok(()),
        };
        if let Some(values) = plain(&elements)? {
            each(&values, |_, bytes| self.add(bytes));
        }
        Ok(())
    }

    /// The elements of a JSON array; anything else is one value.
    fn add_json(&mut self, text: &[u8]) {
        match serde_json::from_slice::<Vec<serde_json::Value>>(text) {
            Ok(elements) => {
                for element in elements {
                    match element {
                        serde_json::Value::String(text) => self.add(text.as_bytes()),
                        other => self.add(other.to_string().as_bytes()),
                    }
                }
            }
            Err(_) => self.add(text),
        }
    }

    /// Adds what another part told.
    pub fn merge(&mut self, other: &Self) {
        self.rows += other.rows;
        self.nulls += other.nulls;
        self.least = pick(self.least.take(), other.least.as_ref(), true);
        self.greatest = pick(self.greatest.take(), other.greatest.as_ref(), false);
        match (&mut self.numbers, &other.numbers) {
            (Some(mine), Some(theirs)) => mine.merge(theirs),
            (mine @ None, Some(theirs)) => *mine = Some(theirs.clone()),
            _ => {}
        }
        self.counter.merge(&other.counter);
        self.distinct.merge(&other.distinct);
        self.elements |= other.elements;
    }

    /// The least value, an array of one.
    #[must_use]
    pub const fn least(&self) -> Option<&ArrayRef> {
        self.least.as_ref()
    }

    /// The greatest value, an array of one.
    #[must_use]
    pub const fn greatest(&self) -> Option<&ArrayRef> {
        self.greatest.as_ref()
    }

    /// The mean of numbers; of times, in their ticks.
    #[must_use]
    pub fn mean(&self) -> Option<f64> {
        self.numbers.as_ref().and_then(Numbers::mean)
    }

    /// The sum of numbers.
    #[must_use]
    pub fn sum(&self) -> Option<f64> {
        let numeric = self.data_type.is_numeric();
        self.numbers.as_ref().filter(|_| numeric).map(|numbers| numbers.sum)
    }

    /// How many different values there are (elements, of lists), and whether
    /// that is exact.
    #[must_use]
    pub fn distinct(&self) -> (u64, bool) {
        if self.counter.is_exact() {
            return (self.counter.len() as u64, true);
        }
        (self.distinct.estimate(), false)
    }

    /// The share by which [`Summary::distinct`] is off at most, in 997 of 1,000 cases: three
    /// standard errors. 0: it is exact.
    #[must_use]
    pub fn distinct_error(&self) -> f64 {
        if self.counter.is_exact() { 0.0 } else { 3.0 * Hll::STANDARD_ERROR }
    }

    /// How far the rank of a quantile is off at most, as a share of all numbers, in 999 of 1,000
    /// cases. 0: quantiles are exact.
    #[must_use]
    pub fn quantiles_error(&self) -> f64 {
        self.numbers.as_ref().map_or(0.0, Numbers::rank_error)
    }

    /// By how much the counts of [`Summary::top`] may be too low. 0: they are exact.
    #[must_use]
    pub const fn top_error(&self) -> u64 {
        self.counter.error()
    }

    /// The value below which a share of the numbers lies.
    #[must_use]
    pub fn quantile(&self, share: f64) -> Option<f64> {
        self.numbers.as_ref().and_then(|numbers| numbers.quantile(share))
    }

    /// Whether quantiles are exact.
    #[must_use]
    pub fn quantiles_exact(&self) -> bool {
        self.numbers.as_ref().is_some_and(|numbers| numbers.exact)
    }

    /// The most frequent values and whether their counts are exact.
    ///
    /// # Errors
    /// A value that cannot be shown in its type.
    pub fn top(&self, limit: usize) -> Result<(Vec<Frequent>, bool), ArrowError> {
        let text = DataType::Utf8;
        let element = element_type(&self.data_type).unwrap_or(&self.data_type);
        let plain = plain_type(element).unwrap_or(text);
        let top = self.counter.top(limit).into_iter();
        let top: Result<Vec<Frequent>, ArrowError> =
            top.map(|(bytes, count)| Ok(Frequent { value: back(bytes, &plain)?, count })).collect();
        Ok((top?, self.counter.is_exact()))
    }

    /// What was counted are elements of lists.
    #[must_use]
    pub const fn counts_elements(&self) -> bool {
        self.elements
    }

    /// Bytes it takes, about.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        let numbers = self.numbers.as_ref().map_or(0, Numbers::memory_bytes);
        4_096 + 512 + self.counter.memory_bytes() + numbers
    }
}

fn element_type(data_type: &DataType) -> Option<&DataType> {
    match data_type {
        DataType::List(field) | DataType::LargeList(field) => Some(field.data_type()),
        _ => None,
    }
}

/// Where the least and the greatest value of a plain column are.
fn bounds(array: &ArrayRef) -> Option<(usize, usize)> {
    let valid = || (0..array.len()).filter(|row| array.is_valid(*row));
    macro_rules! by {
        ($values:expr) => {{
            let values = $values;
            let first = valid().next()?;
            Some(valid().fold((first, first), |(least, greatest), row| {
                let value = values.value(row);
                let least = if value < values.value(least) { row } else { least };
                let greatest = if value > values.value(greatest) { row } else { greatest };
                (least, greatest)
            }))
        }};
    }
    match array.data_type() {
        DataType::Utf8 => by!(array.as_string::<i32>()),
        DataType::LargeUtf8 => by!(array.as_string::<i64>()),
        DataType::Binary => by!(array.as_binary::<i32>()),
        DataType::LargeBinary => by!(array.as_binary::<i64>()),
        DataType::FixedSizeBinary(_) => by!(array.as_fixed_size_binary()),
        DataType::Boolean => by!(array.as_boolean()),
        other if other.is_floating() => {
            let values = floats(array).ok().flatten()?;
            let known = |row: &usize| !values.value(*row).is_nan();
            let first = valid().find(known)?;
            Some(valid().filter(known).fold((first, first), |(least, greatest), row| {
                let value = values.value(row);
                let least = if value < values.value(least) { row } else { least };
                let greatest = if value > values.value(greatest) { row } else { greatest };
                (least, greatest)
            }))
        }
        _ => arrow::array::downcast_primitive_array!(
            array => by!(array),
            _ => None
        ),
    }
}

/// The lesser or the greater of two values.
fn pick(mine: Option<ArrayRef>, other: Option<&ArrayRef>, least: bool) -> Option<ArrayRef> {
    let Some(other) = other else { return mine };
    let Some(mine) = mine else { return Some(ArrayRef::clone(other)) };
    let Ok(both) = arrow::compute::concat(&[mine.as_ref(), other.as_ref()]) else {
        return Some(mine);
    };
    let (low, high) = bounds(&both)?;
    Some(both.slice(if least { low } else { high }, 1))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use arrow::array::{
        BooleanArray, Float64Array, Int32Array, ListBuilder, StringArray, StringBuilder,
    };
    use proptest::prelude::*;
    use std::collections::HashMap;
    use std::sync::Arc;

    fn int(array: Option<&ArrayRef>) -> Option<i32> {
        array.map(|array| array.as_primitive::<arrow::datatypes::Int32Type>().value(0))
    }

    proptest! {
        #[test]
        fn merged_parts_tell_what_a_naive_count_tells(
            parts in prop::collection::vec(
                prop::collection::vec(prop::option::of(-5i32..5), 0..30), 0..5),
        ) {
            let mut all = Summary::empty(&DataType::Int32);
            for part in &parts {
                let array: ArrayRef = Arc::new(Int32Array::from(part.clone()));
                all.merge(&Summary::of(&array, false).unwrap());
            }
            let values: Vec<Option<i32>> = parts.concat();
            let known: Vec<i32> = values.iter().flatten().copied().collect();
            let mut counts: HashMap<i32, u64> = HashMap::new();
            known.iter().for_each(|n| *counts.entry(*n).or_default() += 1);
            prop_assert_eq!(all.rows, values.len() as u64);
            prop_assert_eq!(all.nulls, (values.len() - known.len()) as u64);
            prop_assert_eq!(int(all.least()), known.iter().min().copied());
            prop_assert_eq!(int(all.greatest()), known.iter().max().copied());
            prop_assert_eq!(all.distinct(), (counts.len() as u64, true));
            let (top, exact) = all.top(3).unwrap();
            prop_assert!(exact);
            for frequent in &top {
                let value = int(Some(&frequent.value)).unwrap();
                prop_assert_eq!(counts[&value], frequent.count);
            }
            prop_assert_eq!(top.first().map(|f| f.count), counts.values().max().copied());
            if !known.is_empty() {
                let mean = f64::from(known.iter().sum::<i32>()) / known.len() as f64;
                prop_assert!((all.mean().unwrap() - mean).abs() < 1e-9);
                let mut sorted = known.clone();
                sorted.sort_unstable();
                prop_assert_eq!(all.quantile(1.0), sorted.last().map(|n| f64::from(*n)));
            }
        }
    }

    #[test]
    fn tags_are_counted_one_by_one() {
        let mut lists = ListBuilder::new(StringBuilder::new());
        lists.append_value([Some("cat"), Some("dog")]);
        lists.append_null();
        lists.append_value([Some("cat")]);
        let lists: ArrayRef = Arc::new(lists.finish());
        let json: ArrayRef = Arc::new(StringArray::from(vec![
            Some(r#"["cat","dog"]"#),
            None,
            Some(r#"["cat"]"#),
            Some("[]"),
            Some("not json"),
        ]));
        for (array, is_json) in [(lists, false), (json, true)] {
            let summary = Summary::of(&array, is_json).unwrap();
            let (top, exact) = summary.top(1).unwrap();
            assert_eq!(top[0].value.as_string::<i32>().value(0), "cat");
            assert_eq!((top[0].count, exact, summary.counts_elements()), (2, true, true));
            assert_eq!(summary.nulls, 1);
        }
    }

    #[test]
    fn nan_is_no_bound_and_nested_types_have_none() {
        let floats: ArrayRef = Arc::new(Float64Array::from(vec![f64::NAN, 2.0, -1.0]));
        let summary = Summary::of(&floats, false).unwrap();
        let value = |a: Option<&ArrayRef>| {
            a.unwrap().as_primitive::<arrow::datatypes::Float64Type>().value(0)
        };
        assert_eq!((value(summary.least()), value(summary.greatest())), (-1.0, 2.0));
        assert_eq!(summary.mean(), Some(0.5));
        let flags: ArrayRef = Arc::new(BooleanArray::from(vec![true, false, true]));
        assert_eq!(Summary::of(&flags, false).unwrap().distinct(), (2, true));
    }

    #[test]
    fn many_values_are_estimated_and_said_so() {
        let array: ArrayRef = Arc::new(Int32Array::from_iter_values(0..100_000));
        let summary = Summary::of(&array, false).unwrap();
        let (distinct, exact) = summary.distinct();
        assert!(!exact && distinct.abs_diff(100_000) < 6_000, "{distinct}");
        assert!(!summary.quantiles_exact() && summary.memory_bytes() < 64 << 10);
    }
}
