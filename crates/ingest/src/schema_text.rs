//! Column types as people write them: `width:int32,caption:text`, or a JSON
//! file with the same.

use std::path::Path;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Fields, TimeUnit};
use serde_json::Value;

use crate::error::{ErrorKind, IngestError};

const TYPES: &str = "bool, int8…int64, uint8…uint64, float32, float64, decimal(p,s), text, binary, uuid, date, time, \
                     timestamp, timestamptz, list<T>, struct<name:T,…>";

/// Reads `--schema`: `name:type,…`, JSON (`{"name":"type"}` or
/// `[{"name":…,"type":…}]`), or the path of a file holding either.
///
/// # Errors
/// A column has no type, an unknown one, or is named twice.
pub fn parse_schema(text: &str) -> Result<Vec<Field>, IngestError> {
    let path = Path::new(text);
    if text.ends_with(".json") || (!text.contains(':') && path.is_file()) {
        let content = std::fs::read_to_string(path).map_err(|err| IngestError::io(path, err))?;
        return fields_of(content.trim())
            .map_err(|message| IngestError::new(ErrorKind::Schema, path, message));
    }
    fields_of(text.trim())
        .map_err(|message| IngestError::new(ErrorKind::Schema, Path::new("--schema"), message))
}

fn fields_of(text: &str) -> Result<Vec<Field>, String> {
    let fields = if text.starts_with(['{', '[']) {
        fields_of_json(text)?
    } else {
        split(text)?.into_iter().map(field_of).collect::<Result<_, _>>()?
    };
    if fields.is_empty() {
        return Err("no columns; write name:type,…".to_owned());
    }
    for (at, field) in fields.iter().enumerate() {
        if fields[..at].iter().any(|other| other.name() == field.name()) {
            return Err(format!("column {:?} is named twice", field.name()));
        }
    }
    Ok(fields)
}

fn field_of(part: &str) -> Result<Field, String> {
    let (name, kind) =
        part.split_once(':').ok_or_else(|| format!("{part:?} has no type; write name:type"))?;
    if name.trim().is_empty() {
        return Err(format!("{part:?} has no name; write name:type"));
    }
    Ok(Field::new(name.trim(), type_of(kind.trim())?, true))
}

fn fields_of_json(text: &str) -> Result<Vec<Field>, String> {
    let value: Value = serde_json::from_str(text).map_err(|err| format!("not JSON: {err}"))?;
    let pairs: Vec<(String, String)> = match value {
        Value::Object(map) => map
            .into_iter()
            .map(|(name, kind)| Some((name, kind.as_str()?.to_owned())))
            .collect::<Option<_>>()
            .ok_or("each value must be a type's name")?,
        Value::Array(list) => list
            .iter()
            .map(|entry| {
                Some((entry["name"].as_str()?.to_owned(), entry["type"].as_str()?.to_owned()))
            })
            .collect::<Option<_>>()
            .ok_or(r#"each entry must be {"name": …, "type": …}"#)?,
        _ => return Err("must be an object or an array".to_owned()),
    };
    pairs.into_iter().map(|(name, kind)| Ok(Field::new(name, type_of(&kind)?, true))).collect()
}

/// Splits at commas that stand outside brackets.
fn split(text: &str) -> Result<Vec<&str>, String> {
    let mut parts = Vec::new();
    let (mut depth, mut begin) = (0_i32, 0);
    for (at, letter) in text.char_indices() {
        match letter {
            '<' | '(' => depth += 1,
            '>' | ')' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(text[begin..at].trim());
                begin = at + 1;
            }
            _ => {}
        }
        if !(0..=16).contains(&depth) {
            return Err(format!("the brackets of {text:?} do not match or nest too deep"));
        }
    }
    if depth != 0 {
        return Err(format!("the brackets of {text:?} do not match"));
    }
    parts.push(text[begin..].trim());
    Ok(parts.into_iter().filter(|part| !part.is_empty()).collect())
}

