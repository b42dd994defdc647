//! Files: their paths, digests and parts.

use std::collections::HashSet;
use std::sync::Arc;

use ids::{NamespaceId, PrincipalId, UploadId};
use percent_encoding::percent_decode_str;
use service_error::ServiceError;
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

/// SHA-256 of a file's bytes.
pub type Digest = [u8; 32];

/// Parts are of this size, but for a file's last: 5 TiB are 81,920 of them.
pub const PART_BYTES: i64 = 64 << 20;
/// Files up to this size are kept in rows, in the transaction that names them:
/// one flush for all that are written together, where an object of its own
/// costs a flush for itself and one for each directory above it.
pub const SMALL_BYTES: usize = 32 << 10;
/// Files of one upload.
pub const FILES_MAX: usize = 10_000;
const PATH_BYTES_MAX: usize = 1_024;

/// A file of a version, of an upload or of a namespace's tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileEntry {
    pub path: String,
    pub digest: Digest,
    pub byte_count: i64,
}

/// Bytes that are kept once, whoever references them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Blob {
    pub digest: Digest,
    pub byte_count: i64,
    /// Where its objects are; another one each time that the bytes are stored.
    pub generation: Uuid,
}

/// A piece of a blob: an object of its own, or what its row holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segment {
    pub generation: Uuid,
    pub ordinal: i64,
    /// Empty where the row holds the bytes.
    pub object_key: String,
    pub byte_begin: i64,
    pub byte_count: i64,
    pub digest: Digest,
    /// The bytes, where there is no object; of a file of several pieces they stay
    /// in their rows until they are read.
    pub content: Option<Vec<u8>>,
}

/// A file of a tree that is kept in a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SmallFile {
    pub namespace: NamespaceId,
    pub path: String,
    /// Of `content`.
    pub digest: Digest,
    /// At most [`SMALL_BYTES`]; shared, since a write is kept until it is told.
    pub content: Arc<Vec<u8>>,
}

/// Where an upload stands. It leaves `Open` once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UploadState {
    Open = 1,
    Committed = 2,
    Aborted = 3,
}

/// A leased upload of files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upload {
    pub id: UploadId,
    pub namespace: NamespaceId,
    /// Who opened it; nobody else sends, commits or aborts.
    pub principal: PrincipalId,
    pub state: UploadState,
    pub lease_epoch: i64,
    /// Microseconds UTC.
    pub expires_at: i64,
}

/// A file of an upload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UploadFile {
    pub ordinal: i64,
    pub path: String,
    /// `None`: whatever arrives.
    pub digest: Option<Digest>,
    pub byte_count: i64,
    pub generation: Uuid,
    /// Its blob was there when the upload was opened.
    pub present: bool,
}

impl UploadFile {
    /// How many parts it comes in.
    #[must_use]
    pub const fn part_count(&self) -> i64 {
        if self.byte_count == 0 { 1 } else { (self.byte_count + PART_BYTES - 1) / PART_BYTES }
    }

    /// The bytes of a part.
    #[must_use]
    pub fn part_bytes(&self, part: i64) -> i64 {
        (self.byte_count - part * PART_BYTES).clamp(0, PART_BYTES)
    }
}

/// The object that a part of a generation is written to. Each try has its own:
/// a part that is sent twice at once is never mixed.
#[must_use]
pub fn object_key(generation: Uuid, part: i64) -> String {
    format!("{}/{part}.{}", object_prefix(generation), Uuid::now_v7().simple())
}

/// Below it are all objects of a generation.
#[must_use]
pub fn object_prefix(generation: Uuid) -> String {
    format!("cas/sha256/{}", generation.simple())
}

/// Checks the path of a file: words between `/`, nothing that leads elsewhere.
///
/// # Errors
/// The rule that is broken.
pub fn check_path(field: &str, path: &str) -> Result<(), ServiceError> {
    let shown: String = path.chars().take(100).collect();
    let wrong = |rule: &str| {
        Err(ServiceError::invalid(field, format!("{shown:?} {rule}")).reason("INVALID_PATH"))
    };
    if path.as_bytes().get(1) == Some(&b':') {
        return wrong("begins like a drive of Windows: it would name a place outside");
    }
    check_stored_path(field, path)
}

/// Checks that files of these paths can lie in one directory.
///
/// # Errors
/// A file whose path is another's directory: nobody could download both.
pub fn check_tree<'a>(
    field: &str,
    paths: impl Iterator<Item = &'a str>,
) -> Result<(), ServiceError> {
    let paths: HashSet<&str> = paths.collect();
    for path in &paths {
        let above = path.match_indices('/').map(|(at, _)| &path[..at]);
        if let Some(file) = above.into_iter().find(|above| paths.contains(above)) {
            let [file, below] = [file, path].map(|text| text.chars().take(100).collect::<String>());
            let message = format!("{file:?} is a file, and {below:?} lies below it: rename one");
            return Err(ServiceError::invalid(field, message).reason("INVALID_PATH"));
        }
    }
    Ok(())
}

