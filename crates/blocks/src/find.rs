//! Counts, and rows found by filter or position.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{RecordBatch, UInt64Array};
use arrow::datatypes::SchemaRef;
use filter::Pruned;
use roaring::RoaringBitmap;
use service_error::ServiceError;

use crate::access::{Access, Group};
use crate::adapt::{conform, take_rows};
use crate::error::arrow_error;
use crate::judge::Judge;
use crate::plan::{GroupPlan, Planner};
use crate::read::{BlockReader, Reading};
use crate::rows::{BlockRows, Rows};
use crate::scan::slice_bytes;

/// Row groups that are looked at together once the first had too few rows.
const GROUPS_AT_ONCE_MAX: usize = 64;

/// A row: which block of a list, and where in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// Index of the block.
    pub block: usize,
    /// Row of the block.
    pub row: u64,
}

/// How far to look, and which way.
#[derive(Debug, Clone, Copy)]
pub struct Walk {
    /// Forwards: the first row to look at. Backwards: the row after the last.
    pub from: Position,
    /// Towards the begin.
    pub back: bool,
    /// Rows at most.
    pub limit: usize,
}

/// One row group's share of a walk.
pub(crate) struct Step {
    planner: Arc<Planner>,
    block: usize,
    group: usize,
    range: Range<u64>,
    deleted: Option<Arc<RoaringBitmap>>,
    /// The manifest says that all rows pass.
    all: bool,
}

impl Step {
    pub const fn block(&self) -> usize {
        self.block
    }

    fn plan(&self, access: &Access) -> Result<Option<GroupPlan>, ServiceError> {
        if self.all {
            return Ok(self.planner.whole(self.group).map(|plan| {
                let start = self.range.start.max(plan.begin);
                let end = self.range.end.min(plan.begin + plan.rows);
                let ranges = std::iter::once(start..end.max(start)).collect();
                GroupPlan { ranges, ..plan }
            }));
        }
        self.planner.group(self.group, &self.range, access)
    }

    /// The passing rows of the group.
    pub fn rows(
        &self,
        access: &Access,
        judge: Option<&Judge>,
    ) -> Result<Option<(Group, Rows)>, ServiceError> {
        let Some(plan) = self.plan(access)? else { return Ok(None) };
        let group = Group::of(self.planner.file(), &plan);
        let rows = Rows::of(&plan.ranges, plan.begin, group.rows, self.deleted.as_deref());
        let rows = match judge {
            Some(judge) if !plan.all => judge.rows(access, &group, rows)?,
            _ => rows,
        };
        Ok(Some((group, rows)))
    }
}

impl BlockReader {
    /// How many rows pass. `prune` says what the manifest tells of a block.
    ///
    /// # Errors
    /// `DataLoss` for a damaged block, or as the object store fails.
    pub async fn count<B, P>(
        &self,
        blocks: &[B],
        reading: &Reading,
        prune: P,
    ) -> Result<u64, ServiceError>
    where
        B: AsRef<BlockRows> + Sync,
        P: Fn(usize) -> Pruned + Sync,
    {
        let mut sure = reading.tail_rows()?.len() as u64;
        let mut unsure = Vec::new();
        for (index, block) in blocks.iter().map(AsRef::as_ref).enumerate() {
            match prune(index) {
                Pruned::All => sure += block.live_count(),
                Pruned::Maybe if reading.filter.is_none() => sure += block.live_count(),
                Pruned::Maybe => unsure.push(index),
                Pruned::None => {}
            }
        }
        reading.tally.blocks(unsure.len() as u64, (blocks.len() - unsure.len()) as u64);
        if unsure.is_empty() {
            return Ok(sure);
        }
        let steps = self.steps(blocks, &unsure, reading).await?;
        let (access, judge) = (self.access(&reading.tally), judge_of(reading)?);
        let counts = self
            .spread(steps, move |step| {
                let found = step.rows(&access, judge.as_ref())?;
                Ok(found.map_or(0, |(_, rows)| rows.len() as u64))
            })
            .await?;
        Ok(sure + counts.iter().sum::<u64>())
    }

