//! The untyped tree against a schema.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryArray, BooleanArray, FixedSizeBinaryArray, Float32Array, Float64Array,
    StringArray,
};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Schema};
use arrow::error::ArrowError;

use crate::FilterError;
use crate::json::{JsonTest, Wanted};
use crate::lexer::Text;
use crate::literal::{self, Place};
use crate::parser::{Path, Saved, Syntax, Value, ValueKind};
use crate::predicate::{ColumnPath, Leaf, Op, Operand, Predicate, Test, TextOp, value_type};

pub(crate) fn bind(syntax: Syntax, schema: &Schema) -> Result<Predicate, FilterError> {
    let all = |parts: Vec<Syntax>| {
        parts.into_iter().map(|part| bind(part, schema)).collect::<Result<Vec<_>, _>>()
    };
    Ok(match syntax {
        Syntax::And(parts) => Predicate::And(all(parts)?),
        Syntax::Or(parts) => Predicate::Or(all(parts)?),
        Syntax::Not(inner) => Predicate::Not(Box::new(bind(*inner, schema)?)),
        Syntax::Compare { path, op, value } if in_json(&path, schema).is_some() => {
            json(&path, schema, &value, |value, target| compare(op, value, target))?
        }
        Syntax::Has { path, value } if is_json(&path, schema) => json_has(&path, schema, &value)?,
        Syntax::In { path, values } if in_json(&path, schema).is_some() => {
            let each = values.iter().map(|value| {
                json(&path, schema, &as_written(value)?, |value, target| {
                    compare(Op::Eq, value, target)
                })
            });
            Predicate::Or(each.collect::<Result<Vec<_>, FilterError>>()?)
        }
        Syntax::Compare { path, op, value } => {
            let (column, data_type) = resolve(&path, schema)?;
            let test = compare(op, &value, &Target::of(&path, &data_type))?;
            Predicate::Leaf(Leaf { column, test })
        }
        Syntax::Has { path, value } => {
            let (column, data_type) = resolve(&path, schema)?;
            let test = has(&value, &Target::of(&path, &data_type))?;
            Predicate::Leaf(Leaf { column, test })
        }
        Syntax::In { path, values } => {
            let (column, data_type) = resolve(&path, schema)?;
            let test = within(&values, &Target::of(&path, &data_type))?;
            Predicate::Leaf(Leaf { column, test })
        }
        // What is left of them names a column's element.
        Syntax::Saved(Saved { path, name, .. }) => bind(Syntax::Has { path, value: name }, schema)?,
        Syntax::Bare(path) => {
            let (column, data_type) = resolve(&path, schema)?;
            if value_type(&data_type) != &DataType::Boolean {
                let message = format!("{} is {data_type}; compare it with a value", shown(&path));
                return Err(FilterError::new(path.column, message));
            }
            let value = Value { kind: ValueKind::Bool(true), column: path.column };
            let test = compare(Op::Eq, &value, &Target::of(&path, &data_type))?;
            Predicate::Leaf(Leaf { column, test })
        }
    })
}

/// The JSON column that a path leads into, if it does.
fn in_json<'a>(path: &Path, schema: &'a Schema) -> Option<&'a Field> {
    let (first, rest) = path.segments.split_first()?;
    if rest.is_empty() || schema.field_with_name(&shown(path)).is_ok() {
        return None;
    }
    schema.field_with_name(first).ok().filter(|field| holds_json(field))
}

/// Whether a path names a JSON column or a place in one.
fn is_json(path: &Path, schema: &Schema) -> bool {
    let whole = schema.field_with_name(&shown(path)).ok();
    in_json(path, schema).is_some() || whole.is_some_and(holds_json)
}

/// Texts that are declared to be JSON, or named so.
fn holds_json(field: &Field) -> bool {
    let text = matches!(
        value_type(field.data_type()),
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View
    );
    let declared =
        field.metadata().get("ARROW:extension:name").is_some_and(|name| name == "arrow.json");
    text && (declared || field.name().ends_with("_json"))
}

