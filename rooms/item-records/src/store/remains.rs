//! What is left of datasets and files, for who collects garbage.

use std::collections::HashSet;

use ids::{DatasetId, UploadId};
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, QuerySelect};
use service_error::ServiceError;
use sql_store::db_error;

use crate::store::Store;
use crate::store::entity::{media as media_row, saved_filter, upload as row};
use crate::store::media::media_of;

impl Store {
    /// Of some uploads, the keys of all files that have a row.
    ///
    /// # Errors
    /// As [`db_error`].
    pub async fn media_keys(
        &self,
        uploads: &HashSet<UploadId>,
    ) -> Result<HashSet<String>, ServiceError> {
        let rows = media_row::Entity::find()
            .filter(media_row::Column::UploadId.is_in(uploads.iter().map(|id| id.uuid())))
            .all(self.read())
            .await
            .map_err(db_error)?;
        Ok(rows.into_iter().filter_map(media_of).map(|media| media.object_key()).collect())
    }

    /// Those of some hashes that are of a file of any dataset.
    ///
    /// # Errors
    /// As [`db_error`].
    pub async fn known_hashes(&self, hashes: &[Vec<u8>]) -> Result<HashSet<Vec<u8>>, ServiceError> {
        let rows: Vec<Vec<u8>> = media_row::Entity::find()
            .select_only()
            .column(media_row::Column::ContentHash)
            .filter(media_row::Column::ContentHash.is_in(hashes.iter().cloned()))
            .into_tuple()
            .all(self.read())
            .await
            .map_err(db_error)?;
        Ok(rows.into_iter().collect())
    }

    /// Forgets files, uploads and saved filters of a dataset that is gone.
    ///
    /// # Errors
    /// As [`db_error`].
    pub async fn forget_dataset(&self, dataset: DatasetId) -> Result<(), ServiceError> {
        let id = dataset.uuid();
        let tx = self.sql.begin().await?;
        media_row::Entity::delete_many()
            .filter(media_row::Column::DatasetId.eq(id))
            .exec(&tx)
            .await
            .map_err(db_error)?;
        saved_filter::Entity::delete_many()
            .filter(saved_filter::Column::DatasetId.eq(id))
            .exec(&tx)
            .await
            .map_err(db_error)?;
        row::Entity::delete_many()
            .filter(row::Column::DatasetId.eq(id))
            .exec(&tx)
            .await
            .map_err(db_error)?;
        tx.commit().await.map_err(db_error)
    }
}
