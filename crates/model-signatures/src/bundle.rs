//! A bundle: the envelope around a statement, and who says that it is theirs.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustls_pki_types::{CertificateDer, SignatureVerificationAlgorithm, UnixTime};
use serde::Deserialize;
use sha2::{Digest as _, Sha256};
use webpki::{EndEntityCert, KeyUsage, anchor_from_trusted_cert};

use crate::anchor::{Anchor, verified_by};
use crate::sigstore::{Entry, Signed, Subject, WireEntry};
use crate::statement::{Resource, Statement};
use crate::{SignatureError, malformed};

/// Bytes of a bundle: a statement of 100,000 files is not larger.
pub const BUNDLE_BYTES_MAX: usize = 16 << 20;
const MEDIA_TYPE: &str = "application/vnd.dev.sigstore.bundle.v0.3+json";
const PAYLOAD_TYPE: &str = "application/vnd.in-toto+json";
const CERTIFICATES_MAX: usize = 8;
/// id-kp-codeSigning, 1.3.6.1.5.5.7.3.3
pub const CODE_SIGNING: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 3, 3];
/// How chains are signed.
pub const CHAIN: &[&dyn SignatureVerificationAlgorithm] = &[
    webpki::ring::ECDSA_P256_SHA256,
    webpki::ring::ECDSA_P256_SHA384,
    webpki::ring::ECDSA_P384_SHA256,
    webpki::ring::ECDSA_P384_SHA384,
    webpki::ring::ED25519,
    webpki::ring::RSA_PKCS1_2048_8192_SHA256,
    webpki::ring::RSA_PKCS1_2048_8192_SHA384,
    webpki::ring::RSA_PKCS1_2048_8192_SHA512,
];

/// Who signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signer {
    /// Of the anchor that vouches.
    pub anchor: String,
    /// SHA-256 of the certificate's DER form and its common name, or the identity and
    /// its issuer; empty for a key.
    pub certificate: String,
}

/// A bundle whose parts were read. What it states counts once it is verified.
#[derive(Debug)]
pub struct Bundle {
    statement: Statement,
    message: Vec<u8>,
    signature: Vec<u8>,
    signed_by: SignedBy,
}

#[derive(Debug)]
enum SignedBy {
    /// SHA-256 of the key's PEM form; empty: the bundle does not say.
    Key(String),
    /// The signer's certificate, then those that lead on.
    Certificates(Vec<Vec<u8>>),
    /// A certificate of minutes, and the log's entry of what was signed with it.
    Identity(Box<Identity>),
}

