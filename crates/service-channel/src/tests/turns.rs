//! Doors that take turns on one address, as processes of a rolling restart do,
//! while clients go on.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use http_body::Frame;
use tokio::net::TcpSocket;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::transport::{Channel, Endpoint};

use super::*;

const TURNS: usize = 12;
const FRAMES: usize = 40;

/// A door that others may stand beside.
struct Turn {
    shutdown: CancellationToken,
    door: JoinHandle<()>,
}

/// Echoes; a slow stream where the path asks for it.
fn echo() -> Transport {
    local(tower::service_fn(|request: Request<Body>| async move {
        if request.uri().path() == "/q.S/Slow" {
            let frames = stream::unfold(0, |sent| async move {
                tokio::time::sleep(Duration::from_millis(5)).await;
                let frame = Frame::data(bytes::Bytes::from_static(b"slow"));
                (sent < FRAMES).then_some((Ok::<_, Status>(frame), sent + 1))
            });
            return Ok::<_, Infallible>(Response::new(Body::new(StreamBody::new(frames))));
        }
        let said = request.into_body().collect().await.map(|body| body.to_bytes());
        Ok(match said {
            Ok(said) => Response::new(Body::new(http_body_util::Full::new(said))),
            Err(status) => status.into_http(),
        })
    }))
}

async fn open(address: SocketAddr) -> (SocketAddr, Turn) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_reuseaddr(true).unwrap();
    socket.set_reuseport(true).unwrap();
    socket.bind(address).unwrap();
    let listener = socket.listen(64).unwrap();
    let address = listener.local_addr().unwrap();
    let shutdown = CancellationToken::new();
    let settings = DoorSettings { parting: Duration::from_millis(100), ..DoorSettings::default() };
    let door = tokio::spawn(serve(listener, echo(), settings, shutdown.clone()));
    (address, Turn { shutdown, door })
}

/// One door after another, each open before the one before it goes.
async fn take_turns(address: SocketAddr, mut now: Turn) -> Turn {
    for _ in 0..TURNS {
        let (_, next) = open(address).await;
        tokio::time::sleep(Duration::from_millis(30)).await;
        now.shutdown.cancel();
        now.door.await.unwrap();
        now = next;
    }
    now
}

fn channel(address: SocketAddr) -> Channel {
    Endpoint::from_shared(format!("http://{address}")).unwrap().connect_lazy()
}

async fn says(client: &Transport, path: &str) -> Result<bytes::Bytes, Status> {
    let body = Body::new(http_body_util::Full::new(bytes::Bytes::from_static(b"said")));
    let request = Request::post(path).body(body).unwrap();
    Ok(client.clone().oneshot(request).await?.into_body().collect().await?.to_bytes())
}

async fn calls(client: Transport, ended: &AtomicBool, made: &AtomicUsize) -> Vec<Status> {
    let mut failed = Vec::new();
    while !ended.load(Ordering::SeqCst) {
        match says(&client, "/q.S/Echo").await {
            Ok(said) => assert_eq!(said, "said"),
            Err(status) => failed.push(status),
        }
        made.fetch_add(1, Ordering::SeqCst);
    }
    failed
}

/// How many calls were made, and which failed, while doors took turns; a slow stream beside
/// them is always whole.
async fn outlive(
    clients: impl Fn(SocketAddr) -> Transport,
    callers: usize,
) -> (usize, Vec<Status>) {
    let (address, first) = open("127.0.0.1:0".parse().unwrap()).await;
    let client = clients(address);
    let (ended, made) = (AtomicBool::new(false), AtomicUsize::new(0));
    let callers =
        futures::future::join_all((0..callers).map(|_| calls(client.clone(), &ended, &made)));
    let slow = async {
        let mut whole = 0;
        while !ended.load(Ordering::SeqCst) {
            let body = says(&client, "/q.S/Slow").await.unwrap();
            assert_eq!(body.len(), 4 * FRAMES);
            whole += 1;
        }
        whole
    };
    let turns = async {
        let last = take_turns(address, first).await;
        ended.store(true, Ordering::SeqCst);
        last
    };
    let (failed, whole, last) = tokio::join!(callers, slow, turns);
    assert!(whole > 3, "{whole} streams");
    last.shutdown.cancel();
    (made.load(Ordering::SeqCst), failed.concat())
}

#[tokio::test(flavor = "multi_thread")]
async fn neighbours_outlive_doors_that_take_turns() {
    let (made, failed) = outlive(|address| remote(&format!("http://{address}")).unwrap(), 4).await;
    assert!(failed.is_empty() && made > 100, "of {made}: {failed:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_channel_that_resends_outlives_doors_that_take_turns() {
    let (made, failed) = outlive(|address| resending(channel(address)), 4).await;
    assert!(failed.is_empty() && made > 100, "of {made}: {failed:?}");
}

/// A channel of tonic's as it is has no answer to GOAWAY (a busy one loses a call now and then,
/// see [`crate::calls`]); one that is idle then, with many of its calls behind it, loses none.
#[tokio::test(flavor = "multi_thread")]
async fn idle_plain_channels_outlive_doors_that_take_turns() {
    let (address, mut now) = open("127.0.0.1:0".parse().unwrap()).await;
    let clients: Vec<Transport> = (0..8)
        .map(|_| {
            let client = ServiceExt::<Request<Body>>::map_err(channel(address), |error| {
                Status::from_error(Box::new(error))
            });
            BoxCloneSyncService::new(client)
        })
        .collect();
    for _ in 0..TURNS {
        let all = clients.iter().map(|client| says(client, "/q.S/Echo"));
        futures::future::try_join_all(all).await.unwrap();
        let (_, next) = open(address).await;
        now.shutdown.cancel();
        now.door.await.unwrap();
        now = next;
        // The clients' own tasks see the end of their connections.
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    now.shutdown.cancel();
}

/// What a callee began is never begun twice by the channel.
#[tokio::test]
async fn what_was_begun_is_not_sent_again() {
    use std::error::Error as _;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let begun = std::sync::Arc::new(AtomicUsize::new(0));
    let counted = std::sync::Arc::clone(&begun);
    // It reads the call whole and hangs up.
    tokio::spawn(async move {
        loop {
            let (mut socket, _) = listener.accept().await.unwrap();
            let mut read = vec![0; 4 << 10];
            let mut all = Vec::new();
            while !all.windows(4).any(|four| four == b"said") {
                let bytes = socket.read(&mut read).await.unwrap();
                assert!(bytes > 0, "the call did not come");
                all.extend_from_slice(&read[..bytes]);
                // Settings, so that the client goes on.
                socket.write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0]).await.unwrap();
            }
            counted.fetch_add(1, Ordering::SeqCst);
        }
    });
    for client in [remote(&format!("http://{address}")).unwrap(), resending(channel(address))] {
        let before = begun.load(Ordering::SeqCst);
        let status = says(&client, "/q.S/Echo").await.unwrap_err();
        assert_eq!(begun.load(Ordering::SeqCst) - before, 1, "{status} {:?}", status.source());
    }
}
