//! A handler's panic becomes `INTERNAL` for its own caller. Over a socket it
//! would end the connection of everybody; in memory it would unwind into the
//! caller.

use std::any::Any;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::FutureExt;
use http::{Request, Response};
use http_body::{Body as HttpBody, Frame, SizeHint};
use tonic::Status;
use tonic::body::Body;
use tower::Service;

type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// Catches panics of a callee, in its answer and in its streaming body.
#[derive(Clone)]
pub(crate) struct CatchPanics<S> {
    inner: S,
}

impl<S> CatchPanics<S> {
    pub(crate) fn new(inner: S) -> Self {
        Self { inner }
    }
}

impl<S> Service<Request<Body>> for CatchPanics<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Status>,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = Status;
    type Future = BoxFuture<Result<Response<Body>, Status>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Status>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let path = request.uri().path().to_owned();
        let answer = AssertUnwindSafe(self.inner.call(request)).catch_unwind();
        Box::pin(async move {
            match answer.await {
                Ok(response) => {
                    Ok(response?.map(|body| Body::new(CatchBody { body, path: Some(path) })))
                }
                Err(panic) => Err(defect(&path, panic.as_ref())),
            }
        })
    }
}

fn defect(path: &str, panic: &(dyn Any + Send)) -> Status {
    let text = panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_default();
    tracing::error!(path, panic = text, "a handler panicked");
    Status::internal("a defect of the server ended this call; the log has the details")
}

/// A body whose panic ends it with an error. `path` is taken once it ended.
struct CatchBody {
    body: Body,
    path: Option<String>,
}

impl HttpBody for CatchBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if self.path.is_none() {
            return Poll::Ready(None);
        }
        let polled = catch_unwind(AssertUnwindSafe(|| Pin::new(&mut self.body).poll_frame(cx)));
        polled.unwrap_or_else(|panic| {
            let path = self.path.take().unwrap_or_default();
            Poll::Ready(Some(Err(defect(&path, panic.as_ref()))))
        })
    }

    fn is_end_stream(&self) -> bool {
        self.path.is_none() || self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
