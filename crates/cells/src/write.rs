//! Values into arrays.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, FixedSizeListArray, GenericListArray, MapArray, OffsetSizeTrait, StructArray,
    new_empty_array, new_null_array,
};
use arrow::buffer::{NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow::compute::{cast, concat};
use arrow::datatypes::{DataType, Field, FieldRef, Fields};
use catalog_api::v1::Value;
use catalog_api::v1::value::Kind;
use service_error::ServiceError;

use crate::read::{array_of, is_uuid};

/// Lists within lists at most.
const DEPTH_MAX: usize = 16;

/// A column out of values, one a row; no kind is null.
///
/// # Errors
/// `InvalidArgument` naming the column: a value that its type cannot hold, or
/// a null where none may be.
pub fn column_of(
    values: &[&Value],
    field: &Field,
    items_profile: bool,
) -> Result<ArrayRef, ServiceError> {
    if !field.is_nullable() && values.iter().any(|value| value.kind.is_none()) {
        return Err(ServiceError::invalid(field.name(), "may not be null"));
    }
    let uuid = is_uuid(field, items_profile);
    array(values, field.data_type(), uuid, 0)
        .map_err(|what| ServiceError::invalid(field.name(), what).reason("VALUE_DOES_NOT_FIT"))
}

fn array(
    values: &[&Value],
    data_type: &DataType,
    uuid: bool,
    depth: usize,
) -> Result<ArrayRef, String> {
    if depth > DEPTH_MAX {
        return Err(format!("lists are nested deeper than {DEPTH_MAX}"));
    }
    if values.is_empty() {
        return Ok(new_empty_array(data_type));
    }
    match data_type {
        DataType::List(item) => list::<i32>(values, item, depth),
        DataType::LargeList(item) => list::<i64>(values, item, depth),
        DataType::FixedSizeList(item, size) => fixed_list(values, item, *size, depth),
        DataType::Struct(fields) => {
            let parts: Vec<Option<&Value>> = values.iter().map(|value| Some(*value)).collect();
            structure(&parts, fields, depth).map(|array| Arc::new(array) as ArrayRef)
        }
        DataType::Map(entries, sorted) => map(values, entries, *sorted, depth),
        DataType::Dictionary(_, inner) => {
            let plain = array(values, inner, uuid, depth)?;
            cast(&plain, data_type).map_err(|error| error.to_string())
        }
        _ => scalars(values, data_type, uuid),
    }
}

fn scalars(values: &[&Value], data_type: &DataType, uuid: bool) -> Result<ArrayRef, String> {
    let mut cells = Vec::with_capacity(values.len());
    for value in values {
        cells.push(match &value.kind {
            None => new_null_array(data_type, 1),
            Some(kind) => scalar(value, kind, data_type, uuid)?,
        });
    }
    // Bulk edits repeat one value.
    let parts: Vec<&dyn Array> = cells.iter().map(AsRef::as_ref).collect();
    concat(&parts).map_err(|error| error.to_string())
}

fn scalar(
    value: &Value,
    kind: &Kind,
    data_type: &DataType,
    uuid: bool,
) -> Result<ArrayRef, String> {
    let refused = || format!("is {data_type}, which cannot hold {}", shown(kind));
    if uuid && let Kind::StringValue(text) = kind {
        let id = uuid::Uuid::try_parse(text).map_err(|_| refused())?;
        let bytes = Value { kind: Some(Kind::BytesValue(id.as_bytes().to_vec())) };
        return array_of(&bytes, data_type).ok_or_else(refused);
    }
    let whole;
    let value = match (kind, data_type) {
        // JSON writes 1 for 1.0, and some clients 1.0 for 1.
        (Kind::DoubleValue(n), data_type)
            if data_type.is_integer() && n.fract() == 0.0 && n.abs() < 9e15 =>
        {
            #[allow(clippy::cast_possible_truncation, reason = "a whole number below 2^53")]
            let n = *n as i64;
            whole = Value { kind: Some(Kind::IntValue(n)) };
            &whole
        }
        _ if may_hold(kind, data_type) => value,
        _ => return Err(refused()),
    };
    array_of(value, data_type).ok_or_else(refused)
}

/// Whether a kind may become a type at all: text never becomes a number.
fn may_hold(kind: &Kind, data_type: &DataType) -> bool {
    let text = matches!(data_type, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View);
    let decimal = matches!(
        data_type,
        DataType::Decimal32(..)
            | DataType::Decimal64(..)
            | DataType::Decimal128(..)
            | DataType::Decimal256(..)
    );
    match kind {
        Kind::BoolValue(_) => data_type == &DataType::Boolean,
        Kind::IntValue(_) | Kind::UintValue(_) => {
            data_type.is_integer() || data_type.is_floating() || decimal
        }
        Kind::DoubleValue(_) => data_type.is_floating(),
        Kind::StringValue(_) => text || decimal || data_type.is_temporal(),
        Kind::BytesValue(_) => matches!(
            data_type,
            DataType::Binary
                | DataType::LargeBinary
                | DataType::BinaryView
                | DataType::FixedSizeBinary(_)
        ),
        Kind::TimestampValue(_) => matches!(data_type, DataType::Timestamp(..)),
        Kind::DecimalValue(_) => decimal,
        Kind::DateValue(_) => matches!(data_type, DataType::Date32 | DataType::Date64),
        Kind::TimeValue(_) => matches!(data_type, DataType::Time32(_) | DataType::Time64(_)),
        Kind::DurationValue(_) | Kind::ListValue(_) | Kind::StructValue(_) => false,
    }
}

fn shown(kind: &Kind) -> String {
    let text = match kind {
        Kind::BoolValue(value) => value.to_string(),
        Kind::IntValue(value) => value.to_string(),
        Kind::UintValue(value) => value.to_string(),
        Kind::DoubleValue(value) => value.to_string(),
        Kind::StringValue(text)
        | Kind::DecimalValue(text)
        | Kind::DateValue(text)
        | Kind::TimeValue(text)
        | Kind::DurationValue(text) => format!("{text:?}"),
        Kind::BytesValue(bytes) => format!("{} bytes", bytes.len()),
        Kind::TimestampValue(_) => "a timestamp".to_owned(),
        Kind::ListValue(_) => "a list".to_owned(),
        Kind::StructValue(_) => "a struct".to_owned(),
    };
    text.chars().take(80).collect()
}

/// The elements of lists in a row, where each list ends, and which lists are there.
type Elements<'a> = (Vec<&'a Value>, Vec<usize>, Vec<bool>);

