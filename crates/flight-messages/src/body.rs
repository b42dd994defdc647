//! Messages as the body of an answer, around tonic's codec: it would copy every message once more.

use bytes::Bytes;
use futures::stream::{iter, unfold};
use futures::{Stream, StreamExt, TryStreamExt};
use http::HeaderMap;
use http_body::Frame;
use http_body_util::StreamBody;
use service_error::ServiceError;
use tonic::Status;
use tonic::body::Body;

use crate::Encoded;

/// The messages, and behind them the status of the call: that of the first error, if any.
pub fn body(messages: impl Stream<Item = Result<Encoded, ServiceError>> + Send + 'static) -> Body {
    let parts = messages.map_ok(|message| iter(message.frames().map(Ok::<_, ServiceError>)));
    let frames = unfold(Some(parts.try_flatten().boxed()), |parts| async {
        let mut parts = parts?;
        Some(match parts.next().await {
            Some(Ok(part)) => (Ok::<_, Status>(Frame::data(part)), Some(parts)),
            Some(Err(error)) => (ended(&error.into()), None),
            None => (ended(&Status::ok("")), None),
        })
    });
    Body::new(StreamBody::new(frames))
}

fn ended(status: &Status) -> Result<Frame<Bytes>, Status> {
    let mut trailers = HeaderMap::new();
    status.add_header(&mut trailers)?;
    Ok(Frame::trailers(trailers))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use http_body_util::BodyExt;

    fn message(length: usize) -> Encoded {
        Encoded { header: Bytes::from_static(b"h"), body: vec![vec![7; length].into()] }
    }

    #[tokio::test]
    async fn an_error_ends_the_messages_and_is_the_status() {
        let broken = Err(ServiceError::data_loss("a block is damaged"));
        let messages = iter([Ok(message(3)), broken, Ok(message(5))]);
        let sent = body(messages).collect().await.unwrap();
        assert_eq!(sent.trailers().unwrap()["grpc-status"], "15");
        assert_eq!(sent.to_bytes().iter().filter(|byte| **byte == 7).count(), 3);
    }

    #[tokio::test]
    async fn the_end_is_ok() {
        let sent = body(iter([Ok(message(3)), Ok(message(0))])).collect().await.unwrap();
        assert_eq!(sent.trailers().unwrap()["grpc-status"], "0");
    }
}
