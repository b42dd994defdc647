//! Rows of uploads that clients opened.

use ids::{DatasetId, Id, PrincipalId, UploadId};
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, Set};
use service_error::ServiceError;
use sql_store::{db_error, now_micros};

use crate::store::Store;
use crate::store::entity::{media as media_row, upload as row};

/// An upload that a client opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upload {
    /// Its id.
    pub id: UploadId,
    /// The dataset, which may be yet to be made.
    pub dataset: DatasetId,
    /// Who opened it.
    pub principal: PrincipalId,
    /// `namespace/dataset`.
    pub address: String,
}

impl Store {
    /// Notes an upload.
    ///
    /// # Errors
    /// As [`db_error`].
    pub async fn add_upload(&self, upload: &Upload) -> Result<(), ServiceError> {
        let tx = self.sql.begin().await?;
        let opened = row::ActiveModel {
            id: Set(upload.id.uuid()),
            dataset_id: Set(upload.dataset.uuid()),
            principal: Set(upload.principal.uuid()),
            address: Set(upload.address.clone()),
            created_at: Set(now_micros()),
        };
        row::Entity::insert(opened).exec_without_returning(&tx).await.map_err(db_error)?;
        tx.commit().await.map_err(db_error)
    }

    /// An upload of the caller; nobody else learns that it exists.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn upload(
        &self,
        id: UploadId,
        principal: PrincipalId,
    ) -> Result<Upload, ServiceError> {
        let found = row::Entity::find_by_id(id.uuid())
            .filter(row::Column::Principal.eq(principal.uuid()))
            .one(self.read())
            .await
            .map_err(db_error)?;
        let found = found.ok_or_else(|| ServiceError::not_found("upload", id))?;
        Ok(Upload {
            id,
            dataset: Id::from_uuid(found.dataset_id),
            principal: Id::from_uuid(found.principal),
            address: found.address,
        })
    }

    /// Forgets uploads whose objects are gone, and their media.
    ///
    /// # Errors
    /// As [`db_error`].
    pub async fn forget_uploads(&self, ids: &[UploadId]) -> Result<(), ServiceError> {
        let ids: Vec<_> = ids.iter().map(|id| id.uuid()).collect();
        let tx = self.sql.begin().await?;
        let media =
            media_row::Entity::delete_many().filter(media_row::Column::UploadId.is_in(ids.clone()));
        media.exec(&tx).await.map_err(db_error)?;
        row::Entity::delete_many()
            .filter(row::Column::Id.is_in(ids))
            .exec(&tx)
            .await
            .map_err(db_error)?;
        tx.commit().await.map_err(db_error)
    }
}