fn elements<'a>(values: &[&'a Value]) -> Result<Elements<'a>, String> {
    let (mut all, mut ends, mut valid) = (Vec::new(), vec![0], Vec::new());
    for value in values {
        match &value.kind {
            None => valid.push(false),
            Some(Kind::ListValue(list)) => {
                all.extend(&list.values);
                valid.push(true);
            }
            Some(kind) => return Err(format!("is a list, which cannot hold {}", shown(kind))),
        }
        ends.push(all.len());
    }
    Ok((all, ends, valid))
}

fn list<O: OffsetSizeTrait>(
    values: &[&Value],
    item: &FieldRef,
    depth: usize,
) -> Result<ArrayRef, String> {
    let (all, ends, valid) = elements(values)?;
    let inner = nullable(&all, item, depth)?;
    let offsets: Option<Vec<O>> = ends.into_iter().map(O::from_usize).collect();
    let offsets = offsets.ok_or("is longer than its type can say")?;
    let offsets = OffsetBuffer::new(ScalarBuffer::from(offsets));
    let nulls = Some(NullBuffer::from(valid));
    GenericListArray::<O>::try_new(Arc::clone(item), offsets, inner, nulls)
        .map(|array| Arc::new(array) as ArrayRef)
        .map_err(|error| error.to_string())
}

fn fixed_list(
    values: &[&Value],
    item: &FieldRef,
    size: i32,
    depth: usize,
) -> Result<ArrayRef, String> {
    let none = Value { kind: None };
    let mut all: Vec<&Value> = Vec::new();
    let mut valid = Vec::new();
    let length = usize::try_from(size).unwrap_or(0);
    for value in values {
        match &value.kind {
            None => {
                all.extend(std::iter::repeat_n(&none, length));
                valid.push(false);
            }
            Some(Kind::ListValue(list)) if list.values.len() == length => {
                all.extend(&list.values);
                valid.push(true);
            }
            Some(Kind::ListValue(list)) => {
                return Err(format!("has {size} values, not {}", list.values.len()));
            }
            Some(kind) => return Err(format!("is a list, which cannot hold {}", shown(kind))),
        }
    }
    // Below a null list the elements are no values of their own.
    let inner = array(&all, item.data_type(), false, depth + 1)?;
    FixedSizeListArray::try_new(Arc::clone(item), size, inner, Some(NullBuffer::from(valid)))
        .map(|array| Arc::new(array) as ArrayRef)
        .map_err(|error| error.to_string())
}

fn nullable(values: &[&Value], item: &FieldRef, depth: usize) -> Result<ArrayRef, String> {
    if !item.is_nullable() && values.iter().any(|value| value.kind.is_none()) {
        return Err(format!("holds a null {:?}", item.name()));
    }
    array(values, item.data_type(), false, depth + 1)
}

fn structure(
    values: &[Option<&Value>],
    fields: &Fields,
    depth: usize,
) -> Result<StructArray, String> {
    let none = Value { kind: None };
    let mut valid = Vec::with_capacity(values.len());
    let mut rows: Vec<Vec<&Value>> = vec![Vec::with_capacity(values.len()); fields.len()];
    for value in values {
        let parts = match value.and_then(|value| value.kind.as_ref()) {
            None => {
                valid.push(false);
                rows.iter_mut().for_each(|row| row.push(&none));
                continue;
            }
            Some(Kind::StructValue(parts)) => parts,
            Some(kind) => return Err(format!("is a struct, which cannot hold {}", shown(kind))),
        };
        valid.push(true);
        if let Some(odd) = parts.fields.iter().find(|part| fields.find(&part.name).is_none()) {
            return Err(format!("has no field {:?}", odd.name));
        }
        for (field, row) in fields.iter().zip(&mut rows) {
            let part = parts.fields.iter().find(|part| part.name == *field.name());
            row.push(part.and_then(|part| part.value.as_ref()).unwrap_or(&none));
        }
    }
    let columns = fields.iter().zip(&rows).map(|(field, row)| {
        array(row, field.data_type(), false, depth + 1)
            .map_err(|error| format!("{}: {error}", field.name()))
    });
    let columns = columns.collect::<Result<Vec<_>, _>>()?;
    let nulls = valid.contains(&false).then(|| NullBuffer::from(valid));
    StructArray::try_new(fields.clone(), columns, nulls).map_err(|error| error.to_string())
}

