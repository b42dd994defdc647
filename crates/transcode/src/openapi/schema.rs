//! JSON Schemas of messages and enums, as ProtoJSON writes them.

use std::collections::BTreeMap;

use prost_reflect::{EnumDescriptor, FieldDescriptor, Kind, MessageDescriptor};
use serde_json::{Map, Value, json};

use super::comments::Comments;

/// The types that were referred to, to be written under `components`.
#[derive(Debug, Default)]
pub struct Schemas {
    waiting: Vec<Named>,
    known: BTreeMap<String, ()>,
}

#[derive(Debug, Clone)]
enum Named {
    Message(MessageDescriptor),
    Enum(EnumDescriptor),
}

impl Schemas {
    /// The schema of a field, lists and maps included.
    pub fn of_field(&mut self, field: &FieldDescriptor) -> Value {
        if field.is_map()
            && let Kind::Message(entry) = field.kind()
        {
            return json!({ "type": "object", "additionalProperties": self.of_kind(&entry.map_entry_value_field().kind()) });
        }
        let one = self.of_kind(&field.kind());
        if field.is_list() { json!({ "type": "array", "items": one }) } else { one }
    }

    /// The schema of one value.
    pub fn of_kind(&mut self, kind: &Kind) -> Value {
        match kind {
            Kind::Double => json!({ "type": "number", "format": "double" }),
            Kind::Float => json!({ "type": "number", "format": "float" }),
            Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => {
                json!({ "type": "integer", "format": "int32" })
            }
            Kind::Uint32 | Kind::Fixed32 => {
                json!({ "type": "integer", "format": "uint32", "minimum": 0 })
            }
            Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => {
                json!({ "type": "string", "format": "int64" })
            }
            Kind::Uint64 | Kind::Fixed64 => json!({ "type": "string", "format": "uint64" }),
            Kind::Bool => json!({ "type": "boolean" }),
            Kind::String => json!({ "type": "string" }),
            Kind::Bytes => json!({ "type": "string", "contentEncoding": "base64" }),
            Kind::Message(message) => self.of_message(message),
            Kind::Enum(found) if found.full_name() == "google.protobuf.NullValue" => {
                json!({ "type": "null" })
            }
            Kind::Enum(found) => {
                self.refer(found.full_name().to_owned(), Named::Enum(found.clone()))
            }
        }
    }

    /// The schema of a message: of a well-known type its own, of others a
    /// reference.
    pub fn of_message(&mut self, message: &MessageDescriptor) -> Value {
        well_known(message.full_name()).unwrap_or_else(|| {
            self.refer(message.full_name().to_owned(), Named::Message(message.clone()))
        })
    }

    /// Every schema that is referred to, and those they refer to in turn.
    pub fn finish(&mut self, comments: &mut Comments) -> Map<String, Value> {
        let mut written = Map::new();
        while let Some(named) = self.waiting.pop() {
            let (name, schema) = match named {
                Named::Message(message) => {
                    (message.full_name().to_owned(), self.message(&message, comments))
                }
                Named::Enum(found) => (found.full_name().to_owned(), enumeration(&found, comments)),
            };
            written.insert(name, schema);
        }
        written
    }

    fn refer(&mut self, name: String, named: Named) -> Value {
        let reference = json!({ "$ref": format!("#/components/schemas/{name}") });
        if self.known.insert(name, ()).is_none() {
            self.waiting.push(named);
        }
        reference
    }

    fn message(&mut self, message: &MessageDescriptor, comments: &mut Comments) -> Value {
        let file = message.parent_file();
        let mut properties = Map::new();
        for field in message.fields() {
            let mut schema = self.of_field(&field);
            let text = comments.of(&file, field.path());
            if !text.is_empty() {
                schema["description"] = json!(text);
            }
            properties.insert(field.name().to_owned(), schema);
        }
        let mut schema = json!({ "type": "object", "properties": properties });
        let text = comments.of(&file, message.path());
        if !text.is_empty() {
            schema["description"] = json!(text);
        }
        schema
    }
}

fn enumeration(found: &EnumDescriptor, comments: &mut Comments) -> Value {
    let names: Vec<String> = found.values().map(|value| value.name().to_owned()).collect();
    let mut schema = json!({ "type": "string", "enum": names });
    let text = comments.of(&found.parent_file(), found.path());
    if !text.is_empty() {
        schema["description"] = json!(text);
    }
    schema
}

fn well_known(name: &str) -> Option<Value> {
    Some(match name.strip_prefix("google.protobuf.")? {
        "Timestamp" => json!({ "type": "string", "format": "date-time" }),
        "Duration" => json!({ "type": "string", "examples": ["1.5s"] }),
        "FieldMask" => json!({ "type": "string", "examples": ["name,description"] }),
        "Struct" => json!({ "type": "object" }),
        "ListValue" => json!({ "type": "array" }),
        "Value" => json!({}),
        "Empty" => json!({ "type": "object" }),
        "Any" => {
            json!({ "type": "object", "properties": { "@type": { "type": "string" } }, "required": ["@type"] })
        }
        "BoolValue" => json!({ "type": ["boolean", "null"] }),
        "StringValue" => json!({ "type": ["string", "null"] }),
        "BytesValue" => json!({ "type": ["string", "null"], "contentEncoding": "base64" }),
        "Int32Value" | "UInt32Value" => json!({ "type": ["integer", "null"] }),
        "Int64Value" | "UInt64Value" => json!({ "type": ["string", "null"] }),
        "FloatValue" | "DoubleValue" => json!({ "type": ["number", "null"] }),
        _ => return None,
    })
}

/// The error object of every failed call.
pub fn error() -> Value {
    json!({
        "type": "object", "required": ["error"],
        "properties": { "error": {
            "type": "object", "required": ["code", "status", "message", "details"],
            "properties": {
                "code": { "type": "integer", "description": "The HTTP status." },
                "status": { "type": "string", "description": "The gRPC code, e.g. `NOT_FOUND`." },
                "message": { "type": "string", "description": "What is wrong and what to do." },
                "details": { "type": "array", "items": {
                    "type": "object", "required": ["@type"],
                    "properties": { "@type": { "type": "string", "examples": ["type.googleapis.com/google.rpc.ErrorInfo"] } },
                }},
            },
        }},
    })
}
