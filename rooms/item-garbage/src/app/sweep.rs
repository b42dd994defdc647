//! The end of uploads that nobody committed.

use ids::UploadId;
use service_error::ServiceError;

use crate::app::Collector;

impl Collector {
    /// Deletes the objects of uploads that the catalog has given up, and tells
    /// it. Answers how many uploads are gone.
    ///
    /// # Errors
    /// A catalog that is away. An upload whose objects resist is left for the
    /// next time.
    pub async fn sweep(&self) -> Result<usize, ServiceError> {
        let mut gone = Vec::new();
        for swept in self.catalog.sweep().await? {
            let Ok(upload) = swept.upload_id.parse::<UploadId>() else { continue };
            let prefix = format!("{}/{upload}", swept.dataset_id);
            match self.store.blobs().delete_prefix(&prefix).await {
                Ok(objects) => {
                    tracing::info!(%upload, objects, "an abandoned upload was swept");
                    gone.push(upload);
                }
                Err(error) => {
                    tracing::warn!(%upload, %error, "an abandoned upload could not be swept")
                }
            }
        }
        if !gone.is_empty() {
            // First ours, then the catalog's note: a crash between repeats the rest.
            self.store.forget_uploads(&gone).await?;
            self.catalog.confirm_swept(gone.iter().map(ToString::to_string).collect()).await?;
        }
        Ok(gone.len())
    }
}
