//! What is signed: an in-toto statement with a digest of each file.

use std::collections::BTreeMap;

use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use crate::{SignatureError, malformed};

const STATEMENT: &str = "https://in-toto.io/Statement/v1";
const PREDICATE: &str = "https://model_signing/signature/v1.0";
const RESOURCES_MAX: usize = 100_000;
const IGNORED_MAX: usize = 1_000;

/// A file and its SHA-256.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resource {
    /// Below the model's directory.
    pub name: String,
    pub digest: [u8; 32],
}

/// What a signer says of a model's files.
#[derive(Debug)]
pub struct Statement {
    pub model: String,
    pub resources: BTreeMap<String, [u8; 32]>,
    ignored: Vec<String>,
}

#[derive(Debug, Deserialize)]
struct Wire {
    #[serde(rename = "_type")]
    kind: String,
    subject: Vec<Subject>,
    #[serde(rename = "predicateType")]
    predicate_type: String,
    predicate: Predicate,
}

#[derive(Debug, Deserialize)]
struct Subject {
    #[serde(default)]
    name: String,
    digest: BTreeMap<String, String>,
}

#[derive(Debug, Deserialize)]
struct Predicate {
    serialization: Serialization,
    resources: Vec<Entry>,
}

#[derive(Debug, Deserialize)]
struct Serialization {
    method: String,
    #[serde(default)]
    ignore_paths: Vec<String>,
}

#[derive(Debug, Deserialize)]
struct Entry {
    name: String,
    algorithm: String,
    digest: String,
}

impl Statement {
    /// Reads a statement and compares it with itself: its root digest is that of
    /// its files.
    pub fn read(payload: &[u8]) -> Result<Self, SignatureError> {
        let wire: Wire = serde_json::from_slice(payload)
            .map_err(|error| malformed(format!("its statement can't be read: {error}")))?;
        if wire.kind != STATEMENT || wire.predicate_type != PREDICATE {
            let message = format!("it is no statement of kind {PREDICATE}");
            return Err(SignatureError::Unsupported(message));
        }
        let method = &wire.predicate.serialization.method;
        if method != "files" {
            let shown: String = method.chars().take(32).collect();
            let message = format!(
                "it is signed by {shown:?}: only digests of whole files are compared; sign without shards"
            );
            return Err(SignatureError::Unsupported(message));
        }
        let [subject] = &wire.subject[..] else {
            return Err(malformed("its statement is not about one model"));
        };
        if wire.predicate.resources.len() > RESOURCES_MAX {
            return Err(malformed(format!("it is of more than {RESOURCES_MAX} files")));
        }
        let mut root = Sha256::new();
        let mut resources = BTreeMap::new();
        for entry in wire.predicate.resources {
            let Resource { name, digest } = resource(entry)?;
            root.update(digest);
            if resources.insert(name, digest).is_some() {
                return Err(malformed("its statement names a file twice"));
            }
        }
        let root = hex::encode(root.finalize());
        if subject.digest.get("sha256").is_none_or(|digest| *digest != root) {
            return Err(malformed("its statement's root digest is not that of its files"));
        }
        let mut ignored = wire.predicate.serialization.ignore_paths;
        ignored.truncate(IGNORED_MAX);
        Ok(Self { model: subject.name.clone(), resources, ignored })
    }

    /// Compares it with the files that there are: each is signed as it is, and
    /// each that is signed is there.
    pub fn compare(&self, files: &[Resource]) -> Result<(), SignatureError> {
        let other = |message: String| Err(SignatureError::OtherFiles(message));
        let mut found = 0;
        for file in files {
            let shown: String = file.name.chars().take(200).collect();
            match self.resources.get(&file.name) {
                Some(digest) if *digest == file.digest => found += 1,
                Some(_) => {
                    return other(format!("{shown:?} is not the file that was signed"));
                }
                None if self.left_out(&file.name) => {}
                None => return other(format!("{shown:?} was not signed")),
            }
        }
        if found < self.resources.len() {
            let names: std::collections::BTreeSet<&str> =
                files.iter().map(|file| file.name.as_str()).collect();
            let absent = self.resources.keys().find(|name| !names.contains(name.as_str()));
            let shown: String = absent.map_or("", String::as_str).chars().take(200).collect();
            return other(format!("{shown:?} was signed, but is not there"));
        }
        Ok(())
    }

    /// Whether a signer left a file out on purpose, and it is one that nobody
    /// loads: the signature itself, or git's own.
    fn left_out(&self, name: &str) -> bool {
        let said = self.ignored.iter().any(|path| {
            let path = path.trim_end_matches('/');
            name == path || name.strip_prefix(path).is_some_and(|rest| rest.starts_with('/'))
        });
        let harmless = name.ends_with(".sig")
            || name == ".gitattributes"
            || name == ".gitignore"
            || name.starts_with(".git/")
            || name.starts_with(".github/");
        said && harmless
    }
}

fn resource(entry: Entry) -> Result<Resource, SignatureError> {
    if entry.algorithm != "sha256" {
        let shown: String = entry.algorithm.chars().take(32).collect();
        let message = format!("its digests are {shown:?}: only sha256 is compared");
        return Err(SignatureError::Unsupported(message));
    }
    let digest = hex::decode(&entry.digest).ok().and_then(|bytes| bytes.try_into().ok());
    let digest = digest.ok_or_else(|| malformed("a digest of its statement is no SHA-256"))?;
    Ok(Resource { name: entry.name, digest })
}
