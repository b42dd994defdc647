//! The OpenAPI 3.1 document of a route table.

mod comments;
mod schema;

use std::collections::BTreeMap;

use http::Method;
use prost_reflect::{FieldDescriptor, Kind, MessageDescriptor};
use serde_json::{Map, Value, json};

use crate::params::is_scalar_message;
use crate::table::{BodyRule, Exposure, Route, RouteTable, is_http_body};
use comments::Comments;
use schema::Schemas;

/// Fields of messages in a query are listed down to here.
const QUERY_DEPTH_MAX: usize = 4;

/// What the document says of the whole.
#[derive(Debug, Clone)]
pub struct Info {
    /// The product's name.
    pub title: String,
    /// The version of the build.
    pub version: String,
    /// A few sentences, CommonMark.
    pub description: String,
}

impl RouteTable {
    /// The OpenAPI 3.1 document of all routes: comments as descriptions, every
    /// message as a schema, bearer tokens, and the error object.
    #[must_use]
    pub fn openapi(&self, info: &Info) -> Value {
        let mut writer = Writer { comments: Comments::default(), schemas: Schemas::default() };
        let mut paths: BTreeMap<String, Map<String, Value>> = BTreeMap::new();
        let mut tags: BTreeMap<String, Value> = BTreeMap::new();
        for route in self.routes() {
            let service = route.method().parent_service();
            let tag = service.name().to_owned();
            tags.entry(tag.clone()).or_insert_with(|| {
                json!({ "name": tag, "description": writer.comments.of(&service.parent_file(), service.path()) })
            });
            let operation = writer.operation(route);
            // A route of any method is documented where its calls are sent.
            let method = route.http_method().unwrap_or(&Method::POST).as_str().to_ascii_lowercase();
            paths.entry(route.template().openapi_path()).or_default().insert(method, operation);
        }
        let mut schemas = writer.schemas.finish(&mut writer.comments);
        schemas.insert("Error".to_owned(), schema::error());
        json!({
            "openapi": "3.1.0",
            "info": { "title": info.title, "version": info.version, "description": info.description },
            "servers": [{ "url": "/" }],
            "security": [{ "bearer": [] }],
            "tags": tags.into_values().collect::<Vec<_>>(),
            "paths": paths,
            "components": {
                "schemas": schemas,
                "responses": { "Error": {
                    "description": "The call failed. `code` is the HTTP status, `status` the gRPC one, and `details` hold a machine-readable reason.",
                    "content": { "application/json": { "schema": { "$ref": "#/components/schemas/Error" } } },
                }},
                "securitySchemes": { "bearer": {
                    "type": "http", "scheme": "bearer",
                    "description": "A personal access token (`qpat_…`).",
                }},
            },
        })
    }
}

struct Writer {
    comments: Comments,
    schemas: Schemas,
}

impl Writer {
    fn operation(&mut self, route: &Route) -> Value {
        let method = route.method();
        let service = method.parent_service();
        let text = self.comments.of(&service.parent_file(), method.path());
        let suffix =
            if route.ordinal() == 0 { String::new() } else { format!("_{}", route.ordinal() + 1) };
        let mut operation = json!({
            "operationId": format!("{}_{}{suffix}", service.name(), method.name()),
            "tags": [service.name()],
            "summary": text.split_inclusive('.').next().unwrap_or_default().trim_end_matches('.').trim(),
            "description": text,
            "parameters": self.parameters(route),
            "responses": self.responses(route),
        });
        if let Some(body) = self.request_body(route) {
            operation["requestBody"] = body;
        }
        if route.exposure() == Exposure::Public {
            operation["security"] = json!([]);
        }
        operation
    }

    fn parameters(&mut self, route: &Route) -> Vec<Value> {
        let input = route.method().input();
        let mut parameters: Vec<Value> = Vec::new();
        for variable in route.template().variables() {
            let mut message = Some(input.clone());
            let mut leaf = None;
            for name in &variable.field_path {
                leaf = message.and_then(|inner| inner.get_field_by_name(name));
                message = leaf.as_ref().and_then(|field| field.kind().as_message().cloned());
            }
            let Some(leaf) = leaf else { continue };
            parameters.push(json!({
                "name": variable.field_path.join("."), "in": "path", "required": true,
                "description": self.comments.of(&leaf.parent_message().parent_file(), leaf.path()),
                "schema": self.schemas.of_kind(&leaf.kind()),
            }));
        }
        if !matches!(route.body, BodyRule::All) {
            let bound: Vec<Vec<String>> =
                route.template().variables().iter().map(|v| v.field_path.clone()).collect();
            let body =
                if let BodyRule::Field(field) = &route.body { Some(field.clone()) } else { None };
            self.query_parameters(&input, &[], &bound, body.as_ref(), &mut parameters);
        }
        parameters
    }

    fn query_parameters(
        &mut self,
        message: &MessageDescriptor,
        prefix: &[String],
        bound: &[Vec<String>],
        body: Option<&FieldDescriptor>,
        out: &mut Vec<Value>,
    ) {
        for field in message.fields() {
            let path = [prefix, &[field.name().to_owned()]].concat();
            if bound.contains(&path) || body == Some(&field) || field.is_map() {
                continue;
            }
            if let Kind::Message(inner) = field.kind()
                && !is_scalar_message(&inner)
            {
                if !field.is_list() && path.len() < QUERY_DEPTH_MAX {
                    self.query_parameters(&inner, &path, bound, None, out);
                }
                continue;
            }
            out.push(json!({
                "name": path.join("."), "in": "query",
                "description": self.comments.of(&message.parent_file(), field.path()),
                "schema": self.schemas.of_field(&field),
            }));
        }
    }

    fn request_body(&mut self, route: &Route) -> Option<Value> {
        let schema = match &route.body {
            BodyRule::None => return None,
            BodyRule::All => self.schemas.of_message(&route.method().input()),
            BodyRule::Field(field) => self.schemas.of_field(field),
        };
        let content = if route.takes_http_body() {
            json!({ "*/*": {} })
        } else if route.method().is_client_streaming() {
            json!({ "application/x-ndjson": { "schema": schema } })
        } else {
            json!({ "application/json": { "schema": schema } })
        };
        Some(json!({ "required": true, "content": content }))
    }

    fn responses(&mut self, route: &Route) -> Value {
        let output = route.method().output();
        let schema = match &route.response_body {
            Some(field) => self.schemas.of_field(field),
            None if is_http_body(&output) => json!({}),
            None => self.schemas.of_message(&output),
        };
        let (description, content) = if is_http_body(&output) {
            ("The bytes, under the content type they were stored with.", json!({ "*/*": {} }))
        } else if route.method().is_server_streaming() {
            (
                "One JSON document a line, or events if `text/event-stream` is accepted. A failure is the last one.",
                json!({ "application/x-ndjson": { "schema": schema }, "text/event-stream": {} }),
            )
        } else {
            ("Done.", json!({ "application/json": { "schema": schema } }))
        };
        json!({
            "200": { "description": description, "content": content },
            "default": { "$ref": "#/components/responses/Error" },
        })
    }
}

#[cfg(test)]
mod tests;
