//! Arrow's arrays into the wire's values, and single values back.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, BooleanArray, FixedSizeBinaryArray, Float64Array,
    Int64Array, RecordBatch, StringArray, UInt64Array,
};
use arrow::compute::cast;
use arrow::datatypes::{
    DataType, Date32Type, Date64Type, Decimal32Type, Decimal64Type, Decimal128Type, Decimal256Type,
    DurationMicrosecondType, DurationMillisecondType, DurationNanosecondType, DurationSecondType,
    Field, Float64Type, Int64Type, Schema, Time32MillisecondType, Time32SecondType,
    Time64MicrosecondType, Time64NanosecondType, TimeUnit, TimestampMicrosecondType,
    TimestampMillisecondType, TimestampNanosecondType, TimestampSecondType, UInt64Type,
};
use catalog_api::v1::value::Kind;
use catalog_api::v1::{Column, ListValue, StructField, StructValue, Value};
use items_api::v1::Item;
use service_error::ServiceError;

/// The columns of a schema, to read.
#[must_use]
pub fn columns_of(schema: &Schema) -> Vec<Column> {
    let column = |field: &Arc<Field>| Column {
        name: field.name().clone(),
        r#type: field.data_type().to_string(),
        nullable: field.is_nullable(),
    };
    schema.fields().iter().map(column).collect()
}

/// The rows of a batch. UUIDs are text.
///
/// # Errors
/// A cell that cannot be shown.
pub fn items_of(batch: &RecordBatch, items_profile: bool) -> Result<Vec<Item>, ServiceError> {
    let mut items: Vec<Item> = (0..batch.num_rows())
        .map(|_| Item { values: Vec::with_capacity(batch.num_columns()) })
        .collect();
    for (field, array) in batch.schema_ref().fields().iter().zip(batch.columns()) {
        let uuid = is_uuid(field, items_profile);
        for (row, item) in items.iter_mut().enumerate() {
            let value = cell(array, row)?;
            item.values.push(if uuid { uuid_text(value) } else { value });
        }
    }
    Ok(items)
}

/// Whether the 16 bytes of a column are a UUID.
#[must_use]
pub fn is_uuid(field: &Field, items_profile: bool) -> bool {
    let known = items_profile && matches!(field.name().as_str(), "id" | "dataset_id");
    let named =
        field.metadata().get("ARROW:extension:name").is_some_and(|name| name == "arrow.uuid");
    field.data_type() == &DataType::FixedSizeBinary(16) && (known || named)
}

/// The text of a value that is the 16 bytes of a UUID; others as they are.
#[must_use]
pub fn uuid_text(value: Value) -> Value {
    match &value.kind {
        Some(Kind::BytesValue(bytes)) => match uuid::Uuid::from_slice(bytes) {
            Ok(id) => of(Kind::StringValue(id.hyphenated().to_string())),
            Err(_) => value,
        },
        _ => value,
    }
}

const fn of(kind: Kind) -> Value {
    Value { kind: Some(kind) }
}

