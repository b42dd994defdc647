//! Sealed texts that clients carry: encrypted and authenticated under a ring of
//! keys, so that any replica opens what any other sealed.

use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use rand::RngCore;
use serde::Serialize;
use serde::de::DeserializeOwned;

const FORMAT: u8 = 1;
const NONCE_BYTES: usize = 24;
const HEAD_BYTES: usize = 1 + 8 + NONCE_BYTES;
/// The longest sealed text that is looked at.
const SEALED_BYTES_MAX: usize = 512 << 10;

/// One key.
#[derive(Clone)]
pub struct Key {
    /// Ascending.
    pub id: i64,
    /// 256 bits.
    pub secret: [u8; 32],
    /// When it was made, microseconds UTC.
    pub created_at: i64,
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Key({})", self.id)
    }
}

/// The keys that are good now; the newest one seals.
#[derive(Debug, Clone, Default)]
pub struct KeyRing {
    keys: Vec<Key>,
}

/// Why a text does not open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SealError {
    /// Sealed under a key that this ring does not have (yet, or any more).
    UnknownKey,
    /// Not ours, or changed.
    Broken,
}

impl KeyRing {
    /// A ring of keys in any order.
    #[must_use]
    pub fn new(mut keys: Vec<Key>) -> Self {
        keys.sort_by_key(|key| key.id);
        Self { keys }
    }

    /// When the newest key was made.
    #[must_use]
    pub fn newest(&self) -> Option<i64> {
        self.keys.last().map(|key| key.created_at)
    }

    /// Seals a value; `purpose` keeps a ticket from passing as a page token.
    ///
    /// # Errors
    /// A ring without keys.
    pub fn seal<T: Serialize>(&self, purpose: &str, value: &T) -> Result<Vec<u8>, SealError> {
        let key = self.keys.last().ok_or(SealError::UnknownKey)?;
        let plain = serde_json::to_vec(value).map_err(|_| SealError::Broken)?;
        let mut nonce = [0; NONCE_BYTES];
        rand::rng().fill_bytes(&mut nonce);
        let payload = Payload { msg: &plain, aad: purpose.as_bytes() };
        let sealed = cipher(key)
            .encrypt(XNonce::from_slice(&nonce), payload)
            .map_err(|_| SealError::Broken)?;
        let mut out = Vec::with_capacity(HEAD_BYTES + sealed.len());
        out.push(FORMAT);
        out.extend_from_slice(&key.id.to_be_bytes());
        out.extend_from_slice(&nonce);
        out.extend_from_slice(&sealed);
        Ok(out)
    }

    /// Opens a sealed value.
    ///
    /// # Errors
    /// See [`SealError`].
    pub fn open<T: DeserializeOwned>(&self, purpose: &str, sealed: &[u8]) -> Result<T, SealError> {
        if sealed.len() > SEALED_BYTES_MAX || sealed.first() != Some(&FORMAT) {
            return Err(SealError::Broken);
        }
        let (id, rest) = sealed[1..].split_first_chunk::<8>().ok_or(SealError::Broken)?;
        let (nonce, sealed) = rest.split_first_chunk::<NONCE_BYTES>().ok_or(SealError::Broken)?;
        let id = i64::from_be_bytes(*id);
        let key = self.keys.iter().find(|key| key.id == id).ok_or(SealError::UnknownKey)?;
        let payload = Payload { msg: sealed, aad: purpose.as_bytes() };
        let plain = cipher(key)
            .decrypt(XNonce::from_slice(nonce), payload)
            .map_err(|_| SealError::Broken)?;
        serde_json::from_slice(&plain).map_err(|_| SealError::Broken)
    }
}

fn cipher(key: &Key) -> XChaCha20Poly1305 {
    XChaCha20Poly1305::new((&key.secret).into())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn key(id: i64) -> Key {
        Key { id, secret: [u8::try_from(id).unwrap(); 32], created_at: id }
    }

    #[test]
    fn what_was_sealed_opens_under_any_ring_that_has_the_key() {
        let sealed = KeyRing::new(vec![key(2), key(1)]).seal("ticket", &"x").unwrap();
        let later = KeyRing::new(vec![key(1), key(2), key(3)]);
        assert_eq!(later.open::<String>("ticket", &sealed).unwrap(), "x");
        assert_eq!(
            KeyRing::new(vec![key(3)]).open::<String>("ticket", &sealed),
            Err(SealError::UnknownKey)
        );
    }

    #[test]
    fn a_changed_or_foreign_text_does_not_open() {
        let ring = KeyRing::new(vec![key(1)]);
        let sealed = ring.seal("ticket", &"x").unwrap();
        assert_eq!(ring.open::<String>("page", &sealed), Err(SealError::Broken));
        for at in [0, HEAD_BYTES, sealed.len() - 1] {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            assert_eq!(
                ring.open::<String>("ticket", &changed),
                Err(SealError::Broken),
                "byte {at}"
            );
        }
        for short in [&b""[..], b"\x01", &sealed[..20]] {
            assert!(ring.open::<String>("ticket", short).is_err());
        }
    }
}
