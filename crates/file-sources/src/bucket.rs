//! A prefix of an S3 bucket as a tree of directories.

use std::fs::File;
use std::io::{self, Read, Seek};
use std::path::Path as FsPath;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use file_scan::{
    Content, Entry, HashError, Hasher, Identity, Kind, Lister, Listing, Mark, Task, Times,
    WalkOptions, WalkSummary, sniff, walk_by,
};
use futures::StreamExt;
use futures::stream::BoxStream;
use object_store::path::Path;
use object_store::{GetResult, ObjectMeta, ObjectStore, ObjectStoreExt};
use service_error::ServiceError;
use tokio::runtime::Handle;

/// What a bucket's path begins with.
pub const SCHEME: &str = "s3://";
/// A bucket that says nothing for so long is away.
const ANSWER_MAX: Duration = Duration::from_secs(45);

/// A prefix of a bucket. Clones share the connections.
#[derive(Debug, Clone)]
pub struct Bucket {
    store: Arc<dyn ObjectStore>,
    prefix: Path,
    url: String,
    /// The platform's own objects, if they lie in this bucket: never listed.
    closed: Option<Path>,
    runtime: Handle,
}

/// `s3://bucket/a/b` without doubled or trailing slashes; nothing for another
/// scheme.
///
/// # Errors
/// Why it names no prefix of a bucket.
pub fn bucket_path(path: &str) -> Option<Result<String, &'static str>> {
    let rest = path.strip_prefix(SCHEME)?;
    if rest.contains(['?', '#', '\\']) || rest.chars().any(char::is_control) {
        return Some(Err(
            "holds '?', '#', '\\' or a control character; credentials and endpoint are settings",
        ));
    }
    let mut parts = rest.split('/');
    let bucket = parts.next().unwrap_or_default();
    let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
    if bucket.is_empty() || !bucket.chars().all(is_name) {
        return Some(Err("names no bucket: letters, digits, '-', '.' and '_'"));
    }
    let parts: Vec<&str> = parts.filter(|part| !part.is_empty()).collect();
    if parts.iter().any(|part| matches!(*part, "." | "..")) {
        return Some(Err("holds '.' or '..'"));
    }
    let all: Vec<&str> = std::iter::once(bucket).chain(parts).collect();
    Some(Ok(format!("{SCHEME}{}", all.join("/"))))
}

impl Bucket {
    /// Opens a path that [`bucket_path`] made and sees whether it can be listed.
    /// `closed` is the URL of objects in it that are never read, or anything else.
    ///
    /// # Errors
    /// `FailedPrecondition` with reason `LOCATION_OFFLINE` and why.
    pub async fn open(path: &str, closed: &str) -> Result<Self, ServiceError> {
        let (store, prefix) = blob_store::read_only(path)?;
        let closed = in_bucket_of(path, closed);
        let bucket =
            Self { store, prefix, url: path.to_owned(), closed, runtime: Handle::current() };
        bucket.probe().await?;
        Ok(bucket)
    }

    async fn probe(&self) -> Result<(), ServiceError> {
        let offline = |why: String| {
            let message = format!("{}: {why}; what is known of it stays as it is", self.url);
            ServiceError::precondition(message).reason("LOCATION_OFFLINE")
        };
        let prefix = (!self.prefix.as_ref().is_empty()).then_some(&self.prefix);
        let mut listed = self.store.list(prefix);
        match tokio::time::timeout(ANSWER_MAX, listed.next()).await {
            // A key that is no path is told by the directory that holds it.
            Ok(None | Some(Ok(_)) | Some(Err(object_store::Error::InvalidPath { .. }))) => Ok(()),
            Ok(Some(Err(error))) => Err(offline(format!("can't be listed: {error}"))),
            Err(_) => Err(offline(format!("did not answer within {} s", ANSWER_MAX.as_secs()))),
        }
    }

    /// What stands for device and inode.
    #[must_use]
    pub fn identity(&self) -> (i64, i64) {
        (0, number(&[self.url.as_bytes()]).cast_signed())
    }

    /// As [`crate::Source::walk`].
    pub fn walk(
        &self,
        options: &WalkOptions,
        threads: usize,
        told: &(dyn Fn(&[u8], &str) + Sync),
        sink: impl Fn(Listing) -> bool + Sync,
    ) -> WalkSummary {
        let lister = InBucket { bucket: self, options, told };
        walk_by(&lister, &options.below, threads, sink)
    }

