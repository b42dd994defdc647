//! Foreign HTTP surfaces through the door.

use ::http::{Request, Response, StatusCode, header};
use bytes::Bytes;
use futures::{StreamExt, stream};
use http_body::Frame;
use http_body_util::{BodyExt, Full, StreamBody};
use serde_json::json;
use service_channel::{Transport, local};
use service_error::ServiceError;
use std::convert::Infallible;
use tonic::Status;
use tonic::body::Body;
use tower::ServiceExt;

use super::fakes::Seen;
use super::rig::{Rig, http, json};
use crate::{Settings, Surface, Upstream};

static SURFACES: [Surface; 1] = [Surface {
    prefixes: &["/foreign/api", "/foreign-health"],
    open: &["/foreign-health", "/foreign/api/signed/"],
    bulk: &["/foreign/api/files/"],
    refuse,
}];

fn refuse(error: &ServiceError) -> Response<Bytes> {
    let body = json!({ "foreign_error": error.reason_text(), "message": error.message() });
    let mut response = Response::new(Bytes::from(body.to_string()));
    *response.status_mut() =
        StatusCode::from_u16(error.http_status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    response
}

pub fn upstream(transport: Transport) -> Upstream {
    Upstream {
        audience: "foreign-role",
        prefixes: &["nobody.v1."],
        descriptors: catalog_api::FILE_DESCRIPTOR_SET,
        surfaces: &SURFACES,
        transport,
    }
}

/// Echoes: method, path with query, and how many bytes came.
pub fn role(seen: Seen) -> Transport {
    local(tower::service_fn(move |request: Request<Body>| {
        let seen = seen.clone();
        async move {
            *seen.headers.lock().unwrap() = request.headers().clone();
            let line = format!("{} {}", request.method(), request.uri());
            if request.uri().path().ends_with("/endless") {
                // Answers before the body has ended, and piece by piece.
                let body = request.into_body().into_data_stream().map(|piece| {
                    piece.map(Frame::data).map_err(|error| Status::internal(error.to_string()))
                });
                return Ok::<_, Infallible>(Response::new(Body::new(StreamBody::new(body))));
            }
            let bytes = match request.into_body().collect().await {
                Ok(body) => body.to_bytes().len(),
                Err(_) => return Ok(answer(StatusCode::PAYLOAD_TOO_LARGE, "cut")),
            };
            Ok(answer(StatusCode::IM_A_TEAPOT, &format!("{line} {bytes}")))
        }
    }))
}

fn answer(status: StatusCode, text: &str) -> Response<Body> {
    let mut response = Response::new(Body::new(Full::from(text.to_owned())));
    *response.status_mut() = status;
    response.headers_mut().insert("x-quarry-secret", "1".parse().unwrap());
    response.headers_mut().insert(header::CONTENT_LENGTH, text.len().into());
    response
}

#[tokio::test]
async fn a_call_reaches_the_role_with_its_path_its_query_and_an_internal_token() {
    for rig in Rig::both().await {
        let answer = rig.http(http("PATCH", "/foreign/api/a%2Fb?x=1&x=2", "body")).await;
        assert_eq!(answer.status(), StatusCode::IM_A_TEAPOT);
        let text = String::from_utf8_lossy(answer.body()).into_owned();
        assert!(text.ends_with("/foreign/api/a%2Fb?x=1&x=2 4"), "{text}");
        assert!(!answer.headers().contains_key("x-quarry-secret"));
        assert!(answer.headers().contains_key("x-request-id"));
        assert_eq!(answer.headers()["content-length"], text.len().to_string());
        let seen = rig.seen.headers.lock().unwrap().clone();
        assert_eq!(seen["authorization"], "Bearer jwt-for-foreign-role");
    }
}

#[tokio::test]
async fn a_name_with_a_token_is_a_credential_too() {
    let rig = Rig::new(Settings::default(), false).await;
    let mut request = http("GET", "/foreign/api/x", "");
    let basic = "Basic YWRhOnFwYXRfZ29vZA==".parse().unwrap();
    request.headers_mut().insert(header::AUTHORIZATION, basic);
    request.headers_mut().insert("x-quarry-principal", "root".parse().unwrap());
    request.headers_mut().insert("cookie", "a=b".parse().unwrap());
    assert_eq!(rig.http(request).await.status(), StatusCode::IM_A_TEAPOT);
    let seen = rig.seen.headers.lock().unwrap().clone();
    assert!(!seen.contains_key("x-quarry-principal") && !seen.contains_key("cookie"));
}

#[tokio::test]
async fn the_doors_own_failures_are_told_in_the_surfaces_words() {
    for rig in Rig::both().await {
        let mut request = http("GET", "/foreign/api/x", "");
        request.headers_mut().remove(header::AUTHORIZATION);
        let answer = rig.http(request).await;
        assert_eq!(
            (answer.status().as_u16(), json(&answer)["foreign_error"].clone()),
            (401, json!("TOKEN_MISSING"))
        );
        assert!(answer.headers().contains_key("www-authenticate"));
        let mut request = http("GET", "/foreign/api/x", "");
        request.headers_mut().insert(header::AUTHORIZATION, "Bearer qpat_bad".parse().unwrap());
        assert_eq!(json(&rig.http(request).await)["foreign_error"], "TOKEN_UNKNOWN");
        // Beside the prefix it is the platform's own 404.
        let answer = rig.get("/foreign/apix").await;
        assert_eq!(json(&answer)["error"]["details"][0]["reason"], "ROUTE_NOT_FOUND");
    }
}

#[tokio::test]
async fn what_is_open_needs_no_credential_and_gets_none() {
    for rig in Rig::both().await {
        for path in ["/foreign-health", "/foreign/api/signed/x?signature=y"] {
            let answer = rig.http(http("GET", path, "")).await;
            assert_eq!(answer.status(), StatusCode::IM_A_TEAPOT, "{path}");
            assert!(!rig.seen.headers.lock().unwrap().contains_key("authorization"), "{path}");
        }
        let mut request = http("GET", "/foreign/api/signedx", "");
        request.headers_mut().remove(header::AUTHORIZATION);
        assert_eq!(rig.http(request).await.status(), 401);
    }
}

#[tokio::test]
async fn bodies_are_bounded_but_files_are_not() {
    let settings = Settings { surface_body_bytes_max: 1000, ..Settings::default() };
    for over_sockets in [false, true] {
        let rig = Rig::new(settings.clone(), over_sockets).await;
        let mut announced = http("POST", "/foreign/api/x", vec![0u8; 1001]);
        announced.headers_mut().insert(header::CONTENT_LENGTH, 1001.into());
        assert_eq!(json(&rig.http(announced).await)["foreign_error"], "BODY_TOO_LARGE");
        let unannounced = rig.http(http("POST", "/foreign/api/x", vec![0u8; 1001])).await;
        assert!(
            unannounced.status().is_client_error()
                && unannounced.status() != StatusCode::IM_A_TEAPOT
        );
        let file = rig.http(http("PUT", "/foreign/api/files/x", vec![0u8; 5 << 20])).await;
        assert_eq!(file.status(), StatusCode::IM_A_TEAPOT);
        assert!(file.body().ends_with(b" 5242880"));
    }
}

#[tokio::test]
async fn a_file_streams_both_ways() {
    for rig in Rig::both().await {
        let (pieces, receiver) = tokio::sync::mpsc::channel::<Bytes>(1);
        let body = stream::unfold(receiver, |mut receiver| async move {
            let piece = receiver.recv().await?;
            Some((Ok::<_, Status>(Frame::data(piece)), receiver))
        });
        let mut request = http("PUT", "/foreign/api/files/endless", "");
        *request.body_mut() = Body::new(StreamBody::new(body));
        let calling = tokio::spawn(rig.door.clone().oneshot(request));
        pieces.send(Bytes::from_static(b"one")).await.unwrap();
        // The answer begins while the request's body is still open.
        let mut answer = calling.await.unwrap().unwrap().into_body();
        assert_eq!(answer.frame().await.unwrap().unwrap().into_data().unwrap(), "one");
        pieces.send(Bytes::from_static(b"two")).await.unwrap();
        assert_eq!(answer.frame().await.unwrap().unwrap().into_data().unwrap(), "two");
    }
}

#[tokio::test]
async fn a_token_that_calls_too_often_is_told_to_wait() {
    let settings = Settings { surface_calls_per_second_max: 3, ..Settings::default() };
    let rig = Rig::new(settings, false).await;
    let mut statuses = Vec::new();
    for _ in 0..10 {
        statuses.push(rig.http(http("GET", "/foreign/api/x", "")).await.status().as_u16());
    }
    assert_eq!(statuses.first(), Some(&418));
    assert_eq!(statuses.last(), Some(&429), "{statuses:?}");
    assert_eq!(rig.http(http("GET", "/foreign-health", "")).await.status(), 418);
}
