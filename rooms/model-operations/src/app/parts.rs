//! Files of a namespace's tree in parts of any size, and what else MLflow's
//! surface asks that gRPC does not.

use std::ops::Range;

use caller::Caller;
use futures::StreamExt;
use ids::NamespaceId;
use options_api::v1::Level;
use service_error::ServiceError;
use sql_store::now_micros;
use uuid::Uuid;

use super::Registry;
use super::bytes::{Incoming, Pieces, digest_of};
use crate::model::artifact::object_prefix;
use crate::model::{
    Blob, DatasetVersion, Digest, FileEntry, ModelPath, ModelVersion, VersionRef, check_path,
};
use crate::store::TreeUpload;

const PARTS_MAX: i64 = 10_000;

fn absent(id: Uuid) -> ServiceError {
    ServiceError::not_found("multipart upload", id.simple())
}

impl Registry {
    /// Opens an upload of one file in so many parts.
    ///
    /// # Errors
    /// `InvalidArgument` for a path or a number of parts that is none.
    pub async fn begin_tree_parts(
        &self,
        caller: &Caller,
        namespace: NamespaceId,
        path: &str,
        parts: i64,
    ) -> Result<Uuid, ServiceError> {
        check_path("path", path)?;
        super::files::kept_elsewhere(path)?;
        if !(1..=PARTS_MAX).contains(&parts) {
            let message = format!("{parts} is not within 1 and {PARTS_MAX}");
            return Err(ServiceError::invalid("num_parts", message));
        }
        let upload = TreeUpload {
            id: Uuid::now_v7(),
            namespace_id: namespace.uuid(),
            path: path.to_owned(),
            principal: caller.principal.uuid(),
            generation: Uuid::now_v7(),
            parts,
            expires_at: now_micros().saturating_add(self.settings.lease_micros()),
        };
        self.store.open_tree_upload(&upload).await?;
        Ok(upload.id)
    }

    /// Takes one part, numbered from 1; answers its digest. The same part again
    /// is in the place of the first.
    ///
    /// # Errors
    /// `NotFound` for an upload that has ended, or the stream's own.
    pub async fn put_tree_part(
        &self,
        id: Uuid,
        number: i64,
        mut pieces: Pieces,
    ) -> Result<Digest, ServiceError> {
        let upload = self.store.tree_upload(id).await?.ok_or_else(|| absent(id))?;
        if !(1..=upload.parts).contains(&number) {
            return Err(ServiceError::invalid("part_number", "is none of the upload's"));
        }
        let mut incoming = Incoming::begin(self.store.blobs(), upload.generation, number - 1, 0);
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
        let before = self.store.put_tree_part(&upload, &segment).await?;
        self.drop_replaced(before, &segment.object_key).await?;
        Ok(segment.digest)
    }

    /// Makes the parts the file, once all are there and are those that the
    /// caller names.
    ///
    /// # Errors
    /// `NotFound`, `InvalidArgument` for a part that is missing or another one.
    pub async fn complete_tree_parts(
        &self,
        caller: &Caller,
        id: Uuid,
        path: &str,
        parts: &[(i64, String)],
    ) -> Result<(), ServiceError> {
        let upload = self.tree_upload_of(caller, id).await?;
        if upload.path != path {
            return Err(absent(id));
        }
        let mut segments = self.store.segments(upload.generation).await?;
        let mut begin = 0;
        for (at, segment) in (0..).zip(&mut segments) {
            if segment.ordinal != at {
                break;
            }
            segment.byte_begin = begin;
            begin += segment.byte_count;
        }
        let is_whole = i64::try_from(segments.len()).is_ok_and(|count| count == upload.parts);
        for number in 1..=upload.parts {
            let there = usize::try_from(number - 1).ok().and_then(|at| segments.get(at));
            let said = parts.iter().find(|(said, _)| *said == number);
            let fits = match (there, said) {
                (Some(segment), Some((_, etag))) => {
                    etag.is_empty() || etag.trim_matches('"') == hex::encode(segment.digest)
                }
                _ => false,
            };
            if !fits || !is_whole {
                let message = format!(
                    "part {number} is missing or is not the one that was sent: send it again"
                );
                return Err(ServiceError::invalid("parts", message).reason("PART_MISMATCH"));
            }
        }
        let digest = digest_of(&self.store, &segments).await?;
        let blob = Blob { digest, byte_count: begin, generation: upload.generation };
        if self.store.end_tree_upload(&upload, &segments, &blob).await? {
            self.drop_generation(upload.generation).await?;
        }
        Ok(())
    }

