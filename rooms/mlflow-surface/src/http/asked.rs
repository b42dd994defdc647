//! One call: who asks, where, and for what.

use std::sync::{Arc, Mutex};

use axum::body::{Body, Bytes};
use axum::http::header::{CONTENT_TYPE, HeaderName};
use axum::http::request::Parts;
use axum::http::{HeaderValue, Request, Response};
use caller::Caller;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use mlflow_wire::path::unescape;
use mlflow_wire::routes::{Need, Route};
use mlflow_wire::{Call, MlflowError, Result, Schema, render};
use options_api::v1::Level;
use prost::Name;
use service_error::ServiceError;
use tracking::Scope;

use super::Surface;
use crate::model::ModelPath;

/// Names the namespace that the client calls its workspace.
const WORKSPACE: HeaderName = HeaderName::from_static("x-mlflow-workspace");
/// Where the client reached the platform, as the public door saw it.
const ORIGIN: HeaderName = HeaderName::from_static("x-quarry-origin");
/// A body that is no file, in bytes.
const BODY_BYTES_MAX: usize = 16 << 20;

/// One call.
pub struct Asked {
    pub surface: Surface,
    pub route: &'static Route,
    /// The parts of the path, unescaped once; a file's path is not.
    pub parts: Vec<String>,
    caller: Option<Arc<Caller>>,
    head: Parts,
    /// The whole body, once [`Asked::whole`] has read it.
    body: Bytes,
    /// Behind a lock only because a body is not `Sync`.
    stream: Mutex<Body>,
}

impl Asked {
    pub fn new(
        surface: Surface,
        route: &'static Route,
        parts: Vec<String>,
        caller: Option<Arc<Caller>>,
        request: Request<Body>,
    ) -> Self {
        let (head, stream) = request.into_parts();
        Self { surface, route, parts, caller, head, body: Bytes::new(), stream: Mutex::new(stream) }
    }

    /// With the body read to its end.
    ///
    /// # Errors
    /// A body that is too large or ends early.
    pub async fn whole(mut self) -> Result<Self> {
        let stream = self.take_stream();
        let read = Limited::new(stream, BODY_BYTES_MAX).collect().await;
        self.body = read.map_err(|error| cut(error.as_ref()))?.to_bytes();
        Ok(self)
    }

    /// The body as it arrives.
    pub fn take_stream(&mut self) -> Body {
        self.stream.get_mut().map(std::mem::take).unwrap_or_default()
    }

    pub fn header(&self, name: &HeaderName) -> Option<&str> {
        self.head.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// A message, read and checked.
    ///
    /// # Errors
    /// As [`Call::read`].
    pub fn read<T: Name + Default>(&self, schema: Schema) -> Result<T> {
        self.call().read(schema)
    }

    /// The first value of a query parameter.
    pub fn parameter(&self, name: &str) -> Option<String> {
        self.call().parameter(name).map(str::to_owned)
    }

    fn call(&self) -> Call<'_> {
        let query = self.head.uri.query().unwrap_or_default();
        Call {
            method: &self.head.method,
            query: pairs(query),
            content_type: self.header(&CONTENT_TYPE),
            body: &self.body,
        }
    }

    /// A part of the path.
    pub fn part(&self, at: usize) -> &str {
        self.parts.get(at).map_or("", String::as_str)
    }

    /// Who asks.
    ///
    /// # Errors
    /// `UNAUTHENTICATED` where nobody needs to be known.
    pub fn caller(&self) -> Result<&Caller> {
        Ok(self.caller.as_deref().ok_or_else(|| ServiceError::unauthenticated("nobody asks"))?)
    }

    /// The namespace's name: the client's workspace, or the default.
    ///
    /// # Errors
    /// The catalog's.
    pub async fn namespace(&self) -> Result<String> {
        let named = self.header(&WORKSPACE).map(str::trim).filter(|name| !name.is_empty());
        match named {
            Some(name) => Ok(name.to_owned()),
            None => Ok(self.surface.registry.default_namespace(self.caller()?).await?),
        }
    }

    /// A model of the namespace.
    ///
    /// # Errors
    /// As [`Self::namespace`].
    pub async fn model(&self, name: &str) -> Result<ModelPath> {
        Ok(ModelPath::new(self.namespace().await?, name))
    }

    /// The namespace, if the caller may do in it what the route needs.
    ///
    /// # Errors
    /// `RESOURCE_DOES_NOT_EXIST`, `PERMISSION_DENIED`.
    pub async fn scope(&self) -> Result<Scope> {
        let level = if self.route.need == Need::Write { Level::Write } else { Level::Read };
        self.scope_for(level).await
    }

    /// The namespace, if the caller holds a level on it.
    ///
    /// # Errors
    /// As [`Self::scope`].
    pub async fn scope_for(&self, level: Level) -> Result<Scope> {
        let name = self.namespace().await?;
        let registry = &self.surface.registry;
        let namespace =
            registry.namespace_id(self.caller()?, level, &name, self.route.path).await?;
        Ok(Scope { namespace, name })
    }

    /// `http://host:port` of the public door, as the client wrote it.
    pub fn origin(&self) -> String {
        self.header(&ORIGIN).unwrap_or("http://127.0.0.1:7070").to_owned()
    }
}

/// Why a body ended.
pub fn cut(error: &(dyn std::error::Error + 'static)) -> MlflowError {
    let mut cause = Some(error);
    while let Some(one) = cause {
        if one.is::<LengthLimitError>() {
            return ServiceError::exhausted("the body is too large: send less at once")
                .reason("BODY_TOO_LARGE")
                .into();
        }
        cause = one.source();
    }
    MlflowError::invalid("the body ended before it was whole")
}

/// The pairs of a query: `+` is a space, escapes are undone.
fn pairs(query: &str) -> Vec<(String, String)> {
    let text = |part: &str| {
        let spaced = part.replace('+', " ");
        unescape(&spaced).unwrap_or(spaced)
    };
    query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (text(name), text(value))
        })
        .collect()
}

/// A message as the answer.
///
/// # Errors
/// A message that is in no contract.
pub fn answer<T: Name>(message: &T) -> Result<Response<Body>> {
    Ok(json(render(message)?))
}

/// JSON as the answer.
pub fn json(text: Bytes) -> Response<Body> {
    let mut response = Response::new(Body::from(text));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_unescaped_and_keeps_its_order() {
        let found = pairs("order_by=a%20b&order_by=c+d&empty=&flag&x=%E4%B8%AD");
        let expected =
            [("order_by", "a b"), ("order_by", "c d"), ("empty", ""), ("flag", ""), ("x", "中")];
        assert_eq!(found, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
    }
}
