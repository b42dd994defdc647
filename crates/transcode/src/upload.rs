//! Streamed requests: a message for each line of JSON, or for each chunk of raw
//! bytes where the body is a `google.api.HttpBody`.

use std::sync::{Arc, OnceLock};

use bytes::{Bytes, BytesMut};
use futures::stream;
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use prost_reflect::DynamicMessage;
use service_error::ServiceError;
use tonic::Status;
use tonic::body::Body;

use crate::call::{Limits, too_large};
use crate::frame;
use crate::path::MatchedRoute;
use crate::request;

/// Why the stream of messages ended early, if it did.
pub type Failure = Arc<OnceLock<Status>>;

struct State {
    matched: MatchedRoute,
    content_type: Option<String>,
    /// What path and query say; only the first message carries it.
    bound: Option<DynamicMessage>,
    body: Body,
    buffer: BytesMut,
    line_bytes_max: usize,
    ended: bool,
}

/// The gRPC body of a streamed request, and where its failure will be.
///
/// # Errors
/// Path or query do not fit the message.
pub fn body(
    matched: MatchedRoute,
    query: Option<&str>,
    content_type: Option<&str>,
    body: Body,
    limits: Limits,
) -> Result<(Body, Failure), ServiceError> {
    let mut bound = DynamicMessage::new(matched.route.method().input());
    request::bind(&mut bound, &matched, query)?;
    let failure = Failure::default();
    let state = State {
        matched,
        content_type: content_type.map(str::to_owned),
        bound: Some(bound),
        body,
        buffer: BytesMut::new(),
        line_bytes_max: limits.request_bytes_max,
        ended: false,
    };
    let told = Arc::clone(&failure);
    let stream = stream::unfold(Some(state), move |state| {
        let told = Arc::clone(&told);
        async move {
            let mut state = state?;
            match state.next().await {
                Ok(Some(message)) => Some((Ok(Frame::data(frame::encode(&message))), Some(state))),
                Ok(None) => None,
                Err(error) => {
                    let status = Status::from(error);
                    let _ = told.set(status.clone());
                    Some((Err(status), None))
                }
            }
        }
    });
    Ok((Body::new(StreamBody::new(stream)), failure))
}

impl State {
    async fn next(&mut self) -> Result<Option<DynamicMessage>, ServiceError> {
        let Some(part) = self.next_part().await? else {
            // Path and query alone are a message too.
            return Ok(self.bound.take());
        };
        let mut message = request::from_body(&self.matched, self.content_type.as_deref(), &part)?;
        if let Some(bound) = self.bound.take() {
            for (field, value) in bound.fields() {
                message.set_field(&field, value.clone());
            }
        }
        Ok(Some(message))
    }

    async fn next_part(&mut self) -> Result<Option<Bytes>, ServiceError> {
        let raw = self.matched.route.takes_http_body();
        loop {
            if !raw && let Some(line) = self.take_line() {
                return Ok(Some(line));
            }
            if self.ended {
                return Ok(None);
            }
            if self.buffer.len() > self.line_bytes_max {
                return Err(too_large(self.line_bytes_max));
            }
            match self.body.frame().await.transpose()?.map(Frame::into_data) {
                Some(Ok(data)) if raw && !data.is_empty() => return Ok(Some(data)),
                Some(Ok(data)) => self.buffer.extend_from_slice(&data),
                Some(Err(_trailers)) => {}
                None => self.ended = true,
            }
        }
    }

    fn take_line(&mut self) -> Option<Bytes> {
        loop {
            let end = self.buffer.iter().position(|byte| *byte == b'\n');
            let end = match end {
                Some(end) => end + 1,
                None if self.ended && !self.buffer.is_empty() => self.buffer.len(),
                None => return None,
            };
            let line = self.buffer.split_to(end).freeze();
            if !line.iter().all(u8::is_ascii_whitespace) {
                return Some(line);
            }
        }
    }
}
