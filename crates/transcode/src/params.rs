//! Fields of the request from the text of path variables and query parameters.

use prost_reflect::{
    DeserializeOptions, DynamicMessage, FieldDescriptor, Kind, MessageDescriptor, Value,
};
use serde_json::json;
use service_error::ServiceError;

use crate::percent;

/// Well-known messages whose JSON is one text, number or boolean, so that they
/// can be written in a query.
const SCALAR_MESSAGES: [&str; 12] = [
    "google.protobuf.BoolValue",
    "google.protobuf.BytesValue",
    "google.protobuf.DoubleValue",
    "google.protobuf.Duration",
    "google.protobuf.FieldMask",
    "google.protobuf.FloatValue",
    "google.protobuf.Int32Value",
    "google.protobuf.Int64Value",
    "google.protobuf.StringValue",
    "google.protobuf.Timestamp",
    "google.protobuf.UInt32Value",
    "google.protobuf.UInt64Value",
];

/// Whether a field of this message type can be one query parameter.
pub fn is_scalar_message(message: &MessageDescriptor) -> bool {
    SCALAR_MESSAGES.contains(&message.full_name())
}

/// Sets the field that a path variable names.
pub fn set_variable(
    message: &mut DynamicMessage,
    path: &[String],
    text: &str,
) -> Result<(), ServiceError> {
    let name = path.join(".");
    let names: Vec<&str> = path.iter().map(String::as_str).collect();
    assign(message, &names, &[text.to_owned()], &name)
}

/// Sets the fields that a query names. Several values under one name make a
/// repeated field; a name may be in camelCase.
///
/// `taken` says why a field cannot be given here, if it cannot.
pub fn set_query(
    message: &mut DynamicMessage,
    query: &str,
    taken: impl Fn(&str) -> Option<&'static str>,
) -> Result<(), ServiceError> {
    for (name, texts) in grouped(query)? {
        if let Some(why) = taken(&name) {
            return Err(ServiceError::invalid(&name, why).reason("PARAMETER_NOT_ALLOWED"));
        }
        let path: Vec<&str> = name.split('.').collect();
        assign(message, &path, &texts, &name)?;
    }
    Ok(())
}

fn grouped(query: &str) -> Result<Vec<(String, Vec<String>)>, ServiceError> {
    let malformed = |_| {
        ServiceError::invalid("query", "a '%' escape is cut or is not UTF-8")
            .reason("MALFORMED_QUERY")
    };
    let mut groups: Vec<(String, Vec<String>)> = Vec::new();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, text) = pair.split_once('=').unwrap_or((pair, ""));
        let name = percent::decode_form(name).map_err(malformed)?;
        let text = percent::decode_form(text).map_err(malformed)?;
        match groups.iter_mut().find(|(other, _)| *other == name) {
            Some((_, texts)) => texts.push(text),
            None => groups.push((name, vec![text])),
        }
    }
    Ok(groups)
}

fn assign(
    message: &mut DynamicMessage,
    path: &[&str],
    texts: &[String],
    name: &str,
) -> Result<(), ServiceError> {
    let Some((first, rest)) = path.split_first() else {
        return Ok(());
    };
    let field = find_field(&message.descriptor_of(), first)
        .ok_or_else(|| unknown(name, &message.descriptor_of()))?;
    if rest.is_empty() {
        let value = leaf_value(&field, texts, name)?;
        message.set_field(&field, value);
        return Ok(());
    }
    let nested = matches!(field.kind(), Kind::Message(_)) && !field.is_list() && !field.is_map();
    let inner = if nested { message.get_field_mut(&field).as_message_mut() } else { None };
    assign(inner.ok_or_else(|| unknown(name, field.parent_message()))?, rest, texts, name)
}

trait DescriptorOf {
    fn descriptor_of(&self) -> MessageDescriptor;
}

impl DescriptorOf for DynamicMessage {
    fn descriptor_of(&self) -> MessageDescriptor {
        prost_reflect::ReflectMessage::descriptor(self)
    }
}

/// The field of this proto or camelCase name.
pub fn find_field(message: &MessageDescriptor, name: &str) -> Option<FieldDescriptor> {
    message.get_field_by_name(name).or_else(|| message.get_field_by_json_name(name))
}

fn unknown(name: &str, message: &MessageDescriptor) -> ServiceError {
    let known: Vec<String> = message.fields().map(|field| field.name().to_owned()).collect();
    let known = if known.is_empty() {
        "it takes none".to_owned()
    } else {
        format!("known here: {}", known.join(", "))
    };
    ServiceError::invalid(name, format!("no such parameter; {known}")).reason("UNKNOWN_PARAMETER")
}

fn leaf_value(
    field: &FieldDescriptor,
    texts: &[String],
    name: &str,
) -> Result<Value, ServiceError> {
    let invalid = |what: String| ServiceError::invalid(name, what).reason("MALFORMED_PARAMETER");
    let (false, Some(first)) = (field.is_map(), texts.first()) else {
        return Err(invalid("a map cannot be given in the query".to_owned()));
    };
    if !field.is_list() && texts.len() > 1 {
        return Err(invalid("given more than once, and it takes one value".to_owned()));
    }
    let json = if field.is_list() {
        json!(
            texts
                .iter()
                .map(|text| json_of(&field.kind(), text))
                .collect::<Result<Vec<_>, _>>()
                .map_err(invalid)?
        )
    } else {
        json_of(&field.kind(), first).map_err(invalid)?
    };
    // ProtoJSON already knows the text of every kind: parse the field alone.
    let alone = json!({ field.name(): json });
    let parsed = DynamicMessage::deserialize_with_options(
        field.parent_message().clone(),
        &alone,
        &DeserializeOptions::new(),
    )
    .map_err(|error| invalid(error.to_string()))?;
    Ok(parsed.get_field(field).into_owned())
}

fn json_of(kind: &Kind, text: &str) -> Result<serde_json::Value, String> {
    let boolean = || match text {
        "true" => Ok(json!(true)),
        "false" => Ok(json!(false)),
        _ => Err(format!("{text:?} is neither true nor false")),
    };
    match kind {
        Kind::Bool => boolean(),
        Kind::Enum(_) => {
            Ok(text.parse::<i32>().map_or_else(|_| json!(text), |number| json!(number)))
        }
        Kind::Message(message) if message.full_name() == "google.protobuf.BoolValue" => boolean(),
        Kind::Message(message) if !is_scalar_message(message) => {
            Err(format!("{} is a message: name one of its fields", message.full_name()))
        }
        _ => Ok(json!(text)),
    }
}