fn map(
    values: &[&Value],
    entries: &FieldRef,
    sorted: bool,
    depth: usize,
) -> Result<ArrayRef, String> {
    let DataType::Struct(fields) = entries.data_type() else {
        return Err("is a map without entries".to_owned());
    };
    let (all, ends, valid) = elements(values)?;
    if all.iter().any(|entry| entry.kind.is_none()) {
        return Err("holds an entry that is null".to_owned());
    }
    let all: Vec<Option<&Value>> = all.into_iter().map(Some).collect();
    let inner = structure(&all, fields, depth + 1)?;
    let offsets: Result<Vec<i32>, _> = ends.into_iter().map(i32::try_from).collect();
    let offsets = offsets.map_err(|_| "is longer than its type can say".to_owned())?;
    let offsets = OffsetBuffer::new(ScalarBuffer::from(offsets));
    MapArray::try_new(Arc::clone(entries), offsets, inner, Some(NullBuffer::from(valid)), sorted)
        .map(|array| Arc::new(array) as ArrayRef)
        .map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::cell;
    use arrow::array::{
        BooleanArray, Date32Array, Decimal128Array, FixedSizeBinaryArray, Float32Array, Int32Array,
        ListArray, StringArray, TimestampMicrosecondArray, UInt64Array,
    };
    use arrow::datatypes::Int32Type;

    fn back(array: ArrayRef, uuid: bool) {
        let name = if uuid { "id" } else { "x" };
        let field = Field::new(name, array.data_type().clone(), true);
        let values: Vec<Value> = (0..array.len()).map(|row| cell(&array, row).unwrap()).collect();
        let values: Vec<&Value> = values.iter().collect();
        let made = column_of(&values, &field, uuid).unwrap();
        assert_eq!(&made, &array);
    }

    #[test]
    fn what_cells_say_can_be_written() {
        back(Arc::new(Int32Array::from(vec![Some(-5), None])), false);
        back(Arc::new(UInt64Array::from(vec![u64::MAX])), false);
        back(Arc::new(BooleanArray::from(vec![Some(true), None])), false);
        back(Arc::new(StringArray::from(vec![Some("é"), None])), false);
        back(Arc::new(Float32Array::from(vec![1.25])), false);
        back(Arc::new(Date32Array::from(vec![-1])), false);
        let at = TimestampMicrosecondArray::from(vec![-1_500_001]).with_timezone("UTC");
        back(Arc::new(at), false);
        let decimal = Decimal128Array::from(vec![-12_345]).with_precision_and_scale(10, 2).unwrap();
        back(Arc::new(decimal), false);
        back(Arc::new(FixedSizeBinaryArray::try_from_iter([[7u8; 16]].iter()).unwrap()), false);
        let list = ListArray::from_iter_primitive::<Int32Type, _, _>([
            Some(vec![Some(1), None]),
            None,
            Some(vec![]),
        ]);
        back(Arc::new(list), false);
        let inner: ArrayRef = Arc::new(StringArray::from(vec!["v"]));
        let shape =
            StructArray::from(vec![(Arc::new(Field::new("x", DataType::Utf8, true)), inner)]);
        back(Arc::new(shape), false);
    }

    #[test]
    fn what_does_not_fit_names_the_column() {
        let text = Value { kind: Some(Kind::StringValue("5".into())) };
        let big = Value { kind: Some(Kind::IntValue(1 << 40)) };
        let whole = Value { kind: Some(Kind::DoubleValue(7.0)) };
        let half = Value { kind: Some(Kind::DoubleValue(7.5)) };
        let number = Field::new("n", DataType::Int32, false);
        for value in [&text, &big, &half, &Value { kind: None }] {
            let error = column_of(&[value], &number, false).unwrap_err();
            assert_eq!(error.field_name(), Some("n"), "{error}");
        }
        let seven = column_of(&[&whole], &number, false).unwrap();
        assert_eq!(seven.as_ref(), &Int32Array::from(vec![7]));
        let id = Field::new("id", DataType::FixedSizeBinary(16), false);
        let spelled = "01932d3e-7b2a-7c1f-9f00-000000000001";
        let given = Value { kind: Some(Kind::StringValue(spelled.into())) };
        assert!(column_of(&[&given], &id, true).is_ok());
        assert!(column_of(&[&text], &id, true).is_err());
    }
}
