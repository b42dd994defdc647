//! What a table is read from, and how DataFusion sees it.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch};
use arrow::datatypes::{DataType, SchemaRef};
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::stats::Precision;
use datafusion::common::{ColumnStatistics, ScalarValue, Statistics};
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown, TableType};
use datafusion::physical_plan::ExecutionPlan;
use filter::Filter;
use futures::stream::BoxStream;
use service_error::ServiceError;

use crate::names::TableName;
use crate::pushdown;
use crate::scan::SnapshotScan;

/// Rows of a dataset as they stand at one moment.
#[async_trait]
pub trait Snapshot: Send + Sync + 'static {
    /// What is known of it without reading.
    fn known(&self) -> Known;

    /// Which parts may hold rows that pass, and what the others were spared.
    async fn survey(&self, filter: Option<&Arc<Filter>>) -> Result<Survey, ServiceError>;

    /// Batches of parts, in the schema that was asked for. Dropping the stream
    /// stops the work.
    fn read(
        &self,
        parts: Vec<Part>,
        read: Read,
    ) -> BoxStream<'static, Result<RecordBatch, ServiceError>>;
}

/// Where parts are cut: about a row group.
pub const PART_ROWS: u64 = 131_072;

/// What to read of parts.
#[derive(Debug, Clone)]
pub struct Read {
    /// The columns, in their order; it may have none.
    pub schema: SchemaRef,
    /// Rows that do not pass are left out.
    pub filter: Option<Arc<Filter>>,
    /// Rows at most.
    pub limit: Option<u64>,
    /// About how many rows a batch should have.
    pub batch_rows: usize,
}

/// What is known of a snapshot.
#[derive(Debug, Clone, Default)]
pub struct Known {
    /// How many rows there are, exactly.
    pub row_count: Option<u64>,
    /// Of the files that hold them, about.
    pub byte_count: Option<u64>,
    /// By column; what is missing is unknown.
    pub columns: Vec<(String, ColumnKnown)>,
}

/// What is known of a column.
#[derive(Debug, Clone, Default)]
pub struct ColumnKnown {
    /// Nulls.
    pub null_count: Option<u64>,
    /// An array of one.
    pub min: Option<ArrayRef>,
    /// An array of one.
    pub max: Option<ArrayRef>,
    /// The bounds are values of the column as it stands, not just around them.
    pub exact: bool,
}

/// Neighbouring rows. What `source` means is the snapshot's; a part may be cut
/// between readers at multiples of [`PART_ROWS`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// Which block, or what else holds rows.
    pub source: usize,
    /// Positions within it.
    pub rows: Range<u64>,
}

/// How many there are, and how many of them are read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Read.
    pub read: u64,
    /// In all.
    pub total: u64,
}

/// What a scan will look at.
#[derive(Debug, Clone, Default)]
pub struct Survey {
    /// In storage order.
    pub parts: Vec<Part>,
    /// Blocks.
    pub blocks: Tally,
    /// Row groups of the blocks that are read.
    pub row_groups: Tally,
    /// Pages of the filter's columns in these row groups.
    pub pages: Tally,
    /// Rows of the parts: as many pass at most.
    pub row_count: u64,
}

impl std::fmt::Display for Survey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut tally = |name: &str, tally: Tally, comma: &str| {
            let skipped = tally.total.saturating_sub(tally.read);
            write!(f, "{name} read={} skipped={skipped}{comma}", tally.read)
        };
        tally("blocks", self.blocks, ", ")?;
        tally("row_groups", self.row_groups, ", ")?;
        tally("pages", self.pages, ", ")?;
        write!(f, "rows≤{}", self.row_count)
    }
}

/// A table that a query may name.
#[derive(Clone)]
pub struct Table {
    /// How the query names it.
    pub name: TableName,
    /// Its columns.
    pub schema: SchemaRef,
    /// Its rows.
    pub snapshot: Arc<dyn Snapshot>,
    /// Of them, the query sees those that pass.
    pub filter: Option<Arc<Filter>>,
}