    /// Gives an upload up.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn abort_tree_parts(&self, caller: &Caller, id: Uuid) -> Result<(), ServiceError> {
        let upload = self.tree_upload_of(caller, id).await?;
        self.forget_tree_upload(&upload).await
    }

    async fn tree_upload_of(&self, caller: &Caller, id: Uuid) -> Result<TreeUpload, ServiceError> {
        let found = self.store.tree_upload(id).await?;
        found.filter(|upload| upload.principal == caller.principal.uuid()).ok_or_else(|| absent(id))
    }

    async fn forget_tree_upload(&self, upload: &TreeUpload) -> Result<(), ServiceError> {
        if self.store.close_tree_upload(upload.id).await? {
            self.drop_generation(upload.generation).await?;
        }
        Ok(())
    }

    /// Gives up uploads in parts whose lease has ended.
    ///
    /// # Errors
    /// The database's or the object store's.
    pub async fn sweep_tree_uploads(&self) -> Result<(), ServiceError> {
        for upload in self.store.ended_tree_uploads(now_micros()).await? {
            self.forget_tree_upload(&upload).await?;
        }
        Ok(())
    }

    /// Removes a generation's objects, then what is known of them.
    async fn drop_generation(&self, generation: Uuid) -> Result<(), ServiceError> {
        self.store.blobs().delete_prefix(&object_prefix(generation)).await?;
        self.store.forget_segments(generation).await
    }

    /// A file of a tree for the holder of a signed address.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn signed_file(
        &self,
        namespace: NamespaceId,
        path: &str,
    ) -> Result<FileEntry, ServiceError> {
        let found = self.store.tree_file(namespace, path).await?;
        found.ok_or_else(|| ServiceError::not_found("file", path))
    }

    /// The bytes of a file, or of a range.
    ///
    /// # Errors
    /// The object store's.
    pub async fn bytes_of(
        &self,
        entry: &FileEntry,
        range: Option<Range<i64>>,
    ) -> Result<Pieces, ServiceError> {
        self.pieces(entry, range).await
    }

    /// The key of signed addresses, made by whoever needs it first.
    ///
    /// # Errors
    /// The database's.
    pub async fn signing_secret(&self) -> Result<Vec<u8>, ServiceError> {
        if let Some(secret) = self.secret.get() {
            return Ok(secret.clone());
        }
        let secret = self.store.surface_secret().await?;
        Ok(self.secret.get_or_init(|| secret).clone())
    }

    /// A dataset version that a caller may read; 0 is the newest.
    ///
    /// # Errors
    /// `NotFound`, `InvalidArgument` for a version that there is not.
    pub async fn dataset(
        &self,
        caller: &Caller,
        namespace: &str,
        dataset: &str,
        version: i64,
    ) -> Result<DatasetVersion, ServiceError> {
        self.dataset_version(caller, namespace, dataset, version, String::new()).await
    }

    /// The names of the stages that a model's versions go through.
    ///
    /// # Errors
    /// `NotFound` for the model.
    pub async fn model_stages(
        &self,
        caller: &Caller,
        path: &ModelPath,
    ) -> Result<Vec<String>, ServiceError> {
        let model = self.model_for(caller, Level::Read, path, "mlflow").await?;
        let stages = self.store.stages(model.namespace_id).await?;
        Ok(stages.into_iter().map(|stage| stage.name).collect())
    }

    /// Moves a version to a stage at once.
    ///
    /// # Errors
    /// As `transition_stage`; `FailedPrecondition` where others must approve.
    pub async fn move_to_stage(
        &self,
        caller: &Caller,
        path: &ModelPath,
        which: &VersionRef,
        stage: &str,
        archive: bool,
    ) -> Result<ModelVersion, ServiceError> {
        let (asked, version) =
            self.transition_stage(caller, path, which, stage, archive, "").await?;
        if asked.decided_at.is_none() {
            let message =
                format!("the move to {stage} is asked for and waits for approval: {}", asked.id);
            return Err(ServiceError::precondition(message).reason("APPROVAL_PENDING"));
        }
        Ok(version)
    }
}
