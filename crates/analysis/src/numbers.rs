//! Sums and quantiles of numbers.

use std::hash::{BuildHasher, Hasher, RandomState};

use arrow::array::{Array, ArrayRef, AsArray, Float64Array};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type, Int64Type};
use arrow::error::ArrowError;

/// Points of one piece.
const POINTS_MAX: usize = 512;
/// Points of many pieces together; beyond, they are thinned to half as many.
const MERGED_MAX: usize = 8_192;
/// Of [`Numbers::rank_error`]: it holds in all but so many cases.
const DOUBT: f64 = 0.001;
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
    /// Squares of what each sampled value stood for, summed up.
    squares: f64,
    /// Values by which thinning may have moved a rank.
    thinned_by: f64,
}

impl Numbers {
    /// NaN is no number here.
    pub fn of(values: &Float64Array) -> Self {
        let (mut count, mut sum) = (0u64, 0.0);
        for value in values.iter().flatten().filter(|value| !value.is_nan()) {
            count += 1;
            sum += value;
        }
        // One of every so many, so that what is sorted stays small; which one is left to chance,
        // so that no pattern in the column is taken for the whole.
        let step = values.len().div_ceil(SAMPLED_MAX).max(1);
        // Another one for each piece: pieces may be alike.
        let mut chance = RandomState::new().build_hasher().finish();
        let sampled = (0..values.len())
            .step_by(step)
            .map(|begin| begin + drawn(&mut chance, step.min(values.len() - begin)))
            .filter(|row| values.is_valid(*row));
        let mut points: Vec<f64> =
            sampled.map(|row| values.value(row)).filter(|value| !value.is_nan()).collect();
        points.sort_unstable_by(f64::total_cmp);
        let is_whole = step == 1;
        let weight = count as f64 / points.len().max(1) as f64;
        let squares = if is_whole { 0.0 } else { points.len() as f64 * weight * weight };
        let exact = is_whole && points.len() <= POINTS_MAX;
        let points = points.into_iter().map(|value| (value, weight)).collect();
        let (points, thinned_by) = thinned(points, POINTS_MAX);
        Self { count, sum, points, exact, squares, thinned_by }
    }

    pub fn merge(&mut self, other: &Self) {
        self.count += other.count;
        self.sum += other.sum;
        self.squares += other.squares;
        self.thinned_by += other.thinned_by;
        let mut points = std::mem::take(&mut self.points);
        points.extend(&other.points);
        points.sort_unstable_by(|a, b| a.0.total_cmp(&b.0));
        self.exact &= other.exact && points.len() <= MERGED_MAX;
        let (points, by) = match points.len() > MERGED_MAX {
            true => thinned(points, MERGED_MAX / 2),
            false => (points, 0.0),
        };
        (self.points, self.thinned_by) = (points, self.thinned_by + by);
    }

    /// By which share of all values the rank of a quantile is off at most, in 999 of 1,000 cases:
    /// what sampling does (Dvoretzky, Kiefer, Wolfowitz) and what thinning did.
    pub fn rank_error(&self) -> f64 {
        let total = self.count as f64;
        if self.exact || total == 0.0 {
            return 0.0;
        }
        let sampling = ((2.0 / DOUBT).ln() / 2.0 * self.squares).sqrt() / total;
        (sampling + self.thinned_by / total).min(1.0)
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

/// A number below `end`, and the state for the next one (splitmix64).
fn drawn(state: &mut u64, end: usize) -> usize {
    *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let mut mixed = *state;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    usize::try_from((mixed ^ (mixed >> 31)) % end.max(1) as u64).unwrap_or(0)
}

/// At most so many points; each that is kept stands for those it replaces. Also by how many
/// values that moves a rank at most.
fn thinned(points: Vec<(f64, f64)>, points_max: usize) -> (Vec<(f64, f64)>, f64) {
    if points.len() <= points_max {
        return (points, 0.0);
    }
    let total: f64 = points.iter().map(|(_, weight)| weight).sum();
    let share = total / points_max as f64;
    let mut kept = Vec::with_capacity(points_max);
    let (mut passed, mut next) = (0.0, share / 2.0);
    for (value, weight) in points {
        passed += weight;
        while passed >= next && kept.len() < points_max {
            kept.push((value, share));
            next += share;
        }
    }
    (kept, share)
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
        let error = all.rank_error();
        assert!(error > 0.0 && error < 0.01, "{error}");
        for share in [0.01, 0.25, 0.5, 0.75, 0.99] {
            let off = (all.quantile(share).unwrap() / 1_000_003.0 - share).abs();
            assert!(off < error, "{share}: {off}");
        }
    }

    #[test]
    fn a_pattern_in_the_column_is_not_taken_for_the_whole() {
        // Every 16th value of 131,072 is the same one.
        let values: Float64Array = (0..131_072u32).map(|n| Some(f64::from(n % 16))).collect();
        let mut all = Numbers { exact: true, ..Numbers::default() };
        (0..3).for_each(|_| all.merge(&Numbers::of(&values)));
        let error = all.rank_error();
        assert!(error < 0.05, "{error}");
        for share in [0.1, 0.5, 0.9] {
            let off = (all.quantile(share).unwrap() / 16.0 - share).abs();
            assert!(off < error + 1.0 / 16.0, "{share}: {off}");
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
