//! Which rows of a block must be read, told by statistics alone.

use std::ops::Range;

use filter::{ColumnRange, Filter, Pruned};
use parquet::arrow::arrow_reader::{RowSelection, RowSelector};
use service_error::ServiceError;

use crate::error::parquet_error;
use crate::footer::BlockFile;
use crate::statistics::{PageRanges, RangesByColumn, RowGroupRanges};

/// One row group to read.
#[derive(Debug)]
pub(crate) struct GroupPlan {
    pub index: usize,
    /// Rows of the block before the group.
    pub begin: u64,
    /// Rows of the group.
    pub rows: u64,
    /// Rows of the block to look at, ascending, within the group.
    pub ranges: Vec<Range<u64>>,
    /// All of them pass: the filter need not be evaluated.
    pub all: bool,
}

impl GroupPlan {
    pub fn row_count(&self) -> u64 {
        self.ranges.iter().map(|range| range.end - range.start).sum()
    }

    /// `None` if the whole group is looked at.
    pub fn selection(&self) -> Option<RowSelection> {
        if self.row_count() == self.rows {
            return None;
        }
        Some(selection(&self.ranges, self.begin, self.rows))
    }
}

/// The selection of ascending ranges out of `rows` rows that begin at `begin`.
pub(crate) fn selection(ranges: &[Range<u64>], begin: u64, rows: u64) -> RowSelection {
    let mut selectors = Vec::with_capacity(ranges.len() * 2 + 1);
    let mut at = begin;
    let count = |n: u64| usize::try_from(n).unwrap_or(usize::MAX);
    for range in ranges {
        if range.start > at {
            selectors.push(RowSelector::skip(count(range.start - at)));
        }
        selectors.push(RowSelector::select(count(range.end - range.start)));
        at = range.end;
    }
    if at < begin + rows {
        selectors.push(RowSelector::skip(count(begin + rows - at)));
    }
    RowSelection::from(selectors)
}

/// The row groups that may hold passing rows in `range`, ascending.
pub(crate) fn plan(
    file: &BlockFile,
    filter: Option<&Filter>,
    range: Range<u64>,
) -> Result<Vec<GroupPlan>, ServiceError> {
    let metadata = file.metadata().metadata();
    let failed = |error| parquet_error(file.key(), error);
    let known: Vec<&String> = filter.map_or_else(Vec::new, |filter| {
        filter
            .columns()
            .iter()
            .filter(|name| file.metadata().schema().index_of(name).is_ok())
            .collect()
    });
    let mut by_group: RangesByColumn<RowGroupRanges> = RangesByColumn::new();
    for name in &known {
        let ranges =
            RowGroupRanges::of(file.metadata().schema(), metadata, name).map_err(failed)?;
        by_group.insert((*name).clone(), ranges);
    }
    let mut plans = Vec::new();
    let mut begin = 0;
    for (index, row_group) in metadata.row_groups().iter().enumerate() {
        let rows = u64::try_from(row_group.num_rows()).unwrap_or(0);
        let wanted = range.start.max(begin)..range.end.min(begin + rows);
        if wanted.start < wanted.end {
            let pruned = filter.map_or(Pruned::All, |filter| {
                filter.prune(Some(rows), |column| match by_group.get(column) {
                    Some(ranges) => Some(ranges.range(index)),
                    // Blocks that are older than a column hold nulls in it.
                    None => Some(ColumnRange { null_count: Some(rows), ..ColumnRange::default() }),
                })
            });
            let ranges = match (pruned, filter) {
                (Pruned::None, _) => Vec::new(),
                (Pruned::Maybe, Some(filter)) => {
                    by_page(file, filter, &known, index, begin, wanted)?
                }
                _ => vec![wanted],
            };
            if !ranges.is_empty() {
                plans.push(GroupPlan { index, begin, rows, ranges, all: pruned == Pruned::All });
            }
        }
        begin += rows;
    }
    Ok(plans)
}

/// Cuts `wanted` where pages of the filter's columns begin and drops the
/// pieces that cannot pass.
fn by_page(
    file: &BlockFile,
    filter: &Filter,
    known: &[&String],
    group: usize,
    begin: u64,
    wanted: Range<u64>,
) -> Result<Vec<Range<u64>>, ServiceError> {
    let metadata = file.metadata().metadata();
    let mut pages: RangesByColumn<PageRanges> = RangesByColumn::new();
    let mut cuts = vec![wanted.start];
    for name in known {
        let found = PageRanges::of(file.metadata().schema(), metadata, name, group)
            .map_err(|error| parquet_error(file.key(), error))?;
        if let Some(found) = found {
            cuts.extend(
                found.begins.iter().map(|row| begin + row).filter(|row| wanted.contains(row)),
            );
            pages.insert((*name).clone(), found);
        }
    }
    cuts.sort_unstable();
    cuts.dedup();
    let mut kept: Vec<Range<u64>> = Vec::new();
    for (i, start) in cuts.iter().enumerate() {
        let end = cuts.get(i + 1).copied().unwrap_or(wanted.end);
        // A piece may be less than a page, so its row count says nothing about
        // the page's nulls.
        let pruned =
            filter.prune(None, |column| pages.get(column).map(|page| page.at_row(start - begin)));
        if pruned == Pruned::None {
            continue;
        }
        match kept.last_mut() {
            Some(last) if last.end == *start => last.end = end,
            _ => kept.push(*start..end),
        }
    }
    Ok(kept)
}
