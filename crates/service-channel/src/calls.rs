//! The calls of one connection, counted, to find the moment at which it may be
//! told to go. Those that last (a watch) do not count: they would never give one.
//!
//! GOAWAY is safe by the protocol at any time, but not with every client: one
//! that is built on hyper's connections, as tonic's channel is, fails the next
//! call that it is given while others are open on a connection that was told to
//! go. At a moment without calls the connection ends at once, and the next call
//! opens another.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use tokio::sync::watch;
use tokio::time::timeout;
use tonic::Status;
use tonic::body::Body;

/// How long a connection without calls counts as left alone.
const QUIET: Duration = Duration::from_millis(20);
/// How long the first call of a connection that was just made is waited for.
const FIRST_CALL_WITHIN: Duration = Duration::from_secs(1);

/// The calls of one connection. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Calls(Arc<watch::Sender<Count>>);

#[derive(Debug, Clone, Copy, Default)]
struct Count {
    open: usize,
    begun: u64,
}

impl Calls {
    /// A call has come in; unless it lasts, it is open until the answer is dropped.
    pub fn begin(&self, lasts: bool) -> Option<Open> {
        self.0.send_modify(|count| {
            count.open += usize::from(!lasts);
            count.begun += 1;
        });
        (!lasts).then(|| Open(self.clone()))
    }

    /// Waits for a good moment to end the connection: one that is left alone,
    /// after `patience` one without calls, after `patience` again any. A
    /// connection that was just made is given [`FIRST_CALL_WITHIN`] for its first
    /// call: one that ends before may have one on its way.
    pub async fn moment(&self, patience: Duration) {
        let mut count = self.0.subscribe();
        drop(timeout(FIRST_CALL_WITHIN, count.wait_for(|count| count.begun > 0)).await);
        if timeout(patience, self.quiet(QUIET)).await.is_err() {
            drop(timeout(patience, self.quiet(Duration::ZERO)).await);
        }
    }

    async fn quiet(&self, time: Duration) {
        let mut count = self.0.subscribe();
        loop {
            if count.wait_for(|count| count.open == 0).await.is_err() {
                return;
            }
            if time.is_zero() || timeout(time, count.changed()).await.is_err() {
                return;
            }
        }
    }
}

/// A call that is not over.
#[derive(Debug)]
pub struct Open(Calls);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.0.send_modify(|count| count.open -= 1);
    }
}

/// What h2 copies between the frames around it; a larger piece of a body is a write of its own,
/// and the trailers after it another one, which the peer is woken for.
const COPIED_MAX: usize = 255;
/// A piece of a body that is short enough to go out as some that are copied.
const SHORT_MAX: usize = 4 * COPIED_MAX;

/// The body of an answer; the call is over when it is.
pub struct Answer {
    body: Body,
    _open: Option<Open>,
    /// Short pieces are cut, for HTTP/2.
    cuts: bool,
    /// What is left of a piece that was cut.
    rest: Bytes,
}

impl Answer {
    /// Keeps the call open as long as its answer. `cuts`: a short answer leaves in one write with
    /// its headers and trailers.
    pub const fn new(body: Body, open: Option<Open>, cuts: bool) -> Self {
        Self { body, _open: open, cuts, rest: Bytes::new() }
    }
}

impl http_body::Body for Answer {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let piece = if self.rest.is_empty() {
            match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(piece) => piece,
                    Err(frame) => return Poll::Ready(Some(Ok(frame))),
                },
                ended => return Poll::Ready(ended),
            }
        } else {
            std::mem::take(&mut self.rest)
        };
        if !self.cuts || piece.len() <= COPIED_MAX || piece.len() > SHORT_MAX {
            return Poll::Ready(Some(Ok(Frame::data(piece))));
        }
        let mut first = piece;
        self.rest = first.split_off(COPIED_MAX);
        Poll::Ready(Some(Ok(Frame::data(first))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let (of, rest) = (self.body.size_hint(), self.rest.len() as u64);
        let mut hint = SizeHint::new();
        hint.set_lower(of.lower() + rest);
        if let Some(upper) = of.upper() {
            hint.set_upper(upper + rest);
        }
        hint
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use http_body::Body as _;
    use http_body_util::{BodyExt, Full};

    use super::*;

    fn answer(length: usize, cuts: bool) -> Answer {
        Answer::new(Body::new(Full::<Bytes>::from(vec![7; length])), None, cuts)
    }

    #[tokio::test]
    async fn short_answers_are_cut_and_others_are_not() {
        for (length, cuts, pieces) in [
            (0, true, vec![]),
            (255, true, vec![255]),
            (256, true, vec![255, 1]),
            (1_020, true, vec![255; 4]),
            (1_021, true, vec![1_021]),
            (600, false, vec![600]),
        ] {
            let mut answer = answer(length, cuts);
            let mut seen = Vec::new();
            while let Some(frame) = answer.frame().await {
                let piece = frame.unwrap().into_data().unwrap();
                assert!(piece.iter().all(|byte| *byte == 7));
                seen.push(piece.len());
                let left = (length - seen.iter().sum::<usize>()) as u64;
                assert_eq!(answer.size_hint().exact(), Some(left));
                assert_eq!(answer.is_end_stream(), left == 0);
            }
            assert_eq!(seen, pieces, "{length}");
        }
    }
}