    fn key(&self, path: &[u8]) -> Result<Path, HashError> {
        let gone = |_| HashError::Gone;
        let path =
            Path::parse(std::str::from_utf8(path).map_err(gone)?).map_err(|_| HashError::Gone)?;
        Ok(Path::from_iter(self.prefix.parts().chain(path.parts())))
    }

    fn get(&self, path: &[u8], ino: u64) -> Result<GetResult, HashError> {
        let key = self.key(path)?;
        let got = self.runtime.block_on(self.store.get(&key)).map_err(|error| match error {
            object_store::Error::NotFound { .. } => HashError::Gone,
            other => HashError::Unreadable(io::Error::other(other)),
        })?;
        if stands_for(&got.meta) != ino {
            return Err(HashError::Replaced);
        }
        Ok(got)
    }

    /// As [`crate::Reader::hash`].
    ///
    /// # Errors
    /// The same.
    pub fn hash(&self, hasher: &mut Hasher, path: &[u8], ino: u64) -> Result<Content, HashError> {
        let got = self.get(path, ino)?;
        let mark = mark(&got.meta);
        let (hash, size) = hasher.hash_bytes(&mut Body::of(got, &self.runtime))?;
        if size != mark.size {
            return Err(HashError::Changed);
        }
        let name = path.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
        Ok(Content { hash, size, kind: sniff(hasher.head(), name), mark })
    }

    /// An object's bytes in a file that has no name.
    ///
    /// # Errors
    /// As [`Self::hash`].
    pub fn copy(&self, path: &[u8], ino: u64) -> Result<(File, Mark), HashError> {
        let got = self.get(path, ino)?;
        let mark = mark(&got.meta);
        let mut file = tempfile::tempfile()?;
        let copied = io::copy(&mut Body::of(got, &self.runtime), &mut file)?;
        if copied != mark.size.cast_unsigned() {
            return Err(HashError::Changed);
        }
        file.rewind()?;
        Ok((file, mark))
    }
}

/// The path of a URL in the same bucket as another one.
fn in_bucket_of(path: &str, closed: &str) -> Option<Path> {
    let closed = closed.strip_prefix("s3a://").or_else(|| closed.strip_prefix(SCHEME))?;
    let (bucket, prefix) = closed.split_once('/').unwrap_or((closed, ""));
    let own = path.strip_prefix(SCHEME)?.split('/').next()?;
    (own == bucket).then(|| Path::from_iter(prefix.split('/').filter(|part| !part.is_empty())))
}

