//! Many blocks as one stream of batches, decoded a little ahead.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use filter::Filter;
use futures::Stream;
use futures::stream::unfold;
use service_error::ServiceError;
use tokio::runtime::Handle;
use tokio::sync::mpsc;

use crate::error::decoding;
use crate::footer::{BlockFile, BlockLocation};
use crate::plan::plan;
use crate::read::{BlockReader, filter_schema};
use crate::scan::{BlockScan, Pass};

/// Batches decoded before they are asked for, beside the one in work.
const BATCHES_AHEAD: usize = 2;

/// Rows of one block.
#[derive(Debug, Clone)]
pub struct ScanRange {
    /// The block.
    pub location: BlockLocation,
    /// Rows of it.
    pub rows: Range<u64>,
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
}

impl BlockReader {
    /// Reads block after block. At most a few batches are decoded ahead of the
    /// consumer; dropping the stream stops the work.
    pub fn scan(
        &self,
        plan: ScanPlan,
    ) -> impl Stream<Item = Result<RecordBatch, ServiceError>> + Send + use<> {
        let (batches, arriving) = mpsc::channel(BATCHES_AHEAD);
        let reader = self.clone();
        tokio::spawn(async move {
            let mut run = Run { reader, left: plan.limit.unwrap_or(u64::MAX), batches };
            if let Err(error) = run.blocks(&plan).await {
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
enum Next {
    More,
    Enough,
}

impl Run {
    async fn blocks(&mut self, plan: &ScanPlan) -> Result<(), ServiceError> {
        for range in &plan.ranges {
            if self.left == 0 {
                return Ok(());
            }
            let file = self.reader.open(&range.location).await?;
            if let Next::Enough = self.block(plan, range, file).await? {
                return Ok(());
            }
        }
        Ok(())
    }

    async fn block(
        &mut self,
        scan: &ScanPlan,
        range: &ScanRange,
        file: Arc<BlockFile>,
    ) -> Result<Next, ServiceError> {
        let runs = whole_or_filtered(&file, scan, range)?;
        for (row_groups, selection, filtered) in runs {
            let filter = match (&scan.filter, filtered) {
                (Some(filter), true) => {
                    Some((Arc::clone(filter), filter_schema(filter, &scan.dataset_schema)?))
                }
                _ => None,
            };
            let pass = Pass {
                row_groups,
                selection,
                schema: Arc::clone(&scan.schema),
                filter,
                batch_bytes: scan.batch_bytes,
            };
            let mut pass = BlockScan::new(Arc::clone(&file), pass, Handle::current())?;
            loop {
                // The slot is held while a thread works, never while the
                // consumer is awaited.
                let slot = self.reader.slot().await?;
                let step = tokio::task::spawn_blocking(move || {
                    let next = pass.next_batch();
                    drop(slot);
                    (pass, next)
                });
                let (back, next) = step.await.map_err(|error| decoding(file.key(), error))?;
                pass = back;
                let Some(batch) = next? else { break };
                if let Next::Enough = self.send(batch).await {
                    return Ok(Next::Enough);
                }
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

type RunOfGroups = (Vec<usize>, Option<parquet::arrow::arrow_reader::RowSelection>, bool);

/// Neighbouring row groups that are read alike, so that a block without a
/// filter is one pass.
fn whole_or_filtered(
    file: &BlockFile,
    scan: &ScanPlan,
    range: &ScanRange,
) -> Result<Vec<RunOfGroups>, ServiceError> {
    let groups = plan(file, scan.filter.as_deref(), range.rows.clone())?;
    let mut runs: Vec<RunOfGroups> = Vec::new();
    for group in groups {
        let selection = group.selection();
        match runs.last_mut() {
            Some((row_groups, None, filtered)) if selection.is_none() && *filtered != group.all => {
                row_groups.push(group.index);
            }
            _ => runs.push((vec![group.index], selection, !group.all)),
        }
    }
    Ok(runs)
}
