//! The answer of a service as HTTP: one JSON document, lines of them, events,
//! or raw bytes.

use bytes::Bytes;
use futures::stream;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};
use http_body::Frame;
use http_body_util::{Full, StreamBody};
use prost_reflect::{DynamicMessage, FieldDescriptor, MessageDescriptor, SerializeOptions};
use tonic::Status;
use tonic::body::Body;

use crate::call::{HTTP_PREFIX, Limits, Refusal};
use crate::error::{error_json, http_status};
use crate::frame::Frames;
use crate::table::Route;

/// How the answer is to look.
pub struct Wanted {
    output: MessageDescriptor,
    field: Option<FieldDescriptor>,
    shape: Shape,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Shape {
    /// One JSON document.
    Document,
    /// `application/x-ndjson`: a document a line.
    Lines,
    /// `text/event-stream`.
    Events,
    /// `google.api.HttpBody`, passed on as it is.
    Raw,
}

impl Wanted {
    /// What the method answers and the client accepts.
    pub fn of(route: &Route, headers: &HeaderMap) -> Self {
        let accepts_events =
            headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok()).any(
                |value| value.split(',').any(|one| one.trim().starts_with("text/event-stream")),
            );
        let shape = if route.answers_http_body() {
            Shape::Raw
        } else if !route.method().is_server_streaming() {
            Shape::Document
        } else if accepts_events {
            Shape::Events
        } else {
            Shape::Lines
        };
        Self { output: route.method().output(), field: route.response_body.clone(), shape }
    }

    fn json(&self, message: Bytes) -> Result<Vec<u8>, Status> {
        let broken = |error: &dyn std::fmt::Display| {
            Status::internal(format!("the service's answer cannot be read: {error}"))
        };
        let message =
            DynamicMessage::decode(self.output.clone(), message).map_err(|error| broken(&error))?;
        let mut out = Vec::with_capacity(256);
        // Empty lists, zeros and empty texts are shown, so that a field's
        // absence always means that it is unset.
        let options = SerializeOptions::new().use_proto_field_name(true).skip_default_fields(false);
        match &self.field {
            None => {
                let mut json = serde_json::Serializer::new(&mut out);
                message
                    .serialize_with_options(&mut json, &options)
                    .map_err(|error| broken(&error))?;
            }
            Some(field) => {
                let whole = message
                    .serialize_with_options(serde_json::value::Serializer, &options)
                    .map_err(|error| broken(&error))?;
                let part = whole.get(field.name()).unwrap_or(&serde_json::Value::Null);
                serde_json::to_writer(&mut out, part).map_err(|error| broken(&error))?;
            }
        }
        Ok(out)
    }
}

/// Renders an answer whose headers said no error.
pub(crate) async fn render(
    answer: Response<Body>,
    wanted: &Wanted,
    limits: Limits,
) -> Result<Response<Body>, Refusal> {
    let (parts, body) = answer.into_parts();
    let mut frames = Frames::new(body, limits.message_bytes_max);
    match wanted.shape {
        Shape::Document => {
            let message = frames
                .next()
                .await?
                .ok_or_else(|| Status::internal("the service answered nothing"))?;
            let json = wanted.json(message)?;
            // The status comes after the message.
            while frames.next().await?.is_some() {}
            Ok(with_type(Body::new(Full::from(json)), "application/json"))
        }
        Shape::Raw => render_raw(frames, wanted.output.clone(), &parts.headers).await,
        Shape::Lines => {
            Ok(with_type(documents(frames, wanted, Shape::Lines), "application/x-ndjson"))
        }
        Shape::Events => {
            Ok(with_type(documents(frames, wanted, Shape::Events), "text/event-stream"))
        }
    }
}

