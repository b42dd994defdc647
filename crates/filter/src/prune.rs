//! Predicates over statistics: what is known of a set of rows without reading
//! it.

use std::cmp::Ordering;

use arrow::array::{Array, ArrayRef, AsArray, make_comparator};
use arrow::compute::{SortOptions, cast};
use arrow::datatypes::{DataType, Float16Type, Float32Type, Float64Type};

use crate::predicate::{Leaf, Op, Operand, Predicate, Test, TextOp};

/// What is known of a column in a set of rows. The bounds enclose all values
/// that are not null (NaN aside) but need not be values themselves.
#[derive(Debug, Clone, Default)]
pub struct ColumnRange {
    /// An array of one in the column's type.
    pub min: Option<ArrayRef>,
    /// An array of one in the column's type.
    pub max: Option<ArrayRef>,
    /// How many values are null.
    pub null_count: Option<u64>,
}

/// How many rows of a set can pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pruned {
    /// No row passes: the set need not be read.
    None,
    /// It takes reading to tell.
    Maybe,
    /// Every row passes.
    All,
}

/// Which answers some row of the set may give.
#[derive(Debug, Clone, Copy)]
struct May {
    be_true: bool,
    be_false: bool,
    be_unknown: bool,
}

impl May {
    const ANYTHING: Self = Self { be_true: true, be_false: true, be_unknown: true };
}

pub(crate) fn prune<F>(predicate: &Predicate, rows: Option<u64>, range: &F) -> Pruned
where
    F: Fn(&str) -> Option<ColumnRange>,
{
    let may = outcome(predicate, rows, range);
    match may {
        May { be_true: false, .. } => Pruned::None,
        May { be_false: false, be_unknown: false, .. } => Pruned::All,
        _ => Pruned::Maybe,
    }
}

fn outcome<F>(predicate: &Predicate, rows: Option<u64>, range: &F) -> May
where
    F: Fn(&str) -> Option<ColumnRange>,
{
    match predicate {
        Predicate::Not(inner) => {
            let may = outcome(inner, rows, range);
            May { be_true: may.be_false, be_false: may.be_true, be_unknown: may.be_unknown }
        }
        Predicate::And(parts) => {
            let parts: Vec<May> = parts.iter().map(|part| outcome(part, rows, range)).collect();
            May {
                be_true: parts.iter().all(|may| may.be_true),
                be_false: parts.iter().any(|may| may.be_false),
                be_unknown: parts.iter().any(|may| may.be_unknown),
            }
        }
        Predicate::Or(parts) => {
            let parts: Vec<May> = parts.iter().map(|part| outcome(part, rows, range)).collect();
            May {
                be_true: parts.iter().any(|may| may.be_true),
                be_false: parts.iter().all(|may| may.be_false),
                be_unknown: parts.iter().any(|may| may.be_unknown),
            }
        }
        Predicate::Leaf(leaf) => leaf_outcome(leaf, rows, range),
    }
}

fn leaf_outcome<F>(leaf: &Leaf, rows: Option<u64>, range: &F) -> May
where
    F: Fn(&str) -> Option<ColumnRange>,
{
    let Some(range) = leaf.column.nested.is_empty().then(|| range(&leaf.column.top)).flatten()
    else {
        return May::ANYTHING;
    };
    if matches!(leaf.test, Test::Json(_)) {
        return May::ANYTHING;
    }
    let some_null = range.null_count != Some(0);
    let some_value = rows.is_none() || range.null_count != rows;
    match leaf.test {
        Test::IsNull => return May { be_true: some_null, be_false: some_value, be_unknown: false },
        Test::IsNotNull => {
            return May { be_true: some_value, be_false: some_null, be_unknown: false };
        }
        _ => {}
    }
    if !some_value {
        return May { be_true: false, be_false: false, be_unknown: true };
    }
    let (be_true, be_false) = among_values(&leaf.test, &range);
    May { be_true, be_false, be_unknown: some_null }
}

