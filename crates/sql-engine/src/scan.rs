//! The leaf of a plan: a snapshot's parts, dealt to the plan's partitions.

use std::fmt;
use std::sync::Arc;

use datafusion::common::Statistics;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::TaskContext;
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr};
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType};
use datafusion::physical_plan::metrics::{BaselineMetrics, ExecutionPlanMetricsSet, MetricsSet};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, Partitioning, PlanProperties,
    SendableRecordBatchStream,
};
use futures::StreamExt;

use crate::table::{PART_ROWS, Part, Read, Survey, Table};

/// Fewer rows than this are read by one reader.
const ROWS_OF_ONE_READER: u64 = 65_536;

/// Reads a snapshot.
pub(crate) struct SnapshotScan {
    table: Table,
    read: Read,
    survey: Survey,
    known: Statistics,
    groups: Vec<Vec<Part>>,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
}

impl SnapshotScan {
    pub fn new(
        table: Table,
        read: Read,
        survey: Survey,
        known: Statistics,
        readers: usize,
    ) -> Self {
        let wanted = read.limit.unwrap_or(u64::MAX).min(survey.row_count);
        let readers = if wanted <= ROWS_OF_ONE_READER { 1 } else { readers.max(1) };
        let groups = dealt(&survey.parts, readers);
        let properties = Arc::new(PlanProperties::new(
            EquivalenceProperties::new(Arc::clone(&read.schema)),
            Partitioning::UnknownPartitioning(groups.len()),
            EmissionType::Incremental,
            Boundedness::Bounded,
        ));
        let metrics = ExecutionPlanMetricsSet::new();
        Self { table, read, survey, known, groups, properties, metrics }
    }
}

/// Neighbouring rows for each reader, about equally many; at least one group.
fn dealt(parts: &[Part], readers: usize) -> Vec<Vec<Part>> {
    let rows = |part: &Part| part.rows.end - part.rows.start;
    let total: u64 = parts.iter().map(rows).sum();
    let share = total.div_ceil(readers as u64).max(1);
    let mut groups: Vec<Vec<Part>> = vec![Vec::new()];
    let mut held = 0;
    for piece in parts.iter().flat_map(cut) {
        let middle = held + rows(&piece) / 2;
        let full = middle >= share * groups.len() as u64 && groups.len() < readers;
        if full && groups.last().is_some_and(|group| !group.is_empty()) {
            groups.push(Vec::new());
        }
        held += rows(&piece);
        let Some(group) = groups.last_mut() else { continue };
        match group.last_mut() {
            Some(last) if last.source == piece.source && last.rows.end == piece.rows.start => {
                last.rows.end = piece.rows.end;
            }
            _ => group.push(piece),
        }
    }
    groups
}

/// A part in pieces that end where row groups do.
fn cut(part: &Part) -> impl Iterator<Item = Part> + use<> {
    let Part { source, rows } = part.clone();
    let mut begin = rows.start;
    std::iter::from_fn(move || {
        let end = (begin / PART_ROWS + 1).saturating_mul(PART_ROWS).min(rows.end);
        (begin < end).then(|| {
            let piece = Part { source, rows: begin..end };
            begin = end;
            piece
        })
    })
}

impl fmt::Debug for SnapshotScan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SnapshotScan").field("table", &self.table).finish_non_exhaustive()
    }
}

impl DisplayAs for SnapshotScan {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let columns: Vec<&str> =
            self.read.schema.fields().iter().map(|field| field.name().as_str()).collect();
        write!(f, "SnapshotScan: {}, columns=[{}]", self.table.name, columns.join(", "))?;
        if let Some(filter) = &self.read.filter {
            write!(f, ", filter={}", filter.canonical())?;
        }
        if let Some(limit) = self.read.limit {
            write!(f, ", limit={limit}")?;
        }
        write!(f, ", readers={}, {}", self.groups.len(), self.survey)
    }
}

impl ExecutionPlan for SnapshotScan {
    fn name(&self) -> &'static str {
        "SnapshotScan"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        Vec::new()
    }

    fn with_new_children(
        self: Arc<Self>,
        _: Vec<Arc<dyn ExecutionPlan>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(self)
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn execute(&self, partition: usize, _: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let parts = self.groups.get(partition).cloned().unwrap_or_default();
        let metrics = BaselineMetrics::new(&self.metrics, partition);
        let (snapshot, read) = (Arc::clone(&self.table.snapshot), self.read.clone());
        let rows_max = usize::try_from(read.limit.unwrap_or(u64::MAX)).unwrap_or(usize::MAX);
        let batches = snapshot
            .read(parts, read)
            .map(move |batch| match batch {
                Ok(batch) => {
                    metrics.record_output(batch.num_rows());
                    Ok(batch)
                }
                Err(error) => Err(DataFusionError::External(Box::new(error))),
            })
            .scan(rows_max, |left, batch| {
                let batch = match batch {
                    Ok(_) if *left == 0 => return std::future::ready(None),
                    Ok(batch) if batch.num_rows() > *left => Ok(batch.slice(0, *left)),
                    batch => batch,
                };
                *left -= batch.as_ref().map_or(0, arrow::array::RecordBatch::num_rows);
                std::future::ready(Some(batch))
            });
        let schema = Arc::clone(&self.read.schema);
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, batches)))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }

    fn partition_statistics(&self, partition: Option<usize>) -> Result<Arc<Statistics>> {
        Ok(Arc::new(match partition {
            None => self.known.clone(),
            Some(_) => Statistics::new_unknown(&self.read.schema),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_dealt_evenly_and_in_order() {
        let part = |source: usize, rows: std::ops::Range<u64>| Part { source, rows };
        let parts: Vec<Part> = (0..10).map(|source| part(source, 0..100)).collect();
        let groups = dealt(&parts, 3);
        let sizes: Vec<usize> = groups.iter().map(Vec::len).collect();
        assert_eq!((groups.concat(), sizes), (parts, vec![3, 4, 3]));
        assert_eq!(dealt(&[], 4), [Vec::<Part>::new()]);
        assert_eq!(dealt(&[part(0, 0..5)], 4).len(), 1);
        let one = dealt(&[part(0, 100..PART_ROWS * 4)], 2);
        let half = PART_ROWS * 2;
        assert_eq!(one, [[part(0, 100..half)], [part(0, half..PART_ROWS * 4)]]);
    }
}