/// A test of what is at a place in a JSON column. The literal's kind says which
/// values are meant.
fn json(
    path: &Path,
    schema: &Schema,
    value: &Value,
    test: impl Fn(&Value, &Target<'_>) -> Result<Test, FilterError>,
) -> Result<Predicate, FilterError> {
    let whole = schema.field_with_name(&shown(path)).is_ok();
    let (top, rest) = match path.segments.split_first() {
        Some((first, rest)) if !whole => (first.clone(), rest.to_vec()),
        _ => (shown(path), Vec::new()),
    };
    let (wanted, data_type) = match &value.kind {
        ValueKind::Number(_) => (Wanted::Number, DataType::Float64),
        ValueKind::Bool(_) => (Wanted::Flag, DataType::Boolean),
        ValueKind::Text(_) | ValueKind::Moment(_) => (Wanted::Text, DataType::Utf8),
        ValueKind::Null | ValueKind::Any => (Wanted::Anything, DataType::Boolean),
    };
    let target = Target { name: shown(path), data_type: &data_type };
    let test = match &value.kind {
        ValueKind::Any => Test::IsNotNull,
        _ => test(value, &target)?,
    };
    let json = JsonTest { path: rest, wanted, elements: false, test };
    let column = ColumnPath { top, nested: Vec::new() };
    Ok(Predicate::Leaf(Leaf { column, test: Test::Json(Box::new(json)) }))
}

/// `tags_json:"cat"`: an element of an array, or the name of a member.
fn json_has(path: &Path, schema: &Schema, value: &Value) -> Result<Predicate, FilterError> {
    if value.kind == ValueKind::Null {
        let message = "null is no element; use = null for what is not there";
        return Err(FilterError::new(value.column, message));
    }
    let mut predicate = json(path, schema, value, |value, target| compare(Op::Eq, value, target))?;
    if let Predicate::Leaf(Leaf { test: Test::Json(json), .. }) = &mut predicate {
        json.elements = value.kind != ValueKind::Any;
    }
    Ok(predicate)
}

pub(crate) fn equals(schema: &Schema, column: &str, text: &str) -> Result<Predicate, FilterError> {
    let path = Path { segments: vec![column.to_owned()], column: 1 };
    let (column, data_type) = resolve(&path, schema)?;
    let plain = Text { text: text.to_owned(), verbatim: text.to_owned(), ..Text::default() };
    let kind = match value_type(&data_type) {
        DataType::Boolean if text == "true" || text == "false" => ValueKind::Bool(text == "true"),
        data_type if is_number(data_type) => ValueKind::Number(text.to_owned()),
        _ => ValueKind::Text(plain),
    };
    let test = compare(Op::Eq, &Value { kind, column: 1 }, &Target::of(&path, &data_type))?;
    Ok(Predicate::Leaf(Leaf { column, test }))
}

fn is_number(data_type: &DataType) -> bool {
    data_type.is_numeric()
}

/// What a literal is compared with.
struct Target<'a> {
    name: String,
    data_type: &'a DataType,
}

impl<'a> Target<'a> {
    fn of(path: &Path, data_type: &'a DataType) -> Self {
        Self { name: shown(path), data_type: value_type(data_type) }
    }

    fn error(&self, value: &Value, wanted: &str) -> FilterError {
        let found = match &value.kind {
            ValueKind::Null => "null".to_owned(),
            ValueKind::Any => "*".to_owned(),
            ValueKind::Bool(b) => b.to_string(),
            ValueKind::Number(n) | ValueKind::Moment(n) => n.clone(),
            ValueKind::Text(t) => format!("{:?}", t.verbatim),
        };
        let message =
            format!("{} is {}: expected {wanted}, found {found}", self.name, self.data_type);
        FilterError::new(value.column, message)
    }

    fn failed(&self, value: &Value, error: &ArrowError) -> FilterError {
        FilterError::new(
            value.column,
            format!("{} cannot be compared with this: {error}", self.name),
        )
    }
}

fn shown(path: &Path) -> String {
    path.segments.join(".")
}

