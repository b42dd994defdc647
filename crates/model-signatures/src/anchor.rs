//! Whom one trusts: keys, root certificates, and who signs in at a Sigstore.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::signature::{
    ECDSA_P256_SHA256_ASN1, ECDSA_P384_SHA384_ASN1, UnparsedPublicKey, VerificationAlgorithm,
};
use rustls_pki_types::CertificateDer;
use sha2::{Digest as _, Sha256};
use webpki::anchor_from_trusted_cert;

use crate::sigstore::Sigstore;
use crate::{SignatureError, malformed};

const PEM_BYTES_MAX: usize = 16 << 10;
/// What stands before the point in a key's DER form (RFC 5480).
pub const P256: &[u8] = b"\x30\x59\x30\x13\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07\x03\x42\x00";
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
    /// An identity that a Sigstore knows: it signs with keys of minutes.
    Sigstore,
}

/// A key, a root certificate or an identity that is trusted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Anchor(Trusted);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Trusted {
    Key(Vec<u8>),
    Certificate(Vec<u8>),
    Sigstore(Box<Sigstore>),
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
        if pem.contains("-----BEGIN CERTIFICATE-----") {
            let der = unwrapped(pem, "CERTIFICATE")?;
            anchor_from_trusted_cert(&CertificateDer::from(der.as_slice()))
                .map_err(|error| malformed(format!("it is no root certificate: {error}")))?;
            return Ok(Self(Trusted::Certificate(der)));
        }
        let der = unwrapped(pem, "PUBLIC KEY")?;
        point(&der)?;
        Ok(Self(Trusted::Key(der)))
    }

    /// Trusts an identity (the e-mail address or URI of a certificate) for which an
    /// issuer vouches, as a Sigstore's `trusted_root.json` lets one verify.
    ///
    /// # Errors
    /// A trusted root that can't be read, a name that is empty or too long.
    pub fn sigstore(
        trusted_root: &str,
        identity: &str,
        issuer: &str,
    ) -> Result<Self, SignatureError> {
        let sigstore = Sigstore::new(trusted_root, identity, issuer)?;
        Ok(Self(Trusted::Sigstore(Box::new(sigstore))))
    }

    /// Reads what `text` wrote.
    ///
    /// # Errors
    /// What it did not write.
    pub fn stored(text: &str) -> Result<Self, SignatureError> {
        if text.starts_with('{') {
            return Ok(Self(Trusted::Sigstore(Box::new(Sigstore::stored(text)?))));
        }
        Self::parse(text)
    }

    /// Key, certificate or identity.
    #[must_use]
    pub const fn kind(&self) -> AnchorKind {
        match self.0 {
            Trusted::Key(_) => AnchorKind::Key,
            Trusted::Certificate(_) => AnchorKind::Certificate,
            Trusted::Sigstore(_) => AnchorKind::Sigstore,
        }
    }

    /// SHA-256 of its DER form, of an identity's of its text, in hex.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        match &self.0 {
            Trusted::Key(der) | Trusted::Certificate(der) => hex::encode(Sha256::digest(der)),
            Trusted::Sigstore(_) => hex::encode(Sha256::digest(self.text())),
        }
    }

    /// How it is kept: its PEM form in lines of 64; of an identity JSON with the
    /// trusted root.
    #[must_use]
    pub fn text(&self) -> String {
        match &self.0 {
            Trusted::Key(der) => pem("PUBLIC KEY", der),
            Trusted::Certificate(der) => pem("CERTIFICATE", der),
            Trusted::Sigstore(sigstore) => sigstore.text(),
        }
    }

    /// The identity, its issuer and the trusted root, if it is one.
    #[must_use]
    pub fn as_sigstore(&self) -> Option<&Sigstore> {
        match &self.0 {
            Trusted::Sigstore(sigstore) => Some(sigstore),
            Trusted::Key(_) | Trusted::Certificate(_) => None,
        }
    }

    /// The DER form of a key.
    pub(crate) fn key(&self) -> Option<&[u8]> {
        match &self.0 {
            Trusted::Key(der) => Some(der),
            Trusted::Certificate(_) | Trusted::Sigstore(_) => None,
        }
    }

    /// The DER form of a root certificate.
    pub(crate) fn certificate(&self) -> Option<&[u8]> {
        match &self.0 {
            Trusted::Certificate(der) => Some(der),
            Trusted::Key(_) | Trusted::Sigstore(_) => None,
        }
    }

    /// What a bundle calls a key: SHA-256 of its PEM form, in hex.
    pub(crate) fn hint(&self) -> String {
        hex::encode(Sha256::digest(self.text()))
    }
}

fn pem(label: &str, der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let mut pem = format!("-----BEGIN {label}-----\n");
    for line in text.as_bytes().chunks(64) {
        pem.push_str(&String::from_utf8_lossy(line));
        pem.push('\n');
    }
    pem.push_str(&format!("-----END {label}-----\n"));
    pem
}

/// Whether a key signed a message.
pub fn verified_by(key: &[u8], message: &[u8], signature: &[u8]) -> Result<bool, SignatureError> {
    let (algorithm, point) = point(key)?;
    Ok(UnparsedPublicKey::new(algorithm, point).verify(message, signature).is_ok())
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

/// What a PEM text holds under a label, if it holds one.
pub fn unwrapped(pem: &str, label: &str) -> Result<Vec<u8>, SignatureError> {
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
