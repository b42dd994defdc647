//! Cells of rows, as JSON and as text.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use catalog_api::v1::value::Kind;
use catalog_api::v1::{Column, Value};
use prost_types::Timestamp;
use serde::Serialize;
use serde::ser::{SerializeMap, SerializeSeq, Serializer};

/// A row as an object in the order of its columns.
pub struct RowJson<'a> {
    /// Names.
    pub columns: &'a [Column],
    /// Cells, in the same order.
    pub values: &'a [Value],
}

impl Serialize for RowJson<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.columns.len()))?;
        for (column, value) in self.columns.iter().zip(self.values) {
            map.serialize_entry(&column.name, &CellJson(value))?;
        }
        map.end()
    }
}

/// A cell: numbers are numbers, moments RFC 3339, bytes base64, decimals text
/// (a number would lose digits).
pub struct CellJson<'a>(pub &'a Value);

impl Serialize for CellJson<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Some(kind) = &self.0.kind else { return serializer.serialize_none() };
        match kind {
            Kind::BoolValue(value) => serializer.serialize_bool(*value),
            Kind::IntValue(value) => serializer.serialize_i64(*value),
            Kind::UintValue(value) => serializer.serialize_u64(*value),
            Kind::DoubleValue(value) if value.is_finite() => serializer.serialize_f64(*value),
            Kind::DoubleValue(value) => serializer.collect_str(value),
            Kind::BytesValue(bytes) => serializer.serialize_str(&STANDARD.encode(bytes)),
            Kind::TimestampValue(moment) => serializer.serialize_str(&moment_text(moment)),
            Kind::StringValue(text)
            | Kind::DecimalValue(text)
            | Kind::DateValue(text)
            | Kind::TimeValue(text)
            | Kind::DurationValue(text) => serializer.serialize_str(text),
            Kind::ListValue(list) => {
                let mut seq = serializer.serialize_seq(Some(list.values.len()))?;
                list.values.iter().try_for_each(|value| seq.serialize_element(&CellJson(value)))?;
                seq.end()
            }
            Kind::StructValue(object) => {
                let mut map = serializer.serialize_map(Some(object.fields.len()))?;
                for field in &object.fields {
                    let empty = Value::default();
                    let value = field.value.as_ref().unwrap_or(&empty);
                    map.serialize_entry(&field.name, &CellJson(value))?;
                }
                map.end()
            }
        }
    }
}

/// A cell for people; null is empty.
pub fn cell_text(value: &Value) -> String {
    match &value.kind {
        None => String::new(),
        Some(Kind::StringValue(text)) => text.clone(),
        Some(_) => match serde_json::to_value(CellJson(value)) {
            Ok(serde_json::Value::String(text)) => text,
            Ok(other) => other.to_string(),
            Err(_) => String::new(),
        },
    }
}

/// `2024-05-01T12:00:00.5Z`.
fn moment_text(moment: &Timestamp) -> String {
    // Its Display is RFC 3339, as ProtoJSON wants it.
    moment.to_string()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use catalog_api::v1::{ListValue, StructField, StructValue};

    use super::*;

    fn value(kind: Kind) -> Value {
        Value { kind: Some(kind) }
    }

    #[test]
    fn cells_keep_their_kind_and_rows_their_order() {
        let columns = ["z", "a", "n", "t", "f", "b", "l"]
            .map(|name| Column { name: name.to_owned(), ..Column::default() });
        let inner = StructField { name: "x".to_owned(), value: Some(value(Kind::BoolValue(true))) };
        let values = [
            value(Kind::IntValue(i64::MIN)),
            value(Kind::UintValue(u64::MAX)),
            Value::default(),
            value(Kind::TimestampValue(Timestamp { seconds: 1, nanos: 500_000_000 })),
            value(Kind::DoubleValue(f64::NAN)),
            value(Kind::BytesValue(vec![0, 255])),
            value(Kind::ListValue(ListValue {
                values: vec![value(Kind::StructValue(StructValue { fields: vec![inner] }))],
            })),
        ];
        let text = serde_json::to_string(&RowJson { columns: &columns, values: &values }).unwrap();
        assert_eq!(
            text,
            r#"{"z":-9223372036854775808,"a":18446744073709551615,"n":null,"t":"1970-01-01T00:00:01.500Z","f":"NaN","b":"AP8=","l":[{"x":true}]}"#
        );
        assert_eq!(cell_text(&values[2]), "");
        assert_eq!(cell_text(&values[6]), r#"[{"x":true}]"#);
    }
}
