//! One request of MLflow's client, before anybody knows what it means.

use http::Method;
use prost::Name;
use prost_reflect::{FieldDescriptor, Kind, MessageDescriptor};
use serde_json::{Map, Value};

use crate::check::check;
use crate::json::{descriptor, parse};
use crate::{MlflowError, Result, Schema};

/// The parts of a request that its message is read from.
#[derive(Debug, Clone)]
pub struct Call<'a> {
    /// The HTTP method.
    pub method: &'a Method,
    /// The decoded pairs of the query, in order.
    pub query: Vec<(String, String)>,
    /// The `content-type`, if there is one.
    pub content_type: Option<&'a str>,
    /// The whole body.
    pub body: &'a [u8],
}

impl Call<'_> {
    /// The request's message, checked as its handler demands.
    ///
    /// # Errors
    /// `INVALID_PARAMETER_VALUE` in MLflow's words.
    pub fn read<T: Name + Default>(&self, schema: Schema) -> Result<T> {
        let descriptor = descriptor::<T>()?;
        let object = if *self.method == Method::GET && !self.query.is_empty() {
            self.read_query(&descriptor)?
        } else {
            self.read_body()?
        };
        if let Some(name) = object.iter().find_map(|(name, value)| has_nul(value).then_some(name)) {
            return Err(MlflowError::invalid(format!(
                "Invalid value for parameter '{name}' supplied: Texts cannot contain a NUL character."
            )));
        }
        refuse_two_spellings(&object, &descriptor)?;
        let (message, is_read) = parse(&object)?;
        check(schema, &object, is_read)?;
        Ok(message)
    }

    /// The first value of a query parameter.
    #[must_use]
    pub fn parameter(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    fn read_query(&self, descriptor: &MessageDescriptor) -> Result<Map<String, Value>> {
        let mut object = Map::new();
        for field in descriptor.fields() {
            let mut values = self.query.iter().filter(|(name, _)| name == field.name());
            if field.is_list() {
                let values: Vec<Value> = values.map(|(_, value)| value.clone().into()).collect();
                if !values.is_empty() {
                    object.insert(field.name().to_owned(), values.into());
                }
            } else if let Some((_, value)) = values.next() {
                object.insert(field.name().to_owned(), scalar(&field, value)?);
            }
        }
        Ok(object)
    }

    fn read_body(&self) -> Result<Map<String, Value>> {
        if matches!(*self.method, Method::POST | Method::PUT) {
            let Some(content_type) = self.content_type else {
                return Err(MlflowError::invalid("Bad Request. Content-Type header is missing."));
            };
            if content_type.split(';').next() != Some("application/json") {
                return Err(MlflowError::invalid(
                    "Bad Request. Content-Type must be one of ['application/json'].",
                ));
            }
        }
        // A body that is no JSON is an empty one, as in MLflow; older clients
        // send the JSON inside a JSON string.
        let mut value: Value = serde_json::from_slice(self.body).unwrap_or_default();
        if let Value::String(text) = &value {
            value = serde_json::from_str(text).unwrap_or_default();
        }
        match value {
            Value::Object(object) => Ok(object),
            Value::Null => Ok(Map::new()),
            _ => Err(MlflowError::invalid("Bad Request. The body must be a JSON object.")),
        }
    }
}

fn scalar(field: &FieldDescriptor, text: &str) -> Result<Value> {
    if field.kind() != Kind::Bool {
        return Ok(text.into());
    }
    match text.to_lowercase().as_str() {
        "true" => Ok(true.into()),
        "false" => Ok(false.into()),
        _ => Err(MlflowError::invalid(format!(
            "Invalid boolean value: {text}, must be 'true' or 'false'."
        ))),
    }
}

/// A text that Postgres does not take, at any depth; refused on both databases.
fn has_nul(value: &Value) -> bool {
    match value {
        Value::String(text) => text.contains('\0'),
        Value::Array(items) => items.iter().any(has_nul),
        Value::Object(object) => {
            object.iter().any(|(key, value)| key.contains('\0') || has_nul(value))
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}

/// A field under both its names could be authorized as one and used as the
/// other.
fn refuse_two_spellings(object: &Map<String, Value>, descriptor: &MessageDescriptor) -> Result<()> {
    for field in descriptor.fields() {
        let (name, json_name) = (field.name(), field.json_name());
        if name != json_name && object.contains_key(name) && object.contains_key(json_name) {
            return Err(MlflowError::invalid(format!(
                "Request specifies both '{name}' and '{json_name}'; provide only one of them."
            )));
        }
        let Kind::Message(nested) = field.kind() else { continue };
        if nested.is_map_entry() {
            continue;
        }
        match object.get(name).or_else(|| object.get(json_name)) {
            Some(Value::Array(items)) => {
                let mut objects = items.iter().filter_map(Value::as_object);
                objects.try_for_each(|item| refuse_two_spellings(item, &nested))?;
            }
            Some(Value::Object(item)) => refuse_two_spellings(item, &nested)?,
            _ => {}
        }
    }
    Ok(())
}
