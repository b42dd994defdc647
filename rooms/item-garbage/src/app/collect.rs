//! The job: uploads, snapshots, datasets, objects.

use std::collections::BTreeMap;

use ::jobs::{Interrupt, JobResult, Jobs, NewJob, Owner, Work};
use caller::Caller;
use futures::{StreamExt, TryStreamExt};
use ids::DatasetId;
use serde::{Deserialize, Serialize};
use service_error::ServiceError;
use sql_store::now_micros;
use uuid::Uuid;

use crate::app::Collector;

/// The job's kind; also its key, so that at most one that deletes is under way.
pub const COLLECT_GARBAGE: &str = "collect-garbage";
const DELETED_AT_ONCE: usize = 8;
const LEASES_KEPT_MICROS: i64 = 7 * 24 * 3_600 * 1_000_000;

#[derive(Debug, Serialize, Deserialize)]
struct Arguments {
    /// Nothing is changed: only what a listing finds is counted.
    dry_run: bool,
}

/// What a job counts; also its checkpoint. All parts may be begun anew.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Found {
    pub uploads: i64,
    pub snapshots: i64,
    pub blocks: i64,
    pub datasets: i64,
    pub objects: i64,
    pub bytes: i64,
    /// Unreferenced and younger than the grace.
    pub young_objects: i64,
    /// Of datasets that the catalog never had: left alone.
    pub unknown_objects: i64,
}

impl Found {
    fn result(&self) -> BTreeMap<String, i64> {
        [
            ("uploads", self.uploads),
            ("snapshots", self.snapshots),
            ("blocks", self.blocks),
            ("datasets", self.datasets),
            ("objects", self.objects),
            ("bytes", self.bytes),
            ("young_objects", self.young_objects),
            ("unknown_objects", self.unknown_objects),
        ]
        .into_iter()
        .map(|(name, count)| (name.to_owned(), count))
        .collect()
    }
}

impl Collector {
    /// Queues a collection, or answers the one that is under way.
    ///
    /// # Errors
    /// A database that is away.
    pub async fn submit(
        &self,
        jobs: &Jobs,
        caller: &Caller,
        dry_run: bool,
    ) -> Result<Uuid, ServiceError> {
        let (title, key) = match dry_run {
            true => ("objects that nothing names, counted", "count-garbage"),
            false => ("all datasets", COLLECT_GARBAGE),
        };
        let job = NewJob::new(COLLECT_GARBAGE, Owner::of(caller))
            .title(title)
            .key(key)
            .arguments(&Arguments { dry_run })?;
        Ok(jobs.submit(job).await?.id)
    }

    /// The job.
    ///
    /// # Errors
    /// A stop; a catalog, database or object store that is away.
    pub async fn run(&self, work: Work) -> JobResult {
        let arguments: Arguments = work.arguments()?;
        let mut found = Found::default();
        if !arguments.dry_run {
            self.end_uploads(&work, &mut found).await?;
            self.end_snapshots(&work, &mut found).await?;
            self.end_datasets(&work, &mut found).await?;
            self.store.forget_leases(now_micros() - LEASES_KEPT_MICROS).await?;
        }
        self.end_objects(&work, &mut found, arguments.dry_run).await?;
        Ok(found.result())
    }

    async fn end_uploads(&self, work: &Work, found: &mut Found) -> Result<(), Interrupt> {
        work.phase("sweeping uploads", "uploads");
        loop {
            let gone = self.sweep().await?;
            found.uploads += count(gone);
            work.progress(found.uploads, None);
            work.step(found).await?;
            if gone == 0 {
                return Ok(());
            }
        }
    }

    async fn end_snapshots(&self, work: &Work, found: &mut Found) -> Result<(), Interrupt> {
        work.phase("expiring snapshots", "snapshots");
        let mut after = String::new();
        loop {
            let expired = self.catalog.expire_snapshots(after).await?;
            found.snapshots += expired.snapshots;
            found.blocks += expired.blocks;
            work.progress(found.snapshots, None);
            work.step(found).await?;
            after = expired.last_dataset_id;
            if after.is_empty() {
                return self.delete_doomed(work, found).await;
            }
        }
    }

    async fn end_datasets(&self, work: &Work, found: &mut Found) -> Result<(), Interrupt> {
        work.phase("purging datasets", "datasets");
        while !self.catalog.purge_datasets().await?.is_empty() {
            self.delete_doomed(work, found).await?;
        }
        // Also those of a run that ended before their objects were gone.
        self.delete_doomed(work, found).await
    }

    /// Deletes the bytes of what is out of the metadata.
    async fn delete_doomed(&self, work: &Work, found: &mut Found) -> Result<(), Interrupt> {
        loop {
            let doomed = self.catalog.doomed().await?;
            if doomed.object_keys.is_empty() && doomed.dataset_ids.is_empty() {
                return Ok(());
            }
            self.delete_all(&doomed.object_keys).await?;
            found.objects += count(doomed.object_keys.len());
            for id in &doomed.dataset_ids {
                found.objects += self.delete_dataset(id).await?;
                found.datasets += 1;
                work.progress(found.datasets, None);
            }
            self.catalog.confirm_gone(doomed.object_keys, doomed.dataset_ids).await?;
            work.step(found).await?;
        }
    }

    /// Rows, files and blocks of a dataset that the catalog has forgotten.
    async fn delete_dataset(&self, id: &str) -> Result<i64, ServiceError> {
        let dataset: DatasetId = id
            .parse()
            .map_err(|_| ServiceError::internal("the catalog answered a malformed dataset id"))?;
        self.delta.purge(dataset.uuid()).await?;
        let objects = self.store.blobs().delete_prefix(&dataset.to_string()).await?;
        // Last: it tells of files whose objects are there.
        self.store.forget_dataset(dataset).await?;
        tracing::info!(%dataset, objects, "a deleted dataset was purged");
        Ok(i64::try_from(objects).unwrap_or(i64::MAX))
    }

    pub(super) async fn delete_all(&self, keys: &[String]) -> Result<(), ServiceError> {
        // Owned: a job's future must be `Send` whatever it borrows.
        let each = keys.iter().cloned().map(|key| {
            let blobs = self.store.blobs().clone();
            async move { blobs.delete(&key).await }
        });
        futures::stream::iter(each.collect::<Vec<_>>())
            .buffer_unordered(DELETED_AT_ONCE)
            .try_collect()
            .await
    }
}

pub fn count(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
