//! What may be deleted: for the item store, which has the objects.

use caller::Caller;
use ids::{DatasetId, NamespaceId};
use service_error::ServiceError;
use sql_store::now_micros;

use crate::app::Catalog;
use crate::model::{Expired, ListedObject, Verdict};

/// Whether a namespace is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It is.
    There,
    /// It was deleted then, in microseconds UTC.
    Deleted(i64),
    /// This catalog never had it.
    Unknown,
}

impl Catalog {
    /// Takes snapshots that were replaced long ago out of up to `limit` datasets
    /// after one. Answers the last one that was looked at.
    ///
    /// # Errors
    /// `PermissionDenied` for whoever is no role of the platform.
    pub async fn expire_snapshots(
        &self,
        caller: &Caller,
        after: Option<DatasetId>,
        limit: u32,
    ) -> Result<(Option<DatasetId>, Expired), ServiceError> {
        Self::require_service(caller)?;
        let before = now_micros() - self.settings.snapshot_lease_micros();
        let mut total = Expired::default();
        let datasets = self.store.datasets_after(after, limit).await?;
        for dataset in &datasets {
            let expired = self.store.expire_snapshots(*dataset, before).await?;
            total.snapshots += expired.snapshots;
            total.blocks += expired.blocks;
        }
        Ok((datasets.last().copied(), total))
    }

    /// Forgets up to `limit` datasets that were deleted long ago.
    ///
    /// # Errors
    /// `PermissionDenied` for whoever is no role of the platform.
    pub async fn purge_datasets(
        &self,
        caller: &Caller,
        limit: u32,
    ) -> Result<Vec<DatasetId>, ServiceError> {
        Self::require_service(caller)?;
        let before = now_micros() - self.settings.deleted_retention_micros();
        self.store.purge_datasets(before, limit).await
    }

    /// Objects and datasets whose bytes are to be deleted.
    ///
    /// # Errors
    /// `PermissionDenied` for whoever is no role of the platform.
    pub async fn list_doomed(
        &self,
        caller: &Caller,
        limit: u32,
    ) -> Result<(Vec<String>, Vec<DatasetId>), ServiceError> {
        Self::require_service(caller)?;
        self.store.list_doomed(limit).await
    }

    /// Notes that bytes are gone.
    ///
    /// # Errors
    /// `PermissionDenied` for whoever is no role of the platform.
    pub async fn confirm_gone(
        &self,
        caller: &Caller,
        objects: &[String],
        datasets: &[DatasetId],
    ) -> Result<(), ServiceError> {
        Self::require_service(caller)?;
        self.store.confirm_gone(objects, datasets).await
    }

    /// Whether anything may name objects, and how many seconds an upload may go
    /// without being renewed.
    ///
    /// # Errors
    /// `PermissionDenied` for whoever is no role of the platform.
    pub async fn judge_objects(
        &self,
        caller: &Caller,
        objects: &[ListedObject],
    ) -> Result<(Vec<Verdict>, u64), ServiceError> {
        Self::require_service(caller)?;
        let verdicts = self.store.judge_objects(objects).await?;
        Ok((verdicts, self.settings.upload_lease_seconds))
    }

    /// Whether namespaces are there, in their order.
    ///
    /// # Errors
    /// `PermissionDenied` for whoever is no role of the platform.
    pub async fn judge_namespaces(
        &self,
        caller: &Caller,
        ids: &[NamespaceId],
    ) -> Result<Vec<Standing>, ServiceError> {
        Self::require_service(caller)?;
        let known = self.store.deletions_of(ids).await?;
        let standing = |id: &NamespaceId| match known.get(id) {
            None => Standing::Unknown,
            Some(None) => Standing::There,
            Some(Some(at)) => Standing::Deleted(*at),
        };
        Ok(ids.iter().map(standing).collect())
    }
}