    /// All row groups of some blocks.
    pub(crate) async fn steps<B>(
        &self,
        blocks: &[B],
        chosen: &[usize],
        reading: &Reading,
    ) -> Result<Vec<Step>, ServiceError>
    where
        B: AsRef<BlockRows> + Sync,
    {
        let wanted: Vec<&BlockRows> =
            chosen.iter().filter_map(|i| blocks.get(*i)).map(AsRef::as_ref).collect();
        let files = self.open_all(&wanted, &reading.tally).await?;
        let mut steps = Vec::new();
        for ((index, block), file) in chosen.iter().zip(wanted).zip(files) {
            let planner = Arc::new(Planner::new(file, reading.filter.clone())?);
            let range = 0..block.location.row_count;
            for group in planner.groups(&range) {
                steps.push(Step {
                    planner: Arc::clone(&planner),
                    block: *index,
                    group,
                    range: range.clone(),
                    deleted: block.deleted.clone(),
                    all: false,
                });
            }
        }
        Ok(steps)
    }

    /// The passing rows from a place on, ascending whichever way it goes.
    ///
    /// # Errors
    /// `DataLoss` for a damaged block, or as the object store fails.
    pub async fn walk<B, P>(
        &self,
        blocks: &[B],
        reading: &Reading,
        walk: Walk,
        prune: P,
    ) -> Result<Vec<Position>, ServiceError>
    where
        B: AsRef<BlockRows> + Sync,
        P: Fn(usize) -> Pruned + Sync,
    {
        let mut found: Vec<Position> = Vec::new();
        let mut walker = Walker { blocks, walk, found: &mut found };
        if walk.back {
            walker.tail(reading)?;
        }
        let order: Box<dyn Iterator<Item = usize> + Send> = if walk.back {
            Box::new((0..blocks.len().min(walk.from.block.saturating_add(1))).rev())
        } else {
            Box::new(walk.from.block..blocks.len())
        };
        let (access, judge) = (self.access(&reading.tally), judge_of(reading)?);
        let mut at_once = 1;
        let mut waiting: Vec<Step> = Vec::new();
        for index in order {
            if walker.enough() {
                break;
            }
            let (range, pruned) = (walker.range(index), prune(index));
            if range.is_empty() || pruned == Pruned::None {
                reading.tally.blocks(0, 1);
                continue;
            }
            if reading.filter.is_none() || (pruned == Pruned::All && waiting.is_empty()) {
                walker.all(index, &range);
                if walker.enough() {
                    break;
                }
                continue;
            }
            let steps = self.block_steps(blocks[index].as_ref(), (index, pruned), range, reading);
            let mut steps = steps.await?;
            if walk.back {
                steps.reverse();
            }
            for step in steps {
                waiting.push(step);
                if waiting.len() >= at_once {
                    let steps = std::mem::take(&mut waiting);
                    walker.take(self.judged(steps, &access, judge.as_ref()).await?);
                    if walker.enough() {
                        break;
                    }
                    at_once = (at_once * 2).min(GROUPS_AT_ONCE_MAX);
                }
            }
            if walker.enough() {
                break;
            }
        }
        if !walker.enough() && !waiting.is_empty() {
            walker.take(self.judged(waiting, &access, judge.as_ref()).await?);
        }
        if !walk.back {
            walker.tail(reading)?;
        }
        walker.finish();
        Ok(found)
    }

    /// The row groups of a block that hold rows of a range.
    async fn block_steps(
        &self,
        block: &BlockRows,
        (index, pruned): (usize, Pruned),
        range: Range<u64>,
        reading: &Reading,
    ) -> Result<Vec<Step>, ServiceError> {
        reading.tally.blocks(1, 0);
        let file = self.open(&block.location, &reading.tally).await?;
        let planner = Arc::new(Planner::new(file, reading.filter.clone())?);
        let step = |group| Step {
            planner: Arc::clone(&planner),
            block: index,
            group,
            range: range.clone(),
            deleted: block.deleted.clone(),
            all: pruned == Pruned::All,
        };
        Ok(planner.groups(&range).map(step).collect())
    }

