//! What a dataset's schema must keep to.

use std::collections::HashSet;

use arrow::datatypes::{DataType, Field, FieldRef, Schema};
use item_schema::{Profile, SchemaError};
use service_error::ServiceError;

const COLUMNS_MAX: usize = 2_000;
const FIELDS_MAX: usize = 10_000;
const DEPTH_MAX: usize = 16;
const COLUMN_NAME_BYTES_MAX: usize = 255;

/// A checked schema with its profile and key.
#[derive(Debug, Clone, PartialEq)]
pub struct Shape {
    pub profile: Profile,
    /// As an encapsulated IPC message.
    pub schema_ipc: Vec<u8>,
    pub key_column: Option<String>,
}

impl Shape {
    /// Makes the shape of a new dataset out of what a request says: a profile
    /// (`None`: items without a schema, else table), a schema (empty: the items
    /// columns) and a key column (empty: `id` if it can be one).
    ///
    /// # Errors
    /// `InvalidArgument` naming the field, the column and the rule.
    pub fn of(
        profile: Option<Profile>,
        ipc: &[u8],
        key_column: &str,
    ) -> Result<Self, ServiceError> {
        let given = if ipc.is_empty() {
            None
        } else {
            Some(item_schema::schema_from_ipc(ipc).map_err(broken)?)
        };
        let profile =
            profile.unwrap_or(if given.is_some() { Profile::Table } else { Profile::Items });
        if let Some(schema) = &given {
            check_schema(schema)?;
        }
        let schema = match (profile, given) {
            (Profile::Items, given) => {
                Schema::clone(&*item_schema::items_schema(given.as_ref()).map_err(broken)?)
            }
            (Profile::Table, Some(schema)) => schema,
            (Profile::Table, None) => {
                return Err(ServiceError::invalid("arrow_schema", "a table needs a schema")
                    .reason("INVALID_SCHEMA"));
            }
        };
        let key_column = match key_column {
            "" => item_schema::default_key(&schema).map(str::to_owned),
            named => Some(check_key(&schema, named)?),
        };
        Ok(Self {
            profile,
            schema_ipc: item_schema::schema_to_ipc(&schema).map_err(broken)?,
            key_column,
        })
    }
}

fn check_key(schema: &Schema, name: &str) -> Result<String, ServiceError> {
    let refuse =
        |message: String| ServiceError::invalid("key_column", message).reason("INVALID_KEY_COLUMN");
    let field = schema.field_with_name(name).map_err(|_| {
        let shown: String = name.chars().take(COLUMN_NAME_BYTES_MAX).collect();
        refuse(format!("there is no column {shown:?} in the schema"))
    })?;
    if !item_schema::is_orderable(field.data_type()) {
        let message = format!(
            "column {name:?} is {}: a key needs a type with an order (integers, text, binary, dates, times, decimals)",
            field.data_type()
        );
        return Err(refuse(message));
    }
    Ok(name.to_owned())
}

/// Checks the unique columns of a dataset with a stored schema.
///
/// # Errors
/// `InvalidArgument` naming the column and the rule.
pub fn check_unique(ipc: &[u8], key: Option<&str>, columns: &[String]) -> Result<(), ServiceError> {
    if columns.is_empty() {
        return Ok(());
    }
    let schema = item_schema::schema_from_ipc(ipc).map_err(broken)?;
    item_schema::check_unique(&schema, key.unwrap_or_default(), columns).map_err(|error| {
        ServiceError::invalid("unique_columns", error).reason("INVALID_UNIQUE_COLUMNS")
    })
}

/// The columns of a stored schema.
///
/// # Errors
/// One that can't be read.
pub fn column_names(ipc: &[u8]) -> Result<Vec<String>, ServiceError> {
    let schema = item_schema::schema_from_ipc(ipc).map_err(broken)?;
    Ok(schema.fields().iter().map(|field| field.name().clone()).collect())
}

/// Checks counts, depth, names and types.
///
/// # Errors
/// `InvalidArgument` naming the column and the rule.
pub fn check_schema(schema: &Schema) -> Result<(), ServiceError> {
    if schema.fields().is_empty() {
        return Err(broken(SchemaError::whole("the schema has no column")));
    }
    if schema.fields().len() > COLUMNS_MAX {
        let message =
            format!("the schema has {} columns; at most {COLUMNS_MAX}", schema.fields().len());
        return Err(broken(SchemaError::whole(message)));
    }
    let mut fields_left = FIELDS_MAX;
    check_fields(schema.fields(), 1, &mut fields_left).map_err(broken)
}

fn check_fields(
    fields: &[FieldRef],
    depth: usize,
    fields_left: &mut usize,
) -> Result<(), SchemaError> {
    let mut names = HashSet::new();
    for field in fields {
        check_name(field)?;
        if !names.insert(field.name()) {
            return Err(SchemaError::at(field.name(), "is there twice: names must differ"));
        }
        *fields_left = fields_left.checked_sub(1).ok_or_else(|| {
            SchemaError::whole(format!(
                "the schema has more than {FIELDS_MAX} fields, nested ones included"
            ))
        })?;
        if depth > DEPTH_MAX {
            return Err(SchemaError::at(
                field.name(),
                format!("is nested more than {DEPTH_MAX} deep"),
            ));
        }
        if !item_schema::is_storable(field.data_type()) {
            let message =
                format!("is {}, which can't be stored: convert it first", field.data_type());
            return Err(SchemaError::at(field.name(), message));
        }
        check_fields(nested(field.data_type()), depth + 1, fields_left)?;
    }
    Ok(())
}