fn type_of(text: &str) -> Result<DataType, String> {
    if let Some(inner) = inside(text, "list<", ">") {
        return Ok(DataType::List(Arc::new(Field::new("item", type_of(inner)?, true))));
    }
    if let Some(inner) = inside(text, "struct<", ">") {
        let fields = split(inner)?.into_iter().map(field_of).collect::<Result<Vec<_>, _>>()?;
        return Ok(DataType::Struct(Fields::from(fields)));
    }
    if let Some(inner) = inside(text, "decimal(", ")") {
        return decimal_of(inner);
    }
    Ok(match text.to_ascii_lowercase().as_str() {
        "bool" | "boolean" => DataType::Boolean,
        "int8" => DataType::Int8,
        "int16" => DataType::Int16,
        "int32" | "int" => DataType::Int32,
        "int64" | "bigint" | "long" => DataType::Int64,
        "uint8" => DataType::UInt8,
        "uint16" => DataType::UInt16,
        "uint32" => DataType::UInt32,
        "uint64" => DataType::UInt64,
        "float32" | "float" => DataType::Float32,
        "float64" | "double" => DataType::Float64,
        "text" | "string" | "utf8" | "varchar" => DataType::Utf8,
        "binary" | "bytes" => DataType::Binary,
        "uuid" => DataType::FixedSizeBinary(16),
        "date" => DataType::Date32,
        "time" => DataType::Time64(TimeUnit::Microsecond),
        "timestamp" => DataType::Timestamp(TimeUnit::Microsecond, None),
        "timestamptz" => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
        _ => return Err(format!("no type {text:?}; one of {TYPES}")),
    })
}

fn inside<'a>(text: &'a str, begin: &str, end: &str) -> Option<&'a str> {
    let head = text.get(..begin.len())?;
    head.eq_ignore_ascii_case(begin).then(|| text[begin.len()..].strip_suffix(end))?
}

fn decimal_of(text: &str) -> Result<DataType, String> {
    let wrong = || format!("decimal({text}): write decimal(precision,scale), at most 38 digits");
    let (precision, scale) = text.split_once(',').ok_or_else(wrong)?;
    let precision: u8 = precision.trim().parse().map_err(|_| wrong())?;
    let scale: i8 = scale.trim().parse().map_err(|_| wrong())?;
    if !(1..=38).contains(&precision) || scale < 0 || scale.unsigned_abs() > precision {
        return Err(wrong());
    }
    Ok(DataType::Decimal128(precision, scale))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    fn types(text: &str) -> Vec<(String, DataType)> {
        parse_schema(text)
            .unwrap()
            .into_iter()
            .map(|field| (field.name().clone(), field.data_type().clone()))
            .collect()
    }

    #[test]
    fn text_names_columns_and_types() {
        let fields =
            types("id:uuid, width:int32,price:decimal(10,2),tags:list<text>,at:timestamptz");
        assert_eq!(fields[0].1, DataType::FixedSizeBinary(16));
        assert_eq!(fields[1], ("width".to_owned(), DataType::Int32));
        assert_eq!(fields[2].1, DataType::Decimal128(10, 2));
        assert!(
            matches!(&fields[3].1, DataType::List(item) if *item.data_type() == DataType::Utf8)
        );
        assert!(matches!(&fields[4].1, DataType::Timestamp(TimeUnit::Microsecond, Some(_))));
    }

    #[test]
    fn nested_types_nest() {
        let fields = types("box:struct<x:int32,y:struct<a:list<float64>,b:text>>,n:int64");
        assert_eq!(fields.len(), 2);
        let DataType::Struct(inner) = &fields[0].1 else { panic!("struct") };
        assert_eq!(inner.len(), 2);
    }

    #[test]
    fn json_and_files_say_the_same() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("schema.json");
        std::fs::write(&path, r#"[{"name":"a","type":"int32"},{"name":"b","type":"list<text>"}]"#)
            .unwrap();
        assert_eq!(types(path.to_str().unwrap()), types("a:int32,b:list<text>"));
        assert_eq!(types(r#"{"a":"date"}"#), types("a:date"));
    }

    #[test]
    fn mistakes_are_explained() {
        for (text, says) in [
            ("width", "no type"),
            ("width:integr", "one of bool"),
            ("a:int32,a:text", "twice"),
            ("a:decimal(99,2)", "38"),
            ("a:list<text", "brackets"),
            ("", "no columns"),
            ("/no/such.json", "cannot be read"),
            (&format!("a:{}text{}", "list<".repeat(40), ">".repeat(40)), "deep"),
        ] {
            let err = parse_schema(text).unwrap_err().to_string();
            assert!(err.contains(says), "{text}: {err}");
        }
    }
}
