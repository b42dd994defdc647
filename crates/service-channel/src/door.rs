//! The accept loop of every door: HTTP/1.1 and HTTP/2 on one port, tuned
//! windows, and a shutdown that lets streams finish.

use std::convert::Infallible;
use std::time::Duration;

use futures::FutureExt;
use http::header::CONNECTION;
use http::{HeaderValue, Request, Response, Version};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::body::Body;
use tower::ServiceExt;

use crate::Transport;
use crate::calls::{Answer, Calls};
use crate::lingering::Lingering;
use crate::remote::{CONNECTION_WINDOW_BYTES, FRAME_BYTES_MAX, STREAM_WINDOW_BYTES};

/// How one door behaves.
#[derive(Debug, Clone)]
pub struct DoorSettings {
    /// Streams that one connection may have open; beyond it new ones wait.
    pub concurrent_streams_max: u32,
    /// How long open streams may go on after the shutdown began.
    pub grace: Duration,
    /// Of it, how long a moment without calls is looked for on each connection
    /// before it is told to go.
    pub parting: Duration,
}

impl Default for DoorSettings {
    fn default() -> Self {
        Self {
            concurrent_streams_max: 10_000,
            grace: Duration::from_secs(25),
            parting: Duration::from_secs(1),
        }
    }
}

/// Serves until `shutdown`. Then whoever has connected is still served, the
/// listener is closed, each connection is told to go (GOAWAY; HTTP/1.1: by its
/// next answer) at a moment without calls, and streams go on to their ends, all
/// in all at most `settings.grace`.
pub async fn serve(
    listener: TcpListener,
    app: Transport,
    settings: DoorSettings,
    shutdown: CancellationToken,
) {
    let door = Door { builder: builder(&settings), app, settings, shutdown };
    let connections = TaskTracker::new();
    loop {
        let accepted = tokio::select! {
            () = door.shutdown.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((socket, _)) => drop(connections.spawn(door.connection(socket))),
            // Out of descriptors: the open connections go on, and closing one
            // frees the next accept.
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
    // To their clients these are open already, and closing the listener would
    // reset them.
    while let Some(Ok((socket, _))) = listener.accept().now_or_never() {
        connections.spawn(door.connection(socket));
    }
    drop(listener);
    connections.close();
    if tokio::time::timeout(door.settings.grace, connections.wait()).await.is_err() {
        tracing::warn!(grace = ?door.settings.grace, "streams were still open when the grace ended");
    }
}

/// What every connection of a door shares.
struct Door {
    builder: Builder<TokioExecutor>,
    app: Transport,
    settings: DoorSettings,
    shutdown: CancellationToken,
}

impl Door {
    /// One connection, from its first byte to its end.
    fn connection(&self, socket: TcpStream) -> impl Future<Output = ()> + Send + use<> {
        if let Err(error) = socket.set_nodelay(true) {
            tracing::debug!(%error, "TCP_NODELAY could not be set");
        }
        let socket = TokioIo::new(Lingering::new(socket, self.settings.grace));
        let (app, calls, shutdown) = (self.app.clone(), Calls::default(), self.shutdown.clone());
        let (parting, counted) = (self.settings.parting, calls.clone());
        let told = shutdown.clone();
        let service = service_fn(move |request: Request<Incoming>| {
            answer(app.clone(), request, counted.clone(), told.clone())
        });
        let connection = self.builder.serve_connection_with_upgrades(socket, service).into_owned();
        async move {
            let mut connection = std::pin::pin!(connection);
            let moment = async {
                shutdown.cancelled().await;
                calls.moment(parting).await;
            };
            let ended = tokio::select! {
                ended = connection.as_mut() => ended,
                () = moment => {
                    connection.as_mut().graceful_shutdown();
                    connection.await
                }
            };
            if let Err(error) = ended {
                tracing::debug!(error = %error, "a connection ended early");
            }
        }
    }
}

fn builder(settings: &DoorSettings) -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(Duration::from_secs(30));
    builder
        .http2()
        .timer(TokioTimer::new())
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_frame_size(FRAME_BYTES_MAX)
        .max_send_buf_size(STREAM_WINDOW_BYTES as usize)
        .max_concurrent_streams(settings.concurrent_streams_max)
        .keep_alive_interval(Some(Duration::from_secs(30)))
        .keep_alive_timeout(Duration::from_secs(20));
    builder
}

async fn answer(
    app: Transport,
    request: Request<Incoming>,
    calls: Calls,
    shutdown: CancellationToken,
) -> Result<Response<Body>, Infallible> {
    let open = calls.begin();
    let is_single = request.version() < Version::HTTP_2;
    let answer = app.oneshot(request.map(Body::new)).await;
    let mut response = answer.unwrap_or_else(|status| status.into_http());
    if is_single && shutdown.is_cancelled() {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    Ok(response.map(|body| Body::new(Answer::new(body, open))))
}
