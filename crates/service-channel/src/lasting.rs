//! Streams that have no end of their own: a watch lasts as long as its caller,
//! and would hold a process that wants to go for the whole of its grace.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderMap, Request};
use http_body::{Body as HttpBody, Frame, SizeHint};
use service_error::ServiceError;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::Status;
use tonic::body::Body;
use tower::ServiceExt;
use tower::util::BoxCloneSyncService;

use crate::Transport;

/// A stream of these lasts though its name does not say so: an agent's, and what a
/// client asks reflection.
const CONNECTIONS: [&str; 2] = ["/quarry.files.v1.AgentService/Connect", "/ServerReflectionInfo"];

const GOING_AWAY: &str = "GOING_AWAY";

/// Whether a method's stream lasts as long as its caller wants.
pub(crate) fn lasts(path: &str) -> bool {
    let method = path.rsplit('/').next().unwrap_or_default();
    // Watching health has a last word of its own, and ends by itself after it.
    crate::is_grpc_path(path)
        && !path.starts_with("/grpc.health.")
        && (method.starts_with("Watch") || CONNECTIONS.iter().any(|one| path.ends_with(one)))
}

/// A callee whose lasting streams end with UNAVAILABLE, `GOING_AWAY`, once `ends`
/// fires: who followed one calls again and is answered by the next process. Other
/// streams go on to their ends.
pub fn ending(callee: Transport, ends: CancellationToken) -> Transport {
    BoxCloneSyncService::new(tower::service_fn(move |request: Request<Body>| {
        let lasting = lasts(request.uri().path()).then(|| ends.clone());
        let answer = callee.clone().oneshot(request);
        async move {
            let Some(ends) = lasting else { return answer.await };
            let response = tokio::select! {
                response = answer => response?,
                () = ends.cancelled() => return Err(going()),
            };
            Ok(response.map(|body| Body::new(Lasting::new(body, ends))))
        }
    }))
}

fn going() -> Status {
    ServiceError::unavailable("the server is being restarted: call again").reason(GOING_AWAY).into()
}

/// Whether a lasting stream ended because its server goes: the next one goes on with it.
#[must_use]
pub fn is_going(status: &Status) -> bool {
    ServiceError::from_status(status).reason_is(GOING_AWAY)
}

/// The body of a lasting answer.
struct Lasting {
    body: Body,
    ends: Pin<Box<WaitForCancellationFutureOwned>>,
    ended: bool,
}

impl Lasting {
    fn new(body: Body, ends: CancellationToken) -> Self {
        Self { body, ends: Box::pin(ends.cancelled_owned()), ended: false }
    }
}

impl HttpBody for Lasting {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        if self.ends.as_mut().poll(cx).is_pending() {
            return Pin::new(&mut self.body).poll_frame(cx);
        }
        self.ended = true;
        // Whoever makes the stream learns that nobody reads it.
        self.body = Body::empty();
        let mut trailers = HeaderMap::new();
        let framed = going().add_header(&mut trailers).map(|()| Frame::trailers(trailers));
        Poll::Ready(Some(framed))
    }

    fn is_end_stream(&self) -> bool {
        self.ended || self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}
