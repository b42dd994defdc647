//! Messages from and to JSON, as MLflow's server reads and writes them.

use std::sync::LazyLock;

use bytes::Bytes;
use prost::{Message, Name};
use prost_reflect::{
    DescriptorPool, DeserializeOptions, DynamicMessage, MessageDescriptor, SerializeOptions,
};
use serde::Serialize;
use serde_json::{Map, Value};

use crate::written::Shapes;
use crate::{ErrorCode, MlflowError, Result};

static POOL: LazyLock<std::result::Result<DescriptorPool, String>> = LazyLock::new(|| {
    DescriptorPool::decode(&include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"))[..])
        .map_err(|error| error.to_string())
});

static SHAPES: LazyLock<Option<Shapes>> = LazyLock::new(|| POOL.as_ref().ok().map(Shapes::of));

/// The descriptor of a message.
pub fn descriptor<T: Name>() -> Result<MessageDescriptor> {
    let pool = POOL.as_ref().map_err(|error| broken(error))?;
    pool.get_message_by_name(&T::full_name()).ok_or_else(|| broken(&T::full_name()))
}

fn broken(what: &dyn std::fmt::Display) -> MlflowError {
    MlflowError::new(ErrorCode::InternalError, format!("the contract is broken: {what}"))
}

/// A message from its JSON, and whether all of it could be read: what could
/// not is left out, as in MLflow.
pub fn parse<T: Name + Default>(object: &Map<String, Value>) -> Result<(T, bool)> {
    let descriptor = descriptor::<T>()?;
    if let Ok(message) = whole(&descriptor, object) {
        return Ok((message, true));
    }
    let mut message = DynamicMessage::new(descriptor.clone());
    for (name, value) in object {
        let one = Map::from_iter([(name.clone(), value.clone())]);
        if let Ok(part) = dynamic(&descriptor, &one) {
            let bytes = part.encode_to_vec();
            message.merge(bytes.as_slice()).map_err(|error| broken(&error))?;
        }
    }
    let message = message.transcode_to().map_err(|error| broken(&error))?;
    Ok((message, false))
}

fn whole<T: Name + Default>(
    descriptor: &MessageDescriptor,
    object: &Map<String, Value>,
) -> std::result::Result<T, String> {
    let dynamic = dynamic(descriptor, object)?;
    dynamic.transcode_to().map_err(|error| error.to_string())
}

fn dynamic(
    descriptor: &MessageDescriptor,
    object: &Map<String, Value>,
) -> std::result::Result<DynamicMessage, String> {
    let options = DeserializeOptions::new().deny_unknown_fields(false);
    DynamicMessage::deserialize_with_options(descriptor.clone(), object, &options)
        .map_err(|error| error.to_string())
}

/// A message as MLflow writes it: fields by number, unset ones omitted, 64-bit
/// integers as numbers, indented by two.
///
/// # Errors
/// A message that is not in the contract.
pub fn render<T: Name>(message: &T) -> Result<Bytes> {
    let bytes = message.encode_to_vec();
    let shapes = SHAPES.as_ref().ok_or_else(|| broken(&T::full_name()))?;
    let written = shapes.write(&T::full_name(), &bytes);
    let written = written.map_err(|_| broken(&T::full_name()))?;
    let text = written.map_or_else(|| reflected::<T>(&bytes), Ok)?;
    debug_assert!(serde_json::from_slice::<Value>(&text).is_ok());
    Ok(Bytes::from(text))
}

/// The same by the reflection library, which knows every kind of field.
pub(crate) fn reflected<T: Name>(bytes: &[u8]) -> Result<Vec<u8>> {
    let dynamic =
        DynamicMessage::decode(descriptor::<T>()?, bytes).map_err(|error| broken(&error))?;
    let options =
        SerializeOptions::new().use_proto_field_name(true).stringify_64_bit_integers(false);
    let mut text = Vec::with_capacity(bytes.len() * 2);
    let mut writer = serde_json::Serializer::pretty(&mut text);
    dynamic.serialize_with_options(&mut writer, &options).map_err(|error| broken(&error))?;
    writer.into_inner();
    Ok(text)
}

/// A value as Python's `json.dumps` writes it compactly: ASCII only.
pub fn compact(value: &impl Serialize) -> String {
    let text = serde_json::to_string(value).unwrap_or_default();
    let mut ascii = String::with_capacity(text.len());
    let mut units = [0u16; 2];
    for letter in text.chars() {
        if letter.is_ascii() {
            ascii.push(letter);
        } else {
            for unit in letter.encode_utf16(&mut units) {
                ascii.push_str(&format!("\\u{unit:04x}"));
            }
        }
    }
    ascii
}
