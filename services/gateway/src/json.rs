//! The JSON lane: the platform's RPCs as `/v1/…`.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures::FutureExt;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use service_error::{Code, ServiceError};
use tonic::body::Body;
use transcode::{Exposure, Inbound, MatchedRoute, Miss, error_response, error_response_as};

use crate::credentials;
use crate::documents;
use crate::door::State;
use crate::headers;
use crate::{Upstream, jobs};

/// Answers one HTTP request that is no gRPC.
pub async fn answer(state: Arc<State>, request: Request<Body>) -> Response<Body> {
    let is_head = request.method() == Method::HEAD;
    let caught = AssertUnwindSafe(route(&state, request)).catch_unwind().await;
    let response = caught.unwrap_or_else(|_| {
        tracing::error!("the JSON lane panicked");
        error_response(&ServiceError::internal("the gateway failed").into())
    });
    if is_head { response.map(|_| Body::empty()) } else { response }
}

async fn route(state: &State, request: Request<Body>) -> Response<Body> {
    if let Some(response) = documents::answer(state, request.method(), request.uri().path()).await {
        return response;
    }
    match state.routes.find(request.method(), request.uri().path()) {
        Ok(matched) => call(state, matched, request).await,
        Err(miss) => missed(&request, miss),
    }
}

async fn call(state: &State, matched: MatchedRoute, request: Request<Body>) -> Response<Body> {
    let Some(callable) = state.methods.get(matched.route.grpc_path()) else {
        return missed(&request, Miss::NotFound);
    };
    let upstream = &state.upstreams[callable.upstream];
    let token = match token(state, &matched, upstream, request.headers()).await {
        Ok(token) => token,
        Err(error) => return error_response(&error.into()),
    };
    let method = matched.route.method();
    let is_stream = method.is_server_streaming() || method.is_client_streaming();
    let (parts, body) = request.into_parts();
    let mut metadata = headers::for_json(&parts.headers, token);
    metadata.extend(headers::origin(&parts).map(|origin| (headers::ORIGIN, origin)));
    let inbound = Inbound {
        http_method: parts.method,
        query: parts.uri.query().map(str::to_owned),
        metadata,
        headers: parts.headers,
        body,
    };
    let answer =
        transcode::call(matched, inbound, state.settings.json_limits(), upstream.transport.clone());
    if is_stream {
        return answer.await;
    }
    let limit = state.settings.json_timeout();
    tokio::time::timeout(limit, answer).await.unwrap_or_else(|_| {
        let message = format!("the call took longer than {} s", limit.as_secs());
        error_response(&ServiceError::new(Code::DeadlineExceeded, message).into())
    })
}

async fn token(
    state: &State,
    matched: &MatchedRoute,
    upstream: &Upstream,
    headers: &HeaderMap,
) -> Result<Option<HeaderValue>, ServiceError> {
    if matched.route.exposure() == Exposure::Public {
        return Ok(None);
    }
    let credential = credentials::presented(headers)?.ok_or_else(credentials::missing)?;
    jobs::token(&state.exchange, upstream, &credential).await.map(Some)
}

fn missed(request: &Request<Body>, miss: Miss) -> Response<Body> {
    let method = request.method();
    let path: String = request.uri().path().chars().take(200).collect();
    match miss {
        Miss::NotFound => {
            let message = format!("there is no {path}; /docs lists what there is");
            error_response(
                &ServiceError::new(Code::NotFound, message).reason("ROUTE_NOT_FOUND").into(),
            )
        }
        Miss::MalformedPath => error_response(
            &ServiceError::invalid("path", "a '%' escape is cut or is not UTF-8").into(),
        ),
        Miss::MethodNotAllowed(allowed) => {
            let allowed = allowed.iter().map(Method::as_str).collect::<Vec<_>>().join(", ");
            let message = format!("{method} is not offered at {path}; it takes {allowed}");
            let error = ServiceError::unimplemented(message)
                .reason("METHOD_NOT_ALLOWED")
                .with("allowed", &allowed);
            let mut response = error_response_as(StatusCode::METHOD_NOT_ALLOWED, &error.into());
            if let Ok(value) = HeaderValue::from_str(&allowed) {
                response.headers_mut().insert(header::ALLOW, value);
            }
            response
        }
    }
}
