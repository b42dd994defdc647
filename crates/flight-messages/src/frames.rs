//! A put's messages before they are read: each is let in when the process has
//! room for it, and one that is too large is refused with advice.
//!
//! tonic reserves a message's whole length as soon as it sees its five first
//! bytes, and takes a request that was cut for one that ended. Both are put
//! right here.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use blocks::{ByteBudget, Held};
use bytes::Bytes;
use caller::Caller;
use futures::stream::unfold;
use http::Request;
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use ids::PrincipalId;
use service_error::ServiceError;
use tokio::time::Instant;
use tonic::body::Body;
use tonic::{Code, Status};

const PATHS: [&str; 1] = ["/arrow.flight.protocol.FlightService/DoPut"];
const HEADER_BYTES: usize = 5;
/// A message that comes slower, in bytes a second, holds room that others need.
const RATE_MIN: u64 = 256 << 10;

/// What a put's messages may take.
#[derive(Clone)]
pub struct Limits {
    /// Bytes of messages of all puts in decode.
    pub budget: ByteBudget,
    /// What of it one principal may take.
    pub shares: Shares,
    /// Of one message.
    pub message_bytes_max: usize,
    /// How long a message may pause in its middle.
    pub stall: Duration,
}

/// The part of the room that each principal may take, so that nobody can keep
/// all others from putting.
#[derive(Clone)]
pub struct Shares {
    bytes: usize,
    /// With how many streams use them.
    known: Arc<Mutex<HashMap<PrincipalId, (ByteBudget, usize)>>>,
}

impl Shares {
    /// Each principal may take `bytes`.
    pub fn new(bytes: usize) -> Self {
        Self { bytes, known: Arc::default() }
    }

    fn of(&self, principal: PrincipalId) -> Share {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let (budget, streams) =
            known.entry(principal).or_insert_with(|| (ByteBudget::new(self.bytes), 0));
        *streams += 1;
        Share { shares: self.clone(), principal, budget: budget.clone() }
    }
}

/// A stream's use of its principal's share.
struct Share {
    shares: Shares,
    principal: PrincipalId,
    budget: ByteBudget,
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut known = self.shares.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, streams)) = known.get_mut(&self.principal) {
            *streams -= 1;
            if *streams == 0 {
                known.remove(&self.principal);
            }
        }
    }
}

/// A message's room: of its principal's share, and of all there is.
pub type HeldRoom = (Option<Held>, Held);

/// The room that the messages of a stream take, oldest first. A handler takes
/// one with each message and drops it when the message's bytes are gone.
#[derive(Debug, Clone, Default)]
pub struct Room {
    held: Arc<Mutex<VecDeque<HeldRoom>>>,
}

impl Room {
    /// The room of the message that was read last.
    pub fn take(&self) -> Option<HeldRoom> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner).pop_front()
    }

    fn add(&self, held: HeldRoom) {
        self.held.lock().unwrap_or_else(PoisonError::into_inner).push_back(held);
    }
}

/// Puts the limits around the body of a put; other requests pass as they are.
pub fn budgeted(request: Request<Body>, limits: &Limits) -> Request<Body> {
    if !PATHS.contains(&request.uri().path()) {
        return request;
    }
    let room = Room::default();
    let (mut parts, body) = request.into_parts();
    let caller = parts.extensions.get::<Arc<Caller>>();
    let share = caller.map(|caller| limits.shares.of(caller.principal));
    parts.extensions.insert(room.clone());
    let frames = Frames {
        body,
        limits: limits.clone(),
        room,
        share,
        due: None,
        pending: Bytes::new(),
        at: At::Header([0; HEADER_BYTES], 0),
    };
    let stream = unfold(Some(frames), |frames| async move {
        let mut frames = frames?;
        match frames.next().await {
            Ok(Some(bytes)) => Some((Ok(Frame::data(bytes)), Some(frames))),
            Ok(None) => None,
            Err(status) => Some((Err(status), None)),
        }
    });
    Request::from_parts(parts, Body::new(StreamBody::new(stream)))
}

/// Where in the stream of messages.
enum At {
    /// So many bytes of a header are known.
    Header([u8; HEADER_BYTES], usize),
    /// So many bytes of a message are left.
    Message(usize),
}

