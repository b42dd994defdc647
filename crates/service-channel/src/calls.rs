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
use std::task::{Context, Poll};
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

/// The body of an answer; the call is over when it is.
pub struct Answer {
    body: Body,
    _open: Option<Open>,
}

impl Answer {
    /// Keeps the call open as long as its answer.
    pub const fn new(body: Body, open: Option<Open>) -> Self {
        Self { body, _open: open }
    }
}

impl http_body::Body for Answer {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
