//! Rows grouped by the value of a column, with measures of other columns.

use arrow::array::{Array, ArrayRef, AsArray, Float64Array, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, UInt32Type};
use arrow::error::ArrowError;

use crate::counter::{ByBytes, KEPT_MAX};
use crate::numbers::floats;
use crate::values::{back, each, plain, plain_type};

/// Numbers of one column in one group.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Measure {
    /// Values that are not null.
    pub count: u64,
    /// Their sum.
    pub sum: f64,
    /// The least.
    pub least: f64,
    /// The greatest.
    pub greatest: f64,
}

impl Default for Measure {
    fn default() -> Self {
        Self { count: 0, sum: 0.0, least: f64::INFINITY, greatest: f64::NEG_INFINITY }
    }
}

impl Measure {
    fn add(&mut self, value: f64) {
        self.count += 1;
        self.sum += value;
        // No value is NaN here, and bounds rarely move: a branch costs less than a minimum.
        if value < self.least {
            self.least = value;
        }
        if value > self.greatest {
            self.greatest = value;
        }
    }

    fn merge(&mut self, other: &Self) {
        self.count += other.count;
        self.sum += other.sum;
        self.least = self.least.min(other.least);
        self.greatest = self.greatest.max(other.greatest);
    }
}

#[derive(Debug, Clone, Default)]
struct Tally {
    rows: u64,
    measures: Vec<Measure>,
}

impl Tally {
    fn merge(&mut self, other: &Self) {
        self.rows += other.rows;
        self.measures.resize(self.measures.len().max(other.measures.len()), Measure::default());
        for (mine, theirs) in self.measures.iter_mut().zip(&other.measures) {
            mine.merge(theirs);
        }
    }
}

/// One group.
#[derive(Debug, Clone)]
pub struct Facet {
    /// The value, an array of one; `None` for rows where it is null.
    pub value: Option<ArrayRef>,
    /// Rows.
    pub rows: u64,
    /// Of each measured column.
    pub measures: Vec<Measure>,
}

/// Groups by value. Parts merge into the whole.
#[derive(Debug, Clone)]
pub struct Facets {
    data_type: DataType,
    measures: usize,
    groups: ByBytes<Tally>,
    nulls: Tally,
    /// Rows whose group is not kept because there are too many.
    others: Tally,
}

impl Facets {
    /// Of no rows.
    #[must_use]
    pub fn empty(data_type: &DataType, measures: usize) -> Self {
        let none = || Tally { rows: 0, measures: vec![Measure::default(); measures] };
        Self {
            data_type: data_type.clone(),
            measures,
            groups: ByBytes::default(),
            nulls: none(),
            others: none(),
        }
    }

    /// Groups a batch by its first column and measures the others.
    ///
    /// # Errors
    /// A type that cannot be grouped by.
    pub fn of(batch: &RecordBatch) -> Result<Self, ArrowError> {
        let column = batch.column(0);
        let mut facets = Self::empty(column.data_type(), batch.num_columns() - 1);
        let measured: Result<Vec<Option<Float64Array>>, ArrowError> =
            batch.columns()[1..].iter().map(floats).collect();
        // Rows by group first, then column after column.
        let (codes, numbers) = coded(column)?;
        let mut tallies = vec![Tally { rows: 0, measures: Vec::new() }; numbers.len() + 2];
        let mut rows = vec![0u64; tallies.len()];
        codes.iter().for_each(|code| rows[*code as usize] += 1);
        for column in measured? {
            let mut sums = vec![Measure::default(); tallies.len()];
            if let Some(column) = column {
                add_all(&column, &codes, &mut sums);
            }
            for (tally, sum) in tallies.iter_mut().zip(sums) {
                tally.measures.push(sum);
            }
        }
        for (tally, rows) in tallies.iter_mut().zip(rows) {
            tally.rows = rows;
        }
        facets.nulls.merge(&tallies[0]);
        facets.others.merge(&tallies[1]);
        for (value, code) in numbers {
            facets.groups.insert(value, std::mem::take(&mut tallies[code as usize]));
        }
        Ok(facets)
    }

