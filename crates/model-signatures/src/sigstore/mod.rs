//! Signatures without a key to keep: Fulcio certifies a key of minutes for who
//! signed in somewhere, Rekor logs what was signed with it. All is verified with
//! what a trusted root says; nobody is asked.

mod certificate;
mod entry;
mod time;
mod trusted_root;

#[cfg(test)]
mod tests;

use std::time::Duration;

use rustls_pki_types::{CertificateDer, SignatureVerificationAlgorithm, TrustAnchor, UnixTime};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use webpki::{EndEntityCert, Error, KeyUsage, anchor_from_trusted_cert};

use self::certificate::Certificate;
pub use self::entry::{Entry, Subject, WireEntry};
pub use self::trusted_root::ROOT_BYTES_MAX;
use self::trusted_root::{Authority, TrustedRoot};
use crate::bundle::{CHAIN, CODE_SIGNING};
use crate::{SignatureError, malformed};

const NAME_BYTES_MAX: usize = 1_000;

/// Why a signature without a key does not hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeylessError {
    /// Another Sigstore's log holds its entry.
    #[error("its log is none of the trusted root's")]
    UnknownLog,
    #[error("its log entry's timestamp is not signed by the log")]
    EntryTimestamp,
    #[error("its log entry's time, {0} seconds since 1970, is to come or is none of the log's")]
    EntryTime(u64),
    #[error("its certificate can't be read")]
    Certificate,
    /// Another Sigstore's authority made its certificate.
    #[error("its certificate is of no authority of the trusted root")]
    UnknownAuthority,
    #[error("its certificate does not hold: {0}")]
    Chain(String),
    #[error("its certificate was not valid when its entry was logged: {0}")]
    CertificateTime(String),
    #[error("its certificate was not made to sign code")]
    Usage,
    #[error("it was signed by {found}, not by {expected:?}")]
    OtherIdentity { expected: String, found: String },
    #[error("its signer was vouched for by {found}, not by {expected:?}")]
    OtherIssuer { expected: String, found: String },
    #[error("no certificate log of the trusted root knows its certificate")]
    NoCertificateLog,
    #[error("its certificate's timestamp is not signed by the certificate log")]
    CertificateTimestamp,
    #[error("its inclusion proof does not lead to the log's root")]
    InclusionProof,
    #[error("its log's checkpoint is of another tree, or is not signed by the log")]
    Checkpoint,
    #[error("its log entry is not this signature's: {0}")]
    OtherEntry(&'static str),
    #[error("its signature is not that of its certificate")]
    Signature,
}

impl KeylessError {
    /// Whether it says no more than that it is somebody else's: another anchor may
    /// vouch for it.
    #[must_use]
    pub const fn is_stranger(&self) -> bool {
        matches!(
            self,
            Self::UnknownLog
                | Self::UnknownAuthority
                | Self::OtherIdentity { .. }
                | Self::OtherIssuer { .. }
        )
    }
}

/// Who should have signed, and which Sigstore may say so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sigstore {
    /// E-mail address or URI.
    pub identity: String,
    /// Who vouches for the identity: a URL of an `OpenID` Connect issuer.
    pub issuer: String,
    /// As it came: `trusted_root.json`.
    pub trusted_root: String,
    root: TrustedRoot,
}

/// How it is kept.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Stored {
    identity: String,
    issuer: String,
    trusted_root: String,
}

/// What a bundle without a key holds.
#[derive(Debug, Clone, Copy)]
pub struct Signed<'a> {
    pub entry: &'a Entry,
    pub subject: Subject<'a>,
    /// What the signature is of.
    pub message: &'a [u8],
}

impl Sigstore {
    /// Reads a trusted root and takes names as they are.
    pub fn new(trusted_root: &str, identity: &str, issuer: &str) -> Result<Self, SignatureError> {
        for (what, name) in [("identity", identity), ("issuer", issuer)] {
            if name.is_empty() || name.len() > NAME_BYTES_MAX {
                let message = format!("its {what} is empty or longer than {NAME_BYTES_MAX} bytes");
                return Err(malformed(message));
            }
        }
        let root = TrustedRoot::read(trusted_root)?;
        for der in root.authorities.iter().flat_map(|authority| &authority.chain) {
            anchor_from_trusted_cert(&CertificateDer::from(der.as_slice()))
                .map_err(|error| malformed(format!("a certificate of it is none: {error}")))?;
        }
        let (identity, issuer) = (identity.to_owned(), issuer.to_owned());
        Ok(Self { identity, issuer, trusted_root: trusted_root.to_owned(), root })
    }

