//! gRPC-Web through the door, by hand: frames in the body, trailers too.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use catalog_api::v1::{GetNamespaceRequest, GetNamespaceResponse};
use prost::Message;

use super::rig::{Rig, http};

fn frame(message: &impl Message) -> Vec<u8> {
    let bytes = message.encode_to_vec();
    let length = u32::try_from(bytes.len()).unwrap().to_be_bytes();
    [&[0][..], &length, &bytes].concat()
}

async fn call(rig: &Rig, content_type: &str, name: &str) -> ::http::Response<Bytes> {
    let message = frame(&GetNamespaceRequest { name: name.to_owned() });
    let text = content_type.contains("-text");
    let body = if text { STANDARD.encode(&message).into_bytes() } else { message };
    let length = body.len();
    let mut request = http("POST", "/quarry.catalog.v1.NamespacesService/GetNamespace", body);
    let headers = request.headers_mut();
    headers.insert("content-type", content_type.parse().unwrap());
    headers.insert("accept", content_type.parse().unwrap());
    headers.insert("content-length", length.into());
    rig.http(request).await
}

/// The message and the trailers of an answer.
fn parts(body: &[u8]) -> (Option<GetNamespaceResponse>, String) {
    let mut rest = body;
    let mut message = None;
    let mut trailers = String::new();
    while let [flag, a, b, c, d, more @ ..] = rest {
        let (one, after) = more.split_at(u32::from_be_bytes([*a, *b, *c, *d]) as usize);
        if flag & 0x80 == 0 {
            message = Some(GetNamespaceResponse::decode(one).unwrap());
        } else {
            trailers = String::from_utf8(one.to_vec()).unwrap();
        }
        rest = after;
    }
    (message, trailers)
}

/// Chunks of base64, each padded by itself.
fn unbase64(body: &[u8]) -> Vec<u8> {
    let text = String::from_utf8(body.to_vec()).unwrap();
    let mut bytes = Vec::new();
    let mut rest = text.as_str();
    while !rest.is_empty() {
        let padding =
            rest.find('=').map_or(rest.len(), |at| at.next_multiple_of(4).min(rest.len()));
        let (chunk, after) = rest.split_at(padding);
        bytes.extend(STANDARD.decode(chunk).unwrap());
        rest = after;
    }
    bytes
}

#[tokio::test]
async fn binary_and_text_calls_are_answered() {
    for rig in Rig::both().await {
        for content_type in [
            "application/grpc-web+proto",
            "application/grpc-web",
            "application/grpc-web+proto;charset=utf-8",
        ] {
            let answer = call(&rig, content_type, "vision").await;
            let (message, trailers) = parts(answer.body());
            assert_eq!(message.unwrap().namespace.unwrap().name, "vision", "{content_type}");
            assert!(trailers.contains("grpc-status:0"), "{trailers}");
        }
        let answer = call(&rig, "application/grpc-web-text", "vision").await;
        let (message, trailers) = parts(&unbase64(answer.body()));
        assert_eq!(message.unwrap().namespace.unwrap().name, "vision");
        assert!(trailers.contains("grpc-status:0"), "{trailers}");
    }
}

#[tokio::test]
async fn a_failure_is_a_status() {
    for rig in Rig::both().await {
        let answer = call(&rig, "application/grpc-web+proto", "missing").await;
        assert_eq!(answer.status(), 200);
        let in_headers = answer.headers().get("grpc-status").is_some_and(|status| status == "5");
        assert!(in_headers || parts(answer.body()).1.contains("grpc-status:5"), "{answer:?}");
        let mut request = http("POST", "/quarry.catalog.v1.NamespacesService/GetNamespace", "");
        request.headers_mut().insert("content-type", "application/grpc-web+proto".parse().unwrap());
        request.headers_mut().remove("authorization");
        let answer = rig.http(request).await;
        let in_headers = answer.headers().get("grpc-status").is_some_and(|status| status == "16");
        assert!(in_headers || parts(answer.body()).1.contains("grpc-status:16"), "{answer:?}");
    }
}
