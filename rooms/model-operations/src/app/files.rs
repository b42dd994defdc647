//! Files out: of versions, and of a namespace's tree; and into the tree.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use caller::Caller;
use futures::{StreamExt, stream};
use ids::{ModelVersionId, NamespaceId, UploadId};
use options_api::v1::Level;
use service_error::{Code, ServiceError};
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use super::Registry;
use super::bytes::{Incoming, Pieces, read, verified};
use super::tickets::{Purpose, Signer};
use crate::model::artifact::SMALL_BYTES;
use crate::model::{
    Blob, Digest, FileEntry, ModelPath, ModelVersion, SmallFile, Upload, UploadFile, UploadState,
    VersionRef, check_path, check_stored_path,
};

const SERVICE: &str = "quarry.models.v1.ArtifactsService";
const TREE: &str = "mlflow-artifacts";
/// Where a namespace's tree shows the files of versions, by their ids. Nothing
/// is kept there.
const OF_VERSIONS: &str = "quarry-versions";
const PAGE: u32 = 1_000;
/// How often a file is sent again that another replica made at the same time.
const TRIES: u32 = 3;

/// Where MLflow's client finds the files of a version.
#[must_use]
pub fn version_address(id: ModelVersionId) -> String {
    format!("mlflow-artifacts:/{OF_VERSIONS}/{id}")
}

/// The version that a path of the tree shows, and the path below it.
fn of_version(path: &str) -> Option<(ModelVersionId, &str)> {
    let rest = path.strip_prefix(OF_VERSIONS)?.strip_prefix('/')?;
    let (id, file) = rest.split_once('/').unwrap_or((rest, ""));
    Some((id.parse().ok()?, file))
}

/// Refuses to write where versions are shown.
pub(super) fn kept_elsewhere(path: &str) -> Result<(), ServiceError> {
    let first = path.split('/').next();
    if first == Some(OF_VERSIONS) {
        let message = format!("{OF_VERSIONS} shows the files of versions, which never change");
        return Err(ServiceError::invalid("path", message).reason("VERSION_FILES"));
    }
    Ok(())
}

/// The first pieces of a stream and their size: all of them, or more than a row
/// takes.
async fn head_of(pieces: &mut Pieces) -> Result<(Vec<Bytes>, usize), ServiceError> {
    let (mut head, mut size) = (Vec::new(), 0);
    while size <= SMALL_BYTES {
        let Some(piece) = pieces.next().await else { break };
        let piece = piece?;
        size += piece.len();
        head.push(piece);
    }
    Ok((head, size))
}

/// An entry of a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TreeEntry {
    /// The whole path.
    pub path: String,
    /// `None`: a directory.
    pub byte_count: Option<i64>,
}

