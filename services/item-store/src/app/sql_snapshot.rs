//! A snapshot as SQL reads it: pruned by the manifest, then by footers, then
//! read block after block.

use std::sync::{Arc, OnceLock};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use blocks::{BlockReader, BlockSurvey, ScanPlan, ScanRange};
use filter::{Filter, Pruned};
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use service_error::ServiceError;
use sql_engine::{ColumnKnown, Known, Part, Read, Snapshot, Survey};

use crate::app::manifest::{Manifest, bounds};
use crate::app::reading::Opened;

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
pub(crate) struct SqlSnapshot {
    reader: BlockReader,
    manifest: Manifest,
    schema: SchemaRef,
    row_count: i64,
    byte_count: i64,
    known: OnceLock<Known>,
}

impl SqlSnapshot {
    pub fn new(reader: BlockReader, manifest: Manifest, opened: &Opened) -> Self {
        Self {
            reader,
            manifest,
            schema: Arc::clone(&opened.schema),
            row_count: opened.row_count,
            byte_count: opened.byte_count,
            known: OnceLock::new(),
        }
    }

    fn columns(&self) -> Vec<(String, ColumnKnown)> {
        if self.manifest.len() > BOUNDED_BLOCKS_MAX {
            return Vec::new();
        }
        let of = |name: &String| {
            let bounds = bounds(&self.manifest, name).ok()?;
            let known = ColumnKnown {
                null_count: bounds.null_count,
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
        let judged = self.manifest.iter().enumerate().map(|(at, block)| {
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
            row_count: u64::try_from(self.row_count).ok(),
            byte_count: u64::try_from(self.byte_count).ok(),
            columns: self.columns(),
        };
        self.known.get_or_init(known).clone()
    }

    async fn survey(&self, filter: Option<&Arc<Filter>>) -> Result<Survey, ServiceError> {
        let wanted = self.wanted(filter);
        let mut survey = Survey::default();
        survey.blocks.total = self.manifest.len() as u64;
        let is_looked_at = filter.is_some() || wanted.len() <= SHOWN_BLOCKS_MAX;
        let looks: Vec<_> = wanted
            .into_iter()
            .map(|(at, all)| {
                let location = &self.manifest[at].location;
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
        Ok(survey)
    }

    fn read(
        &self,
        parts: Vec<Part>,
        read: Read,
    ) -> BoxStream<'static, Result<RecordBatch, ServiceError>> {
        let range = |part: Part| {
            let block = self.manifest.get(part.source)?;
            Some(ScanRange { location: block.location.clone(), rows: part.rows })
        };
        let plan = ScanPlan {
            ranges: parts.into_iter().filter_map(range).collect(),
            schema: read.schema,
            dataset_schema: Arc::clone(&self.schema),
            filter: read.filter,
            limit: read.limit,
            batch_bytes: BATCH_BYTES,
        };
        self.reader.scan(plan).boxed()
    }
}
