//! Arrow Flight's handshake, answered at the door: a name with a token becomes
//! the bearer token of the calls that follow.

use std::time::Duration;

use ::settings::Secret;
use bytes::{Buf, BufMut, Bytes, BytesMut};
use futures::stream;
use http::{HeaderMap, HeaderValue, Request, Response, header};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use prost::Message;
use service_error::ServiceError;
use tonic::Status;
use tonic::body::Body;

use crate::credentials::{self, Credential};
use crate::exchange::Exchange;

const PATH: &str = "/arrow.flight.protocol.FlightService/Handshake";
const FRAME_HEADER_BYTES: usize = 5;
/// Room for a name and a password; nobody is known yet.
const PAYLOAD_BYTES_MAX: usize = 16 << 10;
const PAYLOAD_TIME_MAX: Duration = Duration::from_secs(10);

#[derive(Clone, PartialEq, Message)]
struct HandshakeMessage {
    #[prost(uint64, tag = "1")]
    protocol_version: u64,
    #[prost(bytes = "bytes", tag = "2")]
    payload: Bytes,
}

#[derive(Clone, PartialEq, Message)]
struct BasicAuth {
    #[prost(string, tag = "2")]
    username: String,
    #[prost(string, tag = "3")]
    password: String,
}

/// Whether a gRPC path is the handshake.
pub fn is_handshake(path: &str) -> bool {
    path == PATH
}

/// Verifies the credential in the header, or in the payload of the older
/// handshake, and answers it as `authorization: Bearer <token>` (in headers
/// and trailers: clients look in either) and as the payload.
///
/// # Errors
/// `UNAUTHENTICATED` for a missing or refused credential.
pub async fn answer(
    exchange: &Exchange,
    audience: &'static str,
    request: Request<Body>,
) -> Result<Response<Body>, ServiceError> {
    let (parts, body) = request.into_parts();
    let (credential, version) = match credentials::presented(&parts.headers)? {
        Some(credential) => (credential, 0),
        None => tokio::time::timeout(PAYLOAD_TIME_MAX, from_payload(body))
            .await
            .map_err(|_| credentials::missing())??,
    };
    exchange.token(&credential, audience).await?;
    let token = match &credential {
        Credential::Bearer(token) => token,
        Credential::Basic { password, .. } => password,
    };
    respond(token, version)
}

async fn from_payload(body: Body) -> Result<(Credential, u64), ServiceError> {
    let message = first_message(body).await?.ok_or_else(credentials::missing)?;
    let malformed = |_| {
        ServiceError::unauthenticated(
            "the handshake's payload is no BasicAuth message: send a name and a token",
        )
        .reason("TOKEN_MALFORMED")
    };
    let handshake = HandshakeMessage::decode(message).map_err(malformed)?;
    let basic = BasicAuth::decode(handshake.payload).map_err(malformed)?;
    if basic.password.is_empty() {
        return Err(credentials::missing());
    }
    let credential =
        Credential::Basic { name: basic.username, password: Secret::new(basic.password) };
    Ok((credential, handshake.protocol_version))
}

async fn first_message(mut body: Body) -> Result<Option<Bytes>, ServiceError> {
    let mut buffer = BytesMut::new();
    loop {
        if let Some(header) = buffer.get(..FRAME_HEADER_BYTES) {
            let length = u32::from_be_bytes([header[1], header[2], header[3], header[4]]) as usize;
            if header[0] != 0 || length > PAYLOAD_BYTES_MAX {
                return Err(ServiceError::invalid(
                    "payload",
                    format!("must be plain and at most {PAYLOAD_BYTES_MAX} bytes"),
                ));
            }
            if buffer.len() >= FRAME_HEADER_BYTES + length {
                buffer.advance(FRAME_HEADER_BYTES);
                return Ok(Some(buffer.split_to(length).freeze()));
            }
        }
        match body.frame().await.transpose()?.map(Frame::into_data) {
            Some(Ok(data)) => buffer.extend_from_slice(&data),
            Some(Err(_trailers)) => {}
            None => return Ok(None),
        }
    }
}

fn respond(token: &Secret, protocol_version: u64) -> Result<Response<Body>, ServiceError> {
    let mut bearer =
        HeaderValue::from_str(&format!("Bearer {}", token.expose())).map_err(|_| {
            ServiceError::unauthenticated("the token is no header value").reason("TOKEN_MALFORMED")
        })?;
    bearer.set_sensitive(true);
    let message = HandshakeMessage {
        protocol_version,
        payload: Bytes::copy_from_slice(token.expose().as_bytes()),
    };
    let mut frame = BytesMut::new();
    frame.put_u8(0);
    frame.put_u32(u32::try_from(message.encoded_len()).unwrap_or_default());
    frame.extend_from_slice(&message.encode_to_vec());
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    trailers.insert(header::AUTHORIZATION, bearer.clone());
    let frames = [Ok::<_, Status>(Frame::data(frame.freeze())), Ok(Frame::trailers(trailers))];
    let mut response = Response::new(Body::new(StreamBody::new(stream::iter(frames))));
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    response.headers_mut().insert(header::AUTHORIZATION, bearer);
    Ok(response)
}
