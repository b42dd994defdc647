//! An entry of a transparency log (Rekor): when it was made, that the log holds
//! it (RFC 6962), and what it is about.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use super::KeylessError;
use super::trusted_root::Log;
use crate::anchor::unwrapped;
use crate::bundle::unpacked;
use crate::{SignatureError, malformed};

const BODY_BYTES_MAX: usize = 64 << 10;
const CHECKPOINT_BYTES_MAX: usize = 8 << 10;
/// A tree of 2^64 leaves is not deeper.
const HASHES_MAX: usize = 64;
const SIGNATURES_MAX: usize = 16;
/// Clocks may differ by so much.
const AHEAD_SECONDS_MAX: u64 = 300;

/// An entry, as a bundle holds it.
#[derive(Debug)]
pub struct Entry {
    /// Whose log it is.
    pub log: Vec<u8>,
    /// Its place among all logs of the service.
    pub index: u64,
    /// Seconds UTC.
    pub time: u64,
    body: Vec<u8>,
    promise: Vec<u8>,
    proof: Proof,
}

#[derive(Debug)]
struct Proof {
    /// Its place in the tree.
    index: u64,
    size: u64,
    root: Vec<u8>,
    hashes: Vec<Vec<u8>>,
    checkpoint: String,
}

/// What a bundle's entry should be about.
#[derive(Debug, Clone, Copy)]
pub struct Subject<'a> {
    pub payload_digest: &'a [u8; 32],
    pub signature: &'a [u8],
    pub certificate: &'a [u8],
}