/// Whether some value may pass, and whether some may fail.
fn among_values(test: &Test, range: &ColumnRange) -> (bool, bool) {
    const EITHER: (bool, bool) = (true, true);
    if let Test::Always(answer) = test {
        return (*answer, !*answer);
    }
    let (Some(min), Some(max)) = (&range.min, &range.max) else { return EITHER };
    match test {
        Test::Compare(op, operand) => match Bounds::around(operand, min, max) {
            Some(bounds) => bounds.outcome(*op),
            None => EITHER,
        },
        Test::In(operands) => {
            let outcomes = operands.iter().map(|operand| {
                Bounds::around(operand, min, max).map_or(EITHER, |bounds| bounds.outcome(Op::Eq))
            });
            outcomes.fold((false, true), |(t, f), (next_t, next_f)| (t || next_t, f && next_f))
        }
        Test::Text(TextOp::StartsWith, operand) => starts_with(operand, min, max).unwrap_or(EITHER),
        _ => EITHER,
    }
}

/// How the bounds of a column stand to an operand.
struct Bounds {
    min: Ordering,
    max: Ordering,
    /// NaN is outside all bounds, and above them.
    may_be_nan: bool,
}

impl Bounds {
    fn around(operand: &Operand, min: &ArrayRef, max: &ArrayRef) -> Option<Self> {
        let may_be_nan = operand.scalar.data_type().is_floating();
        let min = ordering(min, &operand.scalar)?;
        let max = ordering(max, &operand.scalar)?;
        Some(Self { min, max, may_be_nan })
    }

    fn outcome(&self, op: Op) -> (bool, bool) {
        let constant = self.min.is_eq() && self.max.is_eq();
        let inside = self.min.is_le() && self.max.is_ge();
        let (may_pass, may_fail) = match op {
            Op::Eq => (inside, !constant),
            Op::NotEq => (!constant, inside),
            // The bound that passes most easily, and the one that does least.
            Op::Lt | Op::LtEq => (op.accepts(self.min), !op.accepts(self.max)),
            Op::Gt | Op::GtEq => (op.accepts(self.max), !op.accepts(self.min)),
        };
        match op {
            Op::NotEq | Op::Gt | Op::GtEq => (may_pass || self.may_be_nan, may_fail),
            Op::Eq | Op::Lt | Op::LtEq => (may_pass, may_fail || self.may_be_nan),
        }
    }
}

/// How the first value of an array stands to a scalar; `None` if they have no
/// order.
fn ordering(value: &ArrayRef, scalar: &ArrayRef) -> Option<Ordering> {
    if value.len() != 1 || value.is_null(0) {
        return None;
    }
    let value = if value.data_type() == scalar.data_type() {
        ArrayRef::clone(value)
    } else {
        cast(value, scalar.data_type()).ok().filter(|cast| cast.is_valid(0))?
    };
    macro_rules! float {
        ($type:ty) => {
            value
                .as_primitive::<$type>()
                .value(0)
                .partial_cmp(&scalar.as_primitive::<$type>().value(0))
        };
    }
    match scalar.data_type() {
        DataType::Float16 => return float!(Float16Type),
        DataType::Float32 => return float!(Float32Type),
        DataType::Float64 => return float!(Float64Type),
        _ => {}
    }
    let compare = make_comparator(&value, scalar, SortOptions::default()).ok()?;
    Some(compare(0, 0))
}

fn starts_with(operand: &Operand, min: &ArrayRef, max: &ArrayRef) -> Option<(bool, bool)> {
    let text = |array: &ArrayRef| {
        let array = cast(array, &DataType::Utf8).ok()?;
        array.is_valid(0).then(|| array.as_string::<i32>().value(0).to_owned())
    };
    let (prefix, min, max) = (text(&operand.scalar)?, text(min)?, text(max)?);
    let all_below = max < prefix;
    let all_above = min > prefix && !min.starts_with(&prefix);
    let all_inside = min.starts_with(&prefix) && max.starts_with(&prefix);
    Some((!all_below && !all_above, !all_inside))
}