fn with_type(body: Body, content_type: &'static str) -> Response<Body> {
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// A document for each message. A failure is the last document; the client
/// sees by it that the stream is not whole.
fn documents(frames: Frames, wanted: &Wanted, shape: Shape) -> Body {
    let wanted = Wanted { output: wanted.output.clone(), field: wanted.field.clone(), shape };
    let stream = stream::unfold(Some((frames, wanted)), move |state| async move {
        let (mut frames, wanted) = state?;
        let next = match frames.next().await {
            Ok(Some(message)) => wanted.json(message),
            Ok(None) => return None,
            Err(status) => Err(status),
        };
        match next {
            Ok(json) => Some((data(framed(&json, shape, false)), Some((frames, wanted)))),
            Err(status) => {
                let json = error_json(http_status(status.code()), &status).to_string();
                Some((data(framed(json.as_bytes(), shape, true)), None))
            }
        }
    });
    Body::new(StreamBody::new(stream))
}

fn data(bytes: Vec<u8>) -> Result<Frame<Bytes>, Status> {
    Ok(Frame::data(Bytes::from(bytes)))
}

fn framed(json: &[u8], shape: Shape, failed: bool) -> Vec<u8> {
    let (before, after): (&[u8], &[u8]) = match (shape, failed) {
        (Shape::Events, false) => (b"data: ", b"\n\n"),
        (Shape::Events, true) => (b"event: error\ndata: ", b"\n\n"),
        _ => (b"", b"\n"),
    };
    [before, json, after].concat()
}

async fn render_raw(
    mut frames: Frames,
    output: MessageDescriptor,
    metadata: &HeaderMap,
) -> Result<Response<Body>, Refusal> {
    let first = match frames.next().await? {
        Some(message) => raw_part(&output, message)?,
        None => (String::new(), Bytes::new()),
    };
    let (content_type, first) = first;
    let rest = stream::unfold(Some((frames, output)), |state| async move {
        let (mut frames, output) = state?;
        match frames.next().await {
            Ok(Some(message)) => {
                let part = raw_part(&output, message).map(|(_, bytes)| Frame::data(bytes));
                let state = part.is_ok().then_some((frames, output));
                Some((part, state))
            }
            Ok(None) => None,
            // Cuts the connection: a body must not look whole when it is not.
            Err(status) => Some((Err(status), None)),
        }
    });
    let first = stream::iter((!first.is_empty()).then(|| Ok(Frame::data(first))));
    let body = Body::new(StreamBody::new(futures::StreamExt::chain(first, rest)));
    let mut response = with_type(body, "application/octet-stream");
    let headers = response.headers_mut();
    if let Ok(value) = HeaderValue::from_str(&content_type)
        && !content_type.is_empty()
    {
        headers.insert(header::CONTENT_TYPE, value);
    }
    // The type is a user's word: a browser must not run what it says.
    headers.insert(
        header::CONTENT_SECURITY_POLICY,
        HeaderValue::from_static("sandbox; default-src 'none'"),
    );
    say(&mut response, metadata);
    Ok(response)
}

/// What a service may say of bytes that it answers.
const SAID: [HeaderName; 6] = [
    header::CONTENT_TYPE,
    header::CONTENT_LENGTH,
    header::CONTENT_RANGE,
    header::ACCEPT_RANGES,
    header::ETAG,
    header::CACHE_CONTROL,
];
/// Statuses that it may say: a part, nothing new, no such part.
const STATUSES: [StatusCode; 3] =
    [StatusCode::PARTIAL_CONTENT, StatusCode::NOT_MODIFIED, StatusCode::RANGE_NOT_SATISFIABLE];

fn say(response: &mut Response<Body>, metadata: &HeaderMap) {
    let said = |name: &str| metadata.get(format!("{HTTP_PREFIX}{name}"));
    let status = said("status").and_then(|value| StatusCode::from_bytes(value.as_bytes()).ok());
    if let Some(status) = status.filter(|status| STATUSES.contains(status)) {
        *response.status_mut() = status;
    }
    for name in SAID {
        if let Some(value) = said(name.as_str()) {
            response.headers_mut().insert(name, value.clone());
        }
    }
}

fn raw_part(output: &MessageDescriptor, message: Bytes) -> Result<(String, Bytes), Status> {
    let message = DynamicMessage::decode(output.clone(), message)
        .map_err(|error| Status::internal(error.to_string()))?;
    let content_type = message.get_field_by_name("content_type");
    let data = message.get_field_by_name("data");
    Ok((
        content_type.and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default(),
        data.and_then(|value| value.as_bytes().cloned()).unwrap_or_default(),
    ))
}
