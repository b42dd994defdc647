//! Payload values and vectors, from the wire and back.

use std::collections::HashMap;

use catalog_api::v1 as cell;
use catalog_api::v1::value::Kind;
use chrono::NaiveDate;
use grpc_room::timestamp;
use payload_index::{Payload, PayloadError, Value};
use service_error::ServiceError;
use vector_records::model::OwnedVector;
use vectors_api::v1 as wire;

/// The fields of a point; nulls are left out.
///
/// # Errors
/// `InvalidArgument` naming `field`, for a value that is not filtered by.
pub fn payload_from_wire(
    field: &str,
    fields: HashMap<String, cell::Value>,
) -> Result<Payload, ServiceError> {
    let mut values = Vec::with_capacity(fields.len());
    for (name, value) in fields {
        if let Some(value) = value_from_wire(field, &name, value)? {
            values.push((name, value));
        }
    }
    Payload::new(values).map_err(|error| refused(field, &error))
}

fn refused(field: &str, error: &PayloadError) -> ServiceError {
    ServiceError::invalid(field, error).reason("PAYLOAD_INVALID")
}

fn value_from_wire(
    field: &str,
    name: &str,
    value: cell::Value,
) -> Result<Option<Value>, ServiceError> {
    let wrong = |what: &str| {
        ServiceError::invalid(field, format!("{name:?} {what}")).reason("PAYLOAD_INVALID")
    };
    let Some(kind) = value.kind else { return Ok(None) };
    Ok(Some(match kind {
        Kind::BoolValue(b) => Value::Bool(b),
        Kind::IntValue(n) => Value::Int(n),
        Kind::UintValue(n) => {
            Value::Int(i64::try_from(n).map_err(|_| wrong("is greater than 9223372036854775807"))?)
        }
        Kind::DoubleValue(n) => Value::Float(n),
        Kind::StringValue(text) => Value::Text(text),
        Kind::TimestampValue(at) => {
            let micros = at.seconds.checked_mul(1_000_000);
            let micros = micros.and_then(|micros| micros.checked_add(i64::from(at.nanos / 1_000)));
            Value::Time(micros.ok_or_else(|| wrong("is a time beyond what microseconds hold"))?)
        }
        Kind::DateValue(text) => {
            let date: NaiveDate =
                text.parse().map_err(|_| wrong("is no date such as 2024-01-31"))?;
            Value::Date(days(date))
        }
        Kind::ListValue(list) => {
            let mut values = Vec::with_capacity(list.values.len());
            for value in list.values {
                match value_from_wire(field, name, value)? {
                    Some(Value::List(_)) => return Err(wrong("is a list of lists")),
                    Some(value) => values.push(value),
                    None => {}
                }
            }
            Value::List(values)
        }
        Kind::BytesValue(_)
        | Kind::DecimalValue(_)
        | Kind::TimeValue(_)
        | Kind::DurationValue(_)
        | Kind::StructValue(_) => {
            return Err(wrong(
                "is of a type that is not filtered by: use booleans, numbers, texts, timestamps, dates, or lists of them",
            ));
        }
    }))
}

fn days(date: NaiveDate) -> i32 {
    i32::try_from((date - NaiveDate::default()).num_days()).unwrap_or(i32::MAX)
}

/// A payload as the wire has it.
#[must_use]
pub fn payload_to_wire<'a>(
    fields: impl IntoIterator<Item = &'a (String, Value)>,
) -> HashMap<String, cell::Value> {
    let field = |(name, value): &(String, Value)| (name.clone(), value_to_wire(value));
    fields.into_iter().map(field).collect()
}

/// A value as the wire has it.
#[must_use]
pub fn value_to_wire(value: &Value) -> cell::Value {
    let kind = match value {
        Value::Bool(b) => Kind::BoolValue(*b),
        Value::Int(n) => Kind::IntValue(*n),
        Value::Float(n) => Kind::DoubleValue(*n),
        Value::Text(text) => Kind::StringValue(text.clone()),
        Value::Time(micros) => Kind::TimestampValue(timestamp(*micros)),
        Value::Date(days) => {
            let date =
                NaiveDate::default().checked_add_signed(chrono::Duration::days(i64::from(*days)));
            Kind::DateValue(date.map_or_else(String::new, |date| date.to_string()))
        }
        Value::List(values) => {
            let values = values.iter().map(value_to_wire).collect();
            Kind::ListValue(cell::ListValue { values })
        }
    };
    cell::Value { kind: Some(kind) }
}

/// A vector as the wire has it.
#[must_use]
pub fn vector_to_wire(vector: OwnedVector) -> wire::Vector {
    match vector {
        OwnedVector::Floats(values) => wire::Vector { values, bits: Vec::new() },
        OwnedVector::Bits(bits) => wire::Vector { values: Vec::new(), bits },
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn of(kind: Kind) -> cell::Value {
        cell::Value { kind: Some(kind) }
    }

    #[test]
    fn values_go_in_and_come_back() {
        let list = |values| Kind::ListValue(cell::ListValue { values });
        for kind in [
            Kind::BoolValue(true),
            Kind::IntValue(-5),
            Kind::DoubleValue(1.5),
            Kind::StringValue("é".into()),
            Kind::TimestampValue(timestamp(-1)),
            Kind::DateValue("1969-12-31".into()),
            list(vec![of(Kind::StringValue("a".into())), of(Kind::StringValue("b".into()))]),
        ] {
            let fields = HashMap::from([("x".to_owned(), of(kind.clone()))]);
            let payload = payload_from_wire("payload", fields.clone()).unwrap();
            assert_eq!(payload_to_wire(payload.fields()), fields);
        }
        let null = HashMap::from([("x".to_owned(), cell::Value { kind: None })]);
        assert!(payload_from_wire("payload", null).unwrap().fields().is_empty());
    }

    #[test]
    fn what_is_not_filtered_by_is_refused_by_name() {
        for kind in [
            Kind::BytesValue(vec![1]),
            Kind::UintValue(u64::MAX),
            Kind::DateValue("yesterday".into()),
            Kind::StructValue(cell::StructValue::default()),
        ] {
            let fields = HashMap::from([("odd".to_owned(), of(kind))]);
            let error = payload_from_wire("points[0].payload", fields).unwrap_err();
            assert!(error.message().contains("odd"), "{error}");
            assert_eq!(error.field_name(), Some("points[0].payload"));
        }
    }
}
