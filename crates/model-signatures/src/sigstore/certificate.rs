//! What a certificate of Fulcio's says: for whom it was made, who vouched for
//! them, and which log of certificates knows it (RFC 6962, 3.2 and 3.3).

use sha2::{Digest as _, Sha256};

use super::KeylessError;
use super::trusted_root::Log;
use crate::bundle::CODE_SIGNING;
use crate::der::{
    BIT_STRING, BOOLEAN, INTEGER, Item, OBJECT_ID, OCTET_STRING, Reader, SEQUENCE, UTF8_STRING,
    only, wrapped,
};

const EXTENSIONS_MAX: usize = 64;
const NAMES_MAX: usize = 16;
const TIMESTAMPS_MAX: usize = 8;
const KEY_USAGE: &[u8] = &[0x55, 0x1d, 0x0f];
const EXTENDED_KEY_USAGE: &[u8] = &[0x55, 0x1d, 0x25];
const ALTERNATIVE_NAME: &[u8] = &[0x55, 0x1d, 0x11];
/// 1.3.6.1.4.1.57264.1.1: the issuer's bare text.
const ISSUER: &[u8] = &[0x2b, 6, 1, 4, 1, 0x83, 0xbf, 0x30, 1, 1];
/// 1.3.6.1.4.1.57264.1.8: the issuer as a `UTF8String`.
const ISSUER_V2: &[u8] = &[0x2b, 6, 1, 4, 1, 0x83, 0xbf, 0x30, 1, 8];
/// 1.3.6.1.4.1.11129.2.4.2
const LOGGED: &[u8] = &[0x2b, 6, 1, 4, 1, 0xd6, 0x79, 2, 4, 2];
/// rfc822Name and uniformResourceIdentifier of a `GeneralName`.
const EMAIL: u8 = 0x81;
const URI: u8 = 0x86;
const VERSION: u8 = 0xa0;
const UNIQUE_IDS: [u8; 2] = [0x81, 0x82];
const EXTENSIONS: u8 = 0xa3;

/// A certificate whose parts were found. Who signed it is not its matter.
#[derive(Debug)]
pub struct Certificate<'a> {
    /// The contents of what is signed, up to the extensions.
    head: &'a [u8],
    /// The whole `SubjectPublicKeyInfo`.
    pub key: &'a [u8],
    extensions: Vec<Extension<'a>>,
}

#[derive(Debug)]
struct Extension<'a> {
    id: &'a [u8],
    value: &'a [u8],
    whole: &'a [u8],
}

/// What a log of certificates promised.
struct Promise<'a> {
    log: &'a [u8],
    /// Milliseconds UTC.
    at: u64,
    extensions: &'a [u8],
    signature: &'a [u8],
}

impl<'a> Certificate<'a> {
    /// Finds the parts of a certificate.
    pub fn read(der: &'a [u8]) -> Result<Self, KeylessError> {
        Self::parts(der).ok_or(KeylessError::Certificate)
    }

    fn parts(der: &'a [u8]) -> Option<Self> {
        let mut outer = Reader::new(only(der, SEQUENCE)?);
        let signed = outer.optional(SEQUENCE)?.contents;
        let mut reader = Reader::new(signed);
        reader.optional(VERSION)?;
        reader.optional(INTEGER)?;
        // Algorithm, issuer, validity, subject.
        for _ in 0..4 {
            reader.optional(SEQUENCE)?;
        }
        let key = reader.optional(SEQUENCE)?.whole;
        for tag in UNIQUE_IDS {
            reader.optional(tag);
        }
        let list = reader.optional(EXTENSIONS)?;
        let head = signed.get(..signed.len() - list.whole.len())?;
        let mut list = Reader::new(only(list.contents, SEQUENCE)?);
        let mut extensions: Vec<Extension<'a>> = Vec::new();
        while !list.at_end() {
            let next = extension(list.optional(SEQUENCE)?)?;
            if extensions.len() == EXTENSIONS_MAX || extensions.iter().any(|of| of.id == next.id) {
                return None;
            }
            extensions.push(next);
        }
        reader.at_end().then_some(Self { head, key, extensions })
    }

