//! Addresses that need no token, because they carry a signature: one part of an
//! upload, or one file, until a time. They are given only to who may do it.

use axum::body::Body;
use axum::http::header::{ETAG, RANGE};
use axum::http::{HeaderValue, Response};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, Mac};
use ids::NamespaceId;
use mlflow_wire::{ErrorCode, MlflowError, Result};
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use sql_store::now_micros;
use uuid::Uuid;

use super::Surface;
use super::asked::Asked;
use super::files::{absent, file, pieces_of, wanted};

/// Files are fetched in so long, in microseconds.
const FILE_MICROS: i64 = 15 * 60 * 1_000_000;
/// Parts are sent in so long: a slow line takes its time for ten thousand.
const PART_MICROS: i64 = 6 * 3_600 * 1_000_000;

/// What an address is good for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Purpose {
    /// To send one part.
    Part { upload: Uuid, number: i64 },
    /// To fetch one file.
    File { namespace: Uuid, path: String },
}

/// A purpose and its end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ticket {
    purpose: Purpose,
    expires_at: i64,
}

impl Ticket {
    pub fn new(purpose: Purpose) -> Self {
        let lasts = match purpose {
            Purpose::Part { .. } => PART_MICROS,
            Purpose::File { .. } => FILE_MICROS,
        };
        Self { purpose, expires_at: now_micros().saturating_add(lasts) }
    }

    fn seal(&self, key: &[u8]) -> String {
        let body = serde_json::to_vec(self).unwrap_or_default();
        let sum = sum(key, &body).map(|sum| sum.finalize().into_bytes().to_vec());
        format!(
            "{}.{}",
            URL_SAFE_NO_PAD.encode(body),
            URL_SAFE_NO_PAD.encode(sum.unwrap_or_default())
        )
    }

    fn open(text: &str, key: &[u8]) -> Option<Self> {
        let (body, seal) = text.split_once('.')?;
        let (body, seal) = (URL_SAFE_NO_PAD.decode(body).ok()?, URL_SAFE_NO_PAD.decode(seal).ok()?);
        sum(key, &body)?.verify_slice(&seal).ok()?;
        let ticket: Self = serde_json::from_slice(&body).ok()?;
        (ticket.expires_at > now_micros()).then_some(ticket)
    }
}

fn sum(key: &[u8], body: &[u8]) -> Option<Hmac<Sha256>> {
    let mut sum = Hmac::<Sha256>::new_from_slice(key).ok()?;
    sum.update(body);
    Some(sum)
}

impl Surface {
    /// The address of a ticket.
    ///
    /// # Errors
    /// The database's, where the key is.
    pub async fn address(&self, origin: &str, ticket: &Ticket) -> Result<String> {
        let key = self.registry.signing_secret().await?;
        Ok(format!("{origin}/api/2.0/mlflow-artifacts/signed/{}", ticket.seal(&key)))
    }
}

fn refused() -> MlflowError {
    MlflowError::new(
        ErrorCode::PermissionDenied,
        "The address is not valid or no longer: ask for another one.",
    )
}

async fn ticket(asked: &Asked) -> Result<Ticket> {
    let key = asked.surface.registry.signing_secret().await?;
    Ticket::open(asked.part(0), &key).ok_or_else(refused)
}

pub async fn upload(mut asked: Asked) -> Result<Response<Body>> {
    let Purpose::Part { upload, number } = ticket(&asked).await?.purpose else {
        return Err(refused());
    };
    let pieces = pieces_of(asked.take_stream());
    let digest = asked.surface.registry.put_tree_part(upload, number, pieces).await?;
    let mut response = Response::new(Body::empty());
    if let Ok(value) = HeaderValue::from_str(&format!("\"{}\"", hex::encode(digest))) {
        response.headers_mut().insert(ETAG, value);
    }
    Ok(response)
}

pub async fn download(asked: Asked) -> Result<Response<Body>> {
    let Purpose::File { namespace, path } = ticket(&asked).await?.purpose else {
        return Err(refused());
    };
    let registry = &asked.surface.registry;
    let namespace = NamespaceId::from_uuid(namespace);
    let entry = registry.signed_file(namespace, &path).await.map_err(absent(&path))?;
    let range = match asked.header(&RANGE) {
        Some(range) => wanted(range, entry.byte_count)?,
        None => None,
    };
    let pieces = registry.bytes_of(&entry, range.clone()).await?;
    Ok(file(&entry, range, pieces))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn a_ticket_is_good_for_what_it_says_until_it_ends() {
        let ticket = Ticket::new(Purpose::Part { upload: Uuid::nil(), number: 3 });
        let sealed = ticket.seal(b"key");
        assert_eq!(Ticket::open(&sealed, b"key").unwrap(), ticket);
        assert!(Ticket::open(&sealed, b"another").is_none());
        let late = Ticket { expires_at: now_micros() - 1, ..ticket.clone() };
        assert!(Ticket::open(&late.seal(b"key"), b"key").is_none());
        let forged = Ticket { expires_at: i64::MAX, ..ticket };
        let (body, _) = forged
            .seal(b"other")
            .split_once('.')
            .map(|(a, b)| (a.to_owned(), b.to_owned()))
            .unwrap();
        let (_, seal) = sealed.split_once('.').unwrap();
        assert!(Ticket::open(&format!("{body}.{seal}"), b"key").is_none());
        assert!(Ticket::open("", b"key").is_none() && Ticket::open("a.b", b"key").is_none());
    }
}
