//! Uploads: opened, sent in parts, resumed, committed.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use caller::Caller;
use ids::{NamespaceId, UploadId};
use options_api::v1::Level;
use service_error::ServiceError;
use sql_store::now_micros;
use uuid::Uuid;

use super::Registry;
use super::bytes::{Incoming, digest_of};
use crate::model::artifact::{FILES_MAX, PART_BYTES, parse_digest};
use crate::model::{Digest, Upload, UploadFile, UploadState, check_path, check_tree};
use crate::store::upload_not_found;

const SERVICE: &str = "quarry.models.v1.ArtifactsService";
const BLOBS_MAX: usize = 1_000;
/// Open uploads among which one of the same files is looked for.
const OPEN_LOOKED_AT: u32 = 20;
const FILE_BYTES_MAX: i64 = 5 << 40;

/// What a commit did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CommittedUpload {
    pub files: i64,
    pub bytes: i64,
    /// Bytes that were not stored again.
    pub known_bytes: i64,
}

/// An upload that can take parts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenedUpload {
    pub upload: Upload,
    pub files: Vec<UploadFile>,
    /// It was opened before, and parts of it may have arrived.
    pub resumed: bool,
}

/// A file of an upload, and what of it has arrived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileProgress {
    pub file: UploadFile,
    pub parts: Vec<i64>,
    pub received: i64,
}

/// A part of a file on its way in.
pub struct IncomingPart {
    upload: Upload,
    file: UploadFile,
    incoming: Incoming,
}

impl Registry {
    /// Which of some blobs the caller need not send; they are kept for as long
    /// as an upload lives.
    ///
    /// # Errors
    /// `InvalidArgument` for what is no digest.
    pub async fn has_blobs(
        &self,
        caller: &Caller,
        digests: &[String],
    ) -> Result<Vec<Digest>, ServiceError> {
        if digests.len() > BLOBS_MAX {
            let message = format!("names {} blobs; at most {BLOBS_MAX}", digests.len());
            return Err(ServiceError::invalid("blobs", message));
        }
        let digests: Vec<Digest> = digests
            .iter()
            .map(|text| parse_digest("blobs.digest", text))
            .collect::<Result<_, _>>()?;
        let visible = self.visible_rows(caller).await?;
        let pinned = self.store.pin_readable(&visible, &digests, self.lease_end()).await?;
        Ok(pinned.into_iter().map(|(digest, _)| digest).collect())
    }

    /// Opens an upload of files, given as path, digest and size, or goes on with
    /// an open one of the caller's of the very same files.
    ///
    /// # Errors
    /// `InvalidArgument`, `NotFound`, `PermissionDenied`.
    pub async fn begin_upload(
        &self,
        caller: &Caller,
        namespace: &str,
        files: Vec<(String, Option<Digest>, i64)>,
        resume: bool,
    ) -> Result<OpenedUpload, ServiceError> {
        check_files(&files)?;
        let action = format!("{SERVICE}/BeginUpload");
        let namespace = self.namespace_for(caller, Level::Write, namespace, &action).await?;
        let digests: Vec<Digest> = files.iter().filter_map(|(_, digest, _)| *digest).collect();
        let visible = self.visible_rows(caller).await?;
        let expires_at = self.lease_end();
        let pinned = self.store.pin_readable(&visible, &digests, expires_at).await?;
        let pinned: BTreeMap<Digest, i64> = pinned.into_iter().collect();
        for (path, digest, byte_count) in &files {
            let kept = digest.and_then(|digest| pinned.get(&digest));
            kept.map_or(Ok(()), |kept| same_size(path, *byte_count, *kept))?;
        }
        if resume && let Some(opened) = self.open_upload_of(caller, namespace, &files).await? {
            return Ok(opened);
        }
        let upload = Upload {
            id: UploadId::new(),
            namespace,
            principal: caller.principal,
            state: UploadState::Open,
            lease_epoch: 1,
            expires_at,
        };
        let files: Vec<UploadFile> = files
            .into_iter()
            .zip(0..)
            .map(|((path, digest, byte_count), ordinal)| UploadFile {
                ordinal,
                path,
                digest,
                byte_count,
                generation: Uuid::now_v7(),
                present: digest.is_some_and(|digest| pinned.contains_key(&digest)),
            })
            .collect();
        self.store.open_upload(&upload, &files).await?;
        Ok(OpenedUpload { upload, files, resumed: false })
    }

    /// An open upload of the caller's of the very same files.
    async fn open_upload_of(
        &self,
        caller: &Caller,
        namespace: NamespaceId,
        files: &[(String, Option<Digest>, i64)],
    ) -> Result<Option<OpenedUpload>, ServiceError> {
        let open = self.store.open_uploads(namespace, caller.principal, OPEN_LOOKED_AT).await?;
        for upload in open {
            let known = self.store.upload_files(upload.id).await?;
            let same = known.len() == files.len()
                && known.iter().zip(files).all(|(known, (path, digest, byte_count))| {
                    (&known.path, &known.digest, &known.byte_count) == (path, digest, byte_count)
                });
            if same {
                return Ok(Some(OpenedUpload { upload, files: known, resumed: true }));
            }
        }
        Ok(None)
    }