    /// The passing rows of some row groups, each ascending.
    async fn judged(
        &self,
        steps: Vec<Step>,
        access: &Access,
        judge: Option<&Judge>,
    ) -> Result<Vec<(usize, u64, Rows)>, ServiceError> {
        let (access, judge) = (access.clone(), judge.cloned());
        let found = self
            .spread(steps, move |step| {
                let rows = step.rows(&access, judge.as_ref())?;
                Ok(rows.map(|(group, rows)| (step.block, group.begin, rows)))
            })
            .await?;
        Ok(found.into_iter().flatten().collect())
    }

    /// Reads rows of some blocks; `rows` ascend. Ends early, with at least one
    /// row, once the batches take `bytes_max` of memory.
    ///
    /// # Errors
    /// `DataLoss` for a damaged block, or as the object store fails.
    pub async fn rows<B>(
        &self,
        blocks: &[B],
        rows: &[Position],
        schema: &SchemaRef,
        reading: &Reading,
        bytes_max: usize,
    ) -> Result<Vec<RecordBatch>, ServiceError>
    where
        B: AsRef<BlockRows> + Sync,
    {
        let own = rows.partition_point(|position| position.block < blocks.len());
        let (rows, of_tail) = rows.split_at(own);
        let mut batches = self.block_rows(blocks, rows, schema, reading, bytes_max).await?;
        let read: usize = batches.iter().map(RecordBatch::num_rows).sum();
        if let Some(tail) = &reading.tail
            && read == rows.len()
            && !of_tail.is_empty()
        {
            let numbers: UInt64Array = of_tail.iter().map(|position| position.row).collect();
            let taken = take_rows(tail, &numbers).and_then(|rows| conform(&rows, schema));
            batches.push(taken.map_err(|error| arrow_error("in memory", error))?);
        }
        Ok(batches)
    }

    async fn block_rows<B>(
        &self,
        blocks: &[B],
        rows: &[Position],
        schema: &SchemaRef,
        reading: &Reading,
        bytes_max: usize,
    ) -> Result<Vec<RecordBatch>, ServiceError>
    where
        B: AsRef<BlockRows> + Sync,
    {
        let mut picks: Vec<Pick> = Vec::new();
        for part in rows.chunk_by(|a, b| a.block == b.block) {
            let (Some(first), Some(last)) = (part.first(), part.last()) else { continue };
            let Some(block) = blocks.get(first.block).map(AsRef::as_ref) else { continue };
            let file = self.open(&block.location, &reading.tally).await?;
            let planner = Planner::new(Arc::clone(&file), None)?;
            for index in planner.groups(&(first.row..last.row + 1)) {
                let Some(plan) = planner.whole(index) else { continue };
                let end = plan.begin + plan.rows;
                let from = part.partition_point(|position| position.row < plan.begin);
                let to = part.partition_point(|position| position.row < end);
                let own = part[from..to]
                    .iter()
                    .map(|p| u32::try_from(p.row - plan.begin).unwrap_or(u32::MAX));
                let own = RoaringBitmap::from_sorted_iter(own)
                    .map_err(|_| ServiceError::internal("rows are read in ascending order"))?;
                if !own.is_empty() {
                    picks.push(Pick { group: Group::of(&file, &plan), rows: Rows::Set(own) });
                }
            }
        }
        if picks.is_empty() {
            return Ok(Vec::new());
        }
        let access = self.access(&reading.tally);
        let schema = Arc::clone(schema);
        let per_row = picks.first().map_or(1, |pick| pick.row_bytes(&schema));
        if picks.len() > 2 && rows.len().saturating_mul(per_row) < bytes_max / 4 {
            return self
                .spread(picks, move |pick| access.rows(&pick.group, &pick.rows, &schema))
                .await;
        }
        self.work("of the page", move || {
            let (mut batches, mut bytes) = (Vec::new(), 0);
            for pick in picks {
                for step in access.steps(&pick.group, &pick.rows, &schema, bytes_max / 8) {
                    let batch = access.rows(&pick.group, &step, &schema)?;
                    bytes += slice_bytes(&batch);
                    batches.push(batch);
                    if bytes >= bytes_max {
                        return Ok(batches);
                    }
                }
            }
            Ok(batches)
        })
        .await
    }
}

