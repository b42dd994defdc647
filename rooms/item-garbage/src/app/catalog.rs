//! The catalog as the collector asks it, for the item store itself.

use caller::{TokenSource, authorized};
use catalog_api::v1::garbage_service_client::GarbageServiceClient;
use catalog_api::v1::manifest_service_client::ManifestServiceClient;
use catalog_api::v1::{
    ConfirmGoneRequest, ConfirmSweptRequest, ExpireSnapshotsRequest, ExpireSnapshotsResponse,
    JudgeObjectsRequest, JudgeObjectsResponse, ListDoomedRequest, ListDoomedResponse, ListedObject,
    PurgeDatasetsRequest, SweepUploadsRequest, SweptUpload,
};
use service_channel::{CONTROL_MESSAGE_BYTES_MAX, Transport};
use service_error::ServiceError;

const CATALOG: &str = "catalog";
const SWEEP_PAGE: i32 = 100;
/// Each is a transaction over all that the dataset had.
const PURGE_PAGE: i32 = 4;

/// The catalog's client.
#[derive(Clone)]
pub struct Catalog {
    transport: Transport,
    tokens: TokenSource,
}

impl Catalog {
    pub const fn new(transport: Transport, tokens: TokenSource) -> Self {
        Self { transport, tokens }
    }

    fn manifest(&self) -> ManifestServiceClient<Transport> {
        ManifestServiceClient::new(self.transport.clone())
    }

    fn garbage(&self) -> GarbageServiceClient<Transport> {
        GarbageServiceClient::new(self.transport.clone())
            .max_decoding_message_size(CONTROL_MESSAGE_BYTES_MAX)
    }

    /// Ends old snapshots of some datasets after one.
    pub async fn expire_snapshots(
        &self,
        after_dataset_id: String,
    ) -> Result<ExpireSnapshotsResponse, ServiceError> {
        let bearer = self.tokens.for_self(CATALOG).await?;
        let message = ExpireSnapshotsRequest { after_dataset_id, page_size: SWEEP_PAGE };
        Ok(self.garbage().expire_snapshots(authorized(message, &bearer)).await?.into_inner())
    }

    /// Forgets some datasets that were deleted long ago.
    pub async fn purge_datasets(&self) -> Result<Vec<String>, ServiceError> {
        let bearer = self.tokens.for_self(CATALOG).await?;
        let message = PurgeDatasetsRequest { page_size: PURGE_PAGE };
        let purged = self.garbage().purge_datasets(authorized(message, &bearer)).await?;
        Ok(purged.into_inner().dataset_ids)
    }

    /// Objects and datasets whose bytes are to be deleted.
    pub async fn doomed(&self) -> Result<ListDoomedResponse, ServiceError> {
        let bearer = self.tokens.for_self(CATALOG).await?;
        let message = ListDoomedRequest { page_size: SWEEP_PAGE };
        Ok(self.garbage().list_doomed(authorized(message, &bearer)).await?.into_inner())
    }

    /// Their bytes are gone.
    pub async fn confirm_gone(
        &self,
        object_keys: Vec<String>,
        dataset_ids: Vec<String>,
    ) -> Result<(), ServiceError> {
        let bearer = self.tokens.for_self(CATALOG).await?;
        let message = ConfirmGoneRequest { object_keys, dataset_ids };
        self.garbage().confirm_gone(authorized(message, &bearer)).await?;
        Ok(())
    }

    /// Whether anything may name objects.
    pub async fn judge_objects(
        &self,
        objects: Vec<ListedObject>,
    ) -> Result<JudgeObjectsResponse, ServiceError> {
        let bearer = self.tokens.for_self(CATALOG).await?;
        let message = JudgeObjectsRequest { objects };
        Ok(self.garbage().judge_objects(authorized(message, &bearer)).await?.into_inner())
    }

    /// Uploads whose objects are to be deleted.
    pub async fn sweep(&self) -> Result<Vec<SweptUpload>, ServiceError> {
        let bearer = self.tokens.for_self(CATALOG).await?;
        let request = authorized(SweepUploadsRequest { page_size: SWEEP_PAGE }, &bearer);
        Ok(self.manifest().sweep_uploads(request).await?.into_inner().uploads)
    }

    pub async fn confirm_swept(&self, upload_ids: Vec<String>) -> Result<(), ServiceError> {
        let bearer = self.tokens.for_self(CATALOG).await?;
        self.manifest()
            .confirm_swept(authorized(ConfirmSweptRequest { upload_ids }, &bearer))
            .await?;
        Ok(())
    }
}