fn resolve(path: &Path, schema: &Schema) -> Result<(ColumnPath, DataType), FilterError> {
    // A column whose own name has dots wins over a field of a struct.
    let whole = shown(path);
    if let Ok(field) = schema.field_with_name(&whole) {
        let column = ColumnPath { top: whole, nested: Vec::new() };
        return Ok((column, field.data_type().clone()));
    }
    let unknown = |name: &str, among: &[Arc<Field>]| {
        let mut names: Vec<&str> = among.iter().map(|f| f.name().as_str()).take(40).collect();
        names.sort_unstable();
        let message = format!("no column {name:?}; there are {}", names.join(", "));
        FilterError::new(path.column, message)
    };
    let top = &path.segments[0];
    let mut field = schema
        .fields()
        .find(top)
        .map(|(_, field)| field)
        .ok_or_else(|| unknown(&whole, schema.fields()))?;
    for segment in &path.segments[1..] {
        let DataType::Struct(fields) = field.data_type() else {
            let message =
                format!("{} is {} and has no field {segment:?}", field.name(), field.data_type());
            return Err(FilterError::new(path.column, message));
        };
        field =
            fields.find(segment).map(|(_, field)| field).ok_or_else(|| unknown(segment, fields))?;
    }
    let column = ColumnPath { top: top.clone(), nested: path.segments[1..].to_vec() };
    Ok((column, field.data_type().clone()))
}

fn compare(op: Op, value: &Value, target: &Target<'_>) -> Result<Test, FilterError> {
    if value.kind == ValueKind::Null {
        return match op {
            Op::Eq => Ok(Test::IsNull),
            Op::NotEq => Ok(Test::IsNotNull),
            _ => Err(FilterError::new(value.column, "null has no order; use = null or != null")),
        };
    }
    if value.kind == ValueKind::Any {
        let message = format!("write {} != null for any value", target.name);
        return Err(FilterError::new(value.column, message));
    }
    match target.data_type {
        DataType::Boolean => match value.kind {
            ValueKind::Bool(b) => {
                Ok(Test::Compare(op, operand(Arc::new(BooleanArray::from(vec![b])))))
            }
            _ => Err(target.error(value, "true or false")),
        },
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => text(op, value, target),
        DataType::Float16 | DataType::Float32 | DataType::Float64 => float(op, value, target),
        DataType::FixedSizeBinary(_)
        | DataType::Binary
        | DataType::LargeBinary
        | DataType::BinaryView => Ok(Test::Compare(op, bytes(value, target)?)),
        DataType::List(_) | DataType::LargeList(_) | DataType::FixedSizeList(_, _) => {
            let message =
                format!("{} is a list; ask for an element with {}:value", target.name, target.name);
            Err(FilterError::new(value.column, message))
        }
        data_type if literal::integer_range(data_type).is_some() => integer(op, value, target),
        data_type => {
            let message =
                format!("{} is {data_type}, which cannot be filtered by value", target.name);
            Err(FilterError::new(value.column, message))
        }
    }
}

fn text(op: Op, value: &Value, target: &Target<'_>) -> Result<Test, FilterError> {
    let literal = match &value.kind {
        ValueKind::Text(text) => text.clone(),
        ValueKind::Moment(moment) => {
            Text { text: moment.clone(), verbatim: moment.clone(), ..Text::default() }
        }
        _ => return Err(target.error(value, "a text in quotes")),
    };
    let wild = literal.open_start || literal.open_end;
    if wild && matches!(op, Op::Eq | Op::NotEq) {
        let kind = match (literal.open_start, literal.open_end) {
            (true, true) => TextOp::Contains,
            (true, false) => TextOp::EndsWith,
            _ => TextOp::StartsWith,
        };
        let positive = Test::Text(kind, string(&literal.text, value, target)?);
        return match op {
            Op::Eq => Ok(positive),
            _ => {
                let message = "write NOT x = \"…*\" instead of != with a wildcard";
                Err(FilterError::new(value.column, message))
            }
        };
    }
    Ok(Test::Compare(op, string(&literal.verbatim, value, target)?))
}

