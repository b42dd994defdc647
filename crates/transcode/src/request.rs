//! The request message of a call: path, query and body put together.

use bytes::Bytes;
use prost_reflect::{DeserializeOptions, DynamicMessage, MessageDescriptor, Value};
use service_error::ServiceError;

use crate::params;
use crate::path::MatchedRoute;
use crate::table::{BodyRule, is_http_body};

/// The message of a call whose whole body has been read. What the path binds
/// wins over the body.
pub fn message(
    matched: &MatchedRoute,
    query: Option<&str>,
    content_type: Option<&str>,
    body: &Bytes,
) -> Result<DynamicMessage, ServiceError> {
    let mut message = from_body(matched, content_type, body)?;
    bind(&mut message, matched, query)?;
    Ok(message)
}

/// The part of the message that the body is.
pub fn from_body(
    matched: &MatchedRoute,
    content_type: Option<&str>,
    body: &Bytes,
) -> Result<DynamicMessage, ServiceError> {
    let input = matched.route.method().input();
    match &matched.route.body {
        BodyRule::None if body.iter().all(u8::is_ascii_whitespace) => {
            Ok(DynamicMessage::new(input))
        }
        BodyRule::None => {
            Err(ServiceError::invalid("body", "this call takes none; give its fields in the query")
                .reason("BODY_NOT_ALLOWED"))
        }
        BodyRule::All if is_http_body(&input) => Ok(http_body(input, content_type, body)),
        BodyRule::All => parse(input, body),
        BodyRule::Field(field) => {
            let mut message = DynamicMessage::new(input.clone());
            if body.is_empty() {
                return Ok(message);
            }
            let value = match field.kind().as_message() {
                Some(inner) if is_http_body(inner) => {
                    Value::Message(http_body(inner.clone(), content_type, body))
                }
                Some(inner) if !field.is_list() && !field.is_map() => {
                    Value::Message(parse(inner.clone(), body)?)
                }
                _ => {
                    // Parsed before it is wrapped, so that the body cannot
                    // name further fields.
                    let value: serde_json::Value =
                        serde_json::from_slice(body).map_err(|error| malformed(&error))?;
                    let whole = serde_json::json!({ field.name(): value });
                    let parsed = DynamicMessage::deserialize_with_options(
                        input,
                        &whole,
                        &DeserializeOptions::new(),
                    )
                    .map_err(|error| malformed(&error))?;
                    parsed.get_field(field).into_owned()
                }
            };
            message.set_field(field, value);
            Ok(message)
        }
    }
}

/// Adds what path and query say.
pub fn bind(
    message: &mut DynamicMessage,
    matched: &MatchedRoute,
    query: Option<&str>,
) -> Result<(), ServiceError> {
    let route = &matched.route;
    for (variable, text) in route.template().variables().iter().zip(&matched.variables) {
        params::set_variable(message, &variable.field_path, text)?;
    }
    let input = route.method().input();
    let taken = |name: &str| {
        let top = name.split('.').next().unwrap_or(name);
        let is_body = match &route.body {
            BodyRule::None => false,
            BodyRule::All => true,
            BodyRule::Field(field) => {
                params::find_field(&input, top).is_some_and(|found| found == *field)
            }
        };
        let canonical: Vec<String> = canonical_path(&input, name);
        if route.template().variables().iter().any(|variable| variable.field_path == canonical) {
            Some("the path says it already")
        } else if is_body {
            Some("it is given in the body, not in the query")
        } else {
            None
        }
    };
    params::set_query(message, query.unwrap_or_default(), taken)
}

fn canonical_path(input: &MessageDescriptor, name: &str) -> Vec<String> {
    let mut message = Some(input.clone());
    name.split('.')
        .map(|part| {
            let field = message.take().and_then(|inner| params::find_field(&inner, part));
            message = field.as_ref().and_then(|field| field.kind().as_message().cloned());
            field.map_or_else(|| part.to_owned(), |field| field.name().to_owned())
        })
        .collect()
}

fn parse(message: MessageDescriptor, body: &[u8]) -> Result<DynamicMessage, ServiceError> {
    if body.iter().all(u8::is_ascii_whitespace) {
        return Ok(DynamicMessage::new(message));
    }
    let mut json = serde_json::Deserializer::from_slice(body);
    let parsed =
        DynamicMessage::deserialize_with_options(message, &mut json, &DeserializeOptions::new())
            .map_err(|error| malformed(&error))?;
    json.end().map_err(|error| malformed(&error))?;
    Ok(parsed)
}

fn malformed(error: &serde_json::Error) -> ServiceError {
    ServiceError::invalid("body", error).reason("MALFORMED_BODY")
}

/// `google.api.HttpBody` of raw bytes.
pub fn http_body(
    message: MessageDescriptor,
    content_type: Option<&str>,
    data: &Bytes,
) -> DynamicMessage {
    let mut body = DynamicMessage::new(message);
    let content_type = content_type.unwrap_or("application/octet-stream");
    body.set_field_by_name("content_type", Value::String(content_type.to_owned()));
    body.set_field_by_name("data", Value::Bytes(data.clone()));
    body
}
