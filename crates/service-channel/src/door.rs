//! The accept loop of every door: HTTP/1.1 and HTTP/2 on one port, tuned
//! windows, and a shutdown that lets streams finish.

use std::convert::Infallible;
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::body::Body;
use tower::ServiceExt;

use crate::Transport;
use crate::lingering::Lingering;
use crate::remote::{CONNECTION_WINDOW_BYTES, FRAME_BYTES_MAX, STREAM_WINDOW_BYTES};

/// How one door behaves.
#[derive(Debug, Clone)]
pub struct DoorSettings {
    /// Streams that one connection may have open; beyond it new ones wait.
    pub concurrent_streams_max: u32,
    /// How long open streams may go on after the shutdown began.
    pub grace: Duration,
}

impl Default for DoorSettings {
    fn default() -> Self {
        Self { concurrent_streams_max: 10_000, grace: Duration::from_secs(25) }
    }
}

/// Serves until `shutdown`, then refuses new connections, tells the open ones
/// to finish (GOAWAY) and waits for them at most `settings.grace`.
pub async fn serve(
    listener: TcpListener,
    app: Transport,
    settings: DoorSettings,
    shutdown: CancellationToken,
) {
    let builder = builder(&settings);
    let graceful = GracefulShutdown::new();
    loop {
        let accepted = tokio::select! {
            () = shutdown.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((socket, _)) => {
                if let Err(error) = socket.set_nodelay(true) {
                    tracing::debug!(%error, "TCP_NODELAY could not be set");
                }
                let socket = Lingering::new(socket, settings.grace);
                spawn_connection(&builder, &graceful, socket, app.clone());
            }
            // Out of descriptors: the open connections go on, and closing one
            // frees the next accept.
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
    drop(listener);
    if tokio::time::timeout(settings.grace, graceful.shutdown()).await.is_err() {
        tracing::warn!(grace = ?settings.grace, "streams were still open when the grace ended");
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

fn spawn_connection(
    builder: &Builder<TokioExecutor>,
    graceful: &GracefulShutdown,
    socket: Lingering,
    app: Transport,
) {
    let service = service_fn(move |request: Request<Incoming>| answer(app.clone(), request));
    let connection =
        builder.serve_connection_with_upgrades(TokioIo::new(socket), service).into_owned();
    let connection = graceful.watch(connection);
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(error = %error, "a connection ended early");
        }
    });
}

async fn answer(app: Transport, request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
    let response = app.oneshot(request.map(Body::new)).await;
    Ok(response.unwrap_or_else(|status| status.into_http()))
}
