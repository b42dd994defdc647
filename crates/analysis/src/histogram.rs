//! Histograms of equal widths.

use arrow::array::ArrayRef;
use arrow::error::ArrowError;

use crate::numbers::floats;

/// Counts of values between bounds.
#[derive(Debug, Clone, PartialEq)]
pub struct Histogram {
    /// Where the first bin begins.
    pub least: f64,
    /// Where the last bin ends, inclusive.
    pub greatest: f64,
    /// Values in each bin.
    pub counts: Vec<u64>,
}

impl Histogram {
    /// Empty bins.
    #[must_use]
    pub fn new(least: f64, greatest: f64, bins: usize) -> Self {
        Self { least, greatest, counts: vec![0; bins.max(1)] }
    }

    /// Counts the numbers of a column that lie within the bounds.
    ///
    /// # Errors
    /// A type that Arrow cannot cast as it says.
    pub fn add(&mut self, array: &ArrayRef) -> Result<(), ArrowError> {
        let Some(values) = floats(array)? else { return Ok(()) };
        let last = self.counts.len() - 1;
        let width = (self.greatest - self.least) / self.counts.len() as f64;
        for value in values.iter().flatten() {
            if value >= self.least && value <= self.greatest {
                let bin = if width > 0.0 { ((value - self.least) / width) as usize } else { 0 };
                self.counts[bin.min(last)] += 1;
            }
        }
        Ok(())
    }

    /// Adds the counts of another with the same bins.
    pub fn merge(&mut self, other: &Self) {
        for (mine, theirs) in self.counts.iter_mut().zip(&other.counts) {
            *mine += theirs;
        }
    }
}

/// The bounds of numbers as an array of one each, for bins.
///
/// # Errors
/// A type that Arrow cannot cast as it says.
pub fn bins_of(least: &ArrayRef, greatest: &ArrayRef) -> Result<Option<(f64, f64)>, ArrowError> {
    let first = |array: &ArrayRef| -> Result<Option<f64>, ArrowError> {
        Ok(floats(array)?.and_then(|values| values.iter().flatten().next()))
    };
    Ok(first(least)?.zip(first(greatest)?))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use arrow::array::Int32Array;
    use std::sync::Arc;

    #[test]
    fn every_value_is_in_one_bin() {
        let array: ArrayRef = Arc::new(Int32Array::from_iter_values(0..=100));
        let (least, greatest) = bins_of(&array.slice(0, 1), &array.slice(100, 1)).unwrap().unwrap();
        let mut histogram = Histogram::new(least, greatest, 10);
        histogram.add(&array).unwrap();
        assert_eq!(histogram.counts, [10, 10, 10, 10, 10, 10, 10, 10, 10, 11]);
        let mut one = Histogram::new(5.0, 5.0, 3);
        one.add(&array).unwrap();
        assert_eq!(one.counts, [1, 0, 0]);
    }
}
