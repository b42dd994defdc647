//! What nobody needs any more: trash whose time is over, blobs without a
//! reference, parts of uploads that ended.

use caller::Caller;
use jobs::{Interrupt, Job, JobResult, NewJob, Owner, Work};
use serde::{Deserialize, Serialize};
use service_error::ServiceError;
use sql_store::now_micros;

use super::Registry;
use crate::model::artifact::object_prefix;

/// The kind of a job that collects garbage, and its key.
pub const COLLECT_JOB: &str = "gc";
const AT_ONCE: u32 = 100;
/// Rounds of one collection: what is left is the next one's.
const ROUNDS_MAX: usize = 1_000;

/// What a collection removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Collected {
    pub blobs: i64,
    pub freed_bytes: i64,
    pub purged_models: i64,
    pub purged_versions: i64,
    pub swept_uploads: i64,
    /// Files of runs whose namespace is gone.
    #[serde(default)]
    pub reclaimed_files: i64,
}

impl Registry {
    /// Purges the trash of before a time and what deleted namespaces left, sweeps
    /// ended uploads and deletes loose blobs.
    ///
    /// # Errors
    /// The database's or the object store's; what was done stays done.
    pub async fn collect_garbage(
        &self,
        trash_before: Option<i64>,
    ) -> Result<Collected, ServiceError> {
        self.collect(trash_before, None).await.map_err(|interrupt| match interrupt {
            Interrupt::Failed(error) => error,
            Interrupt::Stopped => {
                ServiceError::internal("nobody stops a collection that is no job")
            }
        })
    }

    /// Queues a collection; one at a time.
    ///
    /// # Errors
    /// The database's.
    pub async fn queue_collection(
        &self,
        caller: &Caller,
        trash_before: Option<i64>,
    ) -> Result<Job, ServiceError> {
        let job = NewJob::new(COLLECT_JOB, Owner::of(caller))
            .title("garbage of models")
            .key(COLLECT_JOB)
            .arguments(&trash_before)?;
        self.jobs().submit(job).await
    }

    /// A collection as a job.
    ///
    /// # Errors
    /// As [`Self::collect_garbage`].
    pub async fn run_collection(&self, work: Work) -> JobResult {
        let trash_before: Option<i64> = work.arguments()?;
        work.phase("collecting", "blobs");
        let done = self.collect(trash_before, Some(&work)).await?;
        let counts = [
            ("blobs", done.blobs),
            ("freed_bytes", done.freed_bytes),
            ("purged_models", done.purged_models),
            ("purged_versions", done.purged_versions),
            ("swept_uploads", done.swept_uploads),
            ("reclaimed_files", done.reclaimed_files),
        ];
        Ok(counts.map(|(name, count)| (name.to_owned(), count)).into())
    }

    async fn collect(
        &self,
        trash_before: Option<i64>,
        work: Option<&Work>,
    ) -> Result<Collected, Interrupt> {
        let retention = self.settings.retention_micros();
        let before = trash_before.unwrap_or_else(|| now_micros().saturating_sub(retention));
        let mut done: Collected = match work {
            Some(work) => work.checkpoint()?.unwrap_or_default(),
            None => Collected::default(),
        };
        done.reclaimed_files += self.reclaim_gone_namespaces(before).await?;
        step(work, &done).await?;
        for _ in 0..ROUNDS_MAX {
            let (models, versions) = self.store.purge(before, AT_ONCE).await?;
            done.purged_models += models;
            done.purged_versions += versions;
            step(work, &done).await?;
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
                done.swept_uploads += 1;
            }
            step(work, &done).await?;
        }
        for _ in 0..ROUNDS_MAX {
            let freed = self.delete_loose(&mut done).await?;
            step(work, &done).await?;
            if freed == 0 {
                break;
            }
        }
        Ok(done)
    }

    /// Deletes some loose blobs; answers how many.
    async fn delete_loose(&self, done: &mut Collected) -> Result<i64, ServiceError> {
        let mut freed = 0;
        for blob in self.store.loose_blobs(AT_ONCE).await? {
            if !self.store.mark_deleting(&blob).await? {
                continue;
            }
            self.store.blobs().delete_prefix(&object_prefix(blob.generation)).await?;
            self.store.forget_blob(&blob).await?;
            freed += 1;
            done.freed_bytes += blob.byte_count;
        }
        done.blobs += freed;
        Ok(freed)
    }

    /// What a collection would remove: bytes of loose blobs, and those that only
    /// the trash references.
    ///
    /// # Errors
    /// The database's.
    pub async fn garbage(&self, trash_before: Option<i64>) -> Result<Collected, ServiceError> {
        let retention = self.settings.retention_micros();
        let before = trash_before.unwrap_or_else(|| now_micros().saturating_sub(retention));
        let gone = self.gone_namespaces(before).await?;
        let (blobs, freed_bytes, purged_models, purged_versions) =
            self.store.garbage(before, &gone).await?;
        Ok(Collected { blobs, freed_bytes, purged_models, purged_versions, ..Collected::default() })
    }
}

/// Where a collection that is a job stops and is asked for.
async fn step(work: Option<&Work>, done: &Collected) -> Result<(), Interrupt> {
    let Some(work) = work else { return Ok(()) };
    work.progress(done.blobs, None);
    work.step(done).await
}
