//! Uploads: opened before blocks are written, swept when their writer is gone.

use caller::Caller;
use ids::{DatasetId, UploadId};
use options_api::v1::Level;
use service_error::ServiceError;
use sql_store::now_micros;

use crate::app::Catalog;
use crate::model::{DatasetRef, Head, Upload};

const OPEN: &str = "quarry.catalog.v1.ManifestService/OpenUpload";

/// A fresh upload.
#[derive(Debug, Clone)]
pub struct OpenedUpload {
    pub id: UploadId,
    /// Microseconds UTC.
    pub expires_at: i64,
    /// The dataset, or the id that the one to be made will have.
    pub dataset: DatasetId,
    /// `None`: no such dataset exists yet.
    pub head: Option<Head>,
}

impl Catalog {
    /// Opens an upload to a dataset that the caller may write, or to one that
    /// it may make.
    ///
    /// # Errors
    /// `NotFound`, `PermissionDenied`.
    pub async fn open_upload(
        &self,
        caller: &Caller,
        reference: &DatasetRef,
    ) -> Result<OpenedUpload, ServiceError> {
        let shown = reference.to_string();
        let (dataset, namespace, head) = match (self.find(reference).await?, reference) {
            (Some(head), _) => {
                self.require_dataset(caller, Level::Write, &head.dataset, &shown, OPEN).await?;
                (head.dataset.id, head.dataset.namespace_id, Some(head))
            }
            (None, DatasetRef::Name { namespace, .. }) => {
                let within = self.namespace_of_new(caller, namespace, &shown, OPEN).await?;
                (DatasetId::new(), within.id, None)
            }
            (None, DatasetRef::Id(id)) => return Err(ServiceError::not_found("dataset", id)),
        };
        let expires_at = now_micros() + self.settings.lease_micros();
        let id = self.store.open_upload(dataset, namespace, caller.principal, expires_at).await?;
        Ok(OpenedUpload { id, expires_at, dataset, head })
    }

    /// Prolongs an upload's lease; answers when it ends, in microseconds UTC.
    ///
    /// # Errors
    /// `NotFound`; `FailedPrecondition` for one that was aborted or committed.
    pub async fn renew_upload(&self, caller: &Caller, id: UploadId) -> Result<i64, ServiceError> {
        let upload = self.store.find_upload(id).await?.owned_by(caller.principal)?;
        let expires_at = now_micros() + self.settings.lease_micros();
        self.store.renew_upload(&upload, expires_at).await?;
        Ok(expires_at)
    }

    /// Gives an upload up; its objects are swept.
    ///
    /// # Errors
    /// `NotFound`; `FailedPrecondition` for one that was committed.
    pub async fn abort_upload(&self, caller: &Caller, id: UploadId) -> Result<(), ServiceError> {
        let upload = self.store.find_upload(id).await?.owned_by(caller.principal)?;
        self.store.abort_upload(&upload).await
    }

    /// Says whether an upload has committed; one that has not never will.
    ///
    /// # Errors
    /// `PermissionDenied` for whoever is no role of the platform; `NotFound`.
    pub async fn settle_upload(
        &self,
        caller: &Caller,
        id: UploadId,
    ) -> Result<Upload, ServiceError> {
        Self::require_service(caller)?;
        self.store.settle_upload(id).await
    }

    /// Gives up uploads whose lease has run out and names given-up ones whose
    /// objects are still there.
    ///
    /// # Errors
    /// `PermissionDenied` for whoever is no role of the platform.
    pub async fn sweep_uploads(
        &self,
        caller: &Caller,
        limit: u32,
    ) -> Result<Vec<Upload>, ServiceError> {
        Self::require_service(caller)?;
        self.store.sweep_uploads(now_micros(), limit).await
    }

    /// Notes that the objects of given-up uploads are gone.
    ///
    /// # Errors
    /// `PermissionDenied` for whoever is no role of the platform.
    pub async fn confirm_swept(
        &self,
        caller: &Caller,
        ids: &[UploadId],
    ) -> Result<(), ServiceError> {
        Self::require_service(caller)?;
        self.store.confirm_swept(ids).await
    }
}
