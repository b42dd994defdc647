//! Versions and their statistics.

use std::sync::Arc;

use caller::Caller;
use ids::DatasetId;
use options_api::v1::Level;
use service_error::ServiceError;

use crate::app::Catalog;
use crate::model::{
    BlockCursor, ColumnStats, Dataset, DatasetRef, Head, Snapshot, Version, VersionRef,
    fold_statistics,
};
use crate::store::BlockRange;

/// Blocks whose statistics are held at once while they are summed.
const BLOCKS_PER_FOLD: u32 = 100;

impl Catalog {
    /// The dataset that a list of versions is of, if the caller may read it.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn versioned_dataset(
        &self,
        caller: &Caller,
        namespace: &str,
        name: &str,
    ) -> Result<Dataset, ServiceError> {
        let reference = DatasetRef::named(namespace, ("dataset", name))?;
        let action = "quarry.catalog.v1.DatasetsService/ListVersions";
        Ok(self.dataset_for(caller, Level::Read, &reference, action).await?.dataset)
    }

    /// Up to `limit` versions below a number, newest first, of a dataset that
    /// [`Self::versioned_dataset`] let pass.
    ///
    /// # Errors
    /// The database's.
    pub async fn list_versions(
        &self,
        dataset: DatasetId,
        below: Option<i64>,
        limit: u32,
    ) -> Result<Vec<Version>, ServiceError> {
        self.store.list_versions(dataset, below, limit).await
    }

    /// A version with the statistics of its columns.
    ///
    /// # Errors
    /// `NotFound` for the dataset or the version.
    pub async fn get_version(
        &self,
        caller: &Caller,
        namespace: &str,
        name: &str,
        version: VersionRef,
    ) -> Result<(Version, Arc<Vec<ColumnStats>>), ServiceError> {
        let reference = DatasetRef::named(namespace, ("dataset", name))?;
        let action = "quarry.catalog.v1.DatasetsService/GetVersion";
        let head = self.dataset_for(caller, Level::Read, &reference, action).await?;
        let dataset = head.dataset.id;
        let found = self.version_of(head, version).await?;
        let statistics = self.statistics_of(dataset, found.snapshot.number).await?;
        Ok((found, statistics))
    }

    async fn version_of(&self, head: Head, version: VersionRef) -> Result<Version, ServiceError> {
        let path = head.dataset.path();
        match version {
            VersionRef::Number(number) => {
                let found = self.store.find_version(head.dataset.id, number).await?;
                found.ok_or_else(|| ServiceError::not_found("version", format!("{path}@{number}")))
            }
            _ => head
                .dataset
                .latest
                .ok_or_else(|| ServiceError::not_found("version", format!("{path}@latest"))),
        }
    }

    /// A dataset at the state that a request means.
    pub(super) async fn head_at(
        &self,
        mut head: Head,
        at: VersionRef,
    ) -> Result<Head, ServiceError> {
        let dataset = head.dataset.id;
        (head.snapshot, head.version) = match at {
            VersionRef::Latest => return Ok(head),
            VersionRef::Number(number) => {
                let found = self.store.find_version(dataset, number).await?;
                let version = found.ok_or_else(|| {
                    ServiceError::not_found("version", format!("{}@{number}", head.dataset.path()))
                })?;
                (version.snapshot, version.number)
            }
            VersionRef::Snapshot(number) => self.snapshot_of(&head, number).await?,
        };
        Ok(head)
    }

    pub(super) async fn snapshot_of(
        &self,
        head: &Head,
        number: i64,
    ) -> Result<(Snapshot, i64), ServiceError> {
        let found = self.store.find_snapshot(head.dataset.id, number).await?;
        found.ok_or_else(|| snapshot_gone(head, number))
    }

    async fn statistics_of(
        &self,
        dataset: DatasetId,
        snapshot: i64,
    ) -> Result<Arc<Vec<ColumnStats>>, ServiceError> {
        let key = (dataset, snapshot);
        if let Some(known) = self.statistics.get(&key).await {
            return Ok(known);
        }
        let summed = Arc::new(self.sum_statistics(dataset, snapshot).await?);
        self.statistics.insert(key, Arc::clone(&summed)).await;
        Ok(summed)
    }

    async fn sum_statistics(
        &self,
        dataset: DatasetId,
        snapshot: i64,
    ) -> Result<Vec<ColumnStats>, ServiceError> {
        let mut total = Vec::new();
        let mut rows = 0;
        let mut cursor: Option<BlockCursor> = None;
        loop {
            let range =
                BlockRange { dataset, snapshot, added_after: 0, cursor, limit: BLOCKS_PER_FOLD };
            let mut entries = self.store.list_blocks(range).await?;
            let Some(last) = entries.last() else { return Ok(total) };
            cursor = Some(last.cursor());
            self.store.load_statistics(&mut entries).await?;
            for entry in &mut entries {
                let block = &mut entry.block;
                if entry.deleted_count > 0 {
                    // They enclose the live rows, and may be a deleted row's.
                    block.columns.iter_mut().for_each(|column| column.exact = false);
                }
                fold_statistics(&mut total, rows, &block.columns, block.row_count);
                rows += block.row_count;
            }
        }
    }
}

/// Numbers have no gaps: one that is not there and was passed has expired.
fn snapshot_gone(head: &Head, number: i64) -> ServiceError {
    let path = head.dataset.path();
    if number < 1 || number > head.snapshot.number {
        return ServiceError::not_found("snapshot", format!("{path} #{number}"));
    }
    let message = format!(
        "snapshot {number} of {path} is gone: it was no version, and was replaced longer ago than a \
         read may last; begin again without a token, or name a version"
    );
    ServiceError::precondition(message).reason("SNAPSHOT_GONE").with("snapshot", number)
}
