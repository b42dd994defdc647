//! Which rows: a block with what is deleted of it, and sets of rows of a row
//! group.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{BooleanBufferBuilder, UInt32Array};
use arrow::buffer::BooleanBuffer;
use roaring::RoaringBitmap;

use crate::footer::BlockLocation;

/// A block and which of its rows are deleted.
#[derive(Debug, Clone, PartialEq)]
pub struct BlockRows {
    /// The block.
    pub location: BlockLocation,
    /// Positions in the block; unset: none.
    pub deleted: Option<Arc<RoaringBitmap>>,
}

impl From<BlockLocation> for BlockRows {
    fn from(location: BlockLocation) -> Self {
        Self { location, deleted: None }
    }
}

impl AsRef<Self> for BlockRows {
    fn as_ref(&self) -> &Self {
        self
    }
}

impl BlockRows {
    /// Rows that are not deleted.
    #[must_use]
    pub fn live_count(&self) -> u64 {
        let deleted = self.deleted.as_ref().map_or(0, |deleted| deleted.len());
        self.location.row_count.saturating_sub(deleted)
    }

    /// Rows that are not deleted before a position.
    #[must_use]
    pub fn live_before(&self, row: u64) -> u64 {
        row - deleted_before(self.deleted.as_deref(), row)
    }

    /// Where the live row of a number is, counted from 0.
    #[must_use]
    pub fn live_row(&self, number: u64) -> Option<u64> {
        if number >= self.live_count() {
            return None;
        }
        let (mut low, mut high) = (number, self.location.row_count);
        // The least row with `number + 1` live rows up to and with it.
        while low < high {
            let middle = low.midpoint(high);
            if self.live_before(middle + 1) > number {
                high = middle;
            } else {
                low = middle + 1;
            }
        }
        Some(low)
    }
}

fn deleted_before(deleted: Option<&RoaringBitmap>, row: u64) -> u64 {
    let Some(deleted) = deleted else { return 0 };
    match u32::try_from(row) {
        Ok(0) => 0,
        Ok(row) => deleted.rank(row - 1),
        Err(_) => deleted.len(),
    }
}

fn small(row: usize) -> u32 {
    u32::try_from(row).unwrap_or(u32::MAX)
}

/// Rows of a row group, counted within it.
#[derive(Debug, Clone)]
pub(crate) enum Rows {
    /// All of so many.
    All(usize),
    Range(Range<usize>),
    Set(RoaringBitmap),
    Mask(BooleanBuffer),
}

impl Rows {
    /// Ascending ranges of the block within a group, without what is deleted.
    pub fn of(
        ranges: &[Range<u64>],
        begin: u64,
        rows: usize,
        deleted: Option<&RoaringBitmap>,
    ) -> Self {
        let place = |row: u64| usize::try_from(row.saturating_sub(begin)).unwrap_or(rows).min(rows);
        let chosen: usize = ranges.iter().map(|r| place(r.end) - place(r.start)).sum();
        let gone = deleted.map(|deleted| group_rows(deleted, begin, rows));
        let gone = gone.filter(|gone| !gone.is_empty());
        if chosen == rows && gone.is_none() {
            return Self::All(rows);
        }
        let mut mask = BooleanBufferBuilder::new(rows);
        for range in ranges {
            mask.append_n(place(range.start) - mask.len(), false);
            mask.append_n(place(range.end) - mask.len(), true);
        }
        mask.append_n(rows - mask.len(), false);
        for row in gone.iter().flatten() {
            mask.set_bit(*row as usize, false);
        }
        Self::Mask(mask.finish())
    }

    pub fn len(&self) -> usize {
        match self {
            Self::All(rows) => *rows,
            Self::Range(range) => range.len(),
            Self::Set(set) => usize::try_from(set.len()).unwrap_or(usize::MAX),
            Self::Mask(mask) => mask.count_set_bits(),
        }
    }

    pub fn is_empty(&self) -> bool {
        match self {
            Self::Set(set) => set.is_empty(),
            Self::All(rows) => *rows == 0,
            Self::Range(range) => range.is_empty(),
            Self::Mask(mask) => !mask.has_true(),
        }
    }

    pub fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::All(_), other) | (other, Self::All(_)) => other,
            (Self::Range(a), Self::Range(b)) => {
                let start = a.start.max(b.start);
                Self::Range(start..a.end.min(b.end).max(start))
            }
            (Self::Range(range), Self::Set(mut set)) | (Self::Set(mut set), Self::Range(range)) => {
                set.remove_range(..small(range.start));
                set.remove_range(small(range.end)..);
                Self::Set(set)
            }
            (Self::Range(range), Self::Mask(mask)) | (Self::Mask(mask), Self::Range(range)) => {
                Self::Mask(&Self::Range(range).mask(mask.len()) & &mask)
            }
            (Self::Set(a), Self::Set(b)) => Self::Set(a & b),
            (Self::Mask(a), Self::Mask(b)) => Self::Mask(&a & &b),
            (Self::Set(set), Self::Mask(mask)) | (Self::Mask(mask), Self::Set(set)) => {
                Self::Set(masked(set, &mask))
            }
        }
    }

    /// The numbers of the rows, ascending.
    pub fn numbers(&self) -> UInt32Array {
        match self {
            Self::All(rows) => (0..small(*rows)).collect::<Vec<_>>().into(),
            Self::Range(range) => (small(range.start)..small(range.end)).collect::<Vec<_>>().into(),
            Self::Set(set) => set.iter().collect::<Vec<_>>().into(),
            Self::Mask(mask) => mask.set_indices().map(small).collect::<Vec<_>>().into(),
        }
    }

    /// The rows as ascending ranges.
    pub fn ranges(&self) -> Vec<Range<usize>> {
        match self {
            Self::All(rows) => std::iter::once(0..*rows).collect(),
            Self::Range(range) => std::iter::once(range.clone()).collect(),
            Self::Set(set) => consecutive(set.iter().map(|row| row as usize)),
            Self::Mask(mask) => mask.set_slices().map(|(start, end)| start..end).collect(),
        }
    }

    /// As a mask over all rows of the group.
    pub fn mask(&self, rows: usize) -> BooleanBuffer {
        match self {
            Self::All(rows) => BooleanBuffer::new_set(*rows),
            Self::Mask(mask) => mask.clone(),
            Self::Range(range) => {
                let mut mask = BooleanBufferBuilder::new(rows);
                mask.append_n(range.start.min(rows), false);
                mask.append_n(range.end.min(rows) - mask.len(), true);
                mask.append_n(rows - mask.len(), false);
                mask.finish()
            }
            Self::Set(set) => {
                let mut mask = BooleanBufferBuilder::new(rows);
                mask.append_n(rows, false);
                for row in set.iter().map(|row| row as usize).take_while(|row| *row < rows) {
                    mask.set_bit(row, true);
                }
                mask.finish()
            }
        }
    }
}

