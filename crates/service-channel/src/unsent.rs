//! A call that the callee never began is made again.
//!
//! A connection may be told to go (GOAWAY) while a call is given to it. Of what
//! was not sent yet hyper says "canceled", which tonic's channel turns into
//! CANCELLED; what was sent and names a stream beyond the last one that the
//! callee will answer ends with the GOAWAY itself. And a connection may end
//! before its peer has said anything ([`crate::unheard`]). Each way the callee
//! has not begun, so the call may be made again, whether it may be repeated or not.

use std::collections::VecDeque;
use std::error::Error;
use std::io;
use std::mem::take;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::Reason;
use http::{Request, Response};
use http_body::{Body as _, Frame, SizeHint};
use hyper_util::client::legacy;
use tonic::Status;
use tonic::body::Body;
use tower::util::BoxCloneSyncService;
use tower::{BoxError, Service, ServiceExt};

use crate::Transport;
use crate::unheard::is_silence;

/// A door that closes gives way to the next one; many in a row are no restart.
pub const ATTEMPTS_MAX: usize = 4;

/// What was read of a body is kept until the answer begins, at most so much.
const KEPT_BYTES_MAX: usize = 1 << 20;

/// The half of a loan that may ask for the body again.
pub struct Lender(Place);

type Place = Arc<Mutex<Lent>>;

struct Lent {
    body: Body,
    read: Read,
    /// The body has told its end.
    ended: bool,
}

/// What was read of a lent body.
enum Read {
    Nothing,
    Kept(VecDeque<Bytes>, usize),
    /// Too much to be kept, or what cannot be said twice.
    Lost,
    /// The lender has it back.
    Returned,
}

/// Lends a body to a client that may fail before the callee begins.
pub fn lend(body: Body) -> (Lender, Body) {
    let place = Arc::new(Mutex::new(Lent { body, read: Read::Nothing, ended: false }));
    (Lender(Arc::clone(&place)), Body::new(Loan(place)))
}

impl Lender {
    /// The body from its beginning, if the call ended before the callee began.
    pub fn take_back(&self, why: &(dyn Error + 'static)) -> Option<Body> {
        let fate = Fate::of(why)?;
        let mut lent = locked(&self.0);
        let read = match (&lent.read, fate) {
            // Of an empty body nobody reads, sent or not.
            (Read::Nothing, Fate::Unsent) if lent.body.is_end_stream() => return None,
            (Read::Nothing, _) => VecDeque::new(),
            (Read::Kept(..), Fate::Refused) => {
                match std::mem::replace(&mut lent.read, Read::Lost) {
                    Read::Kept(read, _) => read,
                    _ => return None,
                }
            }
            _ => return None,
        };
        lent.read = Read::Returned;
        let rest = take(&mut lent.body);
        Some(Body::new(Again { read, rest: (!lent.ended).then_some(rest) }))
    }

    /// The answer has begun: nothing is kept any more.
    pub fn forget(&self) {
        locked(&self.0).read = Read::Lost;
    }
}

fn locked(place: &Place) -> MutexGuard<'_, Lent> {
    place.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Why a callee has not begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// The connection was given up before the call was sent.
    Unsent,
    /// The callee said that it will not look at it, or never spoke.
    Refused,
}

