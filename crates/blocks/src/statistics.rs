//! What a block's footer says of each column.

use std::collections::HashMap;

use arrow::array::{Array, ArrayRef, ArrowPrimitiveType, AsArray, BooleanArray, RecordBatch};
use arrow::datatypes::{DataType, Float16Type, Float32Type, Float64Type, Schema};
use filter::ColumnRange;
use parquet::arrow::arrow_reader::statistics::StatisticsConverter;
use parquet::errors::Result;
use parquet::file::metadata::ParquetMetaData;

use crate::keys::min_and_max;

/// Statistics of one column over a block.
#[derive(Debug, Clone)]
pub struct ColumnStats {
    /// The column's name.
    pub name: String,
    /// How many values are null.
    pub null_count: u64,
    /// The least value as an array of one; unset for types without an order.
    pub min: Option<ArrayRef>,
    /// The greatest value as an array of one.
    pub max: Option<ArrayRef>,
    /// Both bounds are the least and the greatest value: no cut texts, and no NaN beside them.
    pub exact: bool,
}

/// Statistics of every column. Nulls are counted from the data: Parquet counts
/// those of nested leaves.
pub(crate) fn of_block(
    schema: &Schema,
    metadata: &ParquetMetaData,
    batches: &[RecordBatch],
) -> Vec<ColumnStats> {
    let nulls = |column: usize| {
        batches.iter().map(|batch| batch.column(column).logical_null_count() as u64).sum()
    };
    let columns = schema.fields().iter().enumerate();
    columns
        .map(|(index, field)| {
            let mut stats = ColumnStats {
                name: field.name().clone(),
                null_count: nulls(index),
                min: None,
                max: None,
                exact: true,
            };
            if let Ok(Some(bounds)) = bounds(schema, metadata, field.name()) {
                // Parquet's bounds leave NaN out, which is above all numbers.
                let exact = bounds.exact && !batches.iter().any(|b| has_nan(b.column(index)));
                (stats.min, stats.max, stats.exact) = (Some(bounds.min), Some(bounds.max), exact);
            }
            stats
        })
        .collect()
}

fn has_nan(column: &ArrayRef) -> bool {
    fn any<T: ArrowPrimitiveType>(column: &ArrayRef, is_nan: impl Fn(T::Native) -> bool) -> bool {
        column.as_primitive_opt::<T>().is_some_and(|column| column.iter().flatten().any(is_nan))
    }
    match column.data_type() {
        DataType::Float16 => any::<Float16Type>(column, |value| value.is_nan()),
        DataType::Float32 => any::<Float32Type>(column, f32::is_nan),
        DataType::Float64 => any::<Float64Type>(column, f64::is_nan),
        DataType::Dictionary(_, value) => value.is_floating(),
        _ => false,
    }
}

struct BlockBounds {
    min: ArrayRef,
    max: ArrayRef,
    exact: bool,
}

fn bounds(
    schema: &Schema,
    metadata: &ParquetMetaData,
    column: &str,
) -> Result<Option<BlockBounds>> {
    let found = RowGroupRanges::of(schema, metadata, column)?;
    let floating = found.mins.data_type().is_floating();
    // A row group of values without bounds (all NaN aside) leaves the block
    // without bounds.
    for (index, row_group) in metadata.row_groups().iter().enumerate() {
        let rows = u64::try_from(row_group.num_rows()).unwrap_or(0);
        let bare = found.mins.is_null(index) || found.maxes.is_null(index);
        if bare && !floating && found.null_counts.get(index) != Some(&Some(rows)) {
            return Ok(None);
        }
    }
    let min = min_and_max(&found.mins)?.map(|(least, _)| least);
    let max = min_and_max(&found.maxes)?.map(|(_, greatest)| greatest);
    let all = |flags: &BooleanArray| flags.iter().flatten().all(|exact| exact);
    let exact = all(&found.min_exact) && all(&found.max_exact);
    Ok(min.zip(max).map(|(min, max)| BlockBounds { min, max, exact }))
}

/// The ranges of one column in each row group.
#[derive(Debug)]
pub(crate) struct RowGroupRanges {
    mins: ArrayRef,
    maxes: ArrayRef,
    null_counts: Vec<Option<u64>>,
    min_exact: BooleanArray,
    max_exact: BooleanArray,
}

impl RowGroupRanges {
    pub fn of(schema: &Schema, metadata: &ParquetMetaData, column: &str) -> Result<Self> {
        let converter =
            StatisticsConverter::try_new(column, schema, metadata.file_metadata().schema_descr())?;
        let groups = || metadata.row_groups().iter();
        Ok(Self {
            mins: converter.row_group_mins(groups())?,
            maxes: converter.row_group_maxes(groups())?,
            null_counts: converter.row_group_null_counts(groups())?.iter().collect(),
            min_exact: converter.row_group_is_min_value_exact(groups())?,
            max_exact: converter.row_group_is_max_value_exact(groups())?,
        })
    }

    pub fn range(&self, row_group: usize) -> ColumnRange {
        ColumnRange {
            min: present(&self.mins, row_group),
            max: present(&self.maxes, row_group),
            null_count: self.null_counts.get(row_group).copied().flatten(),
        }
    }
}

/// The ranges of one column in each page of one row group.
#[derive(Debug)]
pub(crate) struct PageRanges {
    mins: ArrayRef,
    maxes: ArrayRef,
    null_counts: Vec<Option<u64>>,
    /// The first row of each page.
    pub begins: Vec<u64>,
}

impl PageRanges {
    /// `None` if the file has no page index for the column.
    pub fn of(
        schema: &Schema,
        metadata: &ParquetMetaData,
        column: &str,
        row_group: usize,
    ) -> Result<Option<Self>> {
        let converter =
            StatisticsConverter::try_new(column, schema, metadata.file_metadata().schema_descr())?;
        let (Some(leaf), Some(columns), Some(offsets)) =
            (converter.parquet_column_index(), metadata.column_index(), metadata.offset_index())
        else {
            return Ok(None);
        };
        let locations = offsets
            .get(row_group)
            .and_then(|group| group.get(leaf))
            .map(|index| index.page_locations());
        let Some(locations) = locations.filter(|locations| !locations.is_empty()) else {
            return Ok(None);
        };
        let groups = [row_group];
        Ok(Some(Self {
            mins: converter.data_page_mins(columns, offsets, &groups)?,
            maxes: converter.data_page_maxes(columns, offsets, &groups)?,
            null_counts: converter
                .data_page_null_counts(columns, offsets, &groups)?
                .iter()
                .collect(),
            begins: locations
                .iter()
                .map(|page| u64::try_from(page.first_row_index).unwrap_or(0))
                .collect(),
        }))
    }

    /// The least and the greatest value of each page.
    pub const fn bounds(&self) -> (&ArrayRef, &ArrayRef) {
        (&self.mins, &self.maxes)
    }

    /// The range of the page that holds a row.
    pub fn at_row(&self, row: u64) -> ColumnRange {
        let page = self.begins.partition_point(|begin| *begin <= row).saturating_sub(1);
        ColumnRange {
            min: present(&self.mins, page),
            max: present(&self.maxes, page),
            null_count: self.null_counts.get(page).copied().flatten(),
        }
    }
}

fn present(array: &ArrayRef, index: usize) -> Option<ArrayRef> {
    (index < array.len() && array.is_valid(index)).then(|| array.slice(index, 1))
}

/// Ranges by column name.
pub(crate) type RangesByColumn<R> = HashMap<String, R>;