fn string(text: &str, value: &Value, target: &Target<'_>) -> Result<Operand, FilterError> {
    let scalar = cast(&StringArray::from(vec![text]), target.data_type)
        .map_err(|e| target.failed(value, &e))?;
    Ok(Operand { scalar, text: format!("{text:?}") })
}

fn float(op: Op, value: &Value, target: &Target<'_>) -> Result<Test, FilterError> {
    let ValueKind::Number(digits) = &value.kind else {
        return Err(target.error(value, "a number"));
    };
    let number: f64 = digits.parse().map_err(|_| target.error(value, "a number"))?;
    let scalar: ArrayRef = match target.data_type {
        // Straight from the digits: by way of f64 it would be rounded twice.
        DataType::Float32 => {
            let number: f32 = digits.parse().map_err(|_| target.error(value, "a number"))?;
            Arc::new(Float32Array::from(vec![number]))
        }
        data_type => {
            let wide = Float64Array::from(vec![number]);
            cast(&wide, data_type).map_err(|e| target.failed(value, &e))?
        }
    };
    Ok(Test::Compare(op, operand(scalar)))
}

fn bytes(value: &Value, target: &Target<'_>) -> Result<Operand, FilterError> {
    let ValueKind::Text(text) = &value.kind else {
        return Err(target.error(value, "hex digits or a UUID in quotes"));
    };
    let scalar: ArrayRef = match target.data_type {
        DataType::FixedSizeBinary(16) => {
            let id = uuid::Uuid::try_parse(&text.verbatim).map_err(|_| {
                target
                    .error(value, "a UUID in quotes, e.g. \"01932d3e-7b2a-7c1f-9f00-000000000000\"")
            })?;
            let array = FixedSizeBinaryArray::try_from_iter(std::iter::once(id.as_bytes()));
            Arc::new(array.map_err(|e| target.failed(value, &e))?)
        }
        DataType::FixedSizeBinary(size) => {
            let wanted = format!("{} hex digits in quotes", 2 * size);
            let bytes = literal::hex(&text.verbatim)
                .filter(|b| i32::try_from(b.len()) == Ok(*size))
                .ok_or_else(|| target.error(value, &wanted))?;
            let array = FixedSizeBinaryArray::try_from_iter(std::iter::once(bytes));
            Arc::new(array.map_err(|e| target.failed(value, &e))?)
        }
        data_type => {
            let bytes = literal::hex(&text.verbatim)
                .ok_or_else(|| target.error(value, "hex digits in quotes"))?;
            cast(&BinaryArray::from(vec![bytes.as_slice()]), data_type)
                .map_err(|e| target.failed(value, &e))?
        }
    };
    Ok(operand(scalar))
}

fn operand(scalar: ArrayRef) -> Operand {
    let text = literal::spelling(&scalar);
    Operand { scalar, text }
}

fn integer(op: Op, value: &Value, target: &Target<'_>) -> Result<Test, FilterError> {
    let place = place(value, target)?;
    let at = |op, value_at| {
        let scalar = literal::integer_scalar(value_at, target.data_type)
            .map_err(|e| target.failed(value, &e))?;
        Ok(Test::Compare(op, operand(scalar)))
    };
    match (place, op) {
        (Place::At(v), op) => at(op, v),
        (Place::After(_) | Place::Below | Place::Above, Op::Eq) => Ok(Test::Always(false)),
        (Place::After(_) | Place::Below | Place::Above, Op::NotEq) => Ok(Test::Always(true)),
        (Place::After(v), Op::Lt | Op::LtEq) => at(Op::LtEq, v),
        (Place::After(v), Op::Gt | Op::GtEq) => at(Op::Gt, v),
        (Place::Above, op) => Ok(Test::Always(matches!(op, Op::Lt | Op::LtEq))),
        (Place::Below, op) => Ok(Test::Always(matches!(op, Op::Gt | Op::GtEq))),
    }
}

