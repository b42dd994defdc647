//! The layers, in memory and over a socket alike.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::time::Duration;

use futures::stream;
use http_body_util::{BodyExt, StreamBody};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tonic::Code;

use super::*;

mod going;
mod turns;

/// A callee whose path says how it behaves.
fn callee() -> Transport {
    local(tower::service_fn(|request: Request<Body>| async move {
        let path = request.uri().path().to_owned();
        match path.as_str() {
            "/panic" => panic!("boom"),
            "/never" => std::future::pending().await,
            "/drip" => {
                Ok::<_, Infallible>(Response::new(Body::new(StreamBody::new(stream::pending::<
                    Result<http_body::Frame<bytes::Bytes>, Status>,
                >()))))
            }
            "/panicking-body" => Ok(Response::new(Body::new(StreamBody::new(stream::poll_fn(
                |_| -> Poll<Option<Result<http_body::Frame<bytes::Bytes>, Status>>> {
                    panic!("boom in the body")
                },
            ))))),
            "/extensions" => {
                let text =
                    if request.extensions().get::<u8>().is_some() { "leaked" } else { "clean" };
                Ok(Response::new(Body::new(text.to_owned())))
            }
            _ => Ok(Response::new(Body::new("ok".to_owned()))),
        }
    }))
}

fn request(path: &str) -> Request<Body> {
    Request::builder().uri(path).body(Body::empty()).unwrap()
}

/// The callee in memory and the same callee over a socket.
async fn both(shutdown: &CancellationTokenGuard) -> [Transport; 2] {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(serve(listener, callee(), DoorSettings::default(), shutdown.0.clone()));
    [callee(), remote(&url).unwrap()]
}

struct CancellationTokenGuard(tokio_util::sync::CancellationToken);

impl CancellationTokenGuard {
    fn new() -> Self {
        Self(tokio_util::sync::CancellationToken::new())
    }
}

impl Drop for CancellationTokenGuard {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

/// The status of an answer, wherever it is: error, headers or trailers.
async fn status(transport: &Transport, request: Request<Body>) -> Code {
    let response = match transport.clone().oneshot(request).await {
        Ok(response) => response,
        Err(status) => return status.code(),
    };
    if let Some(status) = Status::from_header_map(response.headers()) {
        return status.code();
    }
    match response.into_body().collect().await {
        Ok(body) => body
            .trailers()
            .and_then(Status::from_header_map)
            .map_or(Code::Ok, |status| status.code()),
        Err(status) => status.code(),
    }
}

#[tokio::test]
async fn a_panic_is_an_internal_error_and_the_next_call_works() {
    let guard = CancellationTokenGuard::new();
    for transport in both(&guard).await {
        assert_eq!(status(&transport, request("/panic")).await, Code::Internal);
        assert_ne!(status(&transport, request("/panicking-body")).await, Code::Ok);
        assert_eq!(status(&transport, request("/")).await, Code::Ok);
    }
}

#[tokio::test]
async fn a_deadline_cuts_headers_and_bodies() {
    let guard = CancellationTokenGuard::new();
    for transport in both(&guard).await {
        for path in ["/never", "/drip"] {
            let mut request = request(path);
            request.headers_mut().insert("grpc-timeout", "30m".parse().unwrap());
            let answer =
                tokio::time::timeout(Duration::from_secs(10), status(&transport, request)).await;
            assert_eq!(answer.unwrap(), Code::DeadlineExceeded, "{path}");
        }
    }
}

#[tokio::test]
async fn extensions_do_not_reach_the_callee() {
    let guard = CancellationTokenGuard::new();
    for transport in both(&guard).await {
        let mut request = request("/extensions");
        request.extensions_mut().insert(7u8);
        let body = transport
            .oneshot(request)
            .await
            .unwrap()
            .into_body()
            .collect()
            .await
            .unwrap()
            .to_bytes();
        assert_eq!(body, "clean");
    }
}

#[tokio::test]
async fn an_absent_neighbour_is_unavailable_and_named() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let error =
        remote(&format!("http://{address}")).unwrap().oneshot(request("/")).await.unwrap_err();
    assert_eq!(error.code(), Code::Unavailable);
    assert!(error.message().contains(&address.to_string()), "{error}");
}

#[tokio::test]
async fn a_neighbour_that_comes_back_is_waited_for() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let transport = remote_within(&format!("http://{address}"), Duration::from_secs(30)).unwrap();
    let calls: Vec<_> =
        (0..20).map(|_| tokio::spawn(transport.clone().oneshot(request("/q.S/Call")))).collect();
    // They are under way before anybody listens.
    tokio::task::yield_now().await;
    let guard = CancellationTokenGuard::new();
    let listener = TcpListener::bind(address).await.unwrap();
    tokio::spawn(serve(listener, callee(), DoorSettings::default(), guard.0.clone()));
    for call in calls {
        let response = call.await.unwrap().unwrap();
        assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "ok");
    }
}

