//! Whether the columns of a put fit the dataset's.

use std::collections::HashSet;

use arrow::datatypes::{DataType, Field, Schema};
use service_error::ServiceError;

/// Each costs a writer buffers of its own.
const FIELDS_MAX: usize = 10_000;

/// Checks a put's schema against the dataset's: no unknown columns, types that
/// say the same, and nothing missing that must not be null. `filled` tells
/// which columns the server fills by itself.
///
/// # Errors
/// `InvalidArgument` that names the column and both types.
pub fn check_fit(
    put: &Schema,
    dataset: &Schema,
    filled: &dyn Fn(&str) -> bool,
) -> Result<(), ServiceError> {
    check_storable(put)?;
    for field in put.fields() {
        let name = field.name();
        let Ok(own) = dataset.field_with_name(name) else {
            let known: Vec<&str> =
                dataset.fields().iter().map(|f| f.name().as_str()).take(60).collect();
            let message = format!("the dataset has no such column; it has {}", known.join(", "));
            return Err(mismatch(name, message));
        };
        if !blocks::can_adapt(field.data_type(), own.data_type()) {
            let message =
                format!("is {} and the dataset's column is {}", field.data_type(), own.data_type());
            return Err(mismatch(name, message));
        }
    }
    for own in dataset.fields() {
        let missing = put.field_with_name(own.name()).is_err();
        if missing && !own.is_nullable() && !filled(own.name()) {
            return Err(mismatch(own.name(), "is missing and may not be null".to_owned()));
        }
    }
    Ok(())
}

/// Checks that every column can be stored, and that names tell them apart.
///
/// # Errors
/// `InvalidArgument` that names the column.
pub(crate) fn check_storable(schema: &Schema) -> Result<(), ServiceError> {
    if schema.fields().is_empty() {
        return Err(ServiceError::invalid("schema", "has no column").reason("INVALID_SCHEMA"));
    }
    let all = schema.flattened_fields().len();
    if all > FIELDS_MAX {
        let message = format!("has {all} columns, nested ones among them; at most {FIELDS_MAX}");
        return Err(ServiceError::invalid("schema", message).reason("INVALID_SCHEMA"));
    }
    let mut names = HashSet::new();
    for field in schema.fields() {
        if !names.insert(field.name()) {
            return Err(mismatch(field.name(), "is there twice".to_owned()));
        }
        if let Some(inner) = unstorable(field) {
            let message = format!("holds {inner}, which can't be stored; cast it before the put");
            return Err(mismatch(field.name(), message));
        }
    }
    Ok(())
}

fn unstorable(field: &Field) -> Option<DataType> {
    fn inside(data_type: &DataType) -> Option<DataType> {
        if !item_schema::is_storable(data_type) {
            return Some(data_type.clone());
        }
        match data_type {
            DataType::List(field)
            | DataType::LargeList(field)
            | DataType::FixedSizeList(field, _)
            | DataType::Map(field, _) => unstorable(field),
            DataType::Struct(fields) => fields.iter().find_map(|field| unstorable(field)),
            DataType::Dictionary(_, values) => inside(values),
            _ => None,
        }
    }
    inside(field.data_type())
}

fn mismatch(column: &str, message: String) -> ServiceError {
    ServiceError::invalid(column, message).reason("SCHEMA_MISMATCH").with("column", column)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn schema(fields: &[(&str, DataType, bool)]) -> Schema {
        Schema::new(
            fields.iter().map(|(n, t, null)| Field::new(*n, t.clone(), *null)).collect::<Vec<_>>(),
        )
    }

    #[test]
    fn errors_name_the_column() {
        let dataset = schema(&[("id", DataType::Utf8, false), ("n", DataType::Int32, true)]);
        let nothing = |_: &str| false;
        for (put, column) in [
            (schema(&[("id", DataType::Utf8, true), ("m", DataType::Int32, true)]), "m"),
            (schema(&[("id", DataType::Utf8, true), ("n", DataType::Utf8, true)]), "n"),
            (schema(&[("n", DataType::Int32, true)]), "id"),
            (schema(&[("id", DataType::Utf8, true), ("id", DataType::Utf8, true)]), "id"),
        ] {
            let error = check_fit(&put, &dataset, &nothing).unwrap_err();
            assert_eq!(error.field_name(), Some(column), "{error}");
        }
        check_fit(&schema(&[("n", DataType::Int64, true)]), &dataset, &|name| name == "id")
            .unwrap();
        check_fit(&schema(&[("id", DataType::LargeUtf8, true)]), &dataset, &nothing).unwrap();
    }

    #[test]
    fn what_cannot_be_stored_is_found_inside_lists() {
        let inner = DataType::Interval(arrow::datatypes::IntervalUnit::MonthDayNano);
        let error =
            check_storable(&schema(&[("x", DataType::new_list(inner, true), true)])).unwrap_err();
        assert_eq!(error.field_name(), Some("x"));
    }
}
