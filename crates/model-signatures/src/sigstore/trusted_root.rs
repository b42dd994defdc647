//! `trusted_root.json` of a Sigstore: its authorities and its logs, each with the
//! time that it counts for.

use serde::Deserialize;

use super::time;
use crate::anchor::verified_by;
use crate::bundle::unpacked;
use crate::{SignatureError, malformed};

/// Bytes of it: a hundred fit into an answer.
pub const ROOT_BYTES_MAX: usize = 32 << 10;
const MEDIA_TYPES: [&str; 2] = [
    "application/vnd.dev.sigstore.trustedroot+json;version=0.1",
    "application/vnd.dev.sigstore.trustedroot.v0.2+json",
];
const CHAIN_MAX: usize = 8;

/// Authorities and logs that are trusted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrustedRoot {
    pub authorities: Vec<Authority>,
    /// Of signatures (Rekor).
    pub logs: Vec<Log>,
    /// Of certificates (RFC 6962).
    pub certificate_logs: Vec<Log>,
}

/// Who makes certificates: from who signs them to the root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Authority {
    pub chain: Vec<Vec<u8>>,
    pub valid: Period,
}

/// A log and its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Log {
    pub id: Vec<u8>,
    key: Vec<u8>,
    pub valid: Period,
}

/// Seconds UTC; both ends belong to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Period {
    start: u64,
    end: Option<u64>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Wire {
    media_type: String,
    #[serde(default)]
    tlogs: Vec<WireLog>,
    #[serde(default)]
    certificate_authorities: Vec<WireAuthority>,
    #[serde(default)]
    ctlogs: Vec<WireLog>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireLog {
    public_key: WireKey,
    log_id: WireId,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireKey {
    raw_bytes: String,
    valid_for: WirePeriod,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireId {
    key_id: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireAuthority {
    cert_chain: WireChain,
    valid_for: WirePeriod,
}

#[derive(Debug, Deserialize)]
struct WireChain {
    certificates: Vec<WireCertificate>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireCertificate {
    raw_bytes: String,
}

#[derive(Debug, Deserialize)]
struct WirePeriod {
    start: String,
    end: Option<String>,
}

impl TrustedRoot {
    /// Reads its JSON.
    pub fn read(text: &str) -> Result<Self, SignatureError> {
        if text.len() > ROOT_BYTES_MAX {
            return Err(malformed(format!("it is longer than {ROOT_BYTES_MAX} bytes")));
        }
        let wire: Wire = serde_json::from_str(text)
            .map_err(|error| malformed(format!("it is no Sigstore trusted root: {error}")))?;
        if !MEDIA_TYPES.contains(&wire.media_type.as_str()) {
            let shown: String = wire.media_type.chars().take(80).collect();
            let message = format!("it is {shown:?}, not {}", MEDIA_TYPES[0]);
            return Err(SignatureError::Unsupported(message));
        }
        let logs = |logs: Vec<WireLog>| logs.into_iter().map(log).collect::<Result<Vec<_>, _>>();
        let root = Self {
            authorities: wire
                .certificate_authorities
                .into_iter()
                .map(authority)
                .collect::<Result<_, _>>()?,
            logs: logs(wire.tlogs)?,
            certificate_logs: logs(wire.ctlogs)?,
        };
        let lists =
            [root.authorities.is_empty(), root.logs.is_empty(), root.certificate_logs.is_empty()];
        if lists.contains(&true) {
            return Err(malformed("it names no certificate authority, no tlog or no ctlog"));
        }
        Ok(root)
    }
}

impl Log {
    /// Whether it signed a message. Logs of other keys than ECDSA's sign nothing
    /// that is verified here.
    pub fn signed(&self, message: &[u8], signature: &[u8]) -> bool {
        verified_by(&self.key, message, signature).unwrap_or(false)
    }
}

impl Period {
    /// Whether a time is in it.
    pub fn contains(self, at: u64) -> bool {
        self.start <= at && self.end.is_none_or(|end| at <= end)
    }
}

fn log(wire: WireLog) -> Result<Log, SignatureError> {
    Ok(Log {
        id: unpacked("log id", &wire.log_id.key_id)?,
        key: unpacked("log key", &wire.public_key.raw_bytes)?,
        valid: period(&wire.public_key.valid_for)?,
    })
}

fn authority(wire: WireAuthority) -> Result<Authority, SignatureError> {
    let chain = wire.cert_chain.certificates;
    if chain.is_empty() || chain.len() > CHAIN_MAX {
        let message = format!("an authority has no certificate, or more than {CHAIN_MAX}");
        return Err(malformed(message));
    }
    let chain = chain.iter().map(|of| unpacked("certificate", &of.raw_bytes));
    Ok(Authority { chain: chain.collect::<Result<_, _>>()?, valid: period(&wire.valid_for)? })
}

fn period(wire: &WirePeriod) -> Result<Period, SignatureError> {
    let at = |text: &str| {
        let shown = || text.chars().take(40).collect::<String>();
        time::seconds(text).ok_or_else(|| malformed(format!("{:?} is no time in UTC", shown())))
    };
    Ok(Period { start: at(&wire.start)?, end: wire.end.as_deref().map(at).transpose()? })
}
