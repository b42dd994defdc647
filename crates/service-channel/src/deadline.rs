//! Deadlines: `grpc-timeout` cuts the wait for headers and, unlike tonic's own
//! timeout, a streaming body too, with `DEADLINE_EXCEEDED` in the trailers.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use http::{HeaderMap, Request, Response};
use tokio::time::Instant;
use tonic::Status;
use tonic::body::Body;
use tower::Service;

use crate::cut::CutBody;

type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// Enforces the caller's deadline around a callee.
#[derive(Clone)]
pub(crate) struct Deadline<S> {
    inner: S,
}

impl<S> Deadline<S> {
    pub(crate) fn new(inner: S) -> Self {
        Self { inner }
    }
}

impl<S> Service<Request<Body>> for Deadline<S>
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
        let timeout = timeout_of(request.headers());
        let answer = self.inner.call(request);
        let Some(timeout) = timeout else {
            return Box::pin(answer);
        };
        let deadline = Instant::now() + timeout;
        Box::pin(async move {
            match tokio::time::timeout_at(deadline, answer).await {
                Ok(response) => Ok(response?.map(|body| {
                    CutBody::around(body, async move {
                        tokio::time::sleep_until(deadline).await;
                        exceeded()
                    })
                })),
                Err(_) => Err(exceeded()),
            }
        })
    }
}

fn exceeded() -> Status {
    Status::deadline_exceeded("the deadline passed before the answer was complete")
}

/// The duration in `grpc-timeout`: at most eight digits and a unit. A year
/// stands for anything longer, which an `Instant` might not hold.
pub(crate) fn timeout_of(headers: &HeaderMap) -> Option<Duration> {
    const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);
    let text = headers.get("grpc-timeout")?.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > 8 {
        return None;
    }
    let number: u64 = digits.parse().ok()?;
    let duration = match unit {
        "H" => Duration::from_secs(number * 3600),
        "M" => Duration::from_secs(number * 60),
        "S" => Duration::from_secs(number),
        "m" => Duration::from_millis(number),
        "u" => Duration::from_micros(number),
        "n" => Duration::from_nanos(number),
        _ => return None,
    };
    Some(duration.min(YEAR))
}
