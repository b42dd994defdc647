//! Rows of media.

use ids::{DatasetId, Id, UploadId};
use sea_orm::sea_query::{Expr, OnConflict};
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect, Set};
use service_error::ServiceError;
use sql_store::{db_error, now_micros};

use crate::store::Store;
use crate::store::entity::media as row;

/// The most uploads of one file that are looked at.
const COPIES_MAX: u64 = 64;

/// A file that an upload brought.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Media {
    /// The dataset.
    pub dataset: DatasetId,
    /// BLAKE3-256.
    pub content_hash: [u8; 32],
    /// The upload that brought it.
    pub upload: UploadId,
    /// Size in bytes.
    pub byte_count: i64,
    /// As the uploader said.
    pub mime_type: String,
    /// Its upload has committed.
    pub committed: bool,
}

impl Media {
    /// Its name in the object store.
    #[must_use]
    pub fn object_key(&self) -> String {
        format!("{}/{}/media/{}", self.dataset, self.upload, hex::encode(self.content_hash))
    }
}

impl Store {
    /// The copies of a file in a dataset, committed ones first.
    ///
    /// # Errors
    /// As [`db_error`].
    pub async fn media(
        &self,
        dataset: DatasetId,
        hash: &[u8; 32],
    ) -> Result<Vec<Media>, ServiceError> {
        let rows = row::Entity::find()
            .filter(row::Column::DatasetId.eq(dataset.uuid()))
            .filter(row::Column::ContentHash.eq(hash.to_vec()))
            .order_by_desc(row::Column::Committed)
            .order_by_asc(row::Column::UploadId)
            .limit(COPIES_MAX)
            .all(self.read())
            .await
            .map_err(db_error)?;
        Ok(rows.into_iter().filter_map(media_of).collect())
    }

    /// Notes a file whose bytes are in the object store. Twice is once.
    ///
    /// # Errors
    /// As [`db_error`].
    pub async fn add_media(&self, media: &Media) -> Result<(), ServiceError> {
        let tx = self.sql.begin().await?;
        let added = row::ActiveModel {
            dataset_id: Set(media.dataset.uuid()),
            content_hash: Set(media.content_hash.to_vec()),
            upload_id: Set(media.upload.uuid()),
            byte_count: Set(media.byte_count),
            mime_type: Set(media.mime_type.clone()),
            committed: Set(media.committed),
            created_at: Set(now_micros()),
        };
        let keys = [row::Column::DatasetId, row::Column::ContentHash, row::Column::UploadId];
        let same = OnConflict::columns(keys).do_nothing().to_owned();
        row::Entity::insert(added)
            .on_conflict(same)
            .exec_without_returning(&tx)
            .await
            .map_err(db_error)?;
        tx.commit().await.map_err(db_error)
    }

    /// The media of an upload are there to be read.
    ///
    /// # Errors
    /// As [`db_error`].
    pub async fn commit_media(&self, upload: UploadId) -> Result<(), ServiceError> {
        self.mark_media(upload, true).await
    }

    /// Notes whether the media of an upload may be read.
    pub async fn mark_media(&self, upload: UploadId, committed: bool) -> Result<(), ServiceError> {
        let tx = self.sql.begin().await?;
        row::Entity::update_many()
            .col_expr(row::Column::Committed, Expr::value(committed))
            .filter(row::Column::UploadId.eq(upload.uuid()))
            .exec(&tx)
            .await
            .map_err(db_error)?;
        tx.commit().await.map_err(db_error)
    }
}

/// The file of a row; `None` for a hash of another length.
pub(super) fn media_of(row: row::Model) -> Option<Media> {
    Some(Media {
        dataset: Id::from_uuid(row.dataset_id),
        content_hash: row.content_hash.try_into().ok()?,
        upload: Id::from_uuid(row.upload_id),
        byte_count: row.byte_count,
        mime_type: row.mime_type,
        committed: row.committed,
    })
}
