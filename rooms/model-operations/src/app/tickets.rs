//! Tickets: what an address that needs no token is good for, sealed so that
//! nobody reads, changes or makes one. They are given only to who may do it.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chacha20poly1305::aead::{Aead, KeyInit};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use ids::{ModelId, ModelVersionId, PrincipalId, TokenId, UploadId};
use rand::RngCore;
use serde::{Deserialize, Serialize};
use sql_store::now_micros;
use uuid::Uuid;

const NONCE_BYTES: usize = 24;
const KEY_BYTES: usize = 32;
/// A file's path is at most 1,024 bytes; the rest is ids.
const TEXT_BYTES_MAX: usize = 8 << 10;
/// Files are fetched in so long, in microseconds.
const FILE_MICROS: i64 = 15 * 60 * 1_000_000;
/// Parts are sent in so long: a slow line takes its time for ten thousand.
const PART_MICROS: i64 = 6 * 3_600 * 1_000_000;

/// Whose right a ticket carries: it is asked for again when the ticket is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signer {
    pub principal: PrincipalId,
    /// The token it came with, so that revoking it ends the ticket.
    pub token: Option<TokenId>,
}

/// What an address is good for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Purpose {
    /// To send one part of a file of a namespace's tree.
    Part { upload: Uuid, number: i64 },
    /// To fetch one file of a namespace's tree.
    File { namespace: Uuid, path: String },
    /// To fetch one file of a version.
    VersionFile { signer: Signer, model: ModelId, version: ModelVersionId, path: String },
    /// To send one part of a file of an upload.
    UploadPart { signer: Signer, upload: UploadId, file: i64, part: i64 },
}

/// A purpose and its end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ticket {
    purpose: Purpose,
    /// Microseconds UTC.
    expires_at: i64,
}

impl Ticket {
    /// A ticket for as long as its purpose usually takes.
    #[must_use]
    pub fn new(purpose: Purpose) -> Self {
        let lasts = match purpose {
            Purpose::Part { .. } | Purpose::UploadPart { .. } => PART_MICROS,
            Purpose::File { .. } | Purpose::VersionFile { .. } => FILE_MICROS,
        };
        Self::until(purpose, now_micros().saturating_add(lasts))
    }

    /// A ticket until a time, microseconds UTC.
    #[must_use]
    pub const fn until(purpose: Purpose, expires_at: i64) -> Self {
        Self { purpose, expires_at }
    }

    /// What it is good for.
    #[must_use]
    pub fn into_purpose(self) -> Purpose {
        self.purpose
    }

    /// The ticket as a word of an address; nothing under a key that is none.
    #[must_use]
    pub fn seal(&self, key: &[u8]) -> Option<String> {
        let plain = serde_json::to_vec(self).ok()?;
        let mut nonce = [0; NONCE_BYTES];
        rand::rng().fill_bytes(&mut nonce);
        let sealed = cipher(key)?.encrypt(XNonce::from_slice(&nonce), plain.as_slice()).ok()?;
        Some(URL_SAFE_NO_PAD.encode([nonce.as_slice(), &sealed].concat()))
    }

    /// The ticket of a word, if it was sealed here and has not ended.
    #[must_use]
    pub fn open(text: &str, key: &[u8]) -> Option<Self> {
        if text.len() > TEXT_BYTES_MAX {
            return None;
        }
        let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
        let (nonce, sealed) = bytes.split_first_chunk::<NONCE_BYTES>()?;
        let plain = cipher(key)?.decrypt(XNonce::from_slice(nonce), sealed).ok()?;
        let ticket: Self = serde_json::from_slice(&plain).ok()?;
        (ticket.expires_at > now_micros()).then_some(ticket)
    }
}

fn cipher(key: &[u8]) -> Option<XChaCha20Poly1305> {
    let key: &[u8; KEY_BYTES] = key.try_into().ok()?;
    Some(XChaCha20Poly1305::new(key.into()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn a_ticket_is_good_for_what_it_says_until_it_ends() {
        let (key, other) = ([7; KEY_BYTES], [8; KEY_BYTES]);
        let ticket = Ticket::new(Purpose::Part { upload: Uuid::nil(), number: 3 });
        let sealed = ticket.seal(&key).unwrap();
        assert_eq!(Ticket::open(&sealed, &key).unwrap(), ticket);
        assert_ne!(ticket.seal(&key).unwrap(), sealed, "no two are alike");
        assert!(Ticket::open(&sealed, &other).is_none());
        let late = Ticket { expires_at: now_micros() - 1, ..ticket };
        assert!(Ticket::open(&late.seal(&key).unwrap(), &key).is_none());
        for at in [0, 30, sealed.len() - 1] {
            let mut changed = sealed.clone().into_bytes();
            changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
            assert!(Ticket::open(std::str::from_utf8(&changed).unwrap(), &key).is_none(), "{at}");
        }
        for none in ["", "a.b", "AAAA", &"A".repeat(TEXT_BYTES_MAX + 1) as &str] {
            assert!(Ticket::open(none, &key).is_none());
        }
    }
}