impl Registry {
    /// Files of a version after a path, by path.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn list_files(
        &self,
        caller: &Caller,
        path: &ModelPath,
        which: &VersionRef,
        after: &str,
        limit: u32,
    ) -> Result<Vec<FileEntry>, ServiceError> {
        let action = format!("{SERVICE}/ListFiles");
        let (_, version) = self.version_for(caller, Level::Read, path, which, &action).await?;
        self.store.version_files(version.id, after, limit).await
    }

    /// The bytes of a file of a version: all of them, compared with their
    /// digest, or a range.
    ///
    /// # Errors
    /// `NotFound`, `InvalidArgument` for a range outside.
    pub async fn download_file(
        &self,
        caller: &Caller,
        path: &ModelPath,
        which: &VersionRef,
        file: &str,
        range: Option<Range<i64>>,
    ) -> Result<(FileEntry, Pieces), ServiceError> {
        check_stored_path("path", file)?;
        let action = format!("{SERVICE}/DownloadFile");
        let (_, version) = self.version_for(caller, Level::Read, path, which, &action).await?;
        let entry = self.file_of(&version, file).await?;
        let pieces = self.pieces(&entry, range).await?;
        Ok((entry, pieces))
    }

    pub(super) async fn file_of(
        &self,
        version: &ModelVersion,
        file: &str,
    ) -> Result<FileEntry, ServiceError> {
        let found = self.store.version_file(version.id, file).await?;
        found.ok_or_else(|| {
            let of =
                format!("{file} of {}/{}/{}", version.namespace, version.model, version.number);
            ServiceError::not_found("file", of)
        })
    }

    /// A file's bytes, whole and verified, or a range of them.
    pub(super) async fn pieces(
        &self,
        entry: &FileEntry,
        range: Option<Range<i64>>,
    ) -> Result<Pieces, ServiceError> {
        let lost = || {
            ServiceError::data_loss("a file's blob is gone: restore it from a backup")
                .reason("BLOB_LOST")
                .with("digest", hex::encode(entry.digest))
        };
        let blob = self.store.blob(&entry.digest).await?.ok_or_else(lost)?;
        let segments = self.store.segments(blob.generation).await?;
        let size = u64::try_from(entry.byte_count).unwrap_or_default();
        let range = range.filter(|range| *range != (0..entry.byte_count));
        let Some(range) = range else {
            return Ok(verified(read(self.store.clone(), segments, 0..size), entry));
        };
        let (Ok(begin), Ok(end)) = (u64::try_from(range.start), u64::try_from(range.end)) else {
            return Err(ServiceError::invalid("offset", "must not be negative"));
        };
        if begin > size || begin > end {
            let message = format!("{begin} lies behind the file's {size} bytes");
            return Err(ServiceError::invalid("offset", message).reason("RANGE_OUTSIDE"));
        }
        Ok(read(self.store.clone(), segments, begin..end.min(size)))
    }

    /// A live version by its id, if the caller may read it.
    async fn readable_version(
        &self,
        caller: &Caller,
        id: ModelVersionId,
    ) -> Result<ModelVersion, ServiceError> {
        let absent = || ServiceError::not_found("file", format!("{OF_VERSIONS}/{id}"));
        let version = self.store.find_live_version(id).await?.ok_or_else(absent)?;
        let model = self.store.find_model_by_id(version.model_id).await?.ok_or_else(absent)?;
        if model.deleted_at.is_some() {
            return Err(absent());
        }
        let shown = format!("{}/{}", version.namespace, version.model);
        self.require_model(caller, Level::Read, &model, &shown, TREE).await?;
        Ok(version)
    }

    /// What lies in a directory of a version, as in a tree.
    async fn list_version(
        &self,
        caller: &Caller,
        (id, below): (ModelVersionId, &str),
    ) -> Result<Vec<TreeEntry>, ServiceError> {
        let version = self.readable_version(caller, id).await?;
        let mut entries: Vec<TreeEntry> = Vec::new();
        let mut after = String::new();
        loop {
            let files = self.store.version_files(version.id, &after, PAGE).await?;
            let Some(last) = files.last() else { return Ok(entries) };
            after.clone_from(&last.path);
            for file in &files {
                let inside = below.is_empty()
                    || file.path.strip_prefix(below).is_some_and(|rest| rest.starts_with('/'));
                if !inside {
                    continue;
                }
                let mut entry = entry_of(below, file);
                entry.path = format!("{OF_VERSIONS}/{id}/{}", entry.path);
                if entries.last() != Some(&entry) {
                    entries.push(entry);
                }
            }
        }
    }

    /// What an address that fetches a file of a tree is good for.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn fetching(
        &self,
        caller: &Caller,
        namespace: &str,
        path: &str,
    ) -> Result<Purpose, ServiceError> {
        let Some((id, file)) = of_version(path) else {
            let namespace = self.tree_for(caller, Level::Read, namespace).await?;
            return Ok(Purpose::File { namespace: namespace.uuid(), path: path.to_owned() });
        };
        let version = self.readable_version(caller, id).await?;
        Ok(Purpose::VersionFile {
            signer: Signer { principal: caller.principal, token: caller.token },
            model: version.model_id,
            version: id,
            path: file.to_owned(),
        })
    }

    async fn tree_for(
        &self,
        caller: &Caller,
        need: Level,
        namespace: &str,
    ) -> Result<NamespaceId, ServiceError> {
        self.namespace_for(caller, need, namespace, TREE).await
    }

    /// Puts a file into a namespace's tree, hashed as it comes.
    ///
    /// # Errors
    /// `InvalidArgument`, `NotFound`, `PermissionDenied`, or the stream's own;
    /// then nothing of it stays.
    pub async fn put_tree_file(
        &self,
        caller: &Caller,
        namespace: &str,
        path: &str,
        mut pieces: Pieces,
    ) -> Result<FileEntry, ServiceError> {
        check_path("path", path)?;
        kept_elsewhere(path)?;
        let namespace = self.tree_for(caller, Level::Write, namespace).await?;
        let (head, size) = head_of(&mut pieces).await?;
        if size <= SMALL_BYTES {
            return self.put_small_file(namespace, path, head.concat()).await;
        }
        let mut pieces = stream::iter(head.into_iter().map(Ok)).chain(pieces);
        let generation = Uuid::now_v7();
        // The lease names the bytes before they are there: a crash leaves
        // nothing that the sweeper does not know.
        let upload = Upload {
            id: UploadId::new(),
            namespace,
            principal: caller.principal,
            state: UploadState::Open,
            lease_epoch: 1,
            expires_at: self.lease_end(),
        };
        let file = UploadFile {
            ordinal: 0,
            path: path.to_owned(),
            digest: None,
            byte_count: 0,
            generation,
            present: false,
        };
        self.store.open_upload(&upload, std::slice::from_ref(&file)).await?;
        let mut incoming = Incoming::begin(self.store.blobs(), generation, 0, 0);
        while let Some(piece) = pieces.next().await {
            let written = match piece {
                Ok(piece) => incoming.write(piece).await,
                Err(error) => Err(error),
            };
            if let Err(error) = written {
                incoming.abort().await;
                return Err(error);
            }
        }
        let segment = incoming.finish().await?;
        let blob = Blob { digest: segment.digest, byte_count: segment.byte_count, generation };
        self.store.put_tree_file(&upload, path, &blob, &segment).await?;
        Ok(FileEntry { path: path.to_owned(), digest: blob.digest, byte_count: blob.byte_count })
    }

    /// Puts a file into its row, with others that come at the same time.
    async fn put_small_file(
        &self,
        namespace: NamespaceId,
        path: &str,
        content: Vec<u8>,
    ) -> Result<FileEntry, ServiceError> {
        let digest: Digest = Sha256::digest(&content).into();
        let byte_count = i64::try_from(content.len()).unwrap_or(i64::MAX);
        let entry = FileEntry { path: path.to_owned(), digest, byte_count };
        let content = Arc::new(content);
        let file = SmallFile { namespace, path: path.to_owned(), digest, content };
        for _ in 0..TRIES {
            match self.small_files.write(file.clone()).await {
                Err(error) if error.code() == Code::Conflict => {}
                outcome => return outcome.map(|()| entry),
            }
        }
        self.small_files.write(file).await.map(|()| entry)
    }

    /// Puts the one file of a committed upload into a namespace's tree.
    ///
    /// # Errors
    /// `NotFound`, `PermissionDenied`, `FailedPrecondition` if the upload is not
    /// committed.
    pub async fn put_tree_upload(
        &self,
        caller: &Caller,
        namespace: &str,
        upload: UploadId,
    ) -> Result<(), ServiceError> {
        let namespace = self.tree_for(caller, Level::Write, namespace).await?;
        self.store.put_tree_upload(namespace, upload, caller.principal).await
    }

    /// A file of a namespace's tree, and its bytes.
    ///
    /// # Errors
    /// `NotFound`, `InvalidArgument` for a range outside.
    pub async fn open_tree_file(
        &self,
        caller: &Caller,
        namespace: &str,
        path: &str,
        range: Option<Range<i64>>,
    ) -> Result<(FileEntry, Pieces), ServiceError> {
        check_stored_path("path", path)?;
        if let Some((id, file)) = of_version(path) {
            let version = self.readable_version(caller, id).await?;
            let entry = self.file_of(&version, file).await?;
            let pieces = self.pieces(&entry, range).await?;
            return Ok((entry, pieces));
        }
        let namespace = self.tree_for(caller, Level::Read, namespace).await?;
        let found = self.store.tree_file(namespace, path).await?;
        let entry = found.ok_or_else(|| ServiceError::not_found("file", path))?;
        let pieces = self.pieces(&entry, range).await?;
        Ok((entry, pieces))
    }

    /// What lies in a directory of a namespace's tree, by path.
    ///
    /// # Errors
    /// `InvalidArgument`, `NotFound` for the namespace.
    pub async fn list_tree(
        &self,
        caller: &Caller,
        namespace: &str,
        below: &str,
    ) -> Result<Vec<TreeEntry>, ServiceError> {
        const ENTRIES_MAX: usize = 10_000;
        if !below.is_empty() {
            check_stored_path("path", below)?;
        }
        if let Some(place) = of_version(below) {
            return self.list_version(caller, place).await;
        }
        let namespace = self.tree_for(caller, Level::Read, namespace).await?;
        let mut entries: Vec<TreeEntry> = Vec::new();
        let mut after = String::new();
        while entries.len() < ENTRIES_MAX {
            let files = self.store.tree_files(namespace, below, &after, PAGE).await?;
            let Some(first) = files.first() else { break };
            let entry = entry_of(below, first);
            match entry.byte_count {
                // Behind all that the directory holds.
                None => after = format!("{}0", entry.path),
                Some(_) => after.clone_from(&entry.path),
            }
            entries.push(entry);
            for file in &files[1..] {
                let entry = entry_of(below, file);
                if entry.byte_count.is_none() {
                    break;
                }
                after.clone_from(&entry.path);
                entries.push(entry);
            }
        }
        Ok(entries)
    }

    /// Removes a file of a namespace's tree, or, where there is none, a directory;
    /// answers how many files.
    ///
    /// # Errors
    /// `InvalidArgument`, `NotFound`, `PermissionDenied`.
    pub async fn remove_tree(
        &self,
        caller: &Caller,
        namespace: &str,
        path: &str,
    ) -> Result<usize, ServiceError> {
        check_path("path", path)?;
        kept_elsewhere(path)?;
        let namespace = self.tree_for(caller, Level::Write, namespace).await?;
        self.store.remove_tree(namespace, path).await
    }
}

fn entry_of(below: &str, file: &FileEntry) -> TreeEntry {
    let begin = if below.is_empty() { 0 } else { below.len() + 1 };
    match file.path[begin..].find('/') {
        Some(end) => TreeEntry { path: file.path[..begin + end].to_owned(), byte_count: None },
        None => TreeEntry { path: file.path.clone(), byte_count: Some(file.byte_count) },
    }
}