/// Where a literal stands among the values of an integer-like type.
fn place(value: &Value, target: &Target<'_>) -> Result<Place, FilterError> {
    let (least, greatest, scale) = literal::integer_range(target.data_type)
        .ok_or_else(|| target.error(value, "another type"))?;
    let moment = match &value.kind {
        ValueKind::Text(text) => Some(text.verbatim.as_str()),
        ValueKind::Moment(moment) => Some(moment.as_str()),
        ValueKind::Number(digits) if digits.ends_with('s') => Some(digits.as_str()),
        _ => None,
    };
    let in_unit = |nanos: Option<i128>, unit, wanted: &str| {
        let nanos = nanos.ok_or_else(|| target.error(value, wanted))?;
        Ok(literal::divided(nanos, literal::nanos_in(unit), least, greatest))
    };
    match target.data_type {
        DataType::Timestamp(unit, _) => {
            let wanted = "a time such as \"2024-01-31T12:00:00Z\" or a date";
            in_unit(moment.and_then(literal::instant), *unit, wanted)
        }
        DataType::Date32 | DataType::Date64 => {
            let days = moment
                .and_then(literal::days)
                .ok_or_else(|| target.error(value, "a date such as \"2024-01-31\""))?;
            let factor = if target.data_type == &DataType::Date32 { 1 } else { 86_400_000 };
            Ok(Place::At(days * factor))
        }
        DataType::Time32(unit) | DataType::Time64(unit) => in_unit(
            moment.and_then(literal::time_of_day),
            *unit,
            "a time of day such as \"12:30:00\"",
        ),
        DataType::Duration(unit) => {
            in_unit(moment.and_then(literal::duration), *unit, "seconds such as 1.5s")
        }
        _ => match &value.kind {
            ValueKind::Number(digits) => literal::decimal(digits)
                .map(|number| number.place(scale, least, greatest))
                .ok_or_else(|| target.error(value, "a number")),
            _ => Err(target.error(value, "a number")),
        },
    }
}

fn has(value: &Value, target: &Target<'_>) -> Result<Test, FilterError> {
    if value.kind == ValueKind::Any {
        return Ok(Test::IsNotNull);
    }
    match target.data_type {
        DataType::List(field) | DataType::LargeList(field) | DataType::FixedSizeList(field, _) => {
            if value.kind == ValueKind::Null {
                return Err(FilterError::new(
                    value.column,
                    "null is no element; use = null for a missing list",
                ));
            }
            let element =
                Target { name: target.name.clone(), data_type: value_type(field.data_type()) };
            Ok(Test::Has(Box::new(compare(Op::Eq, value, &element)?)))
        }
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => match &value.kind {
            ValueKind::Text(text) => {
                Ok(Test::Text(TextOp::Contains, string(&text.verbatim, value, target)?))
            }
            _ => Err(target.error(value, "a text in quotes")),
        },
        _ => compare(Op::Eq, value, target),
    }
}

/// A value of a list: without wildcards.
fn as_written(value: &Value) -> Result<Value, FilterError> {
    Ok(match &value.kind {
        ValueKind::Null => {
            let message = "null is in no list; write x = null OR x IN (…)";
            return Err(FilterError::new(value.column, message));
        }
        ValueKind::Text(text) => Value {
            kind: ValueKind::Text(Text {
                text: text.verbatim.clone(),
                verbatim: text.verbatim.clone(),
                ..Text::default()
            }),
            column: value.column,
        },
        _ => value.clone(),
    })
}

fn within(values: &[Value], target: &Target<'_>) -> Result<Test, FilterError> {
    let mut operands = Vec::with_capacity(values.len());
    for value in values {
        let as_written = as_written(value)?;
        // A number that the type cannot hold equals nothing and is left out.
        if let Test::Compare(Op::Eq, operand) = compare(Op::Eq, &as_written, target)? {
            operands.push(operand);
        }
    }
    operands.sort_by(|a, b| a.text.cmp(&b.text));
    operands.dedup_by(|a, b| a.text == b.text);
    Ok(if operands.is_empty() { Test::Always(false) } else { Test::In(operands) })
}
