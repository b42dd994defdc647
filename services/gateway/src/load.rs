//! Load shedding: a bounded number of calls under way, and the next one told
//! at once to come back.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::Response;
use http_body::{Body as HttpBody, Frame, SizeHint};
use service_error::ServiceError;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::Status;
use tonic::body::Body;

/// A call's place; the second one is among those for calls without credential.
pub type Place = (OwnedSemaphorePermit, Option<OwnedSemaphorePermit>);

/// The calls under way at a door.
#[derive(Debug, Clone)]
pub struct Load {
    places: Arc<Semaphore>,
    calls_max: usize,
}

impl Load {
    /// At most so many calls at once.
    pub fn new(calls_max: usize) -> Self {
        let calls_max = calls_max.clamp(1, Semaphore::MAX_PERMITS);
        Self { places: Arc::new(Semaphore::new(calls_max)), calls_max }
    }

    /// A place for one call.
    ///
    /// # Errors
    /// `UNAVAILABLE` when there is none.
    pub fn enter(&self) -> Result<OwnedSemaphorePermit, ServiceError> {
        Arc::clone(&self.places).try_acquire_owned().map_err(|_| {
            let message = format!(
                "{} calls are under way, as many as this door takes; try again shortly",
                self.calls_max
            );
            ServiceError::unavailable(message).reason("OVERLOADED")
        })
    }
}

/// Keeps the place until the answer's body ends or is dropped.
pub fn hold(response: Response<Body>, place: Place) -> Response<Body> {
    response.map(|body| Body::new(Held { body, _place: place }))
}

struct Held {
    body: Body,
    _place: Place,
}

impl HttpBody for Held {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        task: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        Pin::new(&mut self.body).poll_frame(task)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_free_again_when_the_body_is_gone() {
        let load = Load::new(1);
        let body = Body::new(http_body_util::Full::from("x"));
        let held = hold(Response::new(body), (load.enter().unwrap(), None));
        assert_eq!(load.enter().unwrap_err().reason_text(), "OVERLOADED");
        drop(held);
        assert!(load.enter().is_ok());
    }
}
