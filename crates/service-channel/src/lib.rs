//! How services reach each other: one transport type, in memory or over a
//! socket, with the same layers around the callee in both.

mod calls;
mod cut;
mod deadline;
mod door;
mod lasting;
mod lingering;
mod panics;
mod patience;
mod remote;
mod service;
mod unheard;
mod unsent;

use std::convert::Infallible;
use std::task::{Context, Poll};

use http::{Extensions, Request, Response};
use tonic::Status;
use tonic::body::Body;
use tower::util::BoxCloneSyncService;
use tower::{Service as TowerService, ServiceExt};

pub use door::{DoorSettings, serve};
pub use lasting::{ending, is_going};
pub use remote::{NEIGHBOUR_PATIENCE, neighbour, remote, remote_within};
pub use service::{Applied, Job, Readiness, Service};
pub use unsent::resending;

/// What a generated client is made from: the callee's own routes, or a
/// connection to them. The error is a `Status` because a client inside a
/// `Send` future does not compile with a boxed one.
pub type Transport = BoxCloneSyncService<Request<Body>, Response<Body>, Status>;

/// The largest message between roles, in bytes, where bulk does not stream:
/// a manifest page with statistics is the largest of them.
pub const CONTROL_MESSAGE_BYTES_MAX: usize = 64 << 20;

/// A callee in this process (`tonic::service::Routes`, a guarded one, …).
///
/// In memory nothing enforces a deadline, catches a panic or keeps request
/// extensions apart, so these layers do, in both modes alike.
pub fn local<S>(service: S) -> Transport
where
    S: TowerService<Request<Body>, Response = Response<Body>, Error = Infallible>
        + Clone
        + Send
        + Sync
        + 'static,
    S::Future: Send + 'static,
{
    let service = ServiceExt::<Request<Body>>::map_err(service, |never: Infallible| match never {});
    let service = deadline::Deadline::new(panics::CatchPanics::new(service));
    BoxCloneSyncService::new(ClearExtensions { inner: service })
}

/// An axum router as a callee, for plain HTTP surfaces, behind the same layers.
pub fn from_router(router: axum::Router) -> Transport {
    local(tower::service_fn(move |request: Request<Body>| {
        let router = router.clone();
        async move { Ok::<_, Infallible>(router.oneshot(request).await?.map(Body::new)) }
    }))
}

/// Whether a path is a gRPC method's, `/package.Service/Method`; any other is
/// plain HTTP.
#[must_use]
pub fn is_grpc_path(path: &str) -> bool {
    let first = path.strip_prefix('/').and_then(|rest| rest.split('/').next());
    first.is_some_and(|service| service.contains('.'))
}

/// Drops what the caller left in the request's extensions: identity travels in
/// metadata only, and a socket would not carry them either.
#[derive(Clone)]
struct ClearExtensions<S> {
    inner: S,
}

impl<S> TowerService<Request<Body>> for ClearExtensions<S>
where
    S: TowerService<Request<Body>>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<Body>) -> S::Future {
        *request.extensions_mut() = Extensions::new();
        self.inner.call(request)
    }
}

#[cfg(test)]
mod tests;
