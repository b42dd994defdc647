//! Many blocks as one stream of batches, decoded a little ahead.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use filter::Filter;
use futures::Stream;
use futures::stream::unfold;
use roaring::RoaringBitmap;
use service_error::ServiceError;
use tokio::sync::mpsc;

use crate::access::{Access, Group, pick};
use crate::error::decoding;
use crate::footer::{BlockFile, BlockLocation};
use crate::judge::Judge;
use crate::plan::{GroupPlan, Planner};
use crate::read::{BlockReader, Reading};
use crate::rows::Rows;
use crate::scan::{BlockScan, Pass, batch_rows, row_bytes};
use crate::tally::Tally;

/// Batches decoded before they are asked for, in each row group in work.
const BATCHES_AHEAD: usize = 2;
/// The part of the memory that a table may take by being streamed.
const STREAMED_PART: u64 = 4;

/// Rows of one block.
#[derive(Debug, Clone)]
pub struct ScanRange {
    /// The block.
    pub location: BlockLocation,
    /// Rows of it.
    pub rows: Range<u64>,
    /// Positions in the block that are left out.
    pub deleted: Option<Arc<RoaringBitmap>>,
}

/// What to read, in order.
#[derive(Debug, Clone)]
pub struct ScanPlan {
    /// Blocks in storage order.
    pub ranges: Vec<ScanRange>,
    /// The columns to answer, in their order.
    pub schema: SchemaRef,
    /// The schema of the dataset, which the filter was made for.
    pub dataset_schema: SchemaRef,
    /// Rows that do not pass are left out.
    pub filter: Option<Arc<Filter>>,
    /// Rows at most.
    pub limit: Option<u64>,
    /// About how large a batch should be in memory.
    pub batch_bytes: usize,
    /// Where costs are added up.
    pub tally: Arc<Tally>,
    /// Rows of the table that this is a part of: columns that are streamed twice are kept, if
    /// those of the whole table fit. `None` for what is read once.
    pub table_rows: Option<u64>,
}

impl BlockReader {
    /// Reads block after block, as many row groups side by side as one
    /// operation has threads. At most a few batches are decoded ahead of the
    /// consumer; dropping the stream stops the work.
    pub fn scan(
        &self,
        plan: ScanPlan,
    ) -> impl Stream<Item = Result<RecordBatch, ServiceError>> + Send + use<> {
        let (batches, arriving) = mpsc::channel(1);
        let reader = self.clone();
        tokio::spawn(async move {
            let mut run = Run { reader, left: plan.limit.unwrap_or(u64::MAX), batches };
            if let Err(error) = run.blocks(plan).await {
                let _ = run.batches.send(Err(error)).await;
            }
        });
        unfold(arriving, |mut arriving| async move {
            arriving.recv().await.map(|batch| (batch, arriving))
        })
    }
}

struct Run {
    reader: BlockReader,
    left: u64,
    batches: mpsc::Sender<Result<RecordBatch, ServiceError>>,
}

/// Whether to go on.
#[derive(PartialEq, Eq)]
enum Next {
    More,
    Enough,
}

type Arriving = mpsc::Receiver<Result<RecordBatch, ServiceError>>;

