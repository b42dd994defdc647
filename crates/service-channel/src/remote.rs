//! A callee in another process, over plain HTTP/2.
//!
//! Bulk, watch and control calls have connections of their own: on a shared
//! one, slow readers of bulk hold back the window of everybody.

use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use http::header::{CONNECTION, HOST};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{Request, Response, Uri, Version};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use service_error::ServiceError;
use tonic::Status;
use tonic::body::Body;
use tower::util::BoxCloneSyncService;

use crate::patience::{Absence, Patient};
use crate::{Transport, unsent};

/// Flow-control windows of internal HTTP/2, in bytes. With hyper's defaults
/// three slow readers stop all bulk.
pub(crate) const STREAM_WINDOW_BYTES: u32 = 2 << 20;
pub(crate) const CONNECTION_WINDOW_BYTES: u32 = 1 << 30;
pub(crate) const FRAME_BYTES_MAX: u32 = 1 << 20;

const BULK_CONNECTIONS: usize = 4;
const CONTROL_CONNECTIONS: usize = 2;

type HttpClient = Client<Patient, Body>;

/// How long a role that does not take connections is waited for: long enough to
/// be started again, shorter than a client's own patience.
pub const NEIGHBOUR_PATIENCE: Duration = Duration::from_secs(15);

/// A callee by its URL, e.g. `http://catalog:7070`. Connects at the first call
/// and again whenever the connection was lost.
///
/// # Errors
/// A URL that is not `http://host:port`.
pub fn remote(url: &str) -> Result<Transport, ServiceError> {
    remote_within(url, Duration::ZERO)
}

/// The same, for a role of this platform: while it is being started again
/// (nothing listens there) calls wait for it, at most [`NEIGHBOUR_PATIENCE`]
/// from the moment that it was missed. Nothing was sent yet, so every call may
/// wait, whether it may be repeated or not.
///
/// # Errors
/// As [`remote`].
pub fn neighbour(url: &str) -> Result<Transport, ServiceError> {
    remote_within(url, NEIGHBOUR_PATIENCE)
}

/// A callee by its URL that is waited for, `patience` long from the moment that
/// it was missed, while it takes no connections.
///
/// # Errors
/// As [`remote`].
pub fn remote_within(url: &str, patience: Duration) -> Result<Transport, ServiceError> {
    let authority = authority_of(url)?;
    let pools = Arc::new(Pools::new(patience));
    let service = tower::service_fn(move |request: Request<Body>| {
        let pools = Arc::clone(&pools);
        let authority = authority.clone();
        async move {
            let client = pools.client_for(request.uri().path());
            call(client, &authority, request).await
        }
    });
    Ok(BoxCloneSyncService::new(service))
}

fn authority_of(url: &str) -> Result<Authority, ServiceError> {
    let wrong = |why: &str| {
        ServiceError::invalid("neighbours", format!("{url:?} {why}; write http://host:port"))
    };
    let uri: Uri = url.parse().map_err(|_| wrong("is no URL"))?;
    if uri.scheme() != Some(&Scheme::HTTP) {
        return Err(wrong("does not begin with http://"));
    }
    if uri.path() != "/" && !uri.path().is_empty() {
        return Err(wrong("has a path"));
    }
    uri.authority().cloned().ok_or_else(|| wrong("names no host"))
}

async fn call(
    client: HttpClient,
    authority: &Authority,
    mut request: Request<Body>,
) -> Result<Response<Body>, Status> {
    let path =
        request.uri().path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"));
    let uri = Uri::builder()
        .scheme(Scheme::HTTP)
        .authority(authority.clone())
        .path_and_query(path)
        .build();
    *request.uri_mut() = uri.map_err(|e| Status::internal(format!("uri: {e}")))?;
    *request.version_mut() = Version::HTTP_2;
    request.headers_mut().remove(HOST);
    request.headers_mut().remove(CONNECTION);
    match unsent::call(client, request).await {
        Ok(response) => Ok(response.map(Body::new)),
        Err(error) => Err(away(authority, &*error)),
    }
}

fn away(authority: &Authority, error: &(dyn Error + 'static)) -> Status {
    let mut cause = error;
    while let Some(source) = cause.source() {
        // A status inside is the callee's or our own body's: it says more than
        // "the connection failed".
        if let Some(status) = source.downcast_ref::<Status>() {
            return status.clone();
        }
        cause = source;
    }
    Status::unavailable(format!("{authority} does not answer: {cause}"))
}

struct Pools {
    bulk: Vec<HttpClient>,
    watch: HttpClient,
    control: Vec<HttpClient>,
    next: AtomicUsize,
}

impl Pools {
    fn new(patience: Duration) -> Self {
        let absence = Absence::new(patience);
        let client = || client(&absence);
        Self {
            bulk: (0..BULK_CONNECTIONS).map(|_| client()).collect(),
            watch: client(),
            control: (0..CONTROL_CONNECTIONS).map(|_| client()).collect(),
            next: AtomicUsize::new(0),
        }
    }

    fn client_for(&self, path: &str) -> HttpClient {
        let turn = self.next.fetch_add(1, Ordering::Relaxed);
        match Traffic::of(path) {
            Traffic::Bulk => self.bulk[turn % BULK_CONNECTIONS].clone(),
            Traffic::Watch => self.watch.clone(),
            Traffic::Control => self.control[turn % CONTROL_CONNECTIONS].clone(),
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Traffic {
    Bulk,
    Watch,
    Control,
}

impl Traffic {
    pub(crate) fn of(path: &str) -> Self {
        let method = path.rsplit('/').next().unwrap_or_default();
        // Other products' HTTP surfaces carry files.
        if !crate::is_grpc_path(path)
            || matches!(method, "DoGet" | "DoPut" | "DoExchange")
            || method.ends_with("Media")
        {
            Self::Bulk
        } else if method.starts_with("Watch") || method == "ServerReflectionInfo" {
            Self::Watch
        } else {
            Self::Control
        }
    }
}

fn client(absence: &Absence) -> HttpClient {
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    connector.set_connect_timeout(Some(Duration::from_secs(5)));
    Client::builder(TokioExecutor::new())
        .timer(TokioTimer::new())
        .pool_timer(TokioTimer::new())
        .http2_only(true)
        .http2_initial_stream_window_size(STREAM_WINDOW_BYTES)
        .http2_initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .http2_max_frame_size(FRAME_BYTES_MAX)
        .http2_keep_alive_interval(Duration::from_secs(20))
        .http2_keep_alive_timeout(Duration::from_secs(20))
        .http2_keep_alive_while_idle(false)
        // None before the callee has said how many it takes: see `unheard`.
        .http2_initial_max_send_streams(0)
        .build(Patient::new(connector, absence.clone()))
}
