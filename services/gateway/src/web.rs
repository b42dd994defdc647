//! The gRPC-Web lane: tonic-web's framing around the gRPC lane.

use std::convert::Infallible;
use std::sync::Arc;

use futures::TryStreamExt;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use tonic::body::Body;
use tonic_web::GrpcWebLayer;
use tower::{Layer, ServiceExt};

use crate::door::State;

/// Answers one gRPC-Web call.
pub async fn answer(state: Arc<State>, mut request: Request<Body>) -> Response<Body> {
    normalise(&mut request);
    // Without a size: base64 is longer than what goes on.
    let request =
        request.map(|body| Body::new(StreamBody::new(body.into_data_stream().map_ok(Frame::data))));
    let inner = tower::service_fn(move |request: Request<Body>| {
        let grpc = state.grpc();
        // tonic-web frames answers only: an error would pass it by.
        async move {
            Ok::<_, Infallible>(
                grpc.oneshot(request).await.unwrap_or_else(|status| status.into_http()),
            )
        }
    });
    GrpcWebLayer::new().layer(inner).oneshot(request).await.unwrap_or_else(|never| match never {})
}

/// tonic-web knows four content types to the letter; parameters are dropped.
fn normalise(request: &mut Request<Body>) {
    let text = request
        .headers()
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    let bare = text.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let known = match bare.as_str() {
        "application/grpc-web-text" | "application/grpc-web-text+proto" => {
            "application/grpc-web-text+proto"
        }
        _ => "application/grpc-web+proto",
    };
    request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(known));
}