#[tokio::test]
async fn who_comes_after_the_patience_is_told_at_once() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let patience = Duration::from_millis(300);
    let transport = remote_within(&format!("http://{address}"), patience).unwrap();
    let begin = std::time::Instant::now();
    let error = transport.clone().oneshot(request("/")).await.unwrap_err();
    assert_eq!(error.code(), Code::Unavailable);
    let waited = begin.elapsed();
    assert!(waited >= patience / 2, "{waited:?}");
    for _ in 0..20 {
        transport.clone().oneshot(request("/")).await.unwrap_err();
    }
    assert!(begin.elapsed() - waited < Duration::from_secs(3), "each waited anew");
}

#[test]
fn a_neighbour_must_be_a_plain_http_url() {
    for url in ["catalog:7070", "https://catalog:7070", "http://catalog:7070/path", "http://", ""] {
        let error = remote(url).unwrap_err();
        assert_eq!(error.field_name(), Some("neighbours"), "{url}");
    }
    assert!(remote("http://catalog:7070").is_ok());
}

#[test]
fn timeouts_of_every_unit_are_read() {
    let of = |text: &str| {
        let mut headers = http::HeaderMap::new();
        headers.insert("grpc-timeout", text.parse().unwrap());
        deadline::timeout_of(&headers)
    };
    assert_eq!(of("2S"), Some(Duration::from_secs(2)));
    assert_eq!(of("3m"), Some(Duration::from_millis(3)));
    assert_eq!(of("4H"), Some(Duration::from_secs(4 * 3600)));
    assert_eq!(of("99999999H"), Some(Duration::from_secs(365 * 24 * 3600)));
    for garbage in ["", "S", "123456789S", "12", "1é", "-1S"] {
        assert_eq!(of(garbage), None, "{garbage}");
    }
}

#[test]
fn bulk_and_watches_have_their_own_connections() {
    use remote::Traffic;
    assert_eq!(Traffic::of("/arrow.flight.protocol.FlightService/DoGet"), Traffic::Bulk);
    assert_eq!(Traffic::of("/quarry.items.v1.MediaService/UploadMedia"), Traffic::Bulk);
    assert_eq!(Traffic::of("/api/2.0/mlflow-artifacts/artifacts/a.b/model"), Traffic::Bulk);
    assert_eq!(Traffic::of("/quarry.identity.v1.ReplicaService/WatchGrants"), Traffic::Watch);
    assert_eq!(Traffic::of("/quarry.items.v1.ItemsService/CountItems"), Traffic::Control);
}

#[tokio::test]
async fn shutdown_waits_for_an_open_stream() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let shutdown = tokio_util::sync::CancellationToken::new();
    let (release, released) = tokio::sync::watch::channel(false);
    let slow = local(tower::service_fn(move |_: Request<Body>| {
        let mut released = released.clone();
        async move {
            let _ = released.wait_for(|done| *done).await;
            Ok::<_, Infallible>(Response::new(Body::new("late".to_owned())))
        }
    }));
    let door = tokio::spawn(serve(listener, slow, DoorSettings::default(), shutdown.clone()));
    let call = tokio::spawn(remote(&url).unwrap().oneshot(request("/")));
    // The request is on its way once the callee holds the watch.
    while release.receiver_count() < 2 {
        tokio::task::yield_now().await;
    }
    shutdown.cancel();
    release.send(true).unwrap();
    let body = call.await.unwrap().unwrap().into_body().collect().await.unwrap().to_bytes();
    assert_eq!(body, "late");
    door.await.unwrap();
}

/// A peer that keeps sending while it reads slowly, as HTTP/2 clients do with
/// window updates: nothing of what was written before the close may be lost.
#[tokio::test]
async fn a_close_waits_until_the_peer_has_read_everything() {
    const BYTES: usize = 8 << 20;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = tokio::spawn(async move {
        let (socket, _) = listener.accept().await.unwrap();
        let mut socket = lingering::Lingering::new(socket, Duration::from_secs(20));
        socket.write_all(&vec![7; BYTES]).await.unwrap();
        socket.shutdown().await.unwrap();
    });
    let mut peer = tokio::net::TcpStream::connect(address).await.unwrap();
    let mut read = 0;
    let mut buffer = vec![0; 256 << 10];
    loop {
        peer.write_all(b"more, please").await.unwrap();
        let bytes = peer.read(&mut buffer).await.unwrap();
        if bytes == 0 {
            break;
        }
        read += bytes;
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(read, BYTES);
    drop(peer);
    server.await.unwrap();
}