    /// Reads what `text` wrote.
    pub fn stored(text: &str) -> Result<Self, SignatureError> {
        let stored: Stored = serde_json::from_str(text)
            .map_err(|error| malformed(format!("it is no stored Sigstore anchor: {error}")))?;
        Self::new(&stored.trusted_root, &stored.identity, &stored.issuer)
    }

    /// How it is kept, and what its fingerprint is of.
    pub fn text(&self) -> String {
        serde_json::json!({
            "identity": self.identity,
            "issuer": self.issuer,
            "trustedRoot": self.trusted_root,
        })
        .to_string()
    }

    /// Verifies each part of a bundle; answers who signed, in words. First what
    /// tells whether it is this anchor's matter at all.
    pub fn verify(&self, signed: Signed<'_>, now: u64) -> Result<String, KeylessError> {
        let Signed { entry, subject, message } = signed;
        let log = self.root.logs.iter().find(|log| log.id == entry.log);
        let log = log.ok_or(KeylessError::UnknownLog)?;
        entry.check_time(log, now)?;
        let der = CertificateDer::from(subject.certificate);
        let leaf = EndEntityCert::try_from(&der).map_err(|_| KeylessError::Certificate)?;
        let above = self.issuer_key(&leaf, entry.time)?;
        let certificate = Certificate::read(&der)?;
        certificate.check_usage()?;
        self.check_names(&certificate)?;
        certificate.check_logged(&above, &self.root.certificate_logs)?;
        entry.check_included(log)?;
        entry.check_about(subject)?;
        let algorithms: [&dyn SignatureVerificationAlgorithm; 2] =
            [webpki::ring::ECDSA_P256_SHA256, webpki::ring::ECDSA_P384_SHA384];
        let holds = |algorithm: &&dyn SignatureVerificationAlgorithm| {
            leaf.verify_signature(*algorithm, message, subject.signature).is_ok()
        };
        if !algorithms.iter().any(holds) {
            return Err(KeylessError::Signature);
        }
        let digest = hex::encode(Sha256::digest(subject.certificate));
        let (identity, issuer, index) = (&self.identity, &self.issuer, entry.index);
        Ok(format!("{identity} (issuer {issuer}, log entry {index}, sha256:{digest})"))
    }

    /// The key of who signed the certificate: an authority that was trusted when
    /// the entry was logged.
    fn issuer_key(&self, leaf: &EndEntityCert<'_>, at: u64) -> Result<Vec<u8>, KeylessError> {
        let mut outcome = KeylessError::UnknownAuthority;
        for authority in self.root.authorities.iter().filter(|of| of.valid.contains(at)) {
            match signed_by(leaf, authority, at) {
                Ok(der) => return Ok(Certificate::read(&der)?.key.to_vec()),
                Err(Error::UnknownIssuer) => {}
                Err(error @ (Error::CertExpired { .. } | Error::CertNotValidYet { .. })) => {
                    outcome = KeylessError::CertificateTime(error.to_string());
                }
                Err(error) => outcome = KeylessError::Chain(error.to_string()),
            }
        }
        Err(outcome)
    }

    fn check_names(&self, certificate: &Certificate<'_>) -> Result<(), KeylessError> {
        let found = certificate.identities();
        if !found.contains(&self.identity.as_str()) {
            let found: String = format!("{found:?}").chars().take(NAME_BYTES_MAX).collect();
            return Err(KeylessError::OtherIdentity { expected: self.identity.clone(), found });
        }
        let found = certificate.issuer();
        if found != Some(self.issuer.as_str()) {
            let found = found.map_or("nobody".to_owned(), |found| format!("{found:?}"));
            let found = found.chars().take(NAME_BYTES_MAX).collect();
            return Err(KeylessError::OtherIssuer { expected: self.issuer.clone(), found });
        }
        Ok(())
    }
}

/// The certificate of who signed a leaf, if an authority's chain leads there.
fn signed_by(leaf: &EndEntityCert<'_>, authority: &Authority, at: u64) -> Result<Vec<u8>, Error> {
    let chain: Vec<CertificateDer<'_>> =
        authority.chain.iter().map(|der| CertificateDer::from(der.as_slice())).collect();
    let (root, above) = chain.split_last().ok_or(Error::UnknownIssuer)?;
    let roots: [TrustAnchor<'_>; 1] = [anchor_from_trusted_cert(root)?];
    let time = UnixTime::since_unix_epoch(Duration::from_secs(at));
    let usage = KeyUsage::required_if_present(CODE_SIGNING);
    let path = leaf.verify_for_usage(CHAIN, &roots, above, time, usage, None, None)?;
    let first = path.intermediate_certificates().next().map(|above| above.der().to_vec());
    Ok(first.unwrap_or_else(|| root.to_vec()))
}
