//! Sums and quantiles of numbers.

use arrow::array::{Array, ArrayRef, AsArray, Float64Array};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type, Int64Type};
use arrow::error::ArrowError;

/// Values of a summary that quantiles are told from.
pub(crate) const POINTS_MAX: usize = 512;
/// Values of a piece that are looked at for them.
const SAMPLED_MAX: usize = 8_192;

/// A column as numbers, nulls kept; `None` if it has none. Times are their
/// ticks.
pub(crate) fn floats(array: &ArrayRef) -> Result<Option<Float64Array>, ArrowError> {
    let data_type = array.data_type();
    if data_type.is_numeric() {
        return Ok(Some(cast(array, &DataType::Float64)?.as_primitive::<Float64Type>().clone()));
    }
    if data_type.is_temporal() && !matches!(data_type, DataType::Interval(_)) {
        let ticks = cast(array, &DataType::Int64)?;
        let ticks = ticks.as_primitive::<Int64Type>();
        return Ok(Some(ticks.unary(|n| n as f64)));
    }
    Ok(None)
}

/// Numbers in one pass.
#[derive(Debug, Clone, Default)]
pub(crate) struct Numbers {
    pub count: u64,
    pub sum: f64,
    /// Values that stand for the same share of all, ascending, with how many
    /// values each stands for.
    points: Vec<(f64, f64)>,
    /// The points are all values.
    pub exact: bool,
}

impl Numbers {
    /// NaN is no number here.
    pub fn of(values: &Float64Array) -> Self {
        let (mut count, mut sum) = (0u64, 0.0);
        for value in values.iter().flatten().filter(|value| !value.is_nan()) {
            count += 1;
            sum += value;
        }
        // Every so manieth, so that what is sorted stays small.
        let step = values.len().div_ceil(SAMPLED_MAX).max(1);
        let sampled = (0..values.len()).step_by(step).filter(|row| values.is_valid(*row));
        let mut points: Vec<f64> =
            sampled.map(|row| values.value(row)).filter(|value| !value.is_nan()).collect();
        points.sort_unstable_by(f64::total_cmp);
        let exact = step == 1 && points.len() <= POINTS_MAX;
        let weight = count as f64 / points.len().max(1) as f64;
        let points = thinned(points.into_iter().map(|value| (value, weight)).collect());
        Self { count, sum, points, exact }
    }

    pub fn merge(&mut self, other: &Self) {
        self.exact &= other.exact && self.points.len() + other.points.len() <= POINTS_MAX;
        self.count += other.count;
        self.sum += other.sum;
        let mut points = std::mem::take(&mut self.points);
        points.extend(&other.points);
        points.sort_unstable_by(|a, b| a.0.total_cmp(&b.0));
        self.points = thinned(points);
    }

    pub fn mean(&self) -> Option<f64> {
        (self.count > 0).then(|| self.sum / self.count as f64)
    }

    /// The value below which a share of all values lies.
    pub fn quantile(&self, share: f64) -> Option<f64> {
        let total: f64 = self.points.iter().map(|(_, weight)| weight).sum();
        let wanted = share.clamp(0.0, 1.0) * total;
        let mut passed = 0.0;
        for (value, weight) in &self.points {
            passed += weight;
            if passed >= wanted {
                return Some(*value);
            }
        }
        self.points.last().map(|(value, _)| *value)
    }

    pub fn memory_bytes(&self) -> usize {
        self.points.len() * 16
    }
}

/// At most so many points; each that is kept stands for those it replaces.
fn thinned(points: Vec<(f64, f64)>) -> Vec<(f64, f64)> {
    if points.len() <= POINTS_MAX {
        return points;
    }
    let total: f64 = points.iter().map(|(_, weight)| weight).sum();
    let share = total / POINTS_MAX as f64;
    let mut kept = Vec::with_capacity(POINTS_MAX);
    let (mut passed, mut next) = (0.0, share / 2.0);
    for (value, weight) in points {
        passed += weight;
        while passed >= next && kept.len() < POINTS_MAX {
            kept.push((value, share));
            next += share;
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use std::sync::Arc;

    #[test]
    fn few_values_have_exact_quantiles() {
        let values: Float64Array = (1..=101).map(f64::from).map(Some).collect();
        let mut numbers = Numbers::of(&values.slice(0, 50));
        numbers.merge(&Numbers::of(&values.slice(50, 51)));
        assert!(numbers.exact);
        assert_eq!(numbers.quantile(0.5), Some(51.0));
        assert_eq!(numbers.quantile(0.0), Some(1.0));
        assert_eq!(numbers.quantile(1.0), Some(101.0));
        assert_eq!(numbers.mean(), Some(51.0));
        assert_eq!(Numbers::default().quantile(0.5), None);
    }

    #[test]
    fn many_values_have_near_quantiles() {
        let mut all = Numbers { exact: true, ..Numbers::default() };
        for piece in 0..20u64 {
            let values: Float64Array = (0..50_000u64)
                .map(|n| Some(((piece * 50_000 + n) * 7_919 % 1_000_003) as f64))
                .collect();
            all.merge(&Numbers::of(&values));
        }
        assert!(!all.exact);
        for share in [0.01, 0.25, 0.5, 0.75, 0.99] {
            let off = (all.quantile(share).unwrap() / 1_000_003.0 - share).abs();
            assert!(off < 0.02, "{share}: {off}");
        }
    }

    #[test]
    fn times_are_their_ticks_and_texts_nothing() {
        let at: ArrayRef = Arc::new(arrow::array::TimestampMicrosecondArray::from(vec![5, 7]));
        assert_eq!(floats(&at).unwrap().unwrap().values().as_ref(), [5.0, 7.0]);
        let text: ArrayRef = Arc::new(arrow::array::StringArray::from(vec!["5"]));
        assert!(floats(&text).unwrap().is_none());
    }
}
