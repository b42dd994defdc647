//! The gRPC lane: bodies pass unread, trailers, flow control, deadlines and
//! cancellation with them.

use std::sync::Arc;

use http::{Method, Request, Response, Uri, Version};
use service_error::ServiceError;
use tonic::Status;
use tonic::body::Body;
use tower::ServiceExt;

use crate::credentials;
use crate::door::State;
use crate::handshake;
use crate::headers;
use crate::jobs;
use crate::own;

/// Answers one gRPC call; a failure of the door's own is a status too.
pub async fn relay(state: Arc<State>, request: Request<Body>) -> Response<Body> {
    match forward(&state, request).await {
        Ok(response) => response,
        Err(status) => status.into_http(),
    }
}

async fn forward(state: &State, request: Request<Body>) -> Result<Response<Body>, Status> {
    let path = request.uri().path();
    if request.method() != Method::POST {
        return Err(unknown(path).into());
    }
    if own::is_own(path) {
        return state.own.clone().oneshot(request).await;
    }
    let callable = state.methods.get(path).ok_or_else(|| unknown(path))?;
    let upstream = &state.upstreams[callable.upstream];
    if handshake::is_handshake(path) {
        return Ok(handshake::answer(&state.exchange, upstream.audience, request).await?);
    }
    let token = if callable.public {
        None
    } else {
        let credential =
            credentials::presented(request.headers())?.ok_or_else(credentials::missing)?;
        Some(jobs::token(&state.exchange, upstream, &credential).await?)
    };
    let (mut parts, body) = request.into_parts();
    let origin = headers::origin(&parts);
    headers::to_upstream(&mut parts.headers, token);
    parts.headers.extend(origin.map(|origin| (headers::ORIGIN, origin)));
    let mut onward = Request::new(body);
    *onward.method_mut() = Method::POST;
    *onward.version_mut() = Version::HTTP_2;
    *onward.uri_mut() = path_only(&parts.uri)?;
    *onward.headers_mut() = parts.headers;
    let mut response = upstream.transport.clone().oneshot(onward).await?;
    headers::from_upstream(response.headers_mut());
    Ok(response)
}

fn path_only(uri: &Uri) -> Result<Uri, ServiceError> {
    uri.path().parse().map_err(|_| ServiceError::invalid("path", "is no gRPC path"))
}

fn unknown(path: &str) -> ServiceError {
    let shown: String = path.chars().take(200).collect();
    ServiceError::unimplemented(format!(
        "there is no method {shown}; ask reflection or /docs what there is"
    ))
    .reason("METHOD_UNKNOWN")
}
