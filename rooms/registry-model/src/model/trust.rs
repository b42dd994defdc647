//! What is known of a version's files and of who signed them.

use std::fmt;

use ids::{EventId, PrincipalId};

use super::{Digest, FileEntry, ScanVerdict};

/// Signatures of one version.
pub const SIGNATURES_MAX: usize = 20;
/// Keys and roots of a namespace.
pub const SIGNING_KEYS_MAX: usize = 100;
/// Bytes of a bundle: one fits into an answer.
pub const BUNDLE_BYTES_MAX: usize = 3 << 20;

/// Which bytes under which ending of a name: what a verdict is bound to, beside
/// the scanner's version.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ScanKey {
    pub digest: Digest,
    pub ending: String,
}

/// One thing that a scanner found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    pub severity: ScanVerdict,
    pub reason: String,
    pub member: String,
    pub global: String,
    /// From the member's begin, unpacked.
    pub at_byte: i64,
    pub message: String,
}

/// What a scanner said of some bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scan {
    pub format: String,
    pub verdict: ScanVerdict,
    /// Microseconds UTC.
    pub at: i64,
    /// Empty where they were not asked for.
    pub findings: Vec<Finding>,
}

/// A file of a version, and what the scanner said of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileScan {
    pub file: FileEntry,
    /// `None`: it was not scanned by this scanner.
    pub scan: Option<Scan>,
}

impl FileScan {
    /// The verdict, `None` without one.
    #[must_use]
    pub fn verdict(&self) -> ScanVerdict {
        self.scan.as_ref().map_or(ScanVerdict::None, |scan| scan.verdict)
    }
}

/// A file of a version whose bytes are not where they were kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LostFile {
    pub path: String,
    pub message: String,
}

impl fmt::Display for LostFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.message)
    }
}

/// The worse of two verdicts.
#[must_use]
pub fn worse(one: ScanVerdict, other: ScanVerdict) -> ScanVerdict {
    if other.rank() > one.rank() { other } else { one }
}

/// A key, a root certificate or an identity that is trusted in a namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SigningKey {
    /// SHA-256 of its DER form, of an identity's of its text, in hex.
    pub fingerprint: String,
    pub name: String,
    /// PEM, or of an identity JSON with its trusted root.
    pub text: String,
    pub at: i64,
}

/// A signature of a version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signature {
    pub id: EventId,
    pub bundle: Vec<u8>,
    pub standing: Standing,
    pub at: i64,
    pub added_by: PrincipalId,
}

/// Whether a signature counts.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Standing {
    pub verified: bool,
    /// Of the anchor that vouches.
    pub key_fingerprint: String,
    /// The signer's certificate or identity, or why it does not count.
    pub message: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_verdict_is_the_version_s() {
        use ScanVerdict as Is;
        let order =
            [Is::Clean, Is::None, Is::Unknown, Is::Suspicious, Is::Unreadable, Is::Dangerous];
        for pair in order.windows(2) {
            assert_eq!(worse(pair[0], pair[1]), pair[1]);
            assert_eq!(worse(pair[1], pair[0]), pair[1]);
        }
    }
}
