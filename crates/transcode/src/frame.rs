//! gRPC's framing: one flag byte, four bytes of length, the message.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use http_body_util::BodyExt;
use prost::Message;
use prost_reflect::DynamicMessage;
use tonic::body::Body;
use tonic::{Code, Status};

const HEADER_BYTES: usize = 5;

/// A message in its frame.
pub fn encode(message: &DynamicMessage) -> Bytes {
    let length = message.encoded_len();
    let mut frame = BytesMut::with_capacity(HEADER_BYTES + length);
    frame.put_u8(0);
    frame.put_u32(u32::try_from(length).unwrap_or(u32::MAX));
    frame.put_slice(&message.encode_to_vec());
    frame.freeze()
}

/// The messages of an answer, one by one, and then how it ended.
#[derive(Debug)]
pub struct Frames {
    body: Body,
    buffer: BytesMut,
    message_bytes_max: usize,
    ended: bool,
}

impl Frames {
    /// Reads an answer whose messages are at most so long.
    pub fn new(body: Body, message_bytes_max: usize) -> Self {
        Self { body, buffer: BytesMut::new(), message_bytes_max, ended: false }
    }

    /// The next message; none when the call ended well.
    ///
    /// # Errors
    /// The status that the call ended with, or that its stream broke.
    pub async fn next(&mut self) -> Result<Option<Bytes>, Status> {
        loop {
            if let Some(message) = self.take()? {
                return Ok(Some(message));
            }
            if self.ended {
                return if self.buffer.is_empty() { Ok(None) } else { Err(cut()) };
            }
            let Some(frame) = self.body.frame().await.transpose()? else {
                return Err(cut());
            };
            match frame.into_data() {
                Ok(data) => self.buffer.extend_from_slice(&data),
                Err(frame) => {
                    if let Ok(trailers) = frame.into_trailers() {
                        self.ended = true;
                        ok_or_status(&trailers)?;
                    }
                }
            }
        }
    }

    fn take(&mut self) -> Result<Option<Bytes>, Status> {
        let Some(header) = self.buffer.get(..HEADER_BYTES) else {
            return Ok(None);
        };
        if header[0] != 0 {
            return Err(Status::internal("the answer is compressed, and nobody asked for that"));
        }
        let length = u32::from_be_bytes([header[1], header[2], header[3], header[4]]) as usize;
        if length > self.message_bytes_max {
            let limit = self.message_bytes_max;
            return Err(Status::resource_exhausted(format!(
                "a message of the answer has {length} bytes and JSON answers are limited to {limit}; ask for smaller pages or use gRPC"
            )));
        }
        if self.buffer.len() < HEADER_BYTES + length {
            self.buffer.reserve(HEADER_BYTES + length - self.buffer.len());
            return Ok(None);
        }
        self.buffer.advance(HEADER_BYTES);
        Ok(Some(self.buffer.split_to(length).freeze()))
    }
}

/// What trailers, or the headers of an answer without a body, say.
pub fn ok_or_status(headers: &http::HeaderMap) -> Result<(), Status> {
    match Status::from_header_map(headers) {
        Some(status) if status.code() != Code::Ok => Err(status),
        Some(_) => Ok(()),
        None => Err(Status::internal("the answer ended without a status")),
    }
}

fn cut() -> Status {
    Status::unavailable("the answer was cut; try again")
}