fn check_name(field: &Field) -> Result<(), SchemaError> {
    let name = field.name();
    if name.is_empty() {
        return Err(SchemaError::whole("a column has no name"));
    }
    if name.len() > COLUMN_NAME_BYTES_MAX {
        let shown: String = name.chars().take(64).collect();
        return Err(SchemaError::at(
            &shown,
            format!("… has a name of more than {COLUMN_NAME_BYTES_MAX} bytes"),
        ));
    }
    if name.chars().any(char::is_control) {
        return Err(SchemaError::at(name, "has a control character in its name"));
    }
    Ok(())
}

fn nested(kind: &DataType) -> &[FieldRef] {
    match kind {
        DataType::List(item)
        | DataType::LargeList(item)
        | DataType::FixedSizeList(item, _)
        | DataType::Map(item, _) => std::slice::from_ref(item),
        DataType::Struct(fields) => fields,
        _ => &[],
    }
}

fn broken(error: SchemaError) -> ServiceError {
    let refused = ServiceError::invalid("arrow_schema", &error).reason("INVALID_SCHEMA");
    match error.column {
        Some(column) => refused.with("column", column),
        None => refused,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use std::sync::Arc;

    use super::*;

    fn ipc(fields: Vec<Field>) -> Vec<u8> {
        item_schema::schema_to_ipc(&Schema::new(fields)).unwrap()
    }

    fn refusal(fields: Vec<Field>) -> String {
        let error = Shape::of(None, &ipc(fields), "").unwrap_err();
        assert!(error.reason_is("INVALID_SCHEMA"), "{error}");
        error.message().to_owned()
    }

    #[test]
    fn nothing_given_makes_items_keyed_by_id() {
        let shape = Shape::of(None, &[], "").unwrap();
        assert_eq!((shape.profile, shape.key_column.as_deref()), (Profile::Items, Some("id")));
        assert_eq!(item_schema::schema_from_ipc(&shape.schema_ipc).unwrap().fields().len(), 23);
    }

    #[test]
    fn a_schema_makes_a_table_with_id_as_key_if_it_can_be_one() {
        let with_id = ipc(vec![
            Field::new("id", DataType::Int64, true),
            Field::new("x", DataType::Float32, true),
        ]);
        assert_eq!(Shape::of(None, &with_id, "").unwrap().key_column.as_deref(), Some("id"));
        let without = ipc(vec![Field::new("x", DataType::Float32, true)]);
        assert_eq!(Shape::of(None, &without, "").unwrap().key_column, None);
        assert!(Shape::of(Some(Profile::Table), &[], "").is_err());
    }

    #[test]
    fn a_key_must_exist_and_have_an_order() {
        let schema = ipc(vec![Field::new("x", DataType::Float32, true)]);
        for (key, word) in [("y", "no column"), ("x", "Float32")] {
            let error = Shape::of(None, &schema, key).unwrap_err();
            assert_eq!(error.field_name(), Some("key_column"));
            assert!(error.message().contains(word), "{error}");
        }
    }

    #[test]
    fn broken_schemas_are_refused_with_the_column() {
        assert!(refusal(vec![]).contains("no column"));
        let twice =
            vec![Field::new("a", DataType::Int8, true), Field::new("a", DataType::Utf8, true)];
        assert!(refusal(twice).contains("\"a\" is there twice"));
        assert!(refusal(vec![Field::new("", DataType::Int8, true)]).contains("no name"));
        assert!(refusal(vec![Field::new("a\nb", DataType::Int8, true)]).contains("control"));
        assert!(refusal(vec![Field::new("n".repeat(256), DataType::Int8, true)]).contains("255"));
        let many = (0..2_001).map(|n| Field::new(n.to_string(), DataType::Int8, true)).collect();
        assert!(refusal(many).contains("2001 columns"));
        let empty = Field::new("s", DataType::Struct(Vec::<Field>::new().into()), true);
        assert!(refusal(vec![empty]).contains("can't be stored"));
    }

    #[test]
    fn depth_is_bounded() {
        let mut kind = DataType::Int8;
        for _ in 0..17 {
            kind = DataType::List(Arc::new(Field::new("item", kind, true)));
        }
        assert!(refusal(vec![Field::new("deep", kind, true)]).contains("nested more than 16"));
    }

    #[test]
    fn items_keep_the_types_they_bring_and_refuse_unfit_ones() {
        let fit = ipc(vec![Field::new("id", DataType::FixedSizeBinary(16), true)]);
        let shape = Shape::of(Some(Profile::Items), &fit, "").unwrap();
        let schema = item_schema::schema_from_ipc(&shape.schema_ipc).unwrap();
        assert_eq!(schema.field(0).data_type(), &DataType::FixedSizeBinary(16));
        let unfit = ipc(vec![Field::new("is_favorite", DataType::Utf8, true)]);
        let error = Shape::of(Some(Profile::Items), &unfit, "").unwrap_err();
        assert_eq!(error.detail("column"), Some("is_favorite"));
    }
}