/// One cell of any type.
///
/// # Errors
/// A cell that cannot be shown.
pub fn cell(array: &dyn Array, row: usize) -> Result<Value, ServiceError> {
    if array.is_null(row) || array.data_type() == &DataType::Null {
        return Ok(Value { kind: None });
    }
    let data_type = array.data_type();
    let kind = match data_type {
        DataType::Boolean => Kind::BoolValue(array.as_boolean().value(row)),
        DataType::Utf8 => Kind::StringValue(array.as_string::<i32>().value(row).to_owned()),
        DataType::LargeUtf8 => Kind::StringValue(array.as_string::<i64>().value(row).to_owned()),
        DataType::Utf8View => Kind::StringValue(array.as_string_view().value(row).to_owned()),
        DataType::Binary => Kind::BytesValue(array.as_binary::<i32>().value(row).to_vec()),
        DataType::LargeBinary => Kind::BytesValue(array.as_binary::<i64>().value(row).to_vec()),
        DataType::BinaryView => Kind::BytesValue(array.as_binary_view().value(row).to_vec()),
        DataType::FixedSizeBinary(_) => {
            Kind::BytesValue(array.as_fixed_size_binary().value(row).to_vec())
        }
        DataType::List(_) => return list(&array.as_list::<i32>().value(row)),
        DataType::LargeList(_) => return list(&array.as_list::<i64>().value(row)),
        DataType::FixedSizeList(_, _) => return list(&array.as_fixed_size_list().value(row)),
        DataType::Map(_, _) => {
            let entries: ArrayRef = Arc::new(array.as_map().value(row));
            return list(&entries);
        }
        DataType::Struct(fields) => {
            let columns = array.as_struct().columns();
            let field = |(field, column): (&Arc<Field>, &ArrayRef)| {
                Ok(StructField { name: field.name().clone(), value: Some(cell(column, row)?) })
            };
            let fields: Result<Vec<_>, ServiceError> =
                fields.iter().zip(columns).map(field).collect();
            Kind::StructValue(StructValue { fields: fields? })
        }
        DataType::Dictionary(_, _) => {
            // One row of it: normalised keys are made for all there are.
            let one = array.slice(row, 1);
            let dictionary = one.as_any_dictionary();
            let key = dictionary.normalized_keys().first().copied().unwrap_or_default();
            return cell(dictionary.values(), key);
        }
        data_type if data_type.is_floating() => Kind::DoubleValue(
            single(array, row, &DataType::Float64)?.as_primitive::<Float64Type>().value(0),
        ),
        data_type if data_type.is_signed_integer() => Kind::IntValue(
            single(array, row, &DataType::Int64)?.as_primitive::<Int64Type>().value(0),
        ),
        data_type if data_type.is_unsigned_integer() => Kind::UintValue(
            single(array, row, &DataType::UInt64)?.as_primitive::<UInt64Type>().value(0),
        ),
        _ => temporal_or_decimal(array, row)?,
    };
    Ok(of(kind))
}

fn list(elements: &ArrayRef) -> Result<Value, ServiceError> {
    let values: Result<Vec<Value>, ServiceError> =
        (0..elements.len()).map(|row| cell(elements, row)).collect();
    Ok(of(Kind::ListValue(ListValue { values: values? })))
}

fn single(array: &dyn Array, row: usize, data_type: &DataType) -> Result<ArrayRef, ServiceError> {
    cast(&array.slice(row, 1), data_type)
        .map_err(|error| ServiceError::internal(format!("a cell cannot be read: {error}")))
}

fn temporal_or_decimal(array: &dyn Array, row: usize) -> Result<Kind, ServiceError> {
    macro_rules! nanos {
        ($type:ty, $factor:expr) => {
            i128::from(array.as_primitive::<$type>().value(row)) * $factor
        };
    }
    Ok(match array.data_type() {
        DataType::Decimal32(_, _) => {
            Kind::DecimalValue(array.as_primitive::<Decimal32Type>().value_as_string(row))
        }
        DataType::Decimal64(_, _) => {
            Kind::DecimalValue(array.as_primitive::<Decimal64Type>().value_as_string(row))
        }
        DataType::Decimal128(_, _) => {
            Kind::DecimalValue(array.as_primitive::<Decimal128Type>().value_as_string(row))
        }
        DataType::Decimal256(_, _) => {
            Kind::DecimalValue(array.as_primitive::<Decimal256Type>().value_as_string(row))
        }
        DataType::Timestamp(unit, _) => Kind::TimestampValue(timestamp(match unit {
            TimeUnit::Second => nanos!(TimestampSecondType, 1_000_000_000),
            TimeUnit::Millisecond => nanos!(TimestampMillisecondType, 1_000_000),
            TimeUnit::Microsecond => nanos!(TimestampMicrosecondType, 1_000),
            TimeUnit::Nanosecond => nanos!(TimestampNanosecondType, 1),
        })),
        DataType::Date32 => {
            Kind::DateValue(date(array.as_primitive::<Date32Type>().value_as_date(row)))
        }
        DataType::Date64 => {
            Kind::DateValue(date(array.as_primitive::<Date64Type>().value_as_date(row)))
        }
        DataType::Time32(TimeUnit::Second) => {
            Kind::TimeValue(time(array.as_primitive::<Time32SecondType>().value_as_time(row)))
        }
        DataType::Time32(_) => {
            Kind::TimeValue(time(array.as_primitive::<Time32MillisecondType>().value_as_time(row)))
        }
        DataType::Time64(TimeUnit::Microsecond) => {
            Kind::TimeValue(time(array.as_primitive::<Time64MicrosecondType>().value_as_time(row)))
        }
        DataType::Time64(_) => {
            Kind::TimeValue(time(array.as_primitive::<Time64NanosecondType>().value_as_time(row)))
        }
        DataType::Duration(unit) => Kind::DurationValue(duration(match unit {
            TimeUnit::Second => nanos!(DurationSecondType, 1_000_000_000),
            TimeUnit::Millisecond => nanos!(DurationMillisecondType, 1_000_000),
            TimeUnit::Microsecond => nanos!(DurationMicrosecondType, 1_000),
            TimeUnit::Nanosecond => nanos!(DurationNanosecondType, 1),
        })),
        other => {
            let text = arrow::util::display::array_value_to_string(array, row);
            Kind::StringValue(text.map_err(|error| {
                ServiceError::internal(format!("a {other} cannot be shown: {error}"))
            })?)
        }
    })
}

