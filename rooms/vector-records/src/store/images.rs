//! Rows of images.

use sea_orm::{QueryResult, Value};
use service_error::ServiceError;
use sql_store::db_error;
use uuid::Uuid;

use crate::model::{Image, Owner};
use crate::store::rows::damaged;
use crate::store::{Store, execute};

const IMAGE: &str = "id, path, description, tags, width, height, size_bytes, format, \
    source_dataset, item_id, content_hash, created_at";

fn image(row: &QueryResult) -> Result<Image, ServiceError> {
    macro_rules! get {
        ($name:literal) => {
            row.try_get("", $name).map_err(db_error)?
        };
    }
    let tags: Vec<u8> = get!("tags");
    Ok(Image {
        id: get!("id"),
        path: get!("path"),
        description: get!("description"),
        tags: Image::tags_of(&tags).ok_or_else(|| damaged("tags"))?,
        width: get!("width"),
        height: get!("height"),
        size_bytes: get!("size_bytes"),
        format: get!("format"),
        source_dataset: get!("source_dataset"),
        item_id: get!("item_id"),
        content_hash: get!("content_hash"),
        created_at: get!("created_at"),
    })
}

impl Store {
    /// Adds an image.
    ///
    /// # Errors
    /// `AlreadyExists` for a path that the namespace has.
    pub async fn add_image(&self, owner: &Owner, new: &Image) -> Result<(), ServiceError> {
        let sql = format!(
            "INSERT INTO image (namespace_id, namespace_name, {IMAGE}) VALUES \
             ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)"
        );
        let values: Vec<Value> = vec![
            owner.namespace.into(),
            owner.namespace_name.as_str().into(),
            new.id.into(),
            new.path.as_str().into(),
            new.description.as_str().into(),
            new.tags_bytes().into(),
            new.width.into(),
            new.height.into(),
            new.size_bytes.into(),
            new.format.as_str().into(),
            new.source_dataset.as_str().into(),
            new.item_id.as_str().into(),
            new.content_hash.as_str().into(),
            new.created_at.into(),
        ];
        let tx = self.sql.begin().await?;
        match execute(&tx, sql, values).await {
            Ok(_) => tx.commit().await.map_err(db_error),
            Err(error) if error.reason_is("UNIQUE_VIOLATION") => {
                Err(ServiceError::already_exists("image", &new.path))
            }
            Err(error) => Err(error),
        }
    }

    /// An image.
    ///
    /// # Errors
    /// The database's.
    pub async fn image(&self, namespace: Uuid, id: Uuid) -> Result<Option<Image>, ServiceError> {
        let sql = format!("SELECT {IMAGE} FROM image WHERE namespace_id = $1 AND id = $2");
        let found = self.rows(sql, vec![namespace.into(), id.into()]).await?;
        found.first().map(image).transpose()
    }

    /// Up to `limit` images after a path, by path.
    ///
    /// # Errors
    /// The database's.
    pub async fn images(
        &self,
        namespace: Uuid,
        after: &str,
        limit: u32,
    ) -> Result<Vec<Image>, ServiceError> {
        let sql = format!(
            "SELECT {IMAGE} FROM image WHERE namespace_id = $1 AND path > $2 ORDER BY path LIMIT $3"
        );
        let values = vec![namespace.into(), after.into(), i64::from(limit).into()];
        self.rows(sql, values).await?.iter().map(image).collect()
    }

    /// Deletes an image; whether there was one.
    ///
    /// # Errors
    /// The database's.
    pub async fn delete_image(&self, namespace: Uuid, id: Uuid) -> Result<bool, ServiceError> {
        let tx = self.sql.begin().await?;
        let sql = "DELETE FROM image WHERE namespace_id = $1 AND id = $2";
        let done = execute(&tx, sql, vec![namespace.into(), id.into()]).await?;
        tx.commit().await.map_err(db_error)?;
        Ok(done.rows_affected() > 0)
    }
}
