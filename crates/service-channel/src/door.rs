//! The accept loop of every door: HTTP/1.1 and HTTP/2 on one port, tuned
//! windows, and a shutdown that lets streams finish.

use std::convert::Infallible;
use std::future::poll_fn;
use std::time::Duration;

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
use crate::lasting::lasts;
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
    /// Fires once every connection has been told to go. What lasts on them may
    /// end then: whoever calls again does so on another connection.
    pub parted: CancellationToken,
}

impl Default for DoorSettings {
    fn default() -> Self {
        Self {
            concurrent_streams_max: 10_000,
            grace: Duration::from_secs(25),
            parting: Duration::from_secs(1),
            parted: CancellationToken::new(),
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
    let builder = builder(&settings);
    let door = Door { builder, app, settings, shutdown, staying: TaskTracker::new() };
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
    for socket in waiting(listener) {
        connections.spawn(door.connection(socket));
    }
    door.staying.close();
    let (staying, parted) = (door.staying.clone(), door.settings.parted.clone());
    connections.spawn(async move {
        staying.wait().await;
        parted.cancel();
    });
    connections.close();
    if tokio::time::timeout(door.settings.grace, connections.wait()).await.is_err() {
        tracing::warn!(grace = ?door.settings.grace, "streams were still open when the grace ended");
    }
}

/// Closes a listener; answers who had connected and was not accepted yet. To their
/// clients these are open already, and closing the listener would reset them. The
/// kernel is asked itself: what the runtime knows of a listener may be old.
fn waiting(listener: TcpListener) -> Vec<TcpStream> {
    let mut sockets = Vec::new();
    match listener.into_std() {
        Ok(listener) => {
            while let Ok((socket, _)) = listener.accept() {
                sockets.push(socket);
            }
        }
        Err(error) => tracing::warn!(%error, "a listener could not be closed in order"),
    }
    let ours = |socket: std::net::TcpStream| {
        socket.set_nonblocking(true)?;
        TcpStream::from_std(socket)
    };
    sockets.into_iter().filter_map(|socket| ours(socket).ok()).collect()
}

/// What every connection of a door shares.
struct Door {
    builder: Builder<TokioExecutor>,
    app: Transport,
    settings: DoorSettings,
    shutdown: CancellationToken,
    /// The connections that have not been told to go.
    staying: TaskTracker,
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
        let (told, stays) = (shutdown.clone(), self.staying.token());
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
                    // The GOAWAY is written before anybody hears of it.
                    let mut stays = Some(stays);
                    poll_fn(|cx| {
                        let ended = connection.as_mut().poll(cx);
                        stays = None;
                        ended
                    })
                    .await
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

/// Whether a call says nothing of the moment at which a connection may go.
fn stays_open(path: &str) -> bool {
    // Watching health ends by itself when the door closes.
    lasts(path) || path == "/grpc.health.v1.Health/Watch"
}

async fn answer(
    app: Transport,
    request: Request<Incoming>,
    calls: Calls,
    shutdown: CancellationToken,
) -> Result<Response<Body>, Infallible> {
    let open = calls.begin(stays_open(request.uri().path()));
    let is_single = request.version() < Version::HTTP_2;
    let answer = app.oneshot(request.map(Body::new)).await;
    let mut response = answer.unwrap_or_else(|status| status.into_http());
    if is_single && shutdown.is_cancelled() {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    Ok(response.map(|body| Body::new(Answer::new(body, open, !is_single))))
}
