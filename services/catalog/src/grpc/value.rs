//! Column statistics and their values.

use catalog_api::v1 as wire;
use catalog_api::v1::value::Kind;
use prost_types::Timestamp;
use service_error::ServiceError;

use crate::model::{ColumnStats, Scalar};

/// Statistics as the wire has them.
pub fn to_wire(stats: &ColumnStats) -> wire::ColumnStatistics {
    wire::ColumnStatistics {
        column: stats.column.clone(),
        null_count: stats.null_count,
        min: stats.min.as_ref().map(value_of),
        max: stats.max.as_ref().map(value_of),
        exact: stats.exact,
    }
}

/// Statistics from the wire.
///
/// # Errors
/// A bound of a kind that has no order.
pub fn from_wire(stats: wire::ColumnStatistics) -> Result<ColumnStats, ServiceError> {
    let min = scalar_of(stats.min, &stats.column)?;
    let max = scalar_of(stats.max, &stats.column)?;
    Ok(ColumnStats {
        column: stats.column,
        null_count: stats.null_count,
        min,
        max,
        exact: stats.exact,
    })
}

fn value_of(scalar: &Scalar) -> wire::Value {
    let kind = match scalar.clone() {
        Scalar::Bool(value) => Kind::BoolValue(value),
        Scalar::Int(value) => Kind::IntValue(value),
        Scalar::UInt(value) => Kind::UintValue(value),
        Scalar::Double(value) => Kind::DoubleValue(value),
        Scalar::Text(text) => Kind::StringValue(text),
        Scalar::Bytes(bytes) => Kind::BytesValue(bytes),
        Scalar::Timestamp(seconds, nanos) => Kind::TimestampValue(Timestamp { seconds, nanos }),
        Scalar::Decimal(text) => Kind::DecimalValue(text),
        Scalar::Date(text) => Kind::DateValue(text),
        Scalar::Time(text) => Kind::TimeValue(text),
        Scalar::Duration(text) => Kind::DurationValue(text),
    };
    wire::Value { kind: Some(kind) }
}

fn scalar_of(value: Option<wire::Value>, column: &str) -> Result<Option<Scalar>, ServiceError> {
    let Some(kind) = value.and_then(|value| value.kind) else {
        return Ok(None);
    };
    Ok(Some(match kind {
        Kind::BoolValue(value) => Scalar::Bool(value),
        Kind::IntValue(value) => Scalar::Int(value),
        Kind::UintValue(value) => Scalar::UInt(value),
        Kind::DoubleValue(value) => Scalar::Double(value),
        Kind::StringValue(text) => Scalar::Text(text),
        Kind::BytesValue(bytes) => Scalar::Bytes(bytes),
        Kind::TimestampValue(time) => Scalar::Timestamp(time.seconds, time.nanos),
        Kind::DecimalValue(text) => Scalar::Decimal(text),
        Kind::DateValue(text) => Scalar::Date(text),
        Kind::TimeValue(text) => Scalar::Time(text),
        Kind::DurationValue(text) => Scalar::Duration(text),
        Kind::ListValue(_) | Kind::StructValue(_) => {
            let message =
                format!("column {column:?} has a nested value as its bound; leave it out");
            return Err(ServiceError::invalid("blocks", message));
        }
    }))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn statistics_cross_the_wire_unchanged() {
        let stats = ColumnStats {
            column: "t".into(),
            null_count: 3,
            min: Some(Scalar::Timestamp(-5, 7)),
            max: Some(Scalar::Decimal("1.50".into())),
            exact: true,
        };
        assert_eq!(from_wire(to_wire(&stats)).unwrap(), stats);
        let unknown = ColumnStats { min: None, max: None, exact: false, ..stats };
        assert_eq!(from_wire(to_wire(&unknown)).unwrap(), unknown);
    }

    #[test]
    fn a_nested_bound_is_refused_with_its_column() {
        let nested = wire::Value { kind: Some(Kind::ListValue(wire::ListValue::default())) };
        let stats = wire::ColumnStatistics {
            column: "tags".into(),
            min: Some(nested),
            ..Default::default()
        };
        assert!(from_wire(stats).unwrap_err().message().contains("\"tags\""));
    }
}