fn timestamp(nanos: i128) -> prost_types::Timestamp {
    prost_types::Timestamp {
        seconds: i64::try_from(nanos.div_euclid(1_000_000_000)).unwrap_or(i64::MAX),
        nanos: i32::try_from(nanos.rem_euclid(1_000_000_000)).unwrap_or(0),
    }
}

fn date(date: Option<chrono::NaiveDate>) -> String {
    date.map_or_else(String::new, |date| date.to_string())
}

fn time(time: Option<chrono::NaiveTime>) -> String {
    time.map_or_else(String::new, |time| time.to_string())
}

/// ISO 8601 in seconds.
fn duration(nanos: i128) -> String {
    let sign = if nanos < 0 { "-" } else { "" };
    let (seconds, rest) = (nanos.abs() / 1_000_000_000, nanos.abs() % 1_000_000_000);
    if rest == 0 {
        return format!("{sign}PT{seconds}S");
    }
    let fraction = format!("{rest:09}");
    format!("{sign}PT{seconds}.{}S", fraction.trim_end_matches('0'))
}

/// A value as an array of one; `None` if the type cannot hold it.
#[must_use]
pub fn array_of(value: &Value, data_type: &DataType) -> Option<ArrayRef> {
    let values = match data_type {
        DataType::Dictionary(_, values) => values,
        other => other,
    };
    let wide: ArrayRef = match value.kind.as_ref()? {
        Kind::BoolValue(b) => Arc::new(BooleanArray::from(vec![*b])),
        Kind::IntValue(n) => Arc::new(Int64Array::from(vec![*n])),
        Kind::UintValue(n) => Arc::new(UInt64Array::from(vec![*n])),
        Kind::DoubleValue(n) => Arc::new(Float64Array::from(vec![*n])),
        Kind::StringValue(text)
        | Kind::DecimalValue(text)
        | Kind::DateValue(text)
        | Kind::TimeValue(text) => Arc::new(StringArray::from(vec![text.as_str()])),
        Kind::BytesValue(bytes) => match values {
            DataType::FixedSizeBinary(_) => {
                Arc::new(FixedSizeBinaryArray::try_from_iter(std::iter::once(bytes)).ok()?)
            }
            _ => Arc::new(BinaryArray::from(vec![bytes.as_slice()])),
        },
        Kind::TimestampValue(at) => {
            let DataType::Timestamp(unit, _) = values else { return None };
            let nanos = i128::from(at.seconds) * 1_000_000_000 + i128::from(at.nanos);
            let divisor = match unit {
                TimeUnit::Second => 1_000_000_000,
                TimeUnit::Millisecond => 1_000_000,
                TimeUnit::Microsecond => 1_000,
                TimeUnit::Nanosecond => 1,
            };
            Arc::new(Int64Array::from(vec![i64::try_from(nanos / divisor).ok()?]))
        }
        Kind::DurationValue(_) | Kind::ListValue(_) | Kind::StructValue(_) => return None,
    };
    let array = if wide.data_type() == values { wide } else { cast(&wide, values).ok()? };
    (array.len() == 1 && array.is_valid(0)).then_some(array)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use arrow::array::{
        Date32Array, Decimal128Array, DictionaryArray, DurationMillisecondArray, Int32Array,
        ListArray, MapBuilder, StringBuilder, StructArray, Time64MicrosecondArray,
        TimestampNanosecondArray,
    };
    use arrow::datatypes::Int32Type;

    fn kind(array: impl Array + 'static) -> Kind {
        cell(&array, 0).unwrap().kind.unwrap()
    }

    #[test]
    fn scalars_keep_what_they_say() {
        assert_eq!(kind(Int32Array::from(vec![-5])), Kind::IntValue(-5));
        assert_eq!(kind(UInt64Array::from(vec![u64::MAX])), Kind::UintValue(u64::MAX));
        assert_eq!(kind(BinaryArray::from(vec![&b"ab"[..]])), Kind::BytesValue(b"ab".to_vec()));
        assert_eq!(kind(Date32Array::from(vec![19_782])), Kind::DateValue("2024-02-29".into()));
        assert_eq!(
            kind(Time64MicrosecondArray::from(vec![1_500_000])),
            Kind::TimeValue("00:00:01.500".into())
        );
        assert_eq!(
            kind(DurationMillisecondArray::from(vec![-1_500])),
            Kind::DurationValue("-PT1.5S".into())
        );
        let decimal = Decimal128Array::from(vec![-12_345]).with_precision_and_scale(10, 2).unwrap();
        assert_eq!(kind(decimal), Kind::DecimalValue("-123.45".into()));
        let before = timestamp(-1);
        assert_eq!((before.seconds, before.nanos), (-1, 999_999_999));
        assert_eq!(kind(TimestampNanosecondArray::from(vec![-1])), Kind::TimestampValue(before));
        assert_eq!(cell(&Int32Array::from(vec![None]), 0).unwrap().kind, None);
    }

    #[test]
    fn nested_cells_are_values_of_values() {
        let list = ListArray::from_iter_primitive::<Int32Type, _, _>([Some(vec![Some(1), None])]);
        let Kind::ListValue(found) = kind(list) else { panic!() };
        assert_eq!(found.values, [of(Kind::IntValue(1)), Value { kind: None }]);
        let inner: ArrayRef = Arc::new(StringArray::from(vec!["v"]));
        let shape =
            StructArray::from(vec![(Arc::new(Field::new("x", DataType::Utf8, true)), inner)]);
        let Kind::StructValue(found) = kind(shape) else { panic!() };
        assert_eq!(found.fields[0].name, "x");
        let words: DictionaryArray<Int32Type> = vec!["w"].into_iter().collect();
        assert_eq!(kind(words), Kind::StringValue("w".into()));
        let mut map = MapBuilder::new(None, StringBuilder::new(), StringBuilder::new());
        map.keys().append_value("k");
        map.values().append_value("v");
        map.append(true).unwrap();
        let Kind::ListValue(found) = kind(map.finish()) else { panic!() };
        assert!(matches!(found.values[0].kind, Some(Kind::StructValue(_))));
    }

    #[test]
    fn bounds_survive_the_catalog() {
        let at =
            arrow::array::TimestampMicrosecondArray::from(vec![-1_500_001]).with_timezone("UTC");
        let decimal = Decimal128Array::from(vec![-12_345]).with_precision_and_scale(10, 2).unwrap();
        let id = FixedSizeBinaryArray::try_from_iter([[7u8; 16]].iter()).unwrap();
        for array in [
            Arc::new(at) as ArrayRef,
            Arc::new(decimal),
            Arc::new(id),
            Arc::new(Date32Array::from(vec![-1])),
            Arc::new(Time64MicrosecondArray::from(vec![1_500_001])),
            Arc::new(arrow::array::Float32Array::from(vec![1.25])),
            Arc::new(arrow::array::UInt8Array::from(vec![200])),
            Arc::new(arrow::array::LargeStringArray::from(vec!["é"])),
            Arc::new(BooleanArray::from(vec![true])),
        ] {
            let back = array_of(&cell(&array, 0).unwrap(), array.data_type()).unwrap();
            assert_eq!(&back, &array);
        }
    }

    #[test]
    fn uuids_are_text_where_they_are_uuids() {
        let id: ArrayRef =
            Arc::new(FixedSizeBinaryArray::try_from_iter([[7u8; 16]].iter()).unwrap());
        let batch = RecordBatch::try_from_iter([("id", id.clone()), ("digest", id)]).unwrap();
        let items = items_of(&batch, true).unwrap();
        assert!(matches!(items[0].values[0].kind, Some(Kind::StringValue(_))));
        assert!(matches!(items[0].values[1].kind, Some(Kind::BytesValue(_))));
        assert!(matches!(
            items_of(&batch, false).unwrap()[0].values[0].kind,
            Some(Kind::BytesValue(_))
        ));
    }
}