/// The rows of a set that a mask has, too. Where the mask lacks fewer rows than the set
/// has, as one of what is not deleted does, those are taken out.
fn masked(mut set: RoaringBitmap, mask: &BooleanBuffer) -> RoaringBitmap {
    let lacking = mask.len() - mask.count_set_bits();
    if (lacking as u64) < set.len() {
        set.remove_range(small(mask.len())..);
        for row in (!mask).set_indices() {
            set.remove(small(row));
        }
        return set;
    }
    let both = set.iter().filter(|row| {
        let row = *row as usize;
        row < mask.len() && mask.value(row)
    });
    // Ascending, as the set is.
    RoaringBitmap::from_sorted_iter(both).unwrap_or_default()
}

/// The rows of a block's bitmap that lie in a group, counted within it.
fn group_rows(deleted: &RoaringBitmap, begin: u64, rows: usize) -> Vec<u32> {
    let Ok(from) = u32::try_from(begin) else { return Vec::new() };
    let to = u32::try_from(begin + rows as u64).unwrap_or(u32::MAX);
    deleted.range(from..to).map(|row| row - from).collect()
}

/// Runs of neighbouring numbers.
pub(crate) fn consecutive(rows: impl Iterator<Item = usize>) -> Vec<Range<usize>> {
    let mut ranges: Vec<Range<usize>> = Vec::new();
    for row in rows {
        match ranges.last_mut() {
            Some(last) if last.end == row => last.end += 1,
            _ => ranges.push(row..row + 1),
        }
    }
    ranges
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn live_rows_are_counted_around_deleted_ones() {
        let location = BlockLocation {
            object_key: "k".into(),
            row_count: 10,
            byte_count: 0,
            footer_length: 0,
        };
        let deleted: RoaringBitmap = [0u32, 3, 4, 9].into_iter().collect();
        let block = BlockRows { location, deleted: Some(Arc::new(deleted)) };
        assert_eq!(block.live_count(), 6);
        let live: Vec<u64> = (0..6).map(|n| block.live_row(n).unwrap()).collect();
        assert_eq!(live, [1, 2, 5, 6, 7, 8]);
        assert_eq!(block.live_row(6), None);
        assert!(live.iter().enumerate().all(|(n, row)| block.live_before(*row) == n as u64));
    }

    #[test]
    fn sets_and_masks_are_the_same_rows() {
        let deleted: RoaringBitmap = [12u32, 13, 40].into_iter().collect();
        let mask = Rows::of(&[10..20, 25..30], 10, 20, Some(&deleted));
        assert_eq!(mask.numbers().values(), &[0, 1, 4, 5, 6, 7, 8, 9, 15, 16, 17, 18, 19]);
        let set = Rows::Set([1u32, 2, 4, 19].into_iter().collect());
        let both = set.clone().and(mask.clone());
        assert_eq!(both.numbers().values(), &[1, 4, 19]);
        assert_eq!(both.len(), 3);
        assert_eq!(both.ranges(), [1..2, 4..5, 19..20]);
        assert_eq!(Rows::Mask(both.mask(20)).and(Rows::All(20)).ranges(), both.ranges());
        assert!(matches!(Rows::of(std::slice::from_ref(&(10..30)), 10, 20, None), Rows::All(20)));
        assert!(Rows::of(&[], 10, 20, None).is_empty());
    }

    #[test]
    fn a_set_and_a_mask_join_alike_whichever_is_larger() {
        let odd = || (0u32..100).filter(|row| row % 2 == 1);
        for gone in [vec![], vec![1u32, 4, 5, 99], (0..90).collect()] {
            let deleted: RoaringBitmap = gone.iter().copied().collect();
            let mask = match Rows::of(std::slice::from_ref(&(0..100)), 0, 100, Some(&deleted)) {
                Rows::All(rows) => BooleanBuffer::new_set(rows),
                rows => rows.mask(100),
            };
            let expected: Vec<u32> = odd().filter(|row| !gone.contains(row)).collect();
            let both = Rows::Set(odd().collect()).and(Rows::Mask(mask));
            assert_eq!(both.numbers().values(), expected.as_slice(), "{gone:?}");
        }
    }
}
