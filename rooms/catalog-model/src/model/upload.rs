//! Uploads: the lease under which blocks are written before a commit.

use ids::{DatasetId, NamespaceId, PrincipalId, UploadId};
use service_error::ServiceError;

/// Where an upload stands. It leaves `Open` once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UploadState {
    /// Blocks are being written.
    Open,
    /// Its blocks are a version.
    Committed,
    /// Given up or expired; its objects are swept.
    Aborted,
}

/// A writer's upload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upload {
    pub id: UploadId,
    pub dataset_id: DatasetId,
    pub namespace_id: NamespaceId,
    /// Who opened it; nobody else renews, commits or aborts it.
    pub principal: PrincipalId,
    pub state: UploadState,
    /// Counts changes of hands: whoever moves the upload names the epoch it read.
    pub lease_epoch: i64,
    /// Microseconds UTC.
    pub expires_at: i64,
    /// The version that its commit made; 0 before, and for a commit that made none.
    pub version: i64,
    /// The snapshot that its commit made; 0 before.
    pub snapshot: i64,
}

impl Upload {
    /// Refuses whoever did not open the upload, without telling that it exists.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn owned_by(self, principal: PrincipalId) -> Result<Self, ServiceError> {
        if self.principal == principal { Ok(self) } else { Err(not_found(self.id)) }
    }
}

/// There is no such upload, for this caller.
#[must_use]
pub fn not_found(id: UploadId) -> ServiceError {
    ServiceError::not_found("upload", id)
}

/// The upload has expired or was given up.
#[must_use]
pub fn aborted(id: UploadId) -> ServiceError {
    let message = format!(
        "upload {id} has expired or was aborted, and its blocks are gone: open another one"
    );
    ServiceError::precondition(message).reason("UPLOAD_ABORTED").with("upload", id)
}

/// The upload's blocks are a version already.
#[must_use]
pub fn committed(id: UploadId) -> ServiceError {
    ServiceError::precondition(format!("upload {id} was committed already"))
        .reason("UPLOAD_COMMITTED")
        .with("upload", id)
}