/// A number for some bytes.
pub(crate) fn number(parts: &[&[u8]]) -> u64 {
    let mut hash = blake3::Hasher::new();
    for part in parts {
        hash.update(&(part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    let mut short = [0; 8];
    hash.finalize_xof().fill(&mut short);
    u64::from_le_bytes(short)
}

/// What stands for an object's inode: another one if its bytes are others.
fn stands_for(meta: &ObjectMeta) -> u64 {
    match &meta.e_tag {
        Some(tag) => number(&[tag.trim_matches('"').as_bytes()]),
        None => number(&[&meta.last_modified.timestamp().to_le_bytes()]),
    }
}

/// Listings tell milliseconds where answers to GET tell seconds.
fn modified(meta: &ObjectMeta) -> i64 {
    meta.last_modified.timestamp().saturating_mul(1_000_000_000)
}

fn mark(meta: &ObjectMeta) -> Mark {
    Mark {
        size: i64::try_from(meta.size).unwrap_or(i64::MAX),
        modified: modified(meta),
        // The ETag says whether it changed.
        changed: 0,
        ino: stands_for(meta),
    }
}

fn entry(name: &str, meta: Option<&ObjectMeta>) -> Entry {
    let known = meta.map(mark);
    Entry {
        name: name.as_bytes().to_vec(),
        kind: if known.is_some() { Kind::File } else { Kind::Dir },
        size: known.map_or(0, |mark| mark.size),
        times: Times { modified: known.map_or(0, |mark| mark.modified), ..Times::default() },
        dev: 0,
        ino: known.map_or(0, |mark| mark.ino),
        links: 1,
        mode: 0,
        uid: 0,
        gid: 0,
        target: None,
    }
}

/// Lists directories of a bucket.
struct InBucket<'a> {
    bucket: &'a Bucket,
    options: &'a WalkOptions,
    told: &'a (dyn Fn(&[u8], &str) + Sync),
}

impl Lister for InBucket<'_> {
    type Scratch = ();

    fn scratch(&self) {}

    fn read(&self, task: &Task, (): &mut ()) -> Listing {
        let mut listing = Listing {
            path: task.path.clone(),
            dev: 0,
            ino: 0,
            modified: 0,
            born: None,
            entries: Vec::new(),
            large: None,
            error: None,
        };
        listing.error = self.fill(&mut listing).err();
        listing
    }

    fn children(&self, listing: &Listing) -> Vec<Task> {
        let dirs = listing.entries.iter().rev().filter(|entry| entry.kind == Kind::Dir);
        let paths = dirs.map(|entry| joined(&listing.path, &entry.name));
        let is_open = |path: &Vec<u8>| {
            let closed = self.bucket.closed.as_ref();
            closed.is_none_or(|closed| self.bucket.key(path).is_ok_and(|key| key != *closed))
        };
        let expected = Some(Identity { dev: 0, ino: 0 });
        paths.filter(is_open).map(|path| Task { path, expected }).collect()
    }
}

fn joined(parent: &[u8], name: &[u8]) -> Vec<u8> {
    if parent.is_empty() { name.to_vec() } else { [parent, name].join(&b'/') }
}

impl InBucket<'_> {
    fn fill(&self, listing: &mut Listing) -> Result<(), String> {
        let dir = self.bucket.key(&listing.path).map_err(|error| error.to_string())?;
        let prefix = (!dir.as_ref().is_empty()).then_some(&dir);
        let bucket = self.bucket;
        let listed = bucket.store.list_with_delimiter(prefix);
        let listed = bucket.runtime.block_on(listed);
        let listed = listed.map_err(|error| format!("can't be listed: {error}"))?;
        let mut entries: Vec<Entry> = Vec::new();
        for below in &listed.common_prefixes {
            entries.extend(below.filename().map(|name| entry(name, None)));
        }
        for meta in &listed.objects {
            // A key that ends with a slash says that there is a directory.
            if meta.location != dir {
                entries.extend(meta.location.filename().map(|name| entry(name, Some(meta))));
            }
        }
        entries.retain(|entry| !self.leaves_out(&listing.path, entry));
        // Directories before objects of their name.
        entries.sort_by(|a, b| a.name.cmp(&b.name).then(b.kind.cmp(&a.kind)));
        entries.dedup_by(|second, first| {
            let is_twin = second.name == first.name;
            if is_twin && second.kind == Kind::File && second.size > 0 {
                let path = joined(&listing.path, &second.name);
                (self.told)(&path, "an object with the name of a directory is no entry");
            }
            is_twin
        });
        listing.entries = entries;
        Ok(())
    }

    fn leaves_out(&self, parent: &[u8], entry: &Entry) -> bool {
        let rules = &self.options.rules;
        let path = joined(parent, &entry.name);
        let Ok(path) = std::str::from_utf8(&path) else { return false };
        !rules.is_empty() && rules.leaves_out(FsPath::new(path), entry.kind == Kind::Dir)
    }
}

/// An object's bytes, read by a thread that may wait.
struct Body<'a> {
    stream: BoxStream<'static, object_store::Result<Bytes>>,
    chunk: Bytes,
    runtime: &'a Handle,
}

impl<'a> Body<'a> {
    fn of(got: GetResult, runtime: &'a Handle) -> Self {
        Self { stream: got.into_stream(), chunk: Bytes::new(), runtime }
    }
}

impl Read for Body<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.chunk.is_empty() {
            match self.runtime.block_on(self.stream.next()) {
                None => return Ok(0),
                Some(chunk) => self.chunk = chunk.map_err(io::Error::other)?,
            }
        }
        let count = buffer.len().min(self.chunk.len());
        buffer[..count].copy_from_slice(&self.chunk.split_to(count));
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_of_buckets_are_plain() {
        assert_eq!(bucket_path("/a"), None);
        assert_eq!(bucket_path("s3://b"), Some(Ok("s3://b".to_owned())));
        assert_eq!(bucket_path("s3://b//a/b/"), Some(Ok("s3://b/a/b".to_owned())));
        for wrong in
            ["s3://", "s3:///a", "s3://k:s@b/a", "s3://b/../c", "s3://b/a?x=1", "s3://b/\n"]
        {
            assert!(bucket_path(wrong).is_some_and(|path| path.is_err()), "{wrong}");
        }
    }

    #[test]
    fn the_platforms_own_objects_are_found_in_their_bucket() {
        let closed = |path, own| in_bucket_of(path, own).map(|path| path.to_string());
        assert_eq!(closed("s3://b/x", "s3://b/own/objects/"), Some("own/objects".to_owned()));
        assert_eq!(closed("s3://b", "s3://b"), Some(String::new()));
        assert_eq!(closed("s3://b", "s3://other/own"), None);
        assert_eq!(closed("s3://b", "file:///data/objects"), None);
    }
}
