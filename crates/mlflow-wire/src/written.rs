//! Encoded messages as JSON, straight from their bytes: a message of the reflection library
//! between them costs more than the query whose answer it holds.

use std::collections::HashMap;

use prost_reflect::{DescriptorPool, FieldDescriptor, Kind, MessageDescriptor};

/// How the messages of a contract are written, by their full names.
#[derive(Debug)]
pub struct Shapes {
    places: HashMap<String, usize>,
    shapes: Vec<Shape>,
}

/// A message.
#[derive(Debug)]
struct Shape {
    /// By number.
    fields: Vec<Option<Field>>,
    /// Without a map, in it or below it: maps are left to the reflection library.
    is_plain: bool,
}

#[derive(Debug)]
struct Field {
    /// `"name": `
    head: Vec<u8>,
    is_list: bool,
    value: Value,
}

#[derive(Debug)]
enum Value {
    Text,
    Bool,
    Integer,
    Double,
    Enum(HashMap<i64, String>),
    Message(usize),
    /// What no message of the contract has.
    Other,
}

/// The bytes are none of the message that they were said to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Broken;

type Written = Result<(), Broken>;

impl Shapes {
    /// Of all messages of a pool.
    pub fn of(pool: &DescriptorPool) -> Self {
        let places: HashMap<String, usize> = pool
            .all_messages()
            .enumerate()
            .map(|(at, message)| (message.full_name().to_owned(), at))
            .collect();
        let shapes = pool.all_messages().map(|message| shape(&message, &places)).collect();
        let mut all = Self { places, shapes };
        while let Some(at) = all.first_around_maps() {
            all.shapes[at].is_plain = false;
        }
        all
    }

    fn first_around_maps(&self) -> Option<usize> {
        let holds = |field: &Field| match field.value {
            Value::Message(at) => !self.shapes[at].is_plain,
            _ => false,
        };
        self.shapes
            .iter()
            .position(|shape| shape.is_plain && shape.fields.iter().flatten().any(holds))
    }

    /// A message as MLflow writes it, from its encoding; nothing if that is left to the
    /// reflection library.
    ///
    /// # Errors
    /// Bytes that are no such message.
    pub fn write(&self, name: &str, bytes: &[u8]) -> Result<Option<Vec<u8>>, Broken> {
        let Some(shape) = self.places.get(name).map(|at| &self.shapes[*at]) else {
            return Ok(None);
        };
        if !shape.is_plain {
            return Ok(None);
        }
        let mut out = Vec::with_capacity(bytes.len() * 2);
        self.object(shape, bytes, &mut out, 0)?;
        Ok(Some(out))
    }

    fn object(&self, shape: &Shape, mut bytes: &[u8], out: &mut Vec<u8>, depth: usize) -> Written {
        out.push(b'{');
        let mut is_empty = true;
        // The list whose items come: those of one field stand one after another.
        let mut open = None;
        while !bytes.is_empty() {
            let key = varint(&mut bytes)?;
            let number = usize::try_from(key >> 3).map_err(|_| Broken)?;
            let Some(Some(field)) = shape.fields.get(number) else {
                skip(key & 7, &mut bytes)?;
                continue;
            };
            if open == Some(number) {
                out.push(b',');
                line(out, depth + 2);
            } else {
                close(open.take(), out, depth);
                if !std::mem::take(&mut is_empty) {
                    out.push(b',');
                }
                line(out, depth + 1);
                out.extend_from_slice(&field.head);
                if field.is_list {
                    out.push(b'[');
                    line(out, depth + 2);
                    open = Some(number);
                }
            }
            let depth = depth + 1 + usize::from(field.is_list);
            self.value(&field.value, &mut bytes, out, depth)?;
        }
        close(open, out, depth);
        if !is_empty {
            line(out, depth);
        }
        out.push(b'}');
        Ok(())
    }