impl Table {
    /// All rows of a snapshot.
    #[must_use]
    pub const fn new(name: TableName, schema: SchemaRef, snapshot: Arc<dyn Snapshot>) -> Self {
        Self { name, schema, snapshot, filter: None }
    }

    /// The rows that pass a filter.
    #[must_use]
    pub fn filtered(self, filter: Option<Arc<Filter>>) -> Self {
        Self { filter, ..self }
    }
}

impl std::fmt::Debug for Table {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Table").field("name", &self.name).finish_non_exhaustive()
    }
}

#[async_trait]
impl TableProvider for Table {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn statistics(&self) -> Option<Statistics> {
        let known = statistics(&self.snapshot.known(), &self.schema);
        Some(if self.filter.is_some() { known.to_inexact() } else { known })
    }

    fn supports_filters_pushdown(
        &self,
        filters: &[&Expr],
    ) -> Result<Vec<TableProviderFilterPushDown>> {
        let exact = |filter: &&Expr| match pushdown::filter(filter, &self.schema) {
            Some(_) => TableProviderFilterPushDown::Exact,
            None => TableProviderFilterPushDown::Unsupported,
        };
        Ok(filters.iter().map(exact).collect())
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let schema = match projection {
            Some(columns) => Arc::new(self.schema.project(columns)?),
            None => Arc::clone(&self.schema),
        };
        let parts: Option<Vec<Filter>> =
            filters.iter().map(|expr| pushdown::filter(expr, &self.schema)).collect();
        let parts = parts.ok_or_else(|| {
            DataFusionError::Internal("a filter was pushed down that does not fit".to_owned())
        })?;
        let always = self.filter.iter().map(|filter| filter.as_ref().clone());
        let filter = Filter::all(always.chain(parts).collect()).map(Arc::new);
        let survey = self.snapshot.survey(filter.as_ref()).await;
        let survey = survey.map_err(|error| DataFusionError::External(Box::new(error)))?;
        let known = self.snapshot.known();
        let mut known = statistics(&known, &self.schema).project(projection);
        if filter.is_some() {
            known = known.to_inexact();
            known.num_rows = match survey.row_count {
                0 => Precision::Exact(0),
                rows => Precision::Inexact(usize::try_from(rows).unwrap_or(usize::MAX)),
            };
        }
        let config = state.config();
        let read = Read {
            schema,
            filter,
            limit: limit.map(|limit| limit as u64),
            batch_rows: config.batch_size(),
        };
        let scan = SnapshotScan::new(self.clone(), read, survey, known, config.target_partitions());
        Ok(Arc::new(scan))
    }
}

/// In DataFusion's words. Bounds of floats are never exact: statistics leave
/// NaN out and SQL orders it last.
fn statistics(known: &Known, schema: &SchemaRef) -> Statistics {
    let count = |n: u64| usize::try_from(n).unwrap_or(usize::MAX);
    let mut all = Statistics::new_unknown(schema);
    all.num_rows = known.row_count.map_or(Precision::Absent, |n| Precision::Exact(count(n)));
    all.total_byte_size =
        known.byte_count.map_or(Precision::Absent, |n| Precision::Inexact(count(n)));
    for (name, column) in &known.columns {
        let Some((index, field)) = schema.column_with_name(name) else { continue };
        let exact = column.exact && !is_float(field.data_type());
        let bound = |array: &Option<ArrayRef>| {
            let value = array.as_ref().and_then(|array| ScalarValue::try_from_array(array, 0).ok());
            let value = value.filter(|value| value.data_type() == *field.data_type());
            match value {
                Some(value) if exact => Precision::Exact(value),
                Some(value) => Precision::Inexact(value),
                None => Precision::Absent,
            }
        };
        all.column_statistics[index] = ColumnStatistics {
            null_count: column.null_count.map_or(Precision::Absent, |n| Precision::Exact(count(n))),
            min_value: bound(&column.min),
            max_value: bound(&column.max),
            ..ColumnStatistics::new_unknown()
        };
    }
    all
}

pub(crate) fn is_float(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Float16 | DataType::Float32 | DataType::Float64)
}
