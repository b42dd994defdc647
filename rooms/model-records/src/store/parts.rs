//! Uploads of one file of a tree in parts of any size, and the key of signed
//! addresses.

use ids::NamespaceId;
use sea_orm::FromQueryResult;
use service_error::ServiceError;
use sql_store::{db_error, now_micros};
use uuid::Uuid;

use super::Store;
use super::blobs;
use super::files::replace_tree_file;
use super::sql::{all, execute, one};
use crate::model::{Blob, FileEntry, Segment};

/// An open upload.
#[derive(Debug, Clone, FromQueryResult)]
pub struct TreeUpload {
    pub id: Uuid,
    pub namespace_id: Uuid,
    pub path: String,
    pub principal: Uuid,
    pub generation: Uuid,
    pub parts: i64,
    pub expires_at: i64,
}

#[derive(Debug, FromQueryResult)]
struct ObjectRow {
    object_key: String,
}

#[derive(Debug, FromQueryResult)]
struct SecretRow {
    secret: Vec<u8>,
}

const COLUMNS: &str = "id, namespace_id, path, principal, generation, parts, expires_at";

impl Store {
    /// Opens an upload.
    ///
    /// # Errors
    /// The database's.
    pub async fn open_tree_upload(&self, upload: &TreeUpload) -> Result<(), ServiceError> {
        let tx = self.sql.begin().await?;
        let sql =
            format!("INSERT INTO tree_upload ({COLUMNS}) VALUES ($1, $2, $3, $4, $5, $6, $7)");
        let values = [
            upload.id.into(),
            upload.namespace_id.into(),
            upload.path.clone().into(),
            upload.principal.into(),
            upload.generation.into(),
            upload.parts.into(),
            upload.expires_at.into(),
        ];
        execute(&tx, &sql, values).await?;
        tx.commit().await.map_err(db_error)
    }

    /// An upload that has not ended.
    ///
    /// # Errors
    /// The database's.
    pub async fn tree_upload(&self, id: Uuid) -> Result<Option<TreeUpload>, ServiceError> {
        let sql = format!("SELECT {COLUMNS} FROM tree_upload WHERE id = $1 AND expires_at > $2");
        one(self.read(), &sql, [id.into(), now_micros().into()]).await
    }

    /// Uploads whose lease has ended, some of them.
    ///
    /// # Errors
    /// The database's.
    pub async fn ended_tree_uploads(&self, now: i64) -> Result<Vec<TreeUpload>, ServiceError> {
        let sql = format!("SELECT {COLUMNS} FROM tree_upload WHERE expires_at <= $1 LIMIT 100");
        all(self.read(), &sql, [now.into()]).await
    }

    /// Keeps a part; answers the object that it is in the place of.
    ///
    /// # Errors
    /// `NotFound` for an upload that has ended meanwhile.
    pub async fn put_tree_part(
        &self,
        upload: &TreeUpload,
        segment: &Segment,
    ) -> Result<Option<String>, ServiceError> {
        let tx = self.sql.begin().await?;
        let sql = "UPDATE tree_upload SET expires_at = expires_at WHERE id = $1";
        if execute(&tx, sql, [upload.id.into()]).await? == 0 {
            return Err(ServiceError::not_found("multipart upload", upload.id.simple()));
        }
        let place = [upload.generation.into(), segment.ordinal.into()];
        let sql = "SELECT object_key FROM segment WHERE generation = $1 AND ordinal = $2";
        let before: Option<ObjectRow> = one(&tx, sql, place.clone()).await?;
        let sql = "DELETE FROM segment WHERE generation = $1 AND ordinal = $2";
        execute(&tx, sql, place).await?;
        let sql = "INSERT INTO segment (generation, ordinal, object_key, byte_begin, byte_count, \
                   digest, content) VALUES ($1, $2, $3, 0, $4, $5, $6)";
        let values = [
            upload.generation.into(),
            segment.ordinal.into(),
            segment.object_key.clone().into(),
            segment.byte_count.into(),
            segment.digest.to_vec().into(),
            segment.content.clone().into(),
        ];
        execute(&tx, sql, values).await?;
        tx.commit().await.map_err(db_error)?;
        Ok(before.map(|row| row.object_key))
    }

    /// Makes an upload's parts a file of the tree. Answers whether its bytes
    /// were kept already, in another generation.
    ///
    /// # Errors
    /// `NotFound` for an upload that has ended meanwhile.
    pub async fn end_tree_upload(
        &self,
        upload: &TreeUpload,
        segments: &[Segment],
        blob: &Blob,
    ) -> Result<bool, ServiceError> {
        let tx = self.sql.begin().await?;
        if execute(&tx, "DELETE FROM tree_upload WHERE id = $1", [upload.id.into()]).await? == 0 {
            return Err(ServiceError::not_found("multipart upload", upload.id.simple()));
        }
        for segment in segments {
            let sql = "UPDATE segment SET byte_begin = $1 WHERE generation = $2 AND ordinal = $3 AND digest = $4";
            let values = [
                segment.byte_begin.into(),
                upload.generation.into(),
                segment.ordinal.into(),
                segment.digest.to_vec().into(),
            ];
            if execute(&tx, sql, values).await? == 0 {
                return Err(ServiceError::conflict(
                    "a part was sent again meanwhile: complete again",
                ));
            }
        }
        let counted = blobs::put_blob(&tx, blob, now_micros()).await?;
        let entry = FileEntry {
            path: upload.path.clone(),
            digest: blob.digest,
            byte_count: blob.byte_count,
        };
        replace_tree_file(&tx, NamespaceId::from_uuid(upload.namespace_id), &entry).await?;
        tx.commit().await.map_err(db_error)?;
        Ok(counted != blob.generation)
    }

    /// Ends an upload without a file; answers whether it was open.
    ///
    /// # Errors
    /// The database's.
    pub async fn close_tree_upload(&self, id: Uuid) -> Result<bool, ServiceError> {
        let tx = self.sql.begin().await?;
        let closed = execute(&tx, "DELETE FROM tree_upload WHERE id = $1", [id.into()]).await?;
        tx.commit().await.map_err(db_error)?;
        Ok(closed > 0)
    }

    /// Forgets the pieces of a generation whose objects are gone.
    ///
    /// # Errors
    /// The database's.
    pub async fn forget_segments(&self, generation: Uuid) -> Result<(), ServiceError> {
        let tx = self.sql.begin().await?;
        execute(&tx, "DELETE FROM segment WHERE generation = $1", [generation.into()]).await?;
        tx.commit().await.map_err(db_error)
    }

    /// The key of signed addresses; the first who asks makes it.
    ///
    /// # Errors
    /// The database's.
    pub async fn surface_secret(&self) -> Result<Vec<u8>, ServiceError> {
        let look = "SELECT secret FROM surface_secret WHERE id = 1";
        if let Some(row) = one::<SecretRow, _>(self.read(), look, []).await? {
            return Ok(row.secret);
        }
        let tx = self.sql.begin().await?;
        let made: Vec<u8> = [Uuid::new_v4().into_bytes(), Uuid::new_v4().into_bytes()].concat();
        let sql = "INSERT INTO surface_secret (id, secret) VALUES (1, $1) ON CONFLICT DO NOTHING";
        execute(&tx, sql, [made.into()]).await?;
        let row: Option<SecretRow> = one(&tx, look, []).await?;
        tx.commit().await.map_err(db_error)?;
        row.map(|row| row.secret).ok_or_else(|| ServiceError::internal("no key could be made"))
    }
}
