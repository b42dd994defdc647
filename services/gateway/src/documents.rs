//! What the door says of the platform: the OpenAPI document, a page that shows
//! it, and the public keys.

use bytes::Bytes;
use http::{HeaderValue, Method, Response, header};
use http_body_util::Full;
use tonic::body::Body;
use transcode::{Info, RouteTable, error_response};

use crate::door::State;

const PAGE: &str = include_str!("documents/docs.html");
/// The page's script and style are its own; it reads and calls this door only.
const PAGE_POLICY: &str = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; connect-src 'self'; \
                           base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
const ABOUT: &str = "Datasets, versions and items over HTTP. Every call carries `authorization: Bearer <personal access token>`. \
                     64-bit integers are strings; times are RFC 3339. Bulk data goes over Arrow Flight on the same port.";

/// The OpenAPI document of all routes, ready to send.
pub fn openapi(routes: &RouteTable) -> Bytes {
    let info = Info {
        title: "Quarry".to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        description: ABOUT.to_owned(),
    };
    Bytes::from(routes.openapi(&info).to_string())
}

/// The document at a path, if there is one.
pub async fn answer(state: &State, method: &Method, path: &str) -> Option<Response<Body>> {
    if !matches!(*method, Method::GET | Method::HEAD) {
        return None;
    }
    match path {
        "/openapi.json" => Some(document(state.openapi.clone(), "application/json", None)),
        "/docs" => Some(document(
            Bytes::from_static(PAGE.as_bytes()),
            "text/html; charset=utf-8",
            Some(PAGE_POLICY),
        )),
        "/.well-known/jwks.json" => Some(match state.exchange.jwks().await {
            Ok(keys) => document(keys, "application/jwk-set+json", None),
            Err(error) => error_response(&error.into()),
        }),
        _ => None,
    }
}

fn document(
    body: Bytes,
    content_type: &'static str,
    policy: Option<&'static str>,
) -> Response<Body> {
    let mut response = Response::new(Body::new(Full::new(body)));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("max-age=30"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if let Some(policy) = policy {
        headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(policy));
    }
    response
}