    /// Adds the groups of another part.
    pub fn merge(&mut self, other: &Self) {
        self.nulls.merge(&other.nulls);
        self.others.merge(&other.others);
        for (value, tally) in &other.groups {
            let full = self.groups.len() >= KEPT_MAX;
            match self.groups.get_mut(value) {
                Some(mine) => mine.merge(tally),
                None if full => self.others.merge(tally),
                None => {
                    self.groups.insert(value.clone(), tally.clone());
                }
            }
        }
    }

    /// Every group was kept.
    #[must_use]
    pub const fn is_exact(&self) -> bool {
        self.others.rows == 0
    }

    /// How many groups there are, that of nulls aside.
    #[must_use]
    pub fn len(&self) -> usize {
        self.groups.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }

    /// Rows of groups that were not kept.
    #[must_use]
    pub const fn other_rows(&self) -> u64 {
        self.others.rows
    }

    /// All rows.
    #[must_use]
    pub fn row_count(&self) -> u64 {
        let grouped: u64 = self.groups.values().map(|tally| tally.rows).sum();
        grouped + self.nulls.rows + self.others.rows
    }

    /// The largest groups, that of nulls among them.
    ///
    /// # Errors
    /// A value that cannot be shown in its type.
    pub fn top(&self, limit: usize) -> Result<Vec<Facet>, ArrowError> {
        let mut all: Vec<(Option<&[u8]>, &Tally)> =
            self.groups.iter().map(|(value, tally)| (Some(value.as_ref()), tally)).collect();
        if self.nulls.rows > 0 {
            all.push((None, &self.nulls));
        }
        all.sort_unstable_by(|a, b| b.1.rows.cmp(&a.1.rows).then_with(|| a.0.cmp(&b.0)));
        let plain = plain_type(&self.data_type).unwrap_or(DataType::Utf8);
        let facet = |(value, tally): &(Option<&[u8]>, &Tally)| {
            Ok(Facet {
                value: value.map(|bytes| back(bytes, &plain)).transpose()?,
                rows: tally.rows,
                measures: tally.measures.clone(),
            })
        };
        all.iter().take(limit).map(facet).collect()
    }

    /// Bytes it takes, about.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        let group = 64 + self.measures * std::mem::size_of::<Measure>();
        self.groups.keys().map(|value| value.len() + group).sum::<usize>() + 256
    }
}

/// The group of each row, 0: null, 1: one of too many; and the others' values.
fn coded(column: &ArrayRef) -> Result<(Vec<u32>, ByBytes<u32>), ArrowError> {
    let none = || {
        let message = format!("{} has no groups", column.data_type());
        ArrowError::InvalidArgumentError(message)
    };
    let mut numbers: ByBytes<u32> = ByBytes::default();
    let mut number = |bytes: &[u8]| match numbers.get(bytes) {
        Some(code) => *code,
        None if numbers.len() >= KEPT_MAX => 1,
        None => {
            let code = u32::try_from(numbers.len() + 2).unwrap_or(1);
            numbers.insert(bytes.into(), code);
            code
        }
    };
    let Some(dictionary) = column.as_any_dictionary_opt() else {
        let mut codes = vec![0; column.len()];
        each(&plain(column)?.ok_or_else(none)?, |row, bytes| codes[row] = number(bytes));
        return Ok((codes, numbers));
    };
    let keys = cast(dictionary.keys(), &DataType::UInt32)?;
    let keys = keys.as_primitive::<UInt32Type>();
    // Values that no row has are no groups.
    let mut used = vec![false; dictionary.values().len()];
    keys.iter().flatten().for_each(|key| used[key as usize] = true);
    let mut of_value = vec![0; used.len()];
    each(&plain(dictionary.values())?.ok_or_else(none)?, |value, bytes| {
        if used[value] {
            of_value[value] = number(bytes);
        }
    });
    let codes = match keys.nulls() {
        None => keys.values().iter().map(|key| of_value[*key as usize]).collect(),
        Some(_) => keys.iter().map(|key| key.map_or(0, |key| of_value[key as usize])).collect(),
    };
    Ok((codes, numbers))
}

