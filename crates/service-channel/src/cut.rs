//! A body that another future may end before its own end, with a status in its trailers.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body as HttpBody, Frame, SizeHint};
use tonic::Status;
use tonic::body::Body;

/// A body until `cut` is ready, then that status. Trailers, not an error: over a socket
/// an error would reset the stream and the caller would not learn why.
pub(crate) struct CutBody<F> {
    body: Body,
    cut: Pin<Box<F>>,
    ended: bool,
}

impl<F> CutBody<F>
where
    F: Future<Output = Status> + Send + 'static,
{
    /// `body` as an answer's, cut by `cut`.
    pub(crate) fn around(body: Body, cut: F) -> Body {
        Body::new(Self { body, cut: Box::pin(cut), ended: false })
    }
}

impl<F: Future<Output = Status>> HttpBody for CutBody<F> {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let Poll::Ready(status) = self.cut.as_mut().poll(cx) else {
            return Pin::new(&mut self.body).poll_frame(cx);
        };
        self.ended = true;
        // Whoever makes the stream learns that nobody reads it.
        self.body = Body::empty();
        let mut trailers = HeaderMap::new();
        let framed = status.add_header(&mut trailers).map(|()| Frame::trailers(trailers));
        Poll::Ready(Some(framed))
    }

    fn is_end_stream(&self) -> bool {
        self.ended || self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}