impl Run {
    async fn blocks(&mut self, plan: ScanPlan) -> Result<(), ServiceError> {
        let reading = Reading {
            schema: Arc::clone(&plan.dataset_schema),
            filter: plan.filter.clone(),
            tally: Arc::clone(&plan.tally),
            tail: None,
        };
        let judge = crate::find::judge_of(&reading)?;
        let (plan, mut ahead) = (Arc::new(plan), VecDeque::new());
        for range in &plan.ranges {
            if self.left == 0 {
                return Ok(());
            }
            let file = self.reader.open(&range.location, &plan.tally).await?;
            plan.tally.blocks(1, 0);
            let keeps = self.keeps(&plan, &file);
            let planner = Arc::new(Planner::new(file, plan.filter.clone())?);
            for group in planner.groups(&range.rows) {
                let unit = Unit {
                    reader: self.reader.clone(),
                    access: self.reader.access(&plan.tally),
                    plan: Arc::clone(&plan),
                    planner: Arc::clone(&planner),
                    group,
                    rows: range.rows.clone(),
                    deleted: range.deleted.clone(),
                    judge: judge.clone(),
                    keeps,
                };
                ahead.push_back(unit.start());
                // A limit is often met by the first rows.
                let width = if plan.limit.is_some() { 1 } else { self.reader.workers() };
                if ahead.len() >= width
                    && let Some(first) = ahead.pop_front()
                    && self.forward(first).await? == Next::Enough
                {
                    return Ok(());
                }
            }
        }
        for arriving in ahead {
            if self.forward(arriving).await? == Next::Enough {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Whether the table that a block is part of fits into memory.
    fn keeps(&self, plan: &ScanPlan, file: &BlockFile) -> bool {
        let room = self.reader.hot().budget() as u64 / STREAMED_PART;
        plan.table_rows
            .is_some_and(|rows| rows.saturating_mul(row_bytes(file, None, &plan.schema)) <= room)
    }

    async fn forward(&mut self, mut arriving: Arriving) -> Result<Next, ServiceError> {
        while let Some(batch) = arriving.recv().await {
            if self.send(batch?).await == Next::Enough {
                return Ok(Next::Enough);
            }
        }
        Ok(Next::More)
    }

    async fn send(&mut self, batch: RecordBatch) -> Next {
        let rows = batch.num_rows() as u64;
        let batch = match usize::try_from(self.left) {
            Ok(left) if rows > self.left => batch.slice(0, left),
            _ => batch,
        };
        self.left -= batch.num_rows() as u64;
        let sent = self.batches.send(Ok(batch)).await;
        if sent.is_err() || self.left == 0 { Next::Enough } else { Next::More }
    }
}

/// One row group of a scan.
struct Unit {
    reader: BlockReader,
    access: Access,
    plan: Arc<ScanPlan>,
    planner: Arc<Planner>,
    group: usize,
    rows: Range<u64>,
    deleted: Option<Arc<RoaringBitmap>>,
    judge: Option<Judge>,
    keeps: bool,
}

/// The batches of a unit, one after the other, on blocking threads.
enum Source {
    /// Pages are decoded as they are asked for and forgotten.
    Stream(Box<BlockScan>),
    /// Chosen rows.
    Steps(Group, VecDeque<Rows>),
    /// Parts of a group that is in memory.
    Held(Group, RecordBatch, VecDeque<Rows>),
    Empty,
}

impl Unit {
    fn start(self) -> Arriving {
        let (batches, arriving) = mpsc::channel(BATCHES_AHEAD);
        tokio::spawn(async move {
            if let Err(error) = self.run(&batches).await {
                let _ = batches.send(Err(error)).await;
            }
        });
        arriving
    }

    async fn run(
        self,
        batches: &mpsc::Sender<Result<RecordBatch, ServiceError>>,
    ) -> Result<(), ServiceError> {
        let key = self.planner.file().location().object_key.clone();
        let reader = self.reader.clone();
        let access = self.access.clone();
        let schema = Arc::clone(&self.plan.schema);
        let mut source = reader.work(&key, move || self.source()).await?;
        loop {
            // The slot is held while a thread works, never while the consumer
            // is awaited.
            let slot = reader.slot().await?;
            let (access, schema) = (access.clone(), Arc::clone(&schema));
            let step = tokio::task::spawn_blocking(move || {
                let next = source.next(&access, &schema);
                drop(slot);
                (source, next)
            });
            let (back, next) = step.await.map_err(|error| decoding(&key, error))?;
            source = back;
            let Some(batch) = next? else { return Ok(()) };
            if batch.num_rows() > 0 && batches.send(Ok(batch)).await.is_err() {
                return Ok(());
            }
        }
    }

    fn source(&self) -> Result<Source, ServiceError> {
        let access = &self.access;
        let Some(group_plan) = self.planner.group(self.group, &self.rows, access)? else {
            return Ok(Source::Empty);
        };
        let file = self.planner.file();
        let group = Group::of(file, &group_plan);
        let rows =
            Rows::of(&group_plan.ranges, group_plan.begin, group.rows, self.deleted.as_deref());
        let rows = match &self.judge {
            Some(judge) if !group_plan.all => judge.rows(access, &group, rows)?,
            _ => rows,
        };
        self.source_of(group, &group_plan, rows)
    }

    fn source_of(
        &self,
        group: Group,
        plan: &GroupPlan,
        rows: Rows,
    ) -> Result<Source, ServiceError> {
        if rows.is_empty() {
            return Ok(Source::Empty);
        }
        let (schema, bytes) = (&self.plan.schema, self.plan.batch_bytes);
        let most = rows.len() * 2 >= group.rows;
        let again = most && self.keeps && self.access.touched(&group, schema);
        if again || self.access.is_whole(&group, schema) {
            let whole = self.access.whole(&group, schema)?;
            return Ok(Source::Held(group.clone(), whole, self.hot_steps(&group, rows)));
        }
        if !most {
            let steps = self.access.steps(&group, &rows, schema, bytes);
            return Ok(Source::Steps(group, steps.into()));
        }
        let all = rows.len() == group.rows;
        let ranges: Vec<Range<u64>> = rows
            .ranges()
            .iter()
            .map(|range| plan.begin + range.start as u64..plan.begin + range.end as u64)
            .collect();
        let pass = Pass {
            row_groups: vec![group.index],
            selection: (!all).then(|| crate::plan::selection(&ranges, plan.begin, plan.rows)),
            schema: Arc::clone(schema),
            batch_bytes: bytes,
            batch_rows: None,
        };
        let scan = BlockScan::new(Arc::clone(&group.file), pass, &self.access)?;
        Ok(Source::Stream(Box::new(scan)))
    }

    /// Parts of what is in memory; neighbouring rows stay ranges.
    fn hot_steps(&self, group: &Group, rows: Rows) -> VecDeque<Rows> {
        if !matches!(rows, Rows::All(_)) {
            let steps = self.access.steps(group, &rows, &self.plan.schema, self.plan.batch_bytes);
            return steps.into();
        }
        let step =
            batch_rows(&group.file, Some(group.index), &self.plan.schema, self.plan.batch_bytes);
        let starts = (0..group.rows).step_by(step);
        starts.map(|start| Rows::Range(start..(start + step).min(group.rows))).collect()
    }
}

impl Source {
    fn next(
        &mut self,
        access: &Access,
        schema: &SchemaRef,
    ) -> Result<Option<RecordBatch>, ServiceError> {
        match self {
            Self::Empty => Ok(None),
            Self::Stream(scan) => scan.next_batch(),
            Self::Held(group, whole, steps) => {
                steps.pop_front().map(|rows| pick(group, whole, &rows)).transpose()
            }
            Self::Steps(group, steps) => match steps.pop_front() {
                None => Ok(None),
                Some(rows) => access.rows(group, &rows, schema).map(Some),
            },
        }
    }
}
