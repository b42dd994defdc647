//! Whom one trusts: keys and root certificates.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::signature::{
    ECDSA_P256_SHA256_ASN1, ECDSA_P384_SHA384_ASN1, UnparsedPublicKey, VerificationAlgorithm,
};
use rustls_pki_types::CertificateDer;
use sha2::{Digest as _, Sha256};
use webpki::anchor_from_trusted_cert;

use crate::{SignatureError, malformed};

const PEM_BYTES_MAX: usize = 16 << 10;
/// What stands before the point in a key's DER form (RFC 5480).
const P256: &[u8] = b"\x30\x59\x30\x13\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07\x03\x42\x00";
const P384: &[u8] =
    b"\x30\x76\x30\x10\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x05\x2b\x81\x04\x00\x22\x03\x62\x00";
const P521_OID: &[u8] = b"\x06\x05\x2b\x81\x04\x00\x23";

/// What an anchor is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AnchorKind {
    /// A public key: it signs itself.
    Key,
    /// A certificate: those that it vouches for sign.
    Certificate,
}

/// A key or a root certificate that is trusted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Anchor {
    kind: AnchorKind,
    der: Vec<u8>,
}

impl Anchor {
    /// Reads `PUBLIC KEY` or `CERTIFICATE` in PEM.
    ///
    /// # Errors
    /// What is neither, a curve or a certificate that can't be used.
    pub fn parse(pem: &str) -> Result<Self, SignatureError> {
        if pem.len() > PEM_BYTES_MAX {
            return Err(malformed(format!("it is longer than {PEM_BYTES_MAX} bytes")));
        }
        if pem.contains("PRIVATE KEY") {
            return Err(malformed("it is a private key: keep it to yourself, send its public one"));
        }
        let (kind, label) = if pem.contains("-----BEGIN CERTIFICATE-----") {
            (AnchorKind::Certificate, "CERTIFICATE")
        } else {
            (AnchorKind::Key, "PUBLIC KEY")
        };
        let der = unwrapped(pem, label)?;
        match kind {
            AnchorKind::Key => drop(point(&der)?),
            AnchorKind::Certificate => {
                let certificate = CertificateDer::from(der.as_slice());
                anchor_from_trusted_cert(&certificate)
                    .map_err(|error| malformed(format!("it is no root certificate: {error}")))?;
            }
        }
        Ok(Self { kind, der })
    }

    /// Key or certificate.
    #[must_use]
    pub const fn kind(&self) -> AnchorKind {
        self.kind
    }

    /// SHA-256 of its DER form, in hex.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        hex::encode(Sha256::digest(&self.der))
    }

    /// Its PEM form, in lines of 64.
    #[must_use]
    pub fn pem(&self) -> String {
        let label = match self.kind {
            AnchorKind::Key => "PUBLIC KEY",
            AnchorKind::Certificate => "CERTIFICATE",
        };
        let text = STANDARD.encode(&self.der);
        let mut pem = format!("-----BEGIN {label}-----\n");
        for line in text.as_bytes().chunks(64) {
            pem.push_str(&String::from_utf8_lossy(line));
            pem.push('\n');
        }
        pem.push_str(&format!("-----END {label}-----\n"));
        pem
    }

    /// What a bundle calls a key: SHA-256 of its PEM form, in hex.
    pub(crate) fn hint(&self) -> String {
        hex::encode(Sha256::digest(self.pem()))
    }

    pub(crate) fn der(&self) -> &[u8] {
        &self.der
    }

    /// Whether a key signed a message.
    pub(crate) fn signed(&self, message: &[u8], signature: &[u8]) -> Result<bool, SignatureError> {
        let (algorithm, point) = point(&self.der)?;
        Ok(UnparsedPublicKey::new(algorithm, point).verify(message, signature).is_ok())
    }
}

type Key<'a> = (&'static dyn VerificationAlgorithm, &'a [u8]);

/// The curve and the point of a key.
fn point(der: &[u8]) -> Result<Key<'_>, SignatureError> {
    let p256 = der.strip_prefix(P256).filter(|point| point.len() == 65 && point[0] == 4);
    if let Some(point) = p256 {
        return Ok((&ECDSA_P256_SHA256_ASN1, point));
    }
    let p384 = der.strip_prefix(P384).filter(|point| point.len() == 97 && point[0] == 4);
    if let Some(point) = p384 {
        return Ok((&ECDSA_P384_SHA384_ASN1, point));
    }
    let large = der.windows(P521_OID.len()).any(|window| window == P521_OID);
    let what = if large { "a key on P-521" } else { "no key on P-256 or P-384" };
    let message = format!("it is {what}: keys on P-256 and P-384 are verified");
    Err(SignatureError::Unsupported(message))
}

fn unwrapped(pem: &str, label: &str) -> Result<Vec<u8>, SignatureError> {
    let (begin, end) = (format!("-----BEGIN {label}-----"), format!("-----END {label}-----"));
    let wrong = || malformed("it is no PEM text of a PUBLIC KEY or a CERTIFICATE");
    let (_, rest) = pem.split_once(&begin).ok_or_else(wrong)?;
    let (body, rest) = rest.split_once(&end).ok_or_else(wrong)?;
    if rest.contains(&begin) {
        return Err(malformed("it holds more than one: send them one by one"));
    }
    let body: String = body.split_whitespace().collect();
    STANDARD.decode(body).map_err(|_| wrong())
}
