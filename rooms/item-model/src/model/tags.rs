//! Tags of a row: a list of texts, or a text that holds a JSON array of them.

use arrow::datatypes::{DataType, Schema};
use catalog_api::v1::value::Kind;
use catalog_api::v1::{ListValue, Value};
use service_error::ServiceError;

/// Columns that may hold tags; the first that fits does.
const COLUMNS: [&str; 2] = ["tags", "tags_json"];

/// The column of a dataset's tags.
///
/// # Errors
/// `FailedPrecondition` where no column can hold them.
pub fn column(schema: &Schema) -> Result<&'static str, ServiceError> {
    let holds = |name: &&str| {
        schema.field_with_name(name).is_ok_and(|field| match field.data_type() {
            DataType::List(item) | DataType::LargeList(item) => is_text(item.data_type()),
            _ => item_schema::is_json(field),
        })
    };
    COLUMNS.into_iter().find(holds).ok_or_else(|| {
        let message = "the dataset has no column for tags: `tags`, a list of texts, or \
            `tags_json`, a text with a JSON array";
        ServiceError::precondition(message).reason("NO_TAGS").field("add")
    })
}

fn is_text(data_type: &DataType) -> bool {
    match data_type {
        DataType::Dictionary(_, value) => is_text(value),
        other => other.is_string(),
    }
}

/// A row's tags with some added and others taken off. What is no text among them stays.
///
/// # Errors
/// `FailedPrecondition` for a cell that holds no array.
pub fn changed(
    now: Value,
    is_list: bool,
    (add, remove): (&[String], &[String]),
) -> Result<Value, ServiceError> {
    let none = match is_list {
        true => Kind::ListValue(ListValue::default()),
        false => Kind::StringValue(String::new()),
    };
    let kind = match now.kind.or_else(|| (!add.is_empty()).then_some(none)) {
        Some(Kind::ListValue(list)) => Kind::ListValue(ListValue {
            values: edited(list.values, add, remove, |tag| Value {
                kind: Some(Kind::StringValue(tag.to_owned())),
            }),
        }),
        Some(Kind::StringValue(text)) => Kind::StringValue(as_json(&text, add, remove)?),
        Some(_) => return Err(no_array()),
        None => return Ok(Value { kind: None }),
    };
    Ok(Value { kind: Some(kind) })
}

fn as_json(text: &str, add: &[String], remove: &[String]) -> Result<String, ServiceError> {
    let tags = match text.trim() {
        "" | "null" => Vec::new(),
        text => serde_json::from_str(text).map_err(|_| no_array())?,
    };
    let tags = edited(tags, add, remove, |tag| serde_json::Value::String(tag.to_owned()));
    serde_json::to_string(&tags).map_err(|error| ServiceError::internal(error.to_string()))
}

fn edited<T: PartialEq>(
    mut tags: Vec<T>,
    add: &[String],
    remove: &[String],
    of: impl Fn(&str) -> T,
) -> Vec<T> {
    for tag in add.iter().map(|tag| of(tag)) {
        if !tags.contains(&tag) {
            tags.push(tag);
        }
    }
    let off: Vec<T> = remove.iter().map(|tag| of(tag)).collect();
    tags.retain(|tag| !off.contains(tag));
    tags
}

fn no_array() -> ServiceError {
    let message = "a row's tags are no array; patch the cell first";
    ServiceError::precondition(message).reason("TAGS_NOT_AN_ARRAY")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use arrow::datatypes::Field;

    fn text(text: &str) -> Value {
        Value { kind: Some(Kind::StringValue(text.to_owned())) }
    }

    fn words(of: &[&str]) -> Vec<String> {
        of.iter().map(|word| (*word).to_owned()).collect()
    }

    #[test]
    fn json_and_lists_hold_the_same_tags() {
        let (add, remove) = (words(&["b", "c", "c"]), words(&["a", "z"]));
        let json = |now: &str| changed(text(now), false, (&add, &remove));
        assert_eq!(json(r#"["a","b"]"#).unwrap(), text(r#"["b","c"]"#));
        assert_eq!(json(" null ").unwrap(), text(r#"["b","c"]"#));
        assert_eq!(json(r#"[1,"\u0061"]"#).unwrap(), text(r#"[1,"b","c"]"#));
        for wrong in ["{}", "7", "[", "a"] {
            assert!(json(wrong).unwrap_err().reason_is("TAGS_NOT_AN_ARRAY"), "{wrong}");
        }
        let list = |of: &[&str]| Value {
            kind: Some(Kind::ListValue(ListValue { values: of.iter().map(|t| text(t)).collect() })),
        };
        let edit = |now: Value| changed(now, true, (&add, &remove)).unwrap();
        assert_eq!(edit(list(&["a", "b"])), list(&["b", "c"]));
        assert_eq!(edit(Value::default()), list(&["b", "c"]), "none yet");
        assert_eq!(changed(Value::default(), false, (&[], &remove)).unwrap(), Value::default());
    }

    #[test]
    fn the_column_is_the_one_that_can_hold_tags() {
        let of = |fields: Vec<Field>| column(&Schema::new(fields));
        let list = Field::new("tags", DataType::new_list(DataType::Utf8, true), true);
        let json = Field::new("tags_json", DataType::Utf8, true);
        let plain = Field::new("tags", DataType::Utf8, true);
        assert_eq!(of(vec![json.clone(), list]).unwrap(), "tags");
        assert_eq!(of(vec![plain.clone(), json]).unwrap(), "tags_json");
        assert!(of(vec![plain]).unwrap_err().reason_is("NO_TAGS"));
    }
}
