//! A view as SQL reads it: pruned by the manifest, then by footers, then read
//! block after block without deleted rows, and the rows of the delta at the end.

use std::sync::{Arc, OnceLock};

use arrow::array::RecordBatch;
use arrow::compute::filter_record_batch;
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use async_trait::async_trait;
use blocks::{BlockReader, BlockSurvey, ScanPlan, ScanRange, conform};
use filter::{Filter, Pruned};
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use service_error::ServiceError;
use sql_engine::{ColumnKnown, Known, Part, Read, Snapshot, Survey};

use crate::app::manifest::bounds;
use crate::app::reading::Opened;
use crate::app::view::View;

/// Footers that are opened at once.
const FOOTERS_AHEAD: usize = 8;
/// Without a filter, footers are looked at for the plan's sake only: of so many
/// blocks at most.
const SHOWN_BLOCKS_MAX: usize = 64;
/// Bounds of columns are told for so many blocks at most.
const BOUNDED_BLOCKS_MAX: usize = 1_000;
/// About how large a batch is.
const BATCH_BYTES: usize = 1 << 20;

/// The rows of an opened dataset.
pub struct SqlSnapshot {
    reader: BlockReader,
    view: Arc<View>,
    schema: SchemaRef,
    byte_count: i64,
    known: OnceLock<Known>,
}

impl SqlSnapshot {
    pub fn new(reader: BlockReader, view: Arc<View>, opened: &Opened) -> Self {
        Self {
            reader,
            view,
            schema: Arc::clone(&opened.schema),
            byte_count: opened.byte_count,
            known: OnceLock::new(),
        }
    }

    fn columns(&self) -> Vec<(String, ColumnKnown)> {
        let blocks = &self.view.blocks;
        // What the delta says of a column is not in the blocks' statistics.
        if blocks.len() > BOUNDED_BLOCKS_MAX || self.view.tail.is_some() {
            return Vec::new();
        }
        let whole = blocks.iter().all(|block| block.rows.deleted.is_none());
        let of = |name: &String| {
            let bounds = bounds(blocks, name).ok()?;
            let known = ColumnKnown {
                // Of deleted rows too, where there are any.
                null_count: bounds.null_count.filter(|_| whole),
                min: bounds.min,
                max: bounds.max,
                exact: bounds.exact,
            };
            Some((name.clone(), known))
        };
        self.schema.fields().iter().filter_map(|field| of(field.name())).collect()
    }

    /// Blocks that the manifest does not rule out, and whether all rows pass.
    fn wanted(&self, filter: Option<&Arc<Filter>>) -> Vec<(usize, bool)> {
        let judged = self.view.blocks.iter().enumerate().map(|(at, block)| {
            let pruned = filter.map_or(Pruned::All, |filter| block.prune(filter));
            (at, pruned)
        });
        judged.filter(|(_, p)| *p != Pruned::None).map(|(at, p)| (at, p == Pruned::All)).collect()
    }
}

#[async_trait]
impl Snapshot for SqlSnapshot {
    fn known(&self) -> Known {
        let known = || Known {
            row_count: Some(self.view.row_count),
            byte_count: u64::try_from(self.byte_count).ok(),
            columns: self.columns(),
        };
        self.known.get_or_init(known).clone()
    }

    async fn survey(&self, filter: Option<&Arc<Filter>>) -> Result<Survey, ServiceError> {
        let wanted = self.wanted(filter);
        let mut survey = Survey::default();
        survey.blocks.total = self.view.blocks.len() as u64;
        let is_looked_at = filter.is_some() || wanted.len() <= SHOWN_BLOCKS_MAX;
        let looks: Vec<_> = wanted
            .into_iter()
            .map(|(at, all)| {
                let location = &self.view.blocks[at].rows.location;
                let filter = filter.filter(|_| !all).cloned();
                async move {
                    if is_looked_at {
                        return Ok((at, self.reader.survey(location, filter).await?));
                    }
                    let ranges = std::iter::once(0..location.row_count).collect();
                    Ok::<_, ServiceError>((at, BlockSurvey { ranges, ..BlockSurvey::default() }))
                }
            })
            .collect();
        let mut looks = futures::stream::iter(looks).buffered(FOOTERS_AHEAD);
        while let Some((source, block)) = looks.try_next().await? {
            survey.blocks.read += u64::from(!block.ranges.is_empty());
            survey.row_groups.read += block.row_groups.0;
            survey.row_groups.total += block.row_groups.1;
            survey.pages.read += block.pages.0;
            survey.pages.total += block.pages.1;
            for rows in block.ranges {
                survey.row_count += rows.end - rows.start;
                survey.parts.push(Part { source, rows });
            }
        }
        if let Some(tail) = &self.view.tail {
            let rows = 0..tail.num_rows() as u64;
            survey.row_count += rows.end;
            survey.parts.push(Part { source: self.view.blocks.len(), rows });
        }
        Ok(survey)
    }

    fn read(
        &self,
        parts: Vec<Part>,
        read: Read,
    ) -> BoxStream<'static, Result<RecordBatch, ServiceError>> {
        let range = |part: &Part| {
            let rows = &self.view.blocks.get(part.source)?.rows;
            Some(ScanRange {
                location: rows.location.clone(),
                rows: part.rows.clone(),
                deleted: rows.deleted.clone(),
            })
        };
        let tails: Vec<Result<RecordBatch, ServiceError>> = parts
            .iter()
            .filter(|part| part.source == self.view.blocks.len())
            .filter_map(|part| self.tail(part, &read).transpose())
            .collect();
        let plan = ScanPlan {
            ranges: parts.iter().filter_map(range).collect(),
            schema: read.schema,
            dataset_schema: Arc::clone(&self.schema),
            filter: read.filter,
            limit: read.limit,
            batch_bytes: BATCH_BYTES,
            tally: Arc::default(),
            table_rows: Some(self.view.row_count),
        };
        // More than the limit is cut by whoever asked.
        let blocks = self.reader.scan(plan);
        blocks.chain(futures::stream::iter(tails)).boxed()
    }
}

impl SqlSnapshot {
    /// The rows of the delta that a part names and that pass.
    fn tail(&self, part: &Part, read: &Read) -> Result<Option<RecordBatch>, ServiceError> {
        let Some(tail) = &self.view.tail else { return Ok(None) };
        let place = |row: u64| usize::try_from(row).unwrap_or(usize::MAX).min(tail.num_rows());
        let (begin, end) = (place(part.rows.start), place(part.rows.end));
        let wrong = |error: ArrowError| {
            ServiceError::internal(format!("the delta does not fit the dataset: {error}"))
        };
        let mut rows = tail.slice(begin, end.saturating_sub(begin));
        if let Some(filter) = &read.filter {
            let passing = filter.evaluate(&rows).map_err(wrong)?;
            rows = filter_record_batch(&rows, &passing).map_err(wrong)?;
        }
        let rows = conform(&rows, &read.schema).map_err(wrong)?;
        Ok(Some(rows).filter(|rows| rows.num_rows() > 0))
    }
}
