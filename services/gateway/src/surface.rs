//! The lane of foreign HTTP surfaces: another product's own routes, served by a
//! role's own HTTP, relayed with the body unread.
//!
//! The door authenticates once and exchanges the credential as on every lane;
//! what a path means and what it needs is the role's to say. A failure of the
//! door's own is told in the surface's words, because its clients know no
//! others.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use http::header::CONTENT_LENGTH;
use http::{HeaderValue, Request, Response, Uri, Version};
use http_body_util::{Full, Limited};
use service_error::{Code, ServiceError};
use tonic::Status;
use tonic::body::Body;
use tower::ServiceExt;

use crate::credentials;
use crate::door::State;
use crate::headers;

/// A role's HTTP surface in another product's words.
#[derive(Clone, Copy)]
pub struct Surface {
    /// A path below one of these is the role's, e.g. `"/api/2.0/mlflow"`;
    /// longer ones win over other surfaces' shorter ones.
    pub prefixes: &'static [&'static str],
    /// Of them, those that the role answers to everybody: health, and what is
    /// opened by a signature in the address.
    pub open: &'static [&'static str],
    /// Of them, those whose bodies are files: as long as they are, for as long
    /// as they take.
    pub bulk: &'static [&'static str],
    /// A failure of the door's own, as the surface's clients know it.
    pub refuse: fn(&ServiceError) -> Response<Bytes>,
}

impl fmt::Debug for Surface {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Surface").field("prefixes", &self.prefixes).finish_non_exhaustive()
    }
}

impl Surface {
    /// Whether a path is this surface's.
    #[must_use]
    pub fn serves(&self, path: &str) -> bool {
        self.length_of_match(path).is_some()
    }

    fn length_of_match(&self, path: &str) -> Option<usize> {
        self.prefixes
            .iter()
            .filter(|prefix| is_below(path, prefix))
            .map(|prefix| prefix.len())
            .max()
    }

    /// Whether a path is answered without a credential.
    pub fn is_open(&self, path: &str) -> bool {
        self.open.iter().any(|prefix| is_below(path, prefix))
    }

    fn is_bulk(&self, path: &str) -> bool {
        self.bulk.iter().any(|prefix| is_below(path, prefix))
    }

    /// The door's failure as this surface tells it.
    pub fn refusal(&self, error: &ServiceError) -> Response<Body> {
        let mut response = (self.refuse)(error).map(|bytes| Body::new(Full::new(bytes)));
        if error.code() == Code::Unauthenticated {
            let challenge = HeaderValue::from_static("Bearer realm=\"quarry\"");
            response.headers_mut().insert(http::header::WWW_AUTHENTICATE, challenge);
        }
        response
    }
}

/// `/a/b` is below `/a` and `/a/`; `/ab` is not.
fn is_below(path: &str, prefix: &str) -> bool {
    let bare = prefix.trim_end_matches('/');
    path.strip_prefix(bare).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// A surface and the index of the upstream that has it.
pub type Found = (Surface, usize);

/// The surface of a path, if it is any role's.
pub fn of(state: &State, path: &str) -> Option<Found> {
    let all = state.upstreams.iter().enumerate().flat_map(|(index, upstream)| {
        upstream.surfaces.iter().map(move |surface| (*surface, index))
    });
    let matched = all.filter_map(|found| Some((found.0.length_of_match(path)?, found)));
    matched.max_by_key(|(length, _)| *length).map(|(_, found)| found)
}

/// Relays one call to the role behind a surface.
pub async fn answer(
    state: &Arc<State>,
    (surface, upstream): Found,
    request: Request<Body>,
) -> Response<Body> {
    match relay(state, &surface, upstream, request).await {
        Ok(response) => response,
        Err(error) => surface.refusal(&error),
    }
}

async fn relay(
    state: &State,
    surface: &Surface,
    upstream: usize,
    request: Request<Body>,
) -> Result<Response<Body>, ServiceError> {
    let upstream = &state.upstreams[upstream];
    let path = request.uri().path();
    let token = if surface.is_open(path) {
        None
    } else {
        let credential =
            credentials::presented(request.headers())?.ok_or_else(credentials::missing)?;
        state.rate.admit(&credential)?;
        Some(state.exchange.token(&credential, upstream.audience).await?)
    };
    let is_bulk = surface.is_bulk(path);
    let request = if is_bulk { request } else { bounded(state, request)? };
    let (mut parts, body) = request.into_parts();
    let origin = headers::origin(&parts);
    headers::to_surface(&mut parts.headers, token);
    parts.headers.extend(origin.map(|origin| (headers::ORIGIN, origin)));
    let mut onward = Request::new(body);
    *onward.method_mut() = parts.method;
    *onward.version_mut() = Version::HTTP_2;
    *onward.uri_mut() = without_authority(&parts.uri)?;
    *onward.headers_mut() = parts.headers;
    let answer = upstream.transport.clone().oneshot(onward);
    let mut response = if is_bulk {
        answer.await
    } else {
        let limit = state.settings.json_timeout();
        tokio::time::timeout(limit, answer).await.unwrap_or_else(|_| {
            Err(Status::deadline_exceeded(format!(
                "the call took longer than {} s",
                limit.as_secs()
            )))
        })
    }
    .map_err(|status| ServiceError::from_status(&status))?;
    headers::from_surface(response.headers_mut());
    Ok(response)
}

/// The request with a body that ends with an error beyond the limit.
fn bounded(state: &State, request: Request<Body>) -> Result<Request<Body>, ServiceError> {
    let limit = state.settings.surface_body_bytes_max;
    let announced = request.headers().get(CONTENT_LENGTH).and_then(|value| value.to_str().ok());
    let announced: Option<u64> = announced.and_then(|text| text.parse().ok());
    if announced.is_some_and(|bytes| bytes > limit as u64) {
        return Err(ServiceError::exhausted(format!(
            "the body is larger than {limit} bytes: send less at once"
        ))
        .reason("BODY_TOO_LARGE"));
    }
    Ok(request.map(|body| Body::new(Limited::new(body, limit))))
}

fn without_authority(uri: &Uri) -> Result<Uri, ServiceError> {
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    path.parse().map_err(|_| ServiceError::invalid("path", "is no path"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_ends_at_a_slash() {
        for (path, prefix, below) in [
            ("/api/2.0/mlflow/runs", "/api/2.0/mlflow", true),
            ("/api/2.0/mlflow", "/api/2.0/mlflow", true),
            ("/api/2.0/mlflow-artifacts/x", "/api/2.0/mlflow", false),
            ("/healthz", "/health", false),
            ("/health", "/health/", true),
        ] {
            assert_eq!(is_below(path, prefix), below, "{path} {prefix}");
        }
    }
}
