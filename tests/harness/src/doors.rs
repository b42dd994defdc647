//! How a client connects: at once or never, or with patience for a door that is
//! closed while its process is started again.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use service_channel::{Transport, resending};
use tokio::net::TcpStream;
use tokio::time::Instant;
use tonic::Status;
use tonic::codegen::http::Uri;
use tonic::transport::Endpoint;
use tower::util::BoxCloneSyncService;
use tower::{ServiceExt, service_fn};

const PAUSE: Duration = Duration::from_millis(20);

static PATIENCE_SECONDS: AtomicU64 = AtomicU64::new(0);

/// From now on every new session of this test's process waits so long for a door that
/// takes no connections, as a client with a retry policy does. What a door began is
/// never sent again.
pub fn wait_for_doors(at_most: Duration) {
    PATIENCE_SECONDS.store(at_most.as_secs(), Ordering::Relaxed);
}

/// How long sessions wait.
pub fn patience() -> Duration {
    Duration::from_secs(PATIENCE_SECONDS.load(Ordering::Relaxed))
}

/// A connection that is made when it is first used, and again when it was lost.
pub fn connect(endpoint: Endpoint, patience: Duration) -> Transport {
    let connector = service_fn(move |uri: Uri| async move {
        let host = uri.host().unwrap_or_default().to_owned();
        let socket = socket(host, uri.port_u16().unwrap_or(80), patience).await?;
        Ok::<_, io::Error>(TokioIo::new(socket))
    });
    let channel = endpoint.connect_with_connector_lazy(connector);
    if patience.is_zero() {
        let plain = channel.map_err(|error| Status::from_error(Box::new(error)));
        return BoxCloneSyncService::new(plain);
    }
    resending(channel)
}

/// Sends a request; one that found no connection is sent when there is one.
pub async fn send(request: reqwest::RequestBuilder) -> reqwest::Result<reqwest::Response> {
    let deadline = Instant::now() + patience();
    let mut tick = tokio::time::interval(PAUSE);
    loop {
        tick.tick().await;
        let copy = request.try_clone().expect("a body that can be sent again");
        let (client, copy) = copy.build_split();
        let copy = copy?;
        // A connection that was closed while it lay idle is noticed by the request on it.
        let may_repeat = copy.method().is_safe();
        match client.execute(copy).await {
            Err(error)
                if (error.is_connect() || (may_repeat && error.is_request()))
                    && Instant::now() < deadline => {}
            answer => return answer,
        }
    }
}

async fn socket(host: String, port: u16, patience: Duration) -> io::Result<TcpStream> {
    let deadline = Instant::now() + patience;
    let mut tick = tokio::time::interval(PAUSE);
    loop {
        tick.tick().await;
        match TcpStream::connect((host.as_str(), port)).await {
            Ok(socket) => {
                socket.set_nodelay(true)?;
                return Ok(socket);
            }
            Err(_) if Instant::now() < deadline => {}
            Err(error) => return Err(error),
        }
    }
}