    /// An upload that the caller opened.
    pub(super) async fn upload_of(
        &self,
        caller: &Caller,
        id: UploadId,
    ) -> Result<Upload, ServiceError> {
        let found = self.store.find_upload(id).await?;
        found
            .filter(|upload| upload.principal == caller.principal)
            .ok_or_else(|| upload_not_found(id))
    }

    /// Begins a part of a file.
    ///
    /// # Errors
    /// `NotFound`, `InvalidArgument` for a file or a part that the upload has
    /// not, `FailedPrecondition` if it is no longer open.
    pub async fn begin_part(
        &self,
        caller: &Caller,
        id: UploadId,
        file: i64,
        part: i64,
    ) -> Result<IncomingPart, ServiceError> {
        let upload = self.upload_of(caller, id).await?;
        if upload.state != UploadState::Open {
            let message = format!("upload {id} is no longer open: begin another one");
            return Err(ServiceError::precondition(message).reason("UPLOAD_ENDED"));
        }
        let files = self.store.upload_files(id).await?;
        let count = files.len();
        let found = usize::try_from(file).ok().and_then(|at| files.into_iter().nth(at));
        let file = found.ok_or_else(|| {
            ServiceError::invalid("file", format!("{file} is none of the {count} files"))
        })?;
        if !(0..file.part_count()).contains(&part) && file.digest.is_some() {
            let message = format!("{part} is none of the {} parts", file.part_count());
            return Err(ServiceError::invalid("part", message));
        }
        let blobs = self.store.blobs();
        let incoming = Incoming::begin(blobs, file.generation, part, part * PART_BYTES);
        Ok(IncomingPart { upload, file, incoming })
    }

    /// Ends a part: it counts when this answers.
    ///
    /// # Errors
    /// `InvalidArgument` for fewer bytes than the part has or another checksum,
    /// `FailedPrecondition` if the upload is no longer open.
    pub async fn end_part(
        &self,
        part: IncomingPart,
        crc32: Option<u32>,
    ) -> Result<(i64, i64), ServiceError> {
        let IncomingPart { upload, file, incoming } = part;
        let sum = incoming.crc32();
        let refused = if crc32.is_some_and(|said| said != sum) {
            let said = crc32.unwrap_or_default();
            let message =
                format!("the bytes have CRC-32 {sum:08x}, not {said:08x}: send the part again");
            Some(ServiceError::invalid("crc32", message).reason("CHECKSUM_MISMATCH"))
        } else {
            let expected = file.part_bytes(incoming.ordinal());
            (incoming.bytes() != expected).then(|| {
                let message = format!("has {} bytes, not {expected}", incoming.bytes());
                ServiceError::invalid("part", message).reason("PART_SIZE")
            })
        };
        if let Some(error) = refused {
            incoming.abort().await;
            return Err(error);
        }
        let segment = incoming.finish().await?;
        let replaced =
            self.store.add_part(&upload, file.generation, &segment, self.lease_end()).await?;
        self.drop_replaced(replaced, &segment.object_key).await?;
        Ok((file.ordinal, segment.ordinal))
    }

