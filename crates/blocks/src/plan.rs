//! Which rows of a block must be read, told by statistics alone.

use std::ops::Range;
use std::sync::Arc;

use filter::{ColumnRange, Filter, Pruned};
use parquet::arrow::arrow_reader::{RowSelection, RowSelector};
use service_error::ServiceError;

use crate::access::Access;
use crate::error::parquet_error;
use crate::footer::BlockFile;
use crate::statistics::{PageRanges, RangesByColumn, RowGroupRanges};
use crate::tally::Tally;

/// One row group to look at.
#[derive(Debug, Clone)]
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

/// Whether rows are sorted by one of some columns.
fn sorted_by(file: &BlockFile, columns: &[String]) -> bool {
    let Some(group) = file.metadata().metadata().row_groups().first() else { return false };
    let sorting = group.sorting_columns().and_then(|columns| columns.first());
    let leaf = sorting.and_then(|sorting| usize::try_from(sorting.column_idx).ok());
    let chunk = leaf.and_then(|leaf| group.columns().get(leaf));
    chunk.is_some_and(|chunk| columns.contains(&chunk.column_path().string()))
}

/// Plans the row groups of one block for one filter.
#[derive(Debug)]
pub(crate) struct Planner {
    file: Arc<BlockFile>,
    filter: Option<Arc<Filter>>,
    /// The filter's columns that the block has.
    known: Vec<String>,
    ranges: RangesByColumn<RowGroupRanges>,
    /// Rows before each group, and all rows.
    begins: Vec<u64>,
    /// The rows are sorted by one of the filter's columns.
    in_order: bool,
}

impl Planner {
    pub fn new(file: Arc<BlockFile>, filter: Option<Arc<Filter>>) -> Result<Self, ServiceError> {
        let schema = Arc::clone(file.metadata().schema());
        let known: Vec<String> = filter.as_ref().map_or_else(Vec::new, |filter| {
            let there = |name: &&String| schema.index_of(name).is_ok();
            filter.columns().iter().filter(there).cloned().collect()
        });
        let mut ranges: RangesByColumn<RowGroupRanges> = RangesByColumn::new();
        for name in &known {
            let of = RowGroupRanges::of(&schema, file.metadata().metadata(), name)
                .map_err(|error| parquet_error(file.key(), error))?;
            ranges.insert(name.clone(), of);
        }
        let mut begins = vec![0];
        let mut total = 0;
        for row_group in file.metadata().metadata().row_groups() {
            total += u64::try_from(row_group.num_rows()).unwrap_or(0);
            begins.push(total);
        }
        let in_order = sorted_by(&file, &known);
        Ok(Self { file, filter, known, ranges, begins, in_order })
    }

    pub fn file(&self) -> &Arc<BlockFile> {
        &self.file
    }

    /// The groups that hold rows of a range, ascending.
    pub fn groups(&self, range: &Range<u64>) -> Range<usize> {
        let count = self.begins.len() - 1;
        let first = self.begins.partition_point(|begin| *begin <= range.start).saturating_sub(1);
        let end = self.begins.partition_point(|begin| *begin < range.end).min(count);
        first.min(end)..end
    }

    /// A group without looking at statistics.
    pub fn whole(&self, index: usize) -> Option<GroupPlan> {
        let (begin, end) = (*self.begins.get(index)?, *self.begins.get(index + 1)?);
        let ranges = std::iter::once(begin..end).collect();
        Some(GroupPlan { index, begin, rows: end - begin, ranges, all: true })
    }

    /// What has to be looked at of a group; `None` if no row of `range` passes.
    /// Bloom filters are asked after the group's statistics and before its
    /// pages; pages are not looked at where the columns are in memory, unless
    /// rows are sorted by one of them.
    pub fn group(
        &self,
        index: usize,
        range: &Range<u64>,
        access: &Access,
    ) -> Result<Option<GroupPlan>, ServiceError> {
        let Some(group) = self.whole(index) else { return Ok(None) };
        let (begin, rows) = (group.begin, group.rows);
        let wanted = range.start.max(begin)..range.end.min(begin + rows);
        if wanted.start >= wanted.end {
            return Ok(None);
        }
        let pruned = self.filter.as_ref().map_or(Pruned::All, |filter| {
            filter.prune(Some(rows), |column| match self.ranges.get(column) {
                Some(ranges) => Some(ranges.range(index)),
                // Blocks that are older than a column hold nulls in it.
                None => Some(ColumnRange { null_count: Some(rows), ..ColumnRange::default() }),
            })
        });
        let all = |wanted| std::iter::once(wanted).collect();
        let ranges = match (pruned, &self.filter) {
            (Pruned::None, _) => Vec::new(),
            (Pruned::Maybe, Some(filter)) => {
                if access.ruled_out(&self.file, filter, index)? {
                    Vec::new()
                } else if !self.in_order
                    && self.known.iter().all(|name| access.is_ready(&self.file, index, name))
                {
                    all(wanted)
                } else {
                    self.by_page(filter, index, begin, wanted, &access.tally)?
                }
            }
            _ => all(wanted),
        };
        let read = u64::from(!ranges.is_empty());
        access.tally.groups(read, 1 - read);
        Ok((read > 0).then_some(GroupPlan { ranges, all: pruned == Pruned::All, ..group }))
    }

    /// Cuts `wanted` where pages of the filter's columns begin and drops the
    /// pieces that cannot pass.
    fn by_page(
        &self,
        filter: &Filter,
        group: usize,
        begin: u64,
        wanted: Range<u64>,
        tally: &Tally,
    ) -> Result<Vec<Range<u64>>, ServiceError> {
        let (file, known) = (&self.file, &self.known);
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
                pages.insert(name.clone(), found);
            }
        }
        cuts.sort_unstable();
        cuts.dedup();
        let mut kept: Vec<Range<u64>> = Vec::new();
        let mut skipped = 0;
        for (i, start) in cuts.iter().enumerate() {
            let end = cuts.get(i + 1).copied().unwrap_or(wanted.end);
            // A piece may be less than a page, so its row count says nothing about
            // the page's nulls.
            let pruned = filter
                .prune(None, |column| pages.get(column).map(|page| page.at_row(start - begin)));
            if pruned == Pruned::None {
                skipped += 1;
                continue;
            }
            match kept.last_mut() {
                Some(last) if last.end == *start => last.end = end,
                _ => kept.push(*start..end),
            }
        }
        tally.pages(cuts.len() as u64 - skipped, skipped);
        Ok(kept)
    }
}
