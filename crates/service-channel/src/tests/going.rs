//! A door that goes: what lasts ends at once, and what was never begun is made again.

use std::net::SocketAddr;
use std::time::Instant;

use http_body::Frame;
use http_body_util::Full;
use tokio::net::TcpSocket;
use tokio_util::sync::CancellationToken;

use super::*;

const WATCH: &str = "/quarry.q.v1.S/WatchThings";

/// Says one word and waits for what never comes; any other call is answered at once.
fn watched(word: &'static str) -> Transport {
    local(tower::service_fn(move |request: Request<Body>| async move {
        if request.uri().path() != WATCH {
            return Ok::<_, Infallible>(Response::new(Body::new(word.to_owned())));
        }
        let first = Ok::<_, Status>(Frame::data(bytes::Bytes::from_static(word.as_bytes())));
        let frames = stream::StreamExt::chain(stream::iter([first]), stream::pending());
        Ok(Response::new(Body::new(StreamBody::new(frames))))
    }))
}

fn listen(address: SocketAddr) -> TcpListener {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_reuseaddr(true).unwrap();
    socket.set_reuseport(true).unwrap();
    socket.bind(address).unwrap();
    socket.listen(64).unwrap()
}

async fn word(body: &mut Body) -> bytes::Bytes {
    body.frame().await.unwrap().unwrap().into_data().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_ends_with_its_door_and_is_followed_on_the_next_one() {
    let first = listen("127.0.0.1:0".parse().unwrap());
    let address = first.local_addr().unwrap();
    let client = remote(&format!("http://{address}")).unwrap();
    let (shutdown, ends) = (CancellationToken::new(), CancellationToken::new());
    let settings = DoorSettings { parting: Duration::from_millis(100), ..DoorSettings::default() };
    let parted = settings.parted.clone();
    let app = ending(watched("one"), ends.clone());
    let door = tokio::spawn(serve(first, app, settings, shutdown.clone()));
    let mut watches = Vec::new();
    for _ in 0..3 {
        let mut body = client.clone().oneshot(request(WATCH)).await.unwrap().into_body();
        assert_eq!(word(&mut body).await, "one");
        watches.push(body);
    }
    let second = listen(address);
    let guard = CancellationTokenGuard::new();
    tokio::spawn(serve(second, watched("two"), DoorSettings::default(), guard.0.clone()));
    let begin = Instant::now();
    shutdown.cancel();
    parted.cancelled().await;
    ends.cancel();
    for mut body in watches {
        let end = body.frame().await.unwrap().unwrap().into_trailers().unwrap();
        let status = Status::from_header_map(&end).unwrap();
        assert_eq!(status.code(), Code::Unavailable);
        assert!(is_going(&status));
        // At once: the connection has been told to go before.
        let again = client.clone().oneshot(request(WATCH)).await.unwrap();
        assert_eq!(word(&mut again.into_body()).await, "two");
    }
    door.await.unwrap();
    assert!(begin.elapsed() < Duration::from_secs(3), "{:?}", begin.elapsed());
}

#[tokio::test]
async fn what_has_an_end_goes_on_when_lasting_streams_end() {
    let ends = CancellationToken::new();
    ends.cancel();
    let callee = ending(watched("said"), ends);
    let body = callee.clone().oneshot(request("/quarry.q.v1.S/Get")).await.unwrap().into_body();
    assert_eq!(body.collect().await.unwrap().to_bytes(), "said");
    let refused = callee.oneshot(request(WATCH)).await;
    let code = match refused {
        Ok(response) => {
            let end = response.into_body().collect().await.unwrap();
            Status::from_header_map(end.trailers().unwrap()).unwrap().code()
        }
        Err(status) => status.code(),
    };
    assert_eq!(code, Code::Unavailable);
}

/// Who was reset in the queue of a door, or hung up on before it spoke, has sent no call.
#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_ends_in_silence_costs_no_call() {
    const SILENT: usize = 3;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = remote(&format!("http://{}", listener.local_addr().unwrap())).unwrap();
    let guard = CancellationTokenGuard::new();
    let end = guard.0.clone();
    tokio::spawn(async move {
        for turn in 0..SILENT {
            let (mut socket, _) = listener.accept().await.unwrap();
            let mut heard = vec![0; 4 << 10];
            socket.readable().await.unwrap();
            // One is hung up on with its preface unread, which is a reset; the next in order.
            if turn % 2 == 1 {
                let bytes = socket.read(&mut heard).await.unwrap();
                assert!(!heard[..bytes].windows(4).any(|four| four == b"said"), "it was sent");
            }
        }
        serve(listener, watched("ok"), DoorSettings::default(), end).await;
    });
    let body = Body::new(Full::new(bytes::Bytes::from_static(b"said")));
    let request = Request::post("/quarry.q.v1.S/Write").body(body).unwrap();
    let answer = client.oneshot(request).await.unwrap().into_body();
    assert_eq!(answer.collect().await.unwrap().to_bytes(), "ok");
}