impl Fate {
    fn of(error: &(dyn Error + 'static)) -> Option<Self> {
        let mut causes = std::iter::successors(Some(error), |&error| error.source());
        causes.find_map(Self::of_one).or_else(|| Self::of_place(error))
    }

    fn of_one(error: &(dyn Error + 'static)) -> Option<Self> {
        if let Some(error) = error.downcast_ref::<h2::Error>() {
            let goes = error.is_go_away() && error.reason() == Some(Reason::NO_ERROR);
            let refused = error.is_reset() && error.reason() == Some(Reason::REFUSED_STREAM);
            let silent = error.get_io().is_some_and(is_silence);
            return (silent || (error.is_remote() && (goes || refused))).then_some(Self::Refused);
        }
        if let Some(error) = error.downcast_ref::<io::Error>() {
            return is_silence(error).then_some(Self::Refused);
        }
        let error = error.downcast_ref::<hyper::Error>()?;
        let unsent = error.is_canceled() || error.is_closed() || is_left(error);
        unsent.then_some(Self::Unsent)
    }

    /// A call that waited for a connection which another one was making, and gave
    /// up: it got none, but nobody refused one either.
    fn of_place(error: &(dyn Error + 'static)) -> Option<Self> {
        let waited = error.downcast_ref::<legacy::Error>().is_some_and(legacy::Error::is_connect);
        let mut causes = std::iter::successors(Some(error), |&error| error.source());
        (waited && !causes.any(|cause| cause.is::<io::Error>())).then_some(Self::Unsent)
    }
}

/// A call that was waiting for the callee's leave to open a stream when the
/// connection ended. Hyper has no question for it but its words.
fn is_left(error: &hyper::Error) -> bool {
    error.is_user() && error.to_string() == "dispatch task is gone"
}

struct Loan(Place);

impl http_body::Body for Loan {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let mut lent = locked(&self.0);
        if matches!(lent.read, Read::Returned) {
            return Poll::Ready(Some(Err(Status::cancelled("the call is made again"))));
        }
        if matches!(lent.read, Read::Nothing) {
            lent.read = Read::Kept(VecDeque::new(), 0);
        }
        let frame = ready!(Pin::new(&mut lent.body).poll_frame(cx));
        match &frame {
            None => lent.ended = true,
            Some(Ok(frame)) if frame.is_data() => lent.read.keep(frame.data_ref()),
            Some(_) => lent.read = Read::Lost,
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        locked(&self.0).body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        locked(&self.0).body.size_hint()
    }
}

impl Read {
    fn keep(&mut self, data: Option<&Bytes>) {
        let (Self::Kept(read, bytes), Some(data)) = (&mut *self, data) else { return };
        *bytes += data.len();
        if *bytes > KEPT_BYTES_MAX {
            *self = Self::Lost;
        } else {
            read.push_back(data.clone());
        }
    }
}

/// What was read already, then the rest.
struct Again {
    read: VecDeque<Bytes>,
    rest: Option<Body>,
}

impl http_body::Body for Again {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if let Some(data) = self.read.pop_front() {
            return Poll::Ready(Some(Ok(Frame::data(data))));
        }
        match &mut self.rest {
            Some(rest) => Pin::new(rest).poll_frame(cx),
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.read.is_empty() && self.rest.as_ref().is_none_or(Body::is_end_stream)
    }
}

/// A client, e.g. a `tonic::transport::Channel`, whose calls are made again when
/// the callee never began them because the connection had to go.
pub fn resending<S>(client: S) -> Transport
where
    S: Service<Request<Body>, Response = Response<Body>> + Clone + Send + Sync + 'static,
    S::Error: Into<BoxError>,
    S::Future: Send + 'static,
{
    BoxCloneSyncService::new(tower::service_fn(move |request: Request<Body>| {
        let client = client.clone();
        async move { call(client, request).await.map_err(Status::from_error) }
    }))
}

/// One call by `client`, made again as long as the callee has not begun it.
///
/// # Errors
/// What the last attempt failed with.
pub async fn call<S, B>(client: S, request: Request<Body>) -> Result<Response<B>, BoxError>
where
    S: Service<Request<Body>, Response = Response<B>> + Clone,
    S::Error: Into<BoxError>,
{
    let (parts, mut body) = request.into_parts();
    let mut attempt = 1;
    loop {
        let (lender, lent) = lend(body);
        let error = match client.clone().oneshot(Request::from_parts(parts.clone(), lent)).await {
            Ok(response) => {
                lender.forget();
                return Ok(response);
            }
            Err(error) => error.into(),
        };
        match lender.take_back(&*error).filter(|_| attempt < ATTEMPTS_MAX) {
            Some(again) => body = again,
            None => return Err(error),
        }
        attempt += 1;
    }
}
