//! Headers on their way through: what a client may not say, what a hop keeps
//! for itself, and what every call carries.

use http::header::{
    AUTHORIZATION, CONNECTION, CONTENT_LENGTH, COOKIE, HOST, PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION, TE, TRAILER, TRANSFER_ENCODING, UPGRADE,
};
use http::{HeaderMap, HeaderName, HeaderValue};
use uuid::Uuid;

use crate::credentials::FLIGHT_TOKEN_HEADER;

/// Names a call from the client's log to the last service's.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Tells a role where the client reached the door; a client cannot say it.
pub const ORIGIN: HeaderName = HeaderName::from_static("x-quarry-origin");

const INTERNAL_PREFIX: &str = "x-quarry-";
const REQUEST_ID_BYTES_MAX: usize = 128;
/// Trace context (W3C) and the deadline: the only headers of a JSON call that
/// go on.
const PASSED_FROM_JSON: [&str; 4] = ["traceparent", "tracestate", "baggage", "grpc-timeout"];

/// Belong to one connection, never to the next.
const OF_THE_HOP: [HeaderName; 11] = [
    CONNECTION,
    CONTENT_LENGTH,
    HOST,
    HeaderName::from_static("keep-alive"),
    PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION,
    HeaderName::from_static("proxy-connection"),
    TE,
    TRAILER,
    TRANSFER_ENCODING,
    UPGRADE,
];

/// The request's id: the client's if it can stand in a log, else a new one.
pub fn ensure_request_id(headers: &mut HeaderMap) -> HeaderValue {
    let usable = |value: &&HeaderValue| {
        let bytes = value.as_bytes();
        (1..=REQUEST_ID_BYTES_MAX).contains(&bytes.len()) && bytes.iter().all(u8::is_ascii_graphic)
    };
    if let Some(id) = headers.get(&REQUEST_ID).filter(usable) {
        return id.clone();
    }
    let text = Uuid::now_v7().simple().to_string();
    let id = HeaderValue::from_str(&text).unwrap_or_else(|_| HeaderValue::from_static("unknown"));
    headers.insert(REQUEST_ID, id.clone());
    id
}

/// Makes a client's gRPC headers those of the call to the service: nothing
/// internal and nothing of the hop, the internal token in place of the
/// client's credential.
pub fn to_upstream(headers: &mut HeaderMap, token: Option<HeaderValue>) {
    strip(headers);
    headers.remove(AUTHORIZATION);
    headers.remove(FLIGHT_TOKEN_HEADER);
    headers.remove(COOKIE);
    headers.insert(TE, HeaderValue::from_static("trailers"));
    complete(headers, token);
}

/// Makes a client's headers those of a call to a role's HTTP surface. The
/// length stays: a file's receiver may want to know it.
pub fn to_surface(headers: &mut HeaderMap, token: Option<HeaderValue>) {
    keeping_length(headers, strip);
    headers.remove(AUTHORIZATION);
    headers.remove(FLIGHT_TOKEN_HEADER);
    headers.remove(COOKIE);
    complete(headers, token);
}

/// Makes a surface's headers those of the answer.
pub fn from_surface(headers: &mut HeaderMap) {
    keeping_length(headers, strip);
}

/// Where the client reached the door, for addresses that it is given.
pub fn origin(parts: &http::request::Parts) -> Option<HeaderValue> {
    let text = |name: &str| parts.headers.get(name).and_then(|value| value.to_str().ok());
    let host = parts.uri.authority().map(|it| it.as_str()).or_else(|| text("host"))?;
    let scheme = text("x-forwarded-proto").filter(|it| *it == "https").unwrap_or("http");
    HeaderValue::from_str(&format!("{scheme}://{host}")).ok()
}

fn keeping_length(headers: &mut HeaderMap, strip: impl FnOnce(&mut HeaderMap)) {
    let length = headers.get(CONTENT_LENGTH).cloned();
    strip(headers);
    if let Some(length) = length {
        headers.insert(CONTENT_LENGTH, length);
    }
}

/// The gRPC metadata of a JSON call.
pub fn for_json(headers: &HeaderMap, token: Option<HeaderValue>) -> HeaderMap {
    let mut metadata = HeaderMap::new();
    for name in
        PASSED_FROM_JSON.iter().map(|name| HeaderName::from_static(name)).chain([REQUEST_ID])
    {
        if let Some(value) = headers.get(&name) {
            metadata.insert(name, value.clone());
        }
    }
    complete(&mut metadata, token);
    metadata
}

/// Makes a service's headers those of the answer.
pub fn from_upstream(headers: &mut HeaderMap) {
    strip(headers);
}

fn complete(headers: &mut HeaderMap, token: Option<HeaderValue>) {
    if let Some(token) = token {
        headers.insert(AUTHORIZATION, token);
    }
}

fn strip(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    let internal =
        headers.keys().filter(|name| name.as_str().starts_with(INTERNAL_PREFIX)).cloned();
    let gone: Vec<HeaderName> = internal.chain(named).chain(OF_THE_HOP).collect();
    for name in gone {
        headers.remove(name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap()))
            .collect()
    }

    #[test]
    fn what_is_internal_or_of_the_hop_does_not_pass() {
        let mut inbound = headers(&[
            ("authorization", "Bearer mine"),
            ("auth-token-bin", "eA"),
            ("x-quarry-principal", "root"),
            ("host", "h"),
            ("connection", "close, x-once"),
            ("x-once", "1"),
            ("te", "trailers, gzip"),
            ("content-length", "5"),
            ("grpc-timeout", "1S"),
            ("traceparent", "00-1"),
            ("x-custom-bin", "AA"),
            ("cookie", "a=b"),
        ]);
        to_upstream(&mut inbound, Some(HeaderValue::from_static("Bearer internal")));
        let mut names: Vec<_> = inbound.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, ["authorization", "grpc-timeout", "te", "traceparent", "x-custom-bin"]);
        assert_eq!(
            (&inbound["authorization"], &inbound["te"]),
            (&"Bearer internal".parse().unwrap(), &"trailers".parse().unwrap())
        );
    }

    #[test]
    fn an_open_method_gets_no_credential_at_all() {
        let mut inbound = headers(&[("authorization", "Bearer mine")]);
        to_upstream(&mut inbound, None);
        assert!(!inbound.contains_key(AUTHORIZATION));
    }

    #[test]
    fn a_usable_request_id_stays_and_others_are_replaced() {
        let mut good = headers(&[("x-request-id", "abc-1")]);
        assert_eq!(ensure_request_id(&mut good), "abc-1");
        for id in ["", "a b", &"x".repeat(129)] {
            let mut bad = headers(&[("x-request-id", id)]);
            let made = ensure_request_id(&mut bad);
            assert_eq!(made.len(), 32);
            assert_eq!(bad[&REQUEST_ID], made);
        }
    }

    #[test]
    fn a_json_call_passes_on_little() {
        let metadata = for_json(
            &headers(&[
                ("x-a", "1"),
                ("traceparent", "00-1"),
                ("x-request-id", "i"),
                ("accept", "*/*"),
            ]),
            None,
        );
        assert_eq!(metadata.len(), 2);
    }
}
