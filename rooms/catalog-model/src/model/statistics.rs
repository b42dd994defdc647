//! Statistics of columns: of a block, and of many blocks together.

use std::cmp::Ordering;

use crate::model::Scalar;

/// What is known about the values of a column.
#[derive(Debug, Clone, PartialEq)]
pub struct ColumnStats {
    pub column: String,
    pub null_count: i64,
    /// `None`: no value, no order, or not known.
    pub min: Option<Scalar>,
    pub max: Option<Scalar>,
    /// Both bounds are values that occur; otherwise they only enclose them.
    pub exact: bool,
}

/// Adds the statistics of one more block of `block_rows` rows to `total`, the
/// statistics of `total_rows` rows. Where a bound of either side is unknown the
/// result's is.
pub fn fold_statistics(
    total: &mut Vec<ColumnStats>,
    total_rows: i64,
    block: &[ColumnStats],
    block_rows: i64,
) {
    if block_rows == 0 {
        return;
    }
    if total_rows == 0 {
        total.clear();
        total.extend_from_slice(block);
        return;
    }
    // A column that only one side knows is unknown in sum.
    total.retain(|sum| block.iter().any(|added| added.column == sum.column));
    for sum in total {
        if let Some(added) = block.iter().find(|added| added.column == sum.column) {
            add(sum, total_rows, added, block_rows);
        }
    }
}

fn add(sum: &mut ColumnStats, sum_rows: i64, added: &ColumnStats, added_rows: i64) {
    let sum_is_null = sum.null_count == sum_rows;
    let added_is_null = added.null_count == added_rows;
    sum.null_count += added.null_count;
    if added_is_null {
        return;
    }
    if sum_is_null {
        (sum.min, sum.max, sum.exact) = (added.min.clone(), added.max.clone(), added.exact);
        return;
    }
    sum.min = pick(sum.min.take(), added.min.as_ref(), Ordering::Less);
    sum.max = pick(sum.max.take(), added.max.as_ref(), Ordering::Greater);
    sum.exact = sum.exact && added.exact && sum.min.is_some() && sum.max.is_some();
}

fn pick(held: Option<Scalar>, other: Option<&Scalar>, wanted: Ordering) -> Option<Scalar> {
    let (held, other) = (held?, other?);
    let order = other.order(&held)?;
    Some(if order == wanted { other.clone() } else { held })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn ints(column: &str, nulls: i64, bounds: Option<(i64, i64)>) -> ColumnStats {
        ColumnStats {
            column: column.to_owned(),
            null_count: nulls,
            min: bounds.map(|(min, _)| Scalar::Int(min)),
            max: bounds.map(|(_, max)| Scalar::Int(max)),
            exact: true,
        }
    }

    #[test]
    fn bounds_widen_and_nulls_add_up() {
        let mut total = Vec::new();
        fold_statistics(&mut total, 0, &[ints("n", 1, Some((5, 9)))], 10);
        fold_statistics(&mut total, 10, &[ints("n", 2, Some((-3, 7)))], 10);
        assert_eq!(total, [ints("n", 3, Some((-3, 9)))]);
    }

    #[test]
    fn a_block_of_nulls_changes_no_bound_and_an_unknown_one_clears_it() {
        let mut total = vec![ints("n", 0, Some((1, 2)))];
        fold_statistics(&mut total, 5, &[ints("n", 5, None)], 5);
        assert_eq!(total, [ints("n", 5, Some((1, 2)))]);
        fold_statistics(&mut total, 10, &[ints("n", 0, None)], 5);
        assert_eq!((total[0].min.clone(), total[0].exact), (None, false));

        let mut nulls_first = vec![ints("n", 5, None)];
        fold_statistics(&mut nulls_first, 5, &[ints("n", 0, Some((1, 2)))], 5);
        assert_eq!(nulls_first, [ints("n", 5, Some((1, 2)))]);
    }

    #[test]
    fn a_column_that_one_block_does_not_know_is_left_out() {
        let mut total = vec![ints("a", 0, Some((1, 2))), ints("b", 0, Some((1, 2)))];
        fold_statistics(&mut total, 5, &[ints("b", 0, Some((0, 1)))], 5);
        assert_eq!(total, [ints("b", 0, Some((0, 2)))]);
    }

    #[test]
    fn an_inexact_part_makes_the_sum_inexact() {
        let mut total = vec![ints("n", 0, Some((1, 2)))];
        let cut = ColumnStats { exact: false, ..ints("n", 0, Some((0, 1))) };
        fold_statistics(&mut total, 5, &[cut], 5);
        assert!(!total[0].exact);
        assert_eq!(total[0].min, Some(Scalar::Int(0)));
    }
}
