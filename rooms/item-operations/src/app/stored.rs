//! Rows in storage order, as a stream: those of blocks, then those of the delta.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use blocks::{Position, ScanPlan, ScanRange};
use caller::Caller;
use filter::{Filter, Pruned};
use futures::StreamExt;
use service_error::ServiceError;

use crate::app::App;
use crate::app::reading::Opened;
use crate::app::watched::Batches;

/// What to read of a snapshot.
pub struct StoredRead {
    pub filter: Option<Arc<Filter>>,
    /// The columns to answer.
    pub schema: SchemaRef,
    /// The first row to look at.
    pub from: Position,
    /// The block to end before; the delta's rows are one block more after the last.
    pub end: usize,
    pub limit: Option<u64>,
}

impl App {
    /// The passing rows of an opened dataset, or of a part of it.
    pub async fn stored(
        &self,
        caller: &Caller,
        opened: &Opened,
        read: StoredRead,
    ) -> Result<Batches, ServiceError> {
        let StoredRead { filter, schema, from, end, limit } = read;
        let view = self.view(caller, opened).await?;
        let last = view.blocks.len();
        let first_of = |block: usize| if block == from.block { from.row } else { 0 };
        let tail = match end > last && from.block <= last {
            true => view.tail_batch(filter.as_deref(), &schema, first_of(last))?,
            false => None,
        };
        let end = end.min(last);
        let wanted = (from.block..end).zip(view.blocks.get(from.block..end).unwrap_or_default());
        let wanted =
            wanted.filter(|(_, b)| filter.as_ref().is_none_or(|f| b.prune(f) != Pruned::None));
        let range = |(at, block): (usize, &crate::app::manifest::ManifestBlock)| {
            let rows = block.rows.location.row_count;
            ScanRange {
                location: block.rows.location.clone(),
                rows: first_of(at).min(rows)..rows,
                deleted: block.rows.deleted.clone(),
            }
        };
        let plan = ScanPlan {
            ranges: wanted.map(range).collect(),
            schema,
            dataset_schema: Arc::clone(&opened.schema),
            filter,
            limit,
            batch_bytes: self.settings.flight.batch_bytes.max(1),
            tally: Arc::default(),
            table_rows: Some(view.row_count),
        };
        Ok(with_tail(self.reader.scan(plan).boxed(), tail, limit))
    }
}

/// The rows of blocks, then those of the delta, at most `limit` of them.
fn with_tail(blocks: Batches, tail: Option<RecordBatch>, limit: Option<u64>) -> Batches {
    let Some(tail) = tail else { return blocks };
    let all = blocks.chain(futures::stream::once(std::future::ready(Ok(tail))));
    let mut left = limit.unwrap_or(u64::MAX);
    all.map(move |batch| {
        batch.map(|batch| {
            let rows = usize::try_from(left).unwrap_or(usize::MAX).min(batch.num_rows());
            left -= rows as u64;
            batch.slice(0, rows)
        })
    })
    .boxed()
}