    fn value(&self, value: &Value, bytes: &mut &[u8], out: &mut Vec<u8>, depth: usize) -> Written {
        match value {
            Value::Text => {
                let text = std::str::from_utf8(delimited(bytes)?).map_err(|_| Broken)?;
                json(out, text)
            }
            Value::Bool => json(out, &(varint(bytes)? != 0)),
            Value::Integer => json(out, &varint(bytes)?.cast_signed()),
            Value::Double => {
                let (number, rest) = bytes.split_first_chunk().ok_or(Broken)?;
                *bytes = rest;
                let number = f64::from_le_bytes(*number);
                if number.is_finite() { json(out, &number) } else { json(out, not_finite(number)) }
            }
            Value::Enum(names) => {
                let number = varint(bytes)?.cast_signed();
                match names.get(&number) {
                    Some(name) => json(out, name.as_str()),
                    None => json(out, &number),
                }
            }
            Value::Message(at) => self.object(&self.shapes[*at], delimited(bytes)?, out, depth),
            Value::Other => Err(Broken),
        }
    }
}

fn shape(message: &MessageDescriptor, places: &HashMap<String, usize>) -> Shape {
    let mut shape = Shape { fields: Vec::new(), is_plain: true };
    for field in message.fields() {
        let number = field.number() as usize;
        let value = if field.is_map() { Value::Other } else { value_of(&field, places) };
        // A packed list is written as one value.
        if matches!(value, Value::Other) || field.is_packed() {
            shape.is_plain = false;
        }
        if shape.fields.len() <= number {
            shape.fields.resize_with(number + 1, || None);
        }
        let head = format!("\"{}\": ", field.name()).into_bytes();
        shape.fields[number] = Some(Field { head, is_list: field.is_list(), value });
    }
    shape
}

fn value_of(field: &FieldDescriptor, places: &HashMap<String, usize>) -> Value {
    match field.kind() {
        Kind::String => Value::Text,
        Kind::Bool => Value::Bool,
        Kind::Int32 | Kind::Int64 => Value::Integer,
        Kind::Double => Value::Double,
        Kind::Enum(names) => {
            let names = names.values().map(|of| (i64::from(of.number()), of.name().to_owned()));
            Value::Enum(names.collect())
        }
        Kind::Message(message) => match places.get(message.full_name()) {
            Some(at) => Value::Message(*at),
            None => Value::Other,
        },
        _ => Value::Other,
    }
}

/// JSON has no such numbers; protobuf's JSON writes them as texts.
fn not_finite(number: f64) -> &'static str {
    if number.is_nan() {
        "NaN"
    } else if number > 0.0 {
        "Infinity"
    } else {
        "-Infinity"
    }
}

fn json<T: serde::Serialize + ?Sized>(out: &mut Vec<u8>, value: &T) -> Written {
    serde_json::to_writer(out, value).map_err(|_| Broken)
}

fn close(list: Option<usize>, out: &mut Vec<u8>, depth: usize) {
    if list.is_some() {
        line(out, depth + 1);
        out.push(b']');
    }
}

/// A new line, indented by two for each level.
fn line(out: &mut Vec<u8>, depth: usize) {
    out.push(b'\n');
    out.resize(out.len() + 2 * depth, b' ');
}

fn varint(bytes: &mut &[u8]) -> Result<u64, Broken> {
    let mut number = 0;
    for at in 0..10 {
        let (byte, rest) = bytes.split_first().ok_or(Broken)?;
        *bytes = rest;
        number |= u64::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            return Ok(number);
        }
    }
    Err(Broken)
}

fn delimited<'a>(bytes: &mut &'a [u8]) -> Result<&'a [u8], Broken> {
    let length = usize::try_from(varint(bytes)?).map_err(|_| Broken)?;
    let (value, rest) = bytes.split_at_checked(length).ok_or(Broken)?;
    *bytes = rest;
    Ok(value)
}

/// Passes over a field that the contract does not have.
fn skip(wire: u64, bytes: &mut &[u8]) -> Written {
    let fixed = match wire {
        0 => return varint(bytes).map(drop),
        1 => 8,
        2 => return delimited(bytes).map(drop),
        5 => 4,
        _ => return Err(Broken),
    };
    *bytes = bytes.get(fixed..).ok_or(Broken)?;
    Ok(())
}
