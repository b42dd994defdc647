//! What nobody needs any more: trash whose time is over, blobs without a
//! reference, parts of uploads that ended.

use service_error::ServiceError;
use sql_store::now_micros;

use super::Registry;
use crate::model::artifact::object_prefix;

const AT_ONCE: u32 = 100;
/// Rounds of one collection: what is left is the next one's.
const ROUNDS_MAX: usize = 1_000;

/// What a collection removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Collected {
    pub blobs: i64,
    pub freed_bytes: i64,
    pub purged_models: i64,
    pub purged_versions: i64,
    pub swept_uploads: i64,
}

impl Registry {
    /// Purges the trash of before a time, sweeps ended uploads and deletes
    /// loose blobs.
    ///
    /// # Errors
    /// The database's or the object store's; what was done stays done.
    pub async fn collect_garbage(
        &self,
        trash_before: Option<i64>,
    ) -> Result<Collected, ServiceError> {
        let retention = self.settings.retention_micros();
        let before = trash_before.unwrap_or_else(|| now_micros().saturating_sub(retention));
        let mut collected = Collected::default();
        for _ in 0..ROUNDS_MAX {
            let (models, versions) = self.store.purge(before, AT_ONCE).await?;
            collected.purged_models += models;
            collected.purged_versions += versions;
            if models + versions == 0 {
                break;
            }
        }
        for _ in 0..ROUNDS_MAX {
            let uploads = self.store.uploads_to_sweep(AT_ONCE).await?;
            if uploads.is_empty() {
                break;
            }
            for upload in uploads {
                let generations = self.store.loose_generations(upload).await?;
                for generation in &generations {
                    self.store.blobs().delete_prefix(&object_prefix(*generation)).await?;
                }
                self.store.mark_swept(upload, &generations).await?;
                collected.swept_uploads += 1;
            }
        }
        for _ in 0..ROUNDS_MAX {
            let loose = self.store.loose_blobs(AT_ONCE).await?;
            let mut freed = 0;
            for blob in loose {
                if !self.store.mark_deleting(&blob).await? {
                    continue;
                }
                self.store.blobs().delete_prefix(&object_prefix(blob.generation)).await?;
                self.store.forget_blob(&blob).await?;
                freed += 1;
                collected.freed_bytes += blob.byte_count;
            }
            collected.blobs += freed;
            if freed == 0 {
                break;
            }
        }
        Ok(collected)
    }

    /// What a collection would remove: bytes of loose blobs, and those that only
    /// the trash references.
    ///
    /// # Errors
    /// The database's.
    pub async fn garbage(&self, trash_before: Option<i64>) -> Result<Collected, ServiceError> {
        let retention = self.settings.retention_micros();
        let before = trash_before.unwrap_or_else(|| now_micros().saturating_sub(retention));
        self.store.garbage(before).await.map(|(blobs, freed_bytes, models, versions)| Collected {
            blobs,
            freed_bytes,
            purged_models: models,
            purged_versions: versions,
            swept_uploads: 0,
        })
    }
}