    fn value(&self, id: &[u8]) -> Option<&'a [u8]> {
        self.extensions.iter().find(|extension| extension.id == id).map(|found| found.value)
    }

    /// It was made to sign code.
    pub fn check_usage(&self) -> Result<(), KeylessError> {
        let bits = self.value(KEY_USAGE).and_then(|value| only(value, BIT_STRING));
        let signs = matches!(bits, Some([_, first, ..]) if first & 0x80 != 0);
        let purposes = self.value(EXTENDED_KEY_USAGE).and_then(|value| only(value, SEQUENCE));
        let mut purposes = Reader::new(purposes.unwrap_or_default());
        let code = std::iter::from_fn(|| purposes.optional(OBJECT_ID))
            .any(|purpose| purpose.contents == CODE_SIGNING);
        if signs && code { Ok(()) } else { Err(KeylessError::Usage) }
    }

    /// The e-mail addresses and URIs that it was made for.
    pub fn identities(&self) -> Vec<&'a str> {
        let names = self.value(ALTERNATIVE_NAME).and_then(|value| only(value, SEQUENCE));
        let mut names = Reader::new(names.unwrap_or_default());
        std::iter::from_fn(|| names.item())
            .take(NAMES_MAX)
            .filter(|name| matches!(name.tag, EMAIL | URI))
            .filter_map(|name| std::str::from_utf8(name.contents).ok())
            .collect()
    }

    /// Who vouched for them. Two that are not the same are none.
    pub fn issuer(&self) -> Option<&'a str> {
        let bare = self.value(ISSUER);
        let issuer = match self.value(ISSUER_V2) {
            Some(value) => Some(only(value, UTF8_STRING)?),
            None => bare,
        };
        let agreed = issuer.filter(|issuer| bare.is_none_or(|bare| bare == *issuer))?;
        std::str::from_utf8(agreed).ok()
    }

    /// A log of certificates promised to keep it; `above`: the key of who signed it.
    pub fn check_logged(&self, above: &[u8], logs: &[Log]) -> Result<(), KeylessError> {
        let list = self.value(LOGGED).ok_or(KeylessError::NoCertificateLog)?;
        let promises = promises(list).ok_or(KeylessError::CertificateTimestamp)?;
        let entry = self.entry(above);
        let mut outcome = Err(KeylessError::NoCertificateLog);
        for promise in promises {
            let Some(log) = logs.iter().find(|log| log.id == promise.log) else { continue };
            let message = promise.message(&entry);
            let held = log.valid.contains(promise.at / 1_000);
            if held && log.signed(&message, promise.signature) {
                return Ok(());
            }
            outcome = Err(KeylessError::CertificateTimestamp);
        }
        outcome
    }

    /// What was logged: the certificate before it held the promise.
    fn entry(&self, above: &[u8]) -> Vec<u8> {
        let kept = self.extensions.iter().filter(|extension| extension.id != LOGGED);
        let kept: Vec<&[u8]> = kept.map(|extension| extension.whole).collect();
        let kept = wrapped(EXTENSIONS, &wrapped(SEQUENCE, &kept.concat()));
        let signed = wrapped(SEQUENCE, &[self.head, &kept].concat());
        let [.., high, middle, low] = signed.len().to_be_bytes();
        let above = Sha256::digest(above);
        [above.as_slice(), &[high, middle, low], &signed].concat()
    }
}

impl Promise<'_> {
    fn message(&self, entry: &[u8]) -> Vec<u8> {
        // Version 1, of a certificate's time; an entry before it was signed.
        let mut message = vec![0, 0];
        message.extend_from_slice(&self.at.to_be_bytes());
        message.extend_from_slice(&[0, 1]);
        message.extend_from_slice(entry);
        let [.., high, low] = self.extensions.len().to_be_bytes();
        message.extend_from_slice(&[high, low]);
        message.extend_from_slice(self.extensions);
        message
    }
}

fn extension(item: Item<'_>) -> Option<Extension<'_>> {
    let mut reader = Reader::new(item.contents);
    let id = reader.optional(OBJECT_ID)?.contents;
    reader.optional(BOOLEAN);
    let value = reader.optional(OCTET_STRING)?.contents;
    reader.at_end().then_some(Extension { id, value, whole: item.whole })
}

/// A vector of TLS with a length of two bytes, and what follows.
fn vector(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk()?;
    rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))
}

fn promises(value: &[u8]) -> Option<Vec<Promise<'_>>> {
    let (mut list, rest) = vector(only(value, OCTET_STRING)?)?;
    let mut promises = Vec::new();
    while !list.is_empty() {
        let (one, rest) = vector(list)?;
        list = rest;
        promises.push(promise(one)?);
    }
    (rest.is_empty() && promises.len() <= TIMESTAMPS_MAX).then_some(promises)
}

fn promise(bytes: &[u8]) -> Option<Promise<'_>> {
    let rest = bytes.strip_prefix(&[0])?;
    let (log, rest) = rest.split_at_checked(32)?;
    let (at, rest) = rest.split_first_chunk()?;
    let (extensions, rest) = vector(rest)?;
    // ECDSA over SHA-256.
    let (signature, rest) = vector(rest.strip_prefix(&[4, 3])?)?;
    let at = u64::from_be_bytes(*at);
    rest.is_empty().then_some(Promise { log, at, extensions, signature })
}