fn add_all(column: &Float64Array, codes: &[u32], sums: &mut [Measure]) {
    if column.null_count() == 0 {
        for (value, code) in column.values().iter().zip(codes).filter(|(value, _)| !value.is_nan())
        {
            sums[*code as usize].add(*value);
        }
        return;
    }
    for (row, code) in codes.iter().enumerate() {
        if column.is_valid(row) {
            let value = column.value(row);
            if !value.is_nan() {
                sums[*code as usize].add(value);
            }
        }
    }
}

/// Whether rows can be grouped by a column of the type.
#[must_use]
pub fn groups(data_type: &DataType) -> bool {
    plain_type(data_type).is_some()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use arrow::array::{Int32Array, StringArray};
    use std::sync::Arc;

    fn batch(from: i32, to: i32) -> RecordBatch {
        let words: StringArray = (from..to)
            .map(|n| (n % 10 != 0).then_some(if n % 3 == 0 { "three" } else { "other" }))
            .collect();
        let numbers: Int32Array = (from..to).map(|n| (n % 7 != 0).then_some(n)).collect();
        RecordBatch::try_from_iter_with_nullable([
            ("word", Arc::new(words) as ArrayRef, true),
            ("n", Arc::new(numbers), true),
        ])
        .unwrap()
    }

    #[test]
    fn groups_count_and_measure_every_row_once() {
        let mut facets = Facets::empty(&DataType::Utf8, 1);
        facets.merge(&Facets::of(&batch(0, 500)).unwrap());
        facets.merge(&Facets::of(&batch(500, 1_000)).unwrap());
        let top = facets.top(10).unwrap();
        assert_eq!(top.iter().map(|facet| facet.rows).collect::<Vec<_>>(), [600, 300, 100]);
        assert!(facets.is_exact() && facets.len() == 2);
        let three: Vec<i32> =
            (0..1_000).filter(|n| n % 3 == 0 && n % 10 != 0 && n % 7 != 0).collect();
        let measure = top[1].measures[0];
        assert_eq!(measure.count, three.len() as u64);
        assert_eq!(measure.sum, f64::from(three.iter().sum::<i32>()));
        assert_eq!((measure.least, measure.greatest), (3.0, 999.0));
        assert!(top[2].value.is_none());
    }

    #[test]
    fn dictionaries_group_like_their_values() {
        let plain = batch(0, 700);
        let kind = DataType::Dictionary(Box::new(DataType::Int8), Box::new(DataType::Utf8));
        let mut columns = plain.columns().to_vec();
        columns[0] = cast(&columns[0], &kind).unwrap();
        let coded = RecordBatch::try_from_iter(["word", "n"].into_iter().zip(columns)).unwrap();
        // The first rows that are no multiples of three: its "three" is a value of no row.
        for (from, rows) in [(0, 700), (1, 2), (0, 1), (3, 0)] {
            let told = |batch: &RecordBatch| {
                let facets = Facets::of(&batch.slice(from, rows)).unwrap();
                let text = |value: ArrayRef| value.as_string::<i32>().value(0).to_owned();
                let top = facets.top(10).unwrap().into_iter();
                top.map(|facet| (facet.value.map(text), facet.rows, facet.measures))
                    .collect::<Vec<_>>()
            };
            assert_eq!(told(&coded), told(&plain), "{from} {rows}");
        }
    }

    #[test]
    fn too_many_groups_are_told() {
        let many: ArrayRef = Arc::new(Int32Array::from_iter_values(0..10_000));
        let batch = RecordBatch::try_from_iter([("n", many)]).unwrap();
        let facets = Facets::of(&batch).unwrap();
        assert_eq!((facets.len(), facets.other_rows()), (KEPT_MAX, 10_000 - KEPT_MAX as u64));
        assert!(!facets.is_exact());
    }
}