#[derive(Debug)]
struct Identity {
    certificate: Vec<u8>,
    entry: Entry,
    payload_digest: [u8; 32],
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Wire {
    media_type: String,
    verification_material: Material,
    dsse_envelope: Option<Envelope>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Material {
    public_key: Option<KeyHint>,
    x509_certificate_chain: Option<Chain>,
    certificate: Option<Certificate>,
    #[serde(default)]
    tlog_entries: Vec<WireEntry>,
}

#[derive(Debug, Deserialize)]
struct KeyHint {
    hint: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Chain {
    certificates: Vec<Certificate>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Certificate {
    raw_bytes: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Envelope {
    payload: String,
    payload_type: String,
    signatures: Vec<EnvelopeSignature>,
}

#[derive(Debug, Deserialize)]
struct EnvelopeSignature {
    sig: String,
}

/// The bytes of a base64 text.
pub fn unpacked(what: &str, text: &str) -> Result<Vec<u8>, SignatureError> {
    STANDARD.decode(text).map_err(|_| malformed(format!("its {what} is no base64")))
}

impl Bundle {
    /// Reads a bundle's JSON.
    ///
    /// # Errors
    /// `Malformed` and `Unsupported`.
    pub fn read(bytes: &[u8]) -> Result<Self, SignatureError> {
        if bytes.len() > BUNDLE_BYTES_MAX {
            return Err(malformed(format!("it is longer than {BUNDLE_BYTES_MAX} bytes")));
        }
        let wire: Wire = serde_json::from_slice(bytes)
            .map_err(|error| malformed(format!("it is no Sigstore bundle: {error}")))?;
        if wire.media_type != MEDIA_TYPE {
            let shown: String = wire.media_type.chars().take(80).collect();
            return Err(SignatureError::Unsupported(format!("it is {shown:?}, not {MEDIA_TYPE}")));
        }
        let envelope = wire.dsse_envelope.ok_or_else(|| malformed("it has no DSSE envelope"))?;
        if envelope.payload_type != PAYLOAD_TYPE {
            return Err(malformed("its envelope holds no in-toto statement"));
        }
        let [signature] = &envelope.signatures[..] else {
            return Err(malformed("its envelope has not one signature"));
        };
        let payload = unpacked("payload", &envelope.payload)?;
        Ok(Self {
            statement: Statement::read(&payload)?,
            signature: unpacked("signature", &signature.sig)?,
            signed_by: signed_by(wire.verification_material, &payload)?,
            message: wrapped(&payload),
        })
    }

    /// What the signer calls the model.
    #[must_use]
    pub fn model(&self) -> &str {
        &self.statement.model
    }

    /// How many files are signed.
    #[must_use]
    pub fn file_count(&self) -> usize {
        self.statement.resources.len()
    }

    /// Compares what is stated with the files that there are.
    ///
    /// # Errors
    /// `OtherFiles`.
    pub fn compare(&self, files: &[Resource]) -> Result<(), SignatureError> {
        self.statement.compare(files)
    }

    /// Finds the anchor that vouches for the signature, at a time in seconds UTC.
    ///
    /// # Errors
    /// `UnknownSigner` if none of the anchors is the signer's, `Wrong` if one is
    /// and the signature or a certificate does not hold.
    pub fn verify(&self, anchors: &[Anchor], at: u64) -> Result<Signer, SignatureError> {
        match &self.signed_by {
            SignedBy::Key(hint) => self.verify_key(hint, anchors),
            SignedBy::Certificates(chain) => self.verify_chain(chain, anchors, at),
            SignedBy::Identity(identity) => self.verify_identity(identity, anchors, at),
        }
    }

    fn verify_key(&self, hint: &str, anchors: &[Anchor]) -> Result<Signer, SignatureError> {
        let mut tried = 0;
        for anchor in anchors {
            let Some(key) = anchor.key().filter(|_| hint.is_empty() || anchor.hint() == hint)
            else {
                continue;
            };
            tried += 1;
            if verified_by(key, &self.message, &self.signature)? {
                let anchor = anchor.fingerprint();
                return Ok(Signer { anchor, certificate: String::new() });
            }
        }
        if tried > 0 && !hint.is_empty() {
            return Err(SignatureError::Wrong("its signature is not that of its key".to_owned()));
        }
        let message = "no key that is trusted here is its signer's: add the signer's public key";
        Err(SignatureError::UnknownSigner(message.to_owned()))
    }

    fn verify_chain(
        &self,
        chain: &[Vec<u8>],
        anchors: &[Anchor],
        at: u64,
    ) -> Result<Signer, SignatureError> {
        let wrong =
            |what: &str, error: webpki::Error| SignatureError::Wrong(format!("{what}: {error}"));
        let [leaf, above @ ..] = chain else { return Err(malformed("it has no certificate")) };
        let leaf_der = CertificateDer::from(leaf.as_slice());
        let leaf = EndEntityCert::try_from(&leaf_der)
            .map_err(|error| wrong("its certificate can't be read", error))?;
        let above: Vec<CertificateDer<'_>> =
            above.iter().map(|der| CertificateDer::from(der.as_slice())).collect();
        let time = UnixTime::since_unix_epoch(std::time::Duration::from_secs(at));
        let mut last = None;
        for anchor in anchors {
            let Some(root) = anchor.certificate().map(CertificateDer::from) else { continue };
            let Ok(root) = anchor_from_trusted_cert(&root) else { continue };
            let usage = KeyUsage::required_if_present(CODE_SIGNING);
            let roots = [root];
            match leaf.verify_for_usage(CHAIN, &roots, &above, time, usage, None, None) {
                Ok(_) => {
                    self.verify_leaf(&leaf)?;
                    let certificate = described(&leaf_der);
                    return Ok(Signer { anchor: anchor.fingerprint(), certificate });
                }
                // Another's root.
                Err(webpki::Error::UnknownIssuer | webpki::Error::InvalidSignatureForPublicKey) => {
                }
                Err(error) => last = Some(error),
            }
        }
        match last {
            Some(error) => Err(wrong("its certificate does not hold", error)),
            None => {
                let message = "no root certificate that is trusted here vouches for its signer: add the signer's root";
                Err(SignatureError::UnknownSigner(message.to_owned()))
            }
        }
    }

    fn verify_identity(
        &self,
        identity: &Identity,
        anchors: &[Anchor],
        at: u64,
    ) -> Result<Signer, SignatureError> {
        let Identity { certificate, entry, payload_digest } = identity;
        let subject = Subject { payload_digest, signature: &self.signature, certificate };
        let signed = Signed { entry, subject, message: &self.message };
        let (mut wrong, mut stranger) = (None, None);
        for anchor in anchors {
            let Some(sigstore) = anchor.as_sigstore() else { continue };
            match sigstore.verify(signed, at) {
                Ok(certificate) => return Ok(Signer { anchor: anchor.fingerprint(), certificate }),
                Err(error) if error.is_stranger() => stranger = Some(error),
                Err(error) => wrong = Some(error),
            }
        }
        // What this anchor refutes weighs more than what that one does not know.
        Err(wrong.or(stranger).map_or_else(
            || {
                let message = "it was signed without a key, by whom nobody here trusts: add the signer's identity with a Sigstore root";
                SignatureError::UnknownSigner(message.to_owned())
            },
            SignatureError::Keyless,
        ))
    }

    fn verify_leaf(&self, leaf: &EndEntityCert<'_>) -> Result<(), SignatureError> {
        let algorithms: [&dyn SignatureVerificationAlgorithm; 2] =
            [webpki::ring::ECDSA_P256_SHA256, webpki::ring::ECDSA_P384_SHA384];
        for algorithm in algorithms {
            if leaf.verify_signature(algorithm, &self.message, &self.signature).is_ok() {
                return Ok(());
            }
        }
        let message =
            "its signature is not that of its certificate (keys on P-256 and P-384 are verified)";
        Err(SignatureError::Wrong(message.to_owned()))
    }
}

fn signed_by(material: Material, payload: &[u8]) -> Result<SignedBy, SignatureError> {
    if let Some(chain) = material.x509_certificate_chain {
        if chain.certificates.is_empty() || chain.certificates.len() > CERTIFICATES_MAX {
            let message = format!("it has no certificate, or more than {CERTIFICATES_MAX}");
            return Err(malformed(message));
        }
        let chain = chain.certificates.iter();
        let chain = chain.map(|of| unpacked("certificate", &of.raw_bytes));
        return Ok(SignedBy::Certificates(chain.collect::<Result<_, _>>()?));
    }
    if let Some(key) = material.public_key {
        return Ok(SignedBy::Key(key.hint.unwrap_or_default()));
    }
    if let Some(certificate) = material.certificate {
        let certificate = unpacked("certificate", &certificate.raw_bytes)?;
        let mut entries = material.tlog_entries.into_iter();
        let (Some(entry), None) = (entries.next(), entries.next()) else {
            return Err(malformed("it has not one entry of a transparency log"));
        };
        let payload_digest = Sha256::digest(payload).into();
        let identity = Identity { certificate, entry: entry.read()?, payload_digest };
        return Ok(SignedBy::Identity(Box::new(identity)));
    }
    Err(malformed("it does not say who signed it"))
}

/// What is signed of a payload (DSSE's pre-authentication encoding).
pub fn wrapped(payload: &[u8]) -> Vec<u8> {
    let head = format!("DSSEv1 {} {PAYLOAD_TYPE} {} ", PAYLOAD_TYPE.len(), payload.len());
    [head.as_bytes(), payload].concat()
}

/// A certificate's SHA-256, and its common name where it is plain.
fn described(certificate: &[u8]) -> String {
    const COMMON_NAME: &[u8] = &[6, 3, 0x55, 4, 3];
    let digest = hex::encode(Sha256::digest(certificate));
    // The subject's stands behind the issuer's.
    let mut places = certificate.windows(COMMON_NAME.len()).enumerate();
    let last = places.rfind(|(_, window)| *window == COMMON_NAME).map(|(at, _)| at + 5);
    let name = last.and_then(|at| match certificate.get(at..)? {
        [_, length @ 0..=127, rest @ ..] => {
            std::str::from_utf8(rest.get(..usize::from(*length))?).ok()
        }
        _ => None,
    });
    match name.filter(|name| !name.chars().any(char::is_control)) {
        Some(name) => format!("{name} (sha256:{digest})"),
        None => format!("sha256:{digest}"),
    }
}