/// Checks the path of a file that is looked up. A tree of MLflow's may hold names
/// that no path of an upload may be, such as `x:y`; what is kept can be fetched.
///
/// # Errors
/// The rule that is broken.
pub fn check_stored_path(field: &str, path: &str) -> Result<(), ServiceError> {
    let shown: String = path.chars().take(100).collect();
    let wrong = |rule: &str| {
        Err(ServiceError::invalid(field, format!("{shown:?} {rule}")).reason("INVALID_PATH"))
    };
    if path.is_empty() {
        return wrong("is empty");
    }
    if path.len() > PATH_BYTES_MAX {
        return wrong(&format!("is {} bytes long: at most {PATH_BYTES_MAX}", path.len()));
    }
    if path.starts_with('/') || path.contains('\\') || path.contains('\0') {
        return wrong("is no relative path of words between '/'");
    }
    if path.contains("://") {
        return wrong("names a place outside");
    }
    for word in path.split('/') {
        let plain = decoded(word);
        if word.is_empty() || plain == "." || plain == ".." {
            return wrong("has an empty word, '.' or '..'");
        }
        if plain.contains(['/', '\\', '\0']) || plain.chars().any(char::is_control) {
            return wrong("hides a separator or a control character");
        }
    }
    Ok(())
}

/// A word with its percent signs read, as often as somebody may have written
/// them.
fn decoded(word: &str) -> String {
    let mut word = word.to_owned();
    for _ in 0..4 {
        let next = percent_decode_str(&word).decode_utf8_lossy().into_owned();
        if next == word {
            break;
        }
        word = next;
    }
    word
}

/// A SHA-256 in hex.
///
/// # Errors
/// A text that is none.
pub fn parse_digest(field: &str, text: &str) -> Result<Digest, ServiceError> {
    let text = text.strip_prefix("sha256:").unwrap_or(text);
    let bytes = hex::decode(text).ok().and_then(|bytes| Digest::try_from(bytes).ok());
    bytes.ok_or_else(|| ServiceError::invalid(field, "must be 64 hex digits (SHA-256)"))
}

/// The digest of a manifest: SHA-256 over the digests of its files, by path. It
/// is the root that OpenSSF's model signing signs.
#[must_use]
pub fn manifest_digest(files: &[FileEntry]) -> Digest {
    let mut sorted: Vec<&FileEntry> = files.iter().collect();
    sorted.sort_by(|a, b| a.path.cmp(&b.path));
    let mut hasher = Sha256::new();
    for file in sorted {
        hasher.update(file.digest);
    }
    hasher.finalize().into()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn paths_stay_below_their_version() {
        for good in ["model.pkl", "data/model.pth", "a b/ü.bin", "100%/x", "x%y.bin", "..a/b.."] {
            assert!(check_path("path", good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "/etc/passwd",
            "../x",
            "a/../b",
            "a//b",
            "a/",
            "./a",
            "a\\b",
            "C:/x",
            "c:x",
            "s3://bucket/x",
            "%2e%2e/x",
            "a/%2E%2e/b",
            "a/%252e%252e/b",
            "a%2fb/../c",
            "a%2f..%2fb",
            "%2fetc/passwd",
            "a\0b",
            "a/%00",
            &"x/".repeat(600) as &str,
        ] {
            assert_eq!(check_path("path", bad).unwrap_err().field_name(), Some("path"), "{bad:?}");
            let may_be_kept = ["c:x", "C:/x"].contains(&bad);
            assert_eq!(check_stored_path("path", bad).is_ok(), may_be_kept, "{bad:?}");
        }
    }

    #[test]
    fn a_file_is_no_directory() {
        let check = |paths: &[&str]| check_tree("files.path", paths.iter().copied());
        check(&["m", "m.bin", "mm/x", "a/m", "a/n/m"]).unwrap();
        for bad in [["m", "m/x"], ["a/b/c/d", "a/b"], ["ü/x", "ü"]] {
            let error = check(&bad).unwrap_err();
            assert_eq!(error.field_name(), Some("files.path"), "{bad:?}");
        }
    }

    #[test]
    fn parts_cover_a_file() {
        let file = |byte_count| UploadFile {
            ordinal: 0,
            path: "x".into(),
            digest: None,
            byte_count,
            generation: Uuid::nil(),
            present: false,
        };
        for bytes in [0, 1, PART_BYTES - 1, PART_BYTES, PART_BYTES + 1, 10 << 30] {
            let file = file(bytes);
            let sum: i64 = (0..file.part_count()).map(|part| file.part_bytes(part)).sum();
            assert_eq!(sum, bytes);
        }
    }
}
