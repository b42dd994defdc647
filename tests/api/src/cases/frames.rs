//! gRPC frames that lie: about their length, about their compression, about their end.

use bytes::Bytes;
use harness::Role as Part;
use http::Request;
use http_body_util::{BodyExt, Full};
use tonic::body::Body;
use tonic::{Code, Status};
use tower::{Service, ServiceExt};

use crate::stage::Stage;

const PATHS: [&str; 3] = [
    "/arrow.flight.protocol.FlightService/DoPut",
    "/quarry.items.v1.MediaService/UploadMedia",
    "/quarry.catalog.v1.NamespacesService/CreateNamespace",
];

/// Sends bytes as the whole body of a gRPC call and returns the status.
async fn send(stage: &Stage, path: &str, body: &'static [u8]) -> Code {
    let mut channel = stage.admin.authed();
    let request = Request::post(path)
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(Body::new(Full::new(Bytes::from_static(body)).map_err(|never| match never {})))
        .expect("a request");
    let channel = channel.ready().await.expect("a connection");
    let response = match channel.call(request).await {
        Ok(response) => response,
        Err(error) => return Status::from_error(error.into()).code(),
    };
    if let Some(status) = Status::from_header_map(response.headers()) {
        return status.code();
    }
    let trailers = match response.into_body().collect().await {
        Ok(body) => body.trailers().cloned().unwrap_or_default(),
        Err(status) => return status.code(),
    };
    Status::from_header_map(&trailers).map_or(Code::Unknown, |status| status.code())
}

/// Each is refused, none makes the server reserve what it claims, and the server serves on.
pub async fn lies(stage: &Stage) {
    let before = stage.platform.process(Part::ItemStore).memory_peak_bytes();
    let frames: [&[u8]; 4] = [
        &[0, 0xff, 0xff, 0xff, 0xff, 1, 2, 3],
        &[1, 0, 0, 0, 2, 8, 1],
        &[0, 0, 0, 0, 4, 0xff, 0xff, 0xff, 0xff],
        &[7, 7],
    ];
    for path in PATHS {
        for frame in frames {
            let code = send(stage, path, frame).await;
            assert!(code != Code::Ok, "{path} took {frame:?}");
            assert!(code != Code::Unknown, "{path} broke down over {frame:?}");
        }
    }
    let after = stage.platform.process(Part::ItemStore).memory_peak_bytes();
    // While roles are restarted it may be another process, which began with nothing.
    let grown = after.saturating_sub(before);
    assert!(grown < 512 << 20, "{grown} bytes more for frames of ten bytes");
    assert_eq!(stage.admin.get("/v1/namespaces").await.status, 200);
}
