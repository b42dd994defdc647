//! Statistics of columns on their way to the catalog and back.

use arrow::array::ArrayRef;
use arrow::datatypes::DataType;
use blocks::ColumnStats;
use catalog_api::v1::value::Kind;
use catalog_api::v1::{ColumnStatistics, Value};
use cells::{array_of, cell};
use filter::ColumnRange;
use service_error::ServiceError;

/// Bounds of texts and bytes longer than this are not kept.
const BOUND_BYTES_MAX: usize = 1_024;

/// A block's statistics for the catalog.
pub fn statistics_of(columns: &[ColumnStats]) -> Result<Vec<ColumnStatistics>, ServiceError> {
    let bound = |array: &Option<ArrayRef>| -> Result<Option<Value>, ServiceError> {
        let Some(array) = array else { return Ok(None) };
        let value = cell(array, 0)?;
        let small = match &value.kind {
            Some(Kind::StringValue(text)) => text.len() <= BOUND_BYTES_MAX,
            Some(Kind::BytesValue(bytes)) => bytes.len() <= BOUND_BYTES_MAX,
            Some(_) => true,
            None => false,
        };
        Ok(small.then_some(value))
    };
    let mut out = Vec::with_capacity(columns.len());
    for column in columns {
        let (min, max) = (bound(&column.min)?, bound(&column.max)?);
        let both = min.is_some() && max.is_some();
        out.push(ColumnStatistics {
            column: column.name.clone(),
            null_count: i64::try_from(column.null_count).unwrap_or(i64::MAX),
            min: min.filter(|_| both),
            max: max.filter(|_| both),
            exact: column.exact,
        });
    }
    Ok(out)
}

/// What the catalog knows of a column, for pruning. A bound that cannot be read
/// is unknown.
pub fn range_of(statistics: &ColumnStatistics, data_type: &DataType) -> ColumnRange {
    let bound = |value: &Option<Value>| value.as_ref().and_then(|value| array_of(value, data_type));
    ColumnRange {
        min: bound(&statistics.min),
        max: bound(&statistics.max),
        null_count: u64::try_from(statistics.null_count).ok(),
    }
}
