//! What a handler demands of its parameters before it runs.

use serde_json::{Map, Value};

use crate::json::compact;
use crate::{MlflowError, Result};

/// One demand on a parameter.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Check {
    /// There, and not an empty string.
    Required,
    /// A string.
    Str,
    /// An integer, or a string that is one.
    Int,
    /// A number, or a string that is one.
    Float,
    /// A boolean.
    Bool,
    /// A list.
    Array,
    /// Every item a string.
    Strings,
    /// An integer of at most so much.
    AtMost(i64),
    /// Every item of the list has these fields.
    Each(&'static [&'static str]),
}

/// The demands on a handler's parameters, in the order in which they are made.
pub type Schema = &'static [(&'static str, &'static [Check])];

/// Checks the parameters of a request; types are looked at only where the
/// message could not be read, since a read message has them right.
///
/// # Errors
/// `INVALID_PARAMETER_VALUE` for the first demand that is not met.
pub fn check(schema: Schema, object: &Map<String, Value>, is_read: bool) -> Result<()> {
    for (name, checks) in schema {
        if !object.contains_key(*name) && !checks.contains(&Check::Required) {
            continue;
        }
        let mut value = object.get(*name).unwrap_or(&Value::Null);
        if *name == "run_id" && value.is_null() {
            value = object.get("run_uuid").unwrap_or(&Value::Null);
        }
        for check in *checks {
            if is_read && check.is_of_type() {
                continue;
            }
            check.hold(name, value)?;
        }
    }
    Ok(())
}

impl Check {
    const fn is_of_type(self) -> bool {
        matches!(
            self,
            Self::Str | Self::Int | Self::Float | Self::Bool | Self::Array | Self::Strings
        )
    }

    fn hold(self, name: &str, value: &Value) -> Result<()> {
        let holds = match self {
            Self::Required => {
                if is_missing(value) {
                    return Err(missing(name));
                }
                true
            }
            Self::Str => value.is_string(),
            Self::Int => integer(value).is_some(),
            Self::Float => number(value).is_some(),
            Self::Bool => value.is_boolean(),
            Self::Array => value.is_array(),
            Self::Strings => {
                value.as_array().is_some_and(|items| items.iter().all(Value::is_string))
            }
            Self::AtMost(most) => integer(value).is_none_or(|number| number <= most),
            Self::Each(fields) => return each(name, value, fields),
        };
        if holds { Ok(()) } else { Err(wrong(name, value)) }
    }
}

fn each(name: &str, value: &Value, fields: &[&str]) -> Result<()> {
    let items = value.as_array().map(Vec::as_slice).unwrap_or_default();
    for (index, item) in items.iter().enumerate() {
        for field in fields {
            if is_missing(item.get(*field).unwrap_or(&Value::Null)) {
                return Err(missing(&format!("{name}[{index}].{field}")));
            }
        }
    }
    Ok(())
}

fn is_missing(value: &Value) -> bool {
    value.is_null() || value.as_str() == Some("")
}

fn integer(value: &Value) -> Option<i64> {
    match value {
        Value::Number(number) => {
            number.as_i64().or_else(|| number.as_f64().map(|float| float as i64))
        }
        Value::String(text) => whole(text.trim()),
        Value::Bool(flag) => Some(i64::from(*flag)),
        _ => None,
    }
}

/// An integer of any length: one beyond 64 bits is the largest there is. MLflow
/// takes it, and its message reads it as 0.
fn whole(text: &str) -> Option<i64> {
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    let plain = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    let beyond = if text.starts_with('-') { i64::MIN } else { i64::MAX };
    plain.then(|| text.parse().unwrap_or(beyond))
}

fn number(value: &Value) -> Option<f64> {
    value.as_f64().or_else(|| value.as_str()?.trim().parse().ok())
}

const HINT: &str = " See the API docs for more information about request parameters.";

fn missing(path: &str) -> MlflowError {
    MlflowError::invalid(format!("Missing value for required parameter '{path}'.{HINT}"))
}

fn wrong(name: &str, value: &Value) -> MlflowError {
    let kind = match value {
        Value::Null => "NoneType",
        Value::Bool(_) => "bool",
        Value::Number(number) if number.is_f64() => "float",
        Value::Number(_) => "int",
        Value::String(_) => "str",
        Value::Array(_) => "list",
        Value::Object(_) => "dict",
    };
    MlflowError::invalid(format!(
        "Invalid value {} for parameter '{name}' supplied:  Hint: Value was of type '{kind}'.{HINT}",
        compact(value)
    ))
}
