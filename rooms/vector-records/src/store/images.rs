//! Rows of images.

use std::collections::BTreeMap;
use std::sync::Arc;

use payload_index::ColumnType;
use sea_orm::{QueryResult, Value};
use service_error::ServiceError;
use sql_store::db_error;
use uuid::Uuid;

use crate::model::{Image, Owner, Space};
use crate::store::rows::{self, SPACE_COLUMNS, damaged};
use crate::store::{NewPoint, Store, execute, rows as select};

/// A point that comes into a space with its image.
#[derive(Debug, Clone)]
pub struct ImagePoint {
    /// Where to.
    pub space: Arc<Space>,
    /// Its item is the image.
    pub point: NewPoint,
    /// What its payload has.
    pub columns: BTreeMap<String, ColumnType>,
    /// What made the vector.
    pub embedder: String,
}

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
    /// Adds an image with its points, all or nothing; the changes that the points are.
    ///
    /// # Errors
    /// `AlreadyExists` for a path that the namespace has; as [`Store::upsert`].
    pub async fn add_image(
        &self,
        owner: &Owner,
        new: &Image,
        points: &[ImagePoint],
    ) -> Result<Vec<i64>, ServiceError> {
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
        execute(&tx, sql, values).await.map_err(|error| {
            if error.reason_is("UNIQUE_VIOLATION") {
                return ServiceError::already_exists("image", &new.path);
            }
            error
        })?;
        let mut order: Vec<usize> = (0..points.len()).collect();
        order.sort_by_key(|at| points[*at].space.id);
        let mut tokens = vec![0; points.len()];
        for at in order {
            let ImagePoint { space, point, columns, embedder } = &points[at];
            let point = std::slice::from_ref(point);
            tokens[at] = self.upsert_in(&tx, space, point, columns, embedder).await?.seq;
        }
        tx.commit().await.map_err(db_error)?;
        Ok(tokens)
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

    /// Deletes an image and the points that are its in the namespace's spaces; which spaces lost
    /// one, by which change. Nothing if there was no such image.
    ///
    /// # Errors
    /// The database's.
    pub async fn delete_image(
        &self,
        namespace: Uuid,
        id: Uuid,
    ) -> Result<Option<Vec<(Space, i64)>>, ServiceError> {
        let tx = self.sql.begin().await?;
        let sql = "DELETE FROM image WHERE namespace_id = $1 AND id = $2";
        let done = execute(&tx, sql, vec![namespace.into(), id.into()]).await?;
        if done.rows_affected() == 0 {
            return Ok(None);
        }
        let item = id.to_string();
        let sql = format!(
            "SELECT {SPACE_COLUMNS} FROM space WHERE namespace_id = $1 AND deleted_at IS NULL AND \
             EXISTS (SELECT 1 FROM point WHERE space_id = space.id AND item_id = $2) ORDER BY id"
        );
        let found = select(&tx, sql, vec![namespace.into(), item.as_str().into()]).await?;
        let mut lost = Vec::with_capacity(found.len());
        for space in found.iter().map(rows::space) {
            let space = space?;
            let seq = self.delete_in(&tx, &space, std::slice::from_ref(&item)).await?.seq;
            lost.push((space, seq));
        }
        tx.commit().await.map_err(db_error)?;
        Ok(Some(lost))
    }
}
