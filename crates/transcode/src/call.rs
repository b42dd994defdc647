//! One call: HTTP in, gRPC to the service, HTTP out.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use service_error::{Code, ServiceError};
use tonic::Status;
use tonic::body::Body;
use tower::{Service, ServiceExt};

use crate::error::{error_response, error_response_as};
use crate::frame;
use crate::path::MatchedRoute;
use crate::request;
use crate::response::{self, Wanted};
use crate::upload;

const TOO_LARGE: &str = "BODY_TOO_LARGE";

/// What one JSON call may take.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// The body of a request, or one line of a streamed one.
    pub request_bytes_max: usize,
    /// One message of an answer.
    pub message_bytes_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { request_bytes_max: 4 << 20, message_bytes_max: 64 << 20 }
    }
}

/// The HTTP request of a call, its credential already exchanged.
#[derive(Debug)]
pub struct Inbound {
    /// `HEAD` gets the headers of the answer to `GET`.
    pub http_method: Method,
    /// The query as it stands in the URL.
    pub query: Option<String>,
    /// Read for `content-type`, `content-length` and `accept`, and by methods that answer bytes
    /// for what [`CONDITIONS`] names.
    pub headers: HeaderMap,
    /// The request body.
    pub body: Body,
    /// What the service gets as gRPC metadata.
    pub metadata: HeaderMap,
}

/// What a reader of bytes may ask for, passed on as metadata behind [`HTTP_PREFIX`].
pub const CONDITIONS: [HeaderName; 3] = [header::RANGE, header::IF_RANGE, header::IF_NONE_MATCH];
/// Metadata about an answer over HTTP begins so, both ways.
pub const HTTP_PREFIX: &str = "quarry-http-";

/// The conditions of a request for bytes. `HEAD` knows no ranges.
fn conditions(headers: &HeaderMap, is_head: bool) -> HeaderMap {
    let of = |name: &HeaderName| {
        let value = headers.get(name).filter(|_| !is_head || name == header::IF_NONE_MATCH)?;
        let name = format!("{HTTP_PREFIX}{name}");
        Some((HeaderName::try_from(name).ok()?, value.clone()))
    };
    CONDITIONS.iter().filter_map(of).collect()
}

/// Answers a call by asking `upstream`. Never fails: every failure is the JSON
/// status object.
pub async fn call<S>(
    matched: MatchedRoute,
    inbound: Inbound,
    limits: Limits,
    upstream: S,
) -> Response<Body>
where
    S: Service<Request<Body>, Response = Response<Body>, Error: Into<Status>>,
{
    let wanted = Wanted::of(&matched.route, &inbound.headers);
    let is_head = inbound.http_method == Method::HEAD;
    let mut inbound = inbound;
    if matched.route.answers_http_body() {
        inbound.metadata.extend(conditions(&inbound.headers, is_head));
    }
    let answer = match ask(matched, inbound, limits, upstream).await {
        Ok(answer) => response::render(answer, &wanted, limits).await,
        Err(refusal) => Err(refusal),
    };
    let response = answer.unwrap_or_else(|refusal| match refusal {
        Refusal::BodyTooLarge(error) => {
            error_response_as(StatusCode::PAYLOAD_TOO_LARGE, &error.into())
        }
        Refusal::Status(status) => error_response(&status),
    });
    if is_head { response.map(|_| Body::empty()) } else { response }
}

/// Why there is no answer to render.
pub(crate) enum Refusal {
    BodyTooLarge(ServiceError),
    Status(Status),
}

impl Refusal {
    fn from_upload(status: &Status) -> Self {
        let error = ServiceError::from_status(status);
        if error.reason_is(TOO_LARGE) {
            Self::BodyTooLarge(error)
        } else {
            Self::Status(status.clone())
        }
    }
}

impl From<Status> for Refusal {
    fn from(status: Status) -> Self {
        Self::Status(status)
    }
}

impl From<ServiceError> for Refusal {
    fn from(error: ServiceError) -> Self {
        Self::Status(error.into())
    }
}

async fn ask<S>(
    matched: MatchedRoute,
    inbound: Inbound,
    limits: Limits,
    upstream: S,
) -> Result<Response<Body>, Refusal>
where
    S: Service<Request<Body>, Response = Response<Body>, Error: Into<Status>>,
{
    let content_type =
        inbound.headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let path = matched.route.grpc_path().to_owned();
    if matched.route.method().is_client_streaming() {
        let (body, failure) =
            upload::body(matched, inbound.query.as_deref(), content_type, inbound.body, limits)?;
        let answer = send(&path, inbound.metadata, body, upstream).await;
        // A line that does not parse ends the stream; say so rather than
        // repeat what the service made of the cut.
        return match failure.get() {
            Some(status) => Err(Refusal::from_upload(status)),
            None => Ok(answer?),
        };
    }
    let body = read(&inbound.headers, inbound.body, limits.request_bytes_max).await?;
    let message = request::message(&matched, inbound.query.as_deref(), content_type, &body)?;
    let body = Body::new(Full::from(frame::encode(&message)));
    Ok(send(&path, inbound.metadata, body, upstream).await?)
}

async fn read(headers: &HeaderMap, body: Body, limit: usize) -> Result<Bytes, Refusal> {
    let announced = headers
        .get(header::CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if announced.is_some_and(|length| length > limit as u64) {
        return Err(Refusal::BodyTooLarge(too_large(limit)));
    }
    match Limited::new(body, limit).collect().await {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) if error.is::<http_body_util::LengthLimitError>() => {
            Err(Refusal::BodyTooLarge(too_large(limit)))
        }
        Err(error) => Err(ServiceError::new(Code::Cancelled, "the request body was cut")
            .caused_by(error)
            .into()),
    }
}

pub(crate) fn too_large(limit: usize) -> ServiceError {
    let message = format!(
        "body: more than {limit} bytes, the limit of JSON calls; send less at once, or use gRPC or Arrow Flight"
    );
    ServiceError::exhausted(message).reason(TOO_LARGE).field("body").with("limit_bytes", limit)
}

async fn send<S>(
    path: &str,
    metadata: HeaderMap,
    body: Body,
    upstream: S,
) -> Result<Response<Body>, Status>
where
    S: Service<Request<Body>, Response = Response<Body>, Error: Into<Status>>,
{
    let mut request = Request::new(body);
    *request.method_mut() = Method::POST;
    *request.version_mut() = http::Version::HTTP_2;
    *request.uri_mut() =
        path.parse().map_err(|_| Status::internal("the method has no usable path"))?;
    *request.headers_mut() = metadata;
    let headers = request.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert(header::TE, HeaderValue::from_static("trailers"));
    let response = upstream.oneshot(request).await.map_err(Into::into)?;
    if response.status() != StatusCode::OK {
        return Err(Status::unavailable(format!(
            "the service answered HTTP {}",
            response.status()
        )));
    }
    if response.headers().contains_key("grpc-status") {
        frame::ok_or_status(response.headers())?;
    }
    Ok(response)
}

#[cfg(test)]
mod tests;