struct Frames {
    body: Body,
    limits: Limits,
    room: Room,
    share: Option<Share>,
    /// When the message that is under way must have come.
    due: Option<Instant>,
    pending: Bytes,
    at: At,
}

impl Frames {
    /// The next bytes, none of which go beyond a message that has its room.
    async fn next(&mut self) -> Result<Option<Bytes>, Status> {
        while self.pending.is_empty() {
            match self.arrival().await? {
                Some(bytes) => self.pending = bytes,
                None => return Ok(None),
            }
        }
        match &mut self.at {
            At::Message(left) => {
                let count = self.pending.len().min(*left);
                *left -= count;
                let done = *left == 0;
                if done {
                    self.due = None;
                    self.at = At::Header([0; HEADER_BYTES], 0);
                }
                Ok(Some(self.pending.split_to(count)))
            }
            At::Header(header, known) => {
                let count = self.pending.len().min(HEADER_BYTES - *known);
                let bytes = self.pending.split_to(count);
                header[*known..*known + count].copy_from_slice(&bytes);
                *known += count;
                if *known == HEADER_BYTES {
                    let length = u32::from_be_bytes([header[1], header[2], header[3], header[4]]);
                    self.admit(usize::try_from(length).unwrap_or(usize::MAX)).await?;
                }
                Ok(Some(bytes))
            }
        }
    }

    async fn admit(&mut self, length: usize) -> Result<(), Status> {
        let max = self.limits.message_bytes_max;
        if length > max {
            let message = format!(
                "a message of {length} bytes; at most {max} are taken. Send smaller record batches, with pyarrow: \
                 writer.write_table(table, max_chunksize=65536)"
            );
            return Err(ServiceError::exhausted(message)
                .reason("MESSAGE_TOO_LARGE")
                .with("message_bytes_max", max)
                .into());
        }
        // One's own share first: who waits for it stands in nobody's way.
        let own = match &self.share {
            Some(share) => Some(share.budget.take(length).await?),
            None => None,
        };
        self.room.add((own, self.limits.budget.take(length).await?));
        let time = self.limits.stall + Duration::from_secs(length as u64 / RATE_MIN);
        self.due = (length > 0).then(|| Instant::now() + time);
        self.at = if length == 0 { At::Header([0; HEADER_BYTES], 0) } else { At::Message(length) };
        Ok(())
    }

    /// More bytes of the body; `None` where it ends between two messages.
    async fn arrival(&mut self) -> Result<Option<Bytes>, Status> {
        let inside = !matches!(self.at, At::Header(_, 0));
        let left = self.due.map(|due| due.saturating_duration_since(Instant::now()));
        let patience = left.map_or(self.limits.stall, |left| left.min(self.limits.stall));
        loop {
            let frame = if inside {
                match tokio::time::timeout(patience, self.body.frame()).await {
                    Ok(frame) => frame,
                    Err(_) => {
                        let seconds = self.limits.stall.as_secs();
                        let message = format!(
                            "the put paused for {seconds} s in the middle of a message, or crawled; nothing was stored"
                        );
                        return Err(ServiceError::new(
                            service_error::Code::DeadlineExceeded,
                            message,
                        )
                        .reason("PUT_STALLED")
                        .into());
                    }
                }
            } else {
                self.body.frame().await
            };
            return match frame {
                None if inside => Err(cut()),
                None => Ok(None),
                // tonic would end the stream on a cancelled one, as if it were whole.
                Some(Err(status)) if status.code() == Code::Cancelled => Err(cut()),
                Some(Err(status)) => Err(status),
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(bytes) => Ok(Some(bytes)),
                    Err(_) => continue,
                },
            };
        }
    }
}