/// Numbers of 64 bits are texts in protobuf's JSON.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Number {
    Plain(u64),
    Text(String),
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WireEntry {
    log_index: Number,
    log_id: WireId,
    kind_version: KindVersion,
    integrated_time: Option<Number>,
    inclusion_promise: Option<WirePromise>,
    inclusion_proof: Option<WireProof>,
    canonicalized_body: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireId {
    key_id: String,
}

#[derive(Debug, Deserialize)]
struct KindVersion {
    kind: String,
    version: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct WirePromise {
    signed_entry_timestamp: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireProof {
    log_index: Option<Number>,
    tree_size: Number,
    root_hash: String,
    #[serde(default)]
    hashes: Vec<String>,
    checkpoint: Option<WireCheckpoint>,
}

#[derive(Debug, Deserialize)]
struct WireCheckpoint {
    envelope: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Body {
    api_version: String,
    kind: String,
    spec: Spec,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Spec {
    payload_hash: Hash,
    signatures: Vec<BodySignature>,
}

#[derive(Debug, Deserialize)]
struct Hash {
    algorithm: String,
    value: String,
}

#[derive(Debug, Deserialize)]
struct BodySignature {
    signature: String,
    /// The certificate's PEM form, in base64.
    verifier: String,
}

fn number(number: Number) -> Result<u64, SignatureError> {
    match number {
        Number::Plain(number) => Ok(number),
        Number::Text(text) => {
            text.parse().map_err(|_| malformed("a number of its log entry is none"))
        }
    }
}

impl WireEntry {
    /// Unpacks it; entries of other kinds are refused with their names.
    pub fn read(self) -> Result<Entry, SignatureError> {
        let KindVersion { kind, version } = &self.kind_version;
        if (kind.as_str(), version.as_str()) != ("dsse", "0.0.1") {
            let shown: String = format!("{kind} {version}").chars().take(40).collect();
            let message = format!(
                "its log entry is of kind {shown:?}: only entries of kind \"dsse 0.0.1\" are verified"
            );
            return Err(SignatureError::Unsupported(message));
        }
        let time = self.integrated_time.map(number).transpose()?.filter(|time| *time > 0);
        let (Some(time), Some(promise)) = (time, self.inclusion_promise) else {
            let message = "its log entry has no signed time of its own: RFC 3161 timestamps alone are not verified";
            return Err(SignatureError::Unsupported(message.to_owned()));
        };
        let proof = self.inclusion_proof.ok_or_else(|| malformed("it has no inclusion proof"))?;
        let body = unpacked("log entry", &self.canonicalized_body)?;
        if body.len() > BODY_BYTES_MAX {
            let message = format!("its log entry is longer than {BODY_BYTES_MAX} bytes");
            return Err(malformed(message));
        }
        Ok(Entry {
            log: unpacked("log id", &self.log_id.key_id)?,
            index: number(self.log_index)?,
            time,
            body,
            promise: unpacked("signed entry timestamp", &promise.signed_entry_timestamp)?,
            proof: proof.read()?,
        })
    }
}

impl WireProof {
    fn read(self) -> Result<Proof, SignatureError> {
        let checkpoint = self.checkpoint.ok_or_else(|| malformed("its proof has no checkpoint"))?;
        if self.hashes.len() > HASHES_MAX || checkpoint.envelope.len() > CHECKPOINT_BYTES_MAX {
            return Err(malformed("its inclusion proof or its checkpoint is too long"));
        }
        let hashes = self.hashes.iter().map(|hash| unpacked("inclusion proof", hash));
        Ok(Proof {
            // The first of a tree: protobuf leaves zeros out.
            index: self.log_index.map(number).transpose()?.unwrap_or_default(),
            size: number(self.tree_size)?,
            root: unpacked("root hash", &self.root_hash)?,
            hashes: hashes.collect::<Result<_, _>>()?,
            checkpoint: checkpoint.envelope,
        })
    }
}

impl Entry {
    /// The log says that it took the entry at this time, which is no time to come.
    pub fn check_time(&self, log: &Log, now: u64) -> Result<(), KeylessError> {
        // As JSON's canonical form (RFC 8785) writes it.
        let message = format!(
            r#"{{"body":"{}","integratedTime":{},"logID":"{}","logIndex":{}}}"#,
            STANDARD.encode(&self.body),
            self.time,
            hex::encode(&self.log),
            self.index,
        );
        if !log.signed(message.as_bytes(), &self.promise) {
            return Err(KeylessError::EntryTimestamp);
        }
        if self.time > now.saturating_add(AHEAD_SECONDS_MAX) || !log.valid.contains(self.time) {
            return Err(KeylessError::EntryTime(self.time));
        }
        Ok(())
    }

    /// The tree that the log signed holds the entry.
    pub fn check_included(&self, log: &Log) -> Result<(), KeylessError> {
        let leaf = hashed(&[&[0], &self.body]);
        if self.proof.leads_from(leaf) != Some(true) {
            return Err(KeylessError::InclusionProof);
        }
        self.proof.check_checkpoint(log)
    }

    /// It is about this payload, signature and certificate, and no other.
    pub fn check_about(&self, subject: Subject<'_>) -> Result<(), KeylessError> {
        let other = |what: &'static str| Err(KeylessError::OtherEntry(what));
        let Ok(body) = serde_json::from_slice::<Body>(&self.body) else {
            return other("it can't be read");
        };
        if (body.kind.as_str(), body.api_version.as_str()) != ("dsse", "0.0.1") {
            return other("it is of another kind than the bundle says");
        }
        let hash = body.spec.payload_hash;
        if hash.algorithm != "sha256" || hash.value != hex::encode(subject.payload_digest) {
            return other("it is about another payload");
        }
        let [signed] = &body.spec.signatures[..] else {
            return other("it has not one signature");
        };
        if STANDARD.decode(&signed.signature).ok().as_deref() != Some(subject.signature) {
            return other("it is about another signature");
        }
        let verifier = STANDARD.decode(&signed.verifier).ok();
        let verifier = verifier.and_then(|pem| String::from_utf8(pem).ok());
        let verifier = verifier.and_then(|pem| unwrapped(&pem, "CERTIFICATE").ok());
        if verifier.as_deref() != Some(subject.certificate) {
            return other("it is about another certificate");
        }
        Ok(())
    }
}

impl Proof {
    /// Whether the hashes lead from a leaf to the root (RFC 9162, 2.1.3.2).
    fn leads_from(&self, leaf: [u8; 32]) -> Option<bool> {
        if self.index >= self.size {
            return None;
        }
        let (mut at, mut last) = (self.index, self.size - 1);
        let mut hash = leaf;
        for sibling in &self.hashes {
            if last == 0 || sibling.len() != 32 {
                return None;
            }
            if at & 1 == 1 || at == last {
                hash = hashed(&[&[1], sibling, &hash]);
                while at & 1 == 0 && at != 0 {
                    (at, last) = (at >> 1, last >> 1);
                }
            } else {
                hash = hashed(&[&[1], &hash, sibling]);
            }
            (at, last) = (at >> 1, last >> 1);
        }
        Some(last == 0 && self.root == hash)
    }

    /// The log signed this root of this size: a note with a name, a size, a root,
    /// then signatures.
    fn check_checkpoint(&self, log: &Log) -> Result<(), KeylessError> {
        let wrong = || KeylessError::Checkpoint;
        let (text, signatures) = self.checkpoint.split_once("\n\n").ok_or_else(wrong)?;
        let note = self.checkpoint.get(..=text.len()).ok_or_else(wrong)?;
        let mut lines = text.lines().skip(1);
        let size = lines.next().and_then(|line| line.parse::<u64>().ok());
        let root = lines.next().and_then(|line| STANDARD.decode(line).ok());
        if size != Some(self.size) || root.as_ref() != Some(&self.root) {
            return Err(wrong());
        }
        let hint = log.id.get(..4).ok_or_else(wrong)?;
        let holds = signatures.lines().take(SIGNATURES_MAX).any(|line| {
            let signature = line.strip_prefix("\u{2014} ").and_then(|rest| rest.split_once(' '));
            let signature = signature.and_then(|(_, text)| STANDARD.decode(text).ok());
            let signature = signature.as_deref().and_then(|bytes| bytes.strip_prefix(hint));
            signature.is_some_and(|signature| log.signed(note.as_bytes(), signature))
        });
        if holds { Ok(()) } else { Err(wrong()) }
    }
}

fn hashed(parts: &[&[u8]]) -> [u8; 32] {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update(part);
    }
    hash.finalize().into()
}