    /// What of an upload has arrived.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn upload_status(
        &self,
        caller: &Caller,
        id: UploadId,
    ) -> Result<(Upload, Vec<FileProgress>), ServiceError> {
        let upload = self.upload_of(caller, id).await?;
        let mut progress = Vec::new();
        for file in self.store.upload_files(id).await? {
            let segments = if file.present || upload.state != UploadState::Open {
                Vec::new()
            } else {
                self.store.segments(file.generation).await?
            };
            progress.push(FileProgress {
                parts: segments.iter().map(|segment| segment.ordinal).collect(),
                received: segments.iter().map(|segment| segment.byte_count).sum(),
                file,
            });
        }
        Ok((upload, progress))
    }

    /// Compares every file with its digest and makes all of them blobs.
    ///
    /// # Errors
    /// `NotFound`, `FailedPrecondition` for a part that is missing or an upload
    /// that has ended, `InvalidArgument` for other bytes than the digest says.
    pub async fn commit_upload(
        &self,
        caller: &Caller,
        id: UploadId,
    ) -> Result<CommittedUpload, ServiceError> {
        let upload = self.upload_of(caller, id).await?;
        let files = self.store.upload_files(id).await?;
        let sum = |files: &[UploadFile]| -> i64 { files.iter().map(|file| file.byte_count).sum() };
        let count = i64::try_from(files.len()).unwrap_or(i64::MAX);
        if upload.state == UploadState::Committed {
            // A repetition, whose first answer was lost.
            return Ok(CommittedUpload { files: count, bytes: sum(&files), known_bytes: 0 });
        }
        let mut checked = Vec::with_capacity(files.len());
        for file in files {
            let digest = match file.digest {
                Some(digest) if file.present => {
                    // One that is gone is told by the commit.
                    let kept = self.store.blob(&digest).await?;
                    let same =
                        kept.map(|kept| same_size(&file.path, file.byte_count, kept.byte_count));
                    same.unwrap_or(Ok(()))?;
                    digest
                }
                _ => self.checked(&file).await?,
            };
            checked.push((file, digest));
        }
        let bytes = checked.iter().map(|(file, _)| file.byte_count).sum();
        let known_bytes = self.store.commit_upload(&upload, &checked, self.lease_end()).await?;
        Ok(CommittedUpload { files: count, bytes, known_bytes })
    }

    async fn checked(&self, file: &UploadFile) -> Result<Digest, ServiceError> {
        let segments = self.store.segments(file.generation).await?;
        let mut next = 0;
        for (segment, ordinal) in segments.iter().zip(0..) {
            if segment.ordinal != ordinal || segment.byte_begin != next {
                break;
            }
            next += segment.byte_count;
        }
        if next != file.byte_count || segments.is_empty() {
            let message = format!(
                "{}: {next} of {} bytes have arrived in order; GetUploadStatus says which parts are missing",
                file.path, file.byte_count
            );
            return Err(ServiceError::precondition(message).reason("UPLOAD_INCOMPLETE"));
        }
        let digest = digest_of(&self.store, &segments).await?;
        match file.digest {
            Some(said) if said != digest => {
                let message = format!(
                    "{}: the bytes have SHA-256 {}, not {}: send the file again",
                    file.path,
                    hex::encode(digest),
                    hex::encode(said)
                );
                Err(ServiceError::invalid("files.digest", message).reason("DIGEST_MISMATCH"))
            }
            _ => Ok(digest),
        }
    }

    /// Gives an upload up.
    ///
    /// # Errors
    /// `NotFound`, `FailedPrecondition` if it was committed.
    pub async fn abort_upload(&self, caller: &Caller, id: UploadId) -> Result<(), ServiceError> {
        let upload = self.upload_of(caller, id).await?;
        if upload.state == UploadState::Aborted {
            return Ok(());
        }
        self.store.abort_upload(&upload).await
    }

    /// Removes the object that another try of the same part is in the place of.
    pub(super) async fn drop_replaced(
        &self,
        replaced: Option<String>,
        by: &str,
    ) -> Result<(), ServiceError> {
        match replaced.filter(|object| object != by && !object.is_empty()) {
            Some(object) => self.store.blobs().delete(&object).await,
            None => Ok(()),
        }
    }

    pub(super) fn lease_end(&self) -> i64 {
        now_micros().saturating_add(self.settings.lease_micros())
    }
}

impl IncomingPart {
    /// Adds bytes to the part.
    ///
    /// # Errors
    /// `InvalidArgument` for more bytes than the part has.
    pub async fn write(&mut self, bytes: Bytes) -> Result<(), ServiceError> {
        let expected = self.file.part_bytes(self.incoming.ordinal());
        let come = self.incoming.bytes() + i64::try_from(bytes.len()).unwrap_or(i64::MAX);
        if come > expected {
            let message = format!("has {expected} bytes, and more came");
            return Err(ServiceError::invalid("part", message).reason("PART_SIZE"));
        }
        self.incoming.write(bytes).await
    }

    /// Gives the part up; nothing of it stays.
    pub(super) async fn abort(self) {
        self.incoming.abort().await;
    }
}

/// That a file whose bytes are kept has the size that is said of it.
fn same_size(path: &str, said: i64, kept: i64) -> Result<(), ServiceError> {
    if said == kept {
        return Ok(());
    }
    let shown: String = path.chars().take(100).collect();
    let message = format!("{shown}: the bytes of this digest are {kept}, not {said}");
    Err(ServiceError::invalid("files.byte_count", message)
        .reason("SIZE_MISMATCH")
        .with("path", shown))
}

fn check_files(files: &[(String, Option<Digest>, i64)]) -> Result<(), ServiceError> {
    if files.is_empty() || files.len() > FILES_MAX {
        let message = format!("names {} files: 1 to {FILES_MAX}", files.len());
        return Err(ServiceError::invalid("files", message));
    }
    let mut paths = BTreeSet::new();
    for (path, _, byte_count) in files {
        check_path("files.path", path)?;
        if !(0..=FILE_BYTES_MAX).contains(byte_count) {
            let message = format!("{byte_count} is not within 0 and {FILE_BYTES_MAX}");
            return Err(ServiceError::invalid("files.byte_count", message));
        }
        if !paths.insert(path) {
            return Err(ServiceError::invalid("files.path", format!("{path:?} is named twice")));
        }
    }
    check_tree("files.path", paths.into_iter().map(String::as_str))
}