fn cut() -> Status {
    ServiceError::unavailable("the stream was cut; nothing was stored").reason("PUT_CUT").into()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use futures::StreamExt;

    fn message(length: usize) -> Vec<u8> {
        let mut bytes = vec![0];
        bytes.extend_from_slice(&u32::try_from(length).unwrap().to_be_bytes());
        bytes.extend(std::iter::repeat_n(7, length));
        bytes
    }

    fn request(pieces: Vec<Result<Bytes, Status>>, limits: &Limits) -> (Body, Room) {
        let body =
            StreamBody::new(futures::stream::iter(pieces).map(|piece| piece.map(Frame::data)));
        let request = Request::builder().uri(PATHS[0]).body(Body::new(body)).unwrap();
        let (parts, body) = budgeted(request, limits).into_parts();
        (body, parts.extensions.get::<Room>().unwrap().clone())
    }

    fn limits(budget: usize) -> Limits {
        Limits {
            budget: ByteBudget::new(budget),
            shares: Shares::new(budget),
            message_bytes_max: 1 << 20,
            stall: Duration::from_secs(5),
        }
    }

    #[tokio::test]
    async fn bytes_pass_unchanged_however_they_are_cut() {
        let whole: Vec<u8> = [message(3), message(0), message(70_000)].concat();
        for size in [1, 4, 5, 6, 1_000, whole.len()] {
            let pieces =
                whole.chunks(size).map(|piece| Ok(Bytes::copy_from_slice(piece))).collect();
            let (body, _room) = request(pieces, &limits(1 << 20));
            assert_eq!(body.collect().await.unwrap().to_bytes(), whole, "pieces of {size}");
        }
    }

    #[tokio::test]
    async fn a_message_waits_for_the_one_before_to_leave() {
        let both = [message(60_000), message(60_000)].concat();
        let (mut body, room) = request(vec![Ok(both.into())], &limits(64 << 10));
        let mut seen = 0;
        while seen < 60_005 {
            seen += body.frame().await.unwrap().unwrap().into_data().unwrap().len();
        }
        let waiting = tokio::time::timeout(Duration::from_millis(20), body.frame()).await;
        assert!(waiting.is_err(), "the second message was let in without room");
        drop(room.take());
        assert!(body.frame().await.is_some());
    }

    #[tokio::test]
    async fn what_one_holds_leaves_room_for_others() {
        let limits = Limits { shares: Shares::new(40 << 10), ..limits(64 << 10) };
        let (one, other) = (PrincipalId::new(), PrincipalId::new());
        let held = limits.shares.of(one);
        let _kept = held.budget.take(40 << 10).await.unwrap();
        assert!(limits.shares.of(one).budget.try_take(1).is_none());
        assert!(limits.shares.of(other).budget.try_take(1).is_some());
        drop(held);
        assert!(limits.shares.known.lock().unwrap().is_empty());
    }

    #[tokio::test]
    async fn a_message_that_crawls_is_cut() {
        let ticks = tokio::time::interval(Duration::from_millis(10));
        let bytes = message(10_000).into_iter();
        let crawling = unfold((ticks, bytes), |(mut ticks, mut bytes)| async move {
            ticks.tick().await;
            let frame = Frame::data(Bytes::from(vec![bytes.next()?]));
            Some((Ok::<_, Status>(frame), (ticks, bytes)))
        });
        let body = Body::new(StreamBody::new(crawling));
        let request = Request::builder().uri(PATHS[0]).body(body).unwrap();
        let limits = Limits { stall: Duration::from_millis(200), ..limits(1 << 20) };
        let status = budgeted(request, &limits).into_body().collect().await.unwrap_err();
        assert_eq!(status.code(), Code::DeadlineExceeded);
    }

    #[tokio::test]
    async fn too_large_a_message_is_refused_with_advice() {
        let (body, _) = request(vec![Ok(message((1 << 20) + 1).into())], &limits(1 << 20));
        let status = body.collect().await.unwrap_err();
        assert_eq!(status.code(), Code::ResourceExhausted);
        assert!(status.message().contains("max_chunksize"));
    }

    #[tokio::test]
    async fn a_cut_stream_is_an_error_not_an_end() {
        let (body, _) = request(vec![Ok(Bytes::from(message(9)[..8].to_vec()))], &limits(1 << 20));
        assert_eq!(body.collect().await.unwrap_err().code(), Code::Unavailable);
        let cancelled = vec![Ok(message(9).into()), Err(Status::cancelled("reset"))];
        let (body, _) = request(cancelled, &limits(1 << 20));
        assert_eq!(body.collect().await.unwrap_err().code(), Code::Unavailable);
    }
}