/// Rows of one row group.
struct Pick {
    group: Group,
    rows: Rows,
}

impl Pick {
    fn row_bytes(&self, schema: &SchemaRef) -> usize {
        let file = &self.group.file;
        let rows = crate::scan::batch_rows(file, Some(self.group.index), schema, 1 << 20);
        (1 << 20) / rows.max(1)
    }
}

pub(crate) fn judge_of(reading: &Reading) -> Result<Option<Judge>, ServiceError> {
    reading.filter.as_ref().map(|filter| Judge::new(filter, &reading.schema)).transpose()
}

/// Gathers rows in the order of the walk.
struct Walker<'a, B> {
    blocks: &'a [B],
    walk: Walk,
    found: &'a mut Vec<Position>,
}

impl<B: AsRef<BlockRows>> Walker<'_, B> {
    /// The rows of a block that the walk comes by.
    fn range(&self, block: usize) -> Range<u64> {
        let rows = self.blocks.get(block).map_or(0, |block| block.as_ref().location.row_count);
        let here = block == self.walk.from.block;
        match (here, self.walk.back) {
            (true, true) => 0..self.walk.from.row.min(rows),
            (true, false) => self.walk.from.row.min(rows)..rows,
            _ => 0..rows,
        }
    }

    fn enough(&self) -> bool {
        self.found.len() >= self.walk.limit
    }

    fn add(&mut self, block: usize, rows: &mut dyn Iterator<Item = u64>) {
        let left = self.walk.limit.saturating_sub(self.found.len());
        self.found.extend(rows.take(left).map(|row| Position { block, row }));
    }

    /// All live rows of a range pass.
    fn all(&mut self, block: usize, range: &Range<u64>) {
        let deleted = self.blocks.get(block).and_then(|block| block.as_ref().deleted.clone());
        let live = |row: &u64| {
            let gone = u32::try_from(*row).ok().zip(deleted.as_ref());
            !gone.is_some_and(|(row, deleted)| deleted.contains(row))
        };
        if self.walk.back {
            self.add(block, &mut range.clone().rev().filter(live));
        } else {
            self.add(block, &mut range.clone().filter(live));
        }
    }

    /// The passing rows of the tail that the walk comes by.
    fn tail(&mut self, reading: &Reading) -> Result<(), ServiceError> {
        let (from, block) = (self.walk.from, self.blocks.len());
        if reading.tail.is_none() || self.enough() || from.block > block {
            return Ok(());
        }
        let rows = reading.tail_rows()?;
        let here = |row: &u64| match (from.block == block, self.walk.back) {
            (true, true) => *row < from.row,
            (true, false) => *row >= from.row,
            (false, back) => !back,
        };
        let rows: Vec<u64> = rows.into_iter().filter(here).collect();
        if self.walk.back {
            self.add(block, &mut rows.into_iter().rev());
        } else {
            self.add(block, &mut rows.into_iter());
        }
        Ok(())
    }

    fn take(&mut self, groups: Vec<(usize, u64, Rows)>) {
        for (block, begin, rows) in groups {
            let numbers = rows.numbers();
            let mut rows = numbers.values().iter().map(|row| begin + u64::from(*row));
            if self.walk.back {
                self.add(block, &mut rows.rev());
            } else {
                self.add(block, &mut rows);
            }
        }
    }

    fn finish(&mut self) {
        if self.walk.back {
            self.found.reverse();
        }
    }
}
