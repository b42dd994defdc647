//! Uploads: leases under which parts are written. An upload leaves the open
//! state once, in one transaction with what becomes of its parts.

use ids::{Id, NamespaceId, PrincipalId, UploadId};
use sea_orm::{DatabaseTransaction, FromQueryResult, Value};
use service_error::ServiceError;
use sql_store::{db_error, now_micros};
use uuid::Uuid;

use super::Store;
use super::blobs::{self, digest_of};
use super::sql::{all, execute, insert_all, one};
use crate::model::{Blob, Digest, Segment, Upload, UploadFile, UploadState};

const UPLOAD: &str =
    "SELECT id, namespace_id, principal, state, lease_epoch, expires_at FROM upload";
const FILE: &str = "SELECT ordinal, path, digest, byte_count, generation, present FROM upload_file";

#[derive(Debug, FromQueryResult)]
struct UploadRow {
    id: Uuid,
    namespace_id: Uuid,
    principal: Uuid,
    state: i16,
    lease_epoch: i64,
    expires_at: i64,
}

impl From<UploadRow> for Upload {
    fn from(row: UploadRow) -> Self {
        Self {
            id: Id::from_uuid(row.id),
            namespace: Id::from_uuid(row.namespace_id),
            principal: Id::from_uuid(row.principal),
            state: match row.state {
                1 => UploadState::Open,
                2 => UploadState::Committed,
                _ => UploadState::Aborted,
            },
            lease_epoch: row.lease_epoch,
            expires_at: row.expires_at,
        }
    }
}

#[derive(Debug, FromQueryResult)]
struct UploadFileRow {
    ordinal: i64,
    path: String,
    digest: Option<Vec<u8>>,
    byte_count: i64,
    generation: Uuid,
    present: bool,
}

impl UploadFileRow {
    fn into_file(self) -> Result<UploadFile, ServiceError> {
        Ok(UploadFile {
            ordinal: self.ordinal,
            path: self.path,
            digest: self.digest.map(digest_of).transpose()?,
            byte_count: self.byte_count,
            generation: self.generation,
            present: self.present,
        })
    }
}

impl Store {
    /// Opens an upload of files.
    ///
    /// # Errors
    /// The database's.
    pub async fn open_upload(
        &self,
        upload: &Upload,
        files: &[UploadFile],
    ) -> Result<(), ServiceError> {
        let tx = self.sql.begin().await?;
        let sql = "INSERT INTO upload (id, namespace_id, principal, state, lease_epoch, \
                   expires_at, created_at) VALUES ($1, $2, $3, 1, 1, $4, $5)";
        let values = [
            upload.id.uuid().into(),
            upload.namespace.uuid().into(),
            upload.principal.uuid().into(),
            upload.expires_at.into(),
            now_micros().into(),
        ];
        execute(&tx, sql, values).await?;
        let row = |file: &UploadFile| -> Vec<Value> {
            vec![
                upload.id.uuid().into(),
                file.ordinal.into(),
                file.path.clone().into(),
                file.digest.map(|digest| digest.to_vec()).into(),
                file.byte_count.into(),
                file.generation.into(),
                file.present.into(),
            ]
        };
        let into =
            "upload_file (upload_id, ordinal, path, digest, byte_count, generation, present)";
        insert_all(&tx, into, files.iter().map(row).collect(), "").await?;
        tx.commit().await.map_err(db_error)
    }

    /// An upload, if it is there.
    ///
    /// # Errors
    /// The database's.
    pub async fn find_upload(&self, id: UploadId) -> Result<Option<Upload>, ServiceError> {
        let sql = format!("{UPLOAD} WHERE id = $1");
        let row: Option<UploadRow> = one(self.read(), &sql, [id.uuid().into()]).await?;
        Ok(row.map(Upload::from))
    }

    /// The newest open uploads of a principal in a namespace, at most `limit`.
    ///
    /// # Errors
    /// The database's.
    pub async fn open_uploads(
        &self,
        namespace: NamespaceId,
        principal: PrincipalId,
        limit: u32,
    ) -> Result<Vec<Upload>, ServiceError> {
        let sql = format!(
            "{UPLOAD} WHERE state = 1 AND namespace_id = $1 AND principal = $2 AND expires_at > $3 \
             ORDER BY id DESC LIMIT $4"
        );
        let values = [
            namespace.uuid().into(),
            principal.uuid().into(),
            now_micros().into(),
            i64::from(limit).into(),
        ];
        let rows: Vec<UploadRow> = all(self.read(), &sql, values).await?;
        Ok(rows.into_iter().map(Upload::from).collect())
    }

    /// The files of an upload, in order.
    ///
    /// # Errors
    /// The database's.
    pub async fn upload_files(&self, id: UploadId) -> Result<Vec<UploadFile>, ServiceError> {
        let sql = format!("{FILE} WHERE upload_id = $1 ORDER BY ordinal");
        let rows: Vec<UploadFileRow> = all(self.read(), &sql, [id.uuid().into()]).await?;
        rows.into_iter().map(UploadFileRow::into_file).collect()
    }

    /// Notes a part whose bytes are durable, and prolongs the lease. Answers the
    /// object of the same part that it replaces.
    ///
    /// # Errors
    /// `FailedPrecondition` if the upload is no longer open.
    pub async fn add_part(
        &self,
        upload: &Upload,
        generation: Uuid,
        part: &Segment,
        expires_at: i64,
    ) -> Result<Option<String>, ServiceError> {
        #[derive(Debug, FromQueryResult)]
        struct Row {
            object_key: String,
        }
        let tx = self.sql.begin().await?;
        renew(&tx, upload, expires_at).await?;
        let sql = "SELECT object_key FROM segment WHERE generation = $1 AND ordinal = $2";
        let before: Option<Row> = one(&tx, sql, [generation.into(), part.ordinal.into()]).await?;
        insert_segment(&tx, generation, part).await?;
        tx.commit().await.map_err(db_error)?;
        Ok(before.map(|row| row.object_key))
    }

    /// Makes all files of an upload blobs, at once. Answers the bytes that were
    /// kept already.
    ///
    /// # Errors
    /// `FailedPrecondition` if the upload is no longer open, or a blob that was
    /// there is no longer.
    pub async fn commit_upload(
        &self,
        upload: &Upload,
        files: &[(UploadFile, Digest)],
        pinned_until: i64,
    ) -> Result<i64, ServiceError> {
        let tx = self.sql.begin().await?;
        leave_open(&tx, upload, UploadState::Committed).await?;
        let mut known_bytes = 0;
        let mut sorted: Vec<&(UploadFile, Digest)> = files.iter().collect();
        sorted.sort_by_key(|(_, digest)| *digest);
        for (file, digest) in sorted {
            if file.present {
                known_bytes += file.byte_count;
                if !blobs::pin(&tx, digest, pinned_until).await? {
                    let message = "a blob that was kept is gone: open another upload";
                    return Err(ServiceError::precondition(message).reason("BLOB_GONE"));
                }
                continue;
            }
            let blob =
                Blob { digest: *digest, byte_count: file.byte_count, generation: file.generation };
            if blobs::put_blob(&tx, &blob, pinned_until).await? != file.generation {
                known_bytes += file.byte_count;
            }
            let sql = "UPDATE upload_file SET digest = $1, byte_count = $2 \
                       WHERE upload_id = $3 AND ordinal = $4";
            let values = [
                digest.to_vec().into(),
                file.byte_count.into(),
                upload.id.uuid().into(),
                file.ordinal.into(),
            ];
            execute(&tx, sql, values).await?;
        }
        tx.commit().await.map_err(db_error)?;
        Ok(known_bytes)
    }

    /// Gives an open upload up.
    ///
    /// # Errors
    /// `FailedPrecondition` if it is no longer open.
    pub async fn abort_upload(&self, upload: &Upload) -> Result<(), ServiceError> {
        let tx = self.sql.begin().await?;
        leave_open(&tx, upload, UploadState::Aborted).await?;
        tx.commit().await.map_err(db_error)
    }

    /// Gives up the open uploads whose lease has ended, and answers those that
    /// are to be swept.
    ///
    /// # Errors
    /// The database's.
    pub async fn uploads_to_sweep(&self, limit: u32) -> Result<Vec<UploadId>, ServiceError> {
        #[derive(Debug, FromQueryResult)]
        struct Row {
            id: Uuid,
        }
        let now = now_micros();
        let tx = self.sql.begin().await?;
        let sql = "UPDATE upload SET state = 3, lease_epoch = lease_epoch + 1 \
                   WHERE state = 1 AND expires_at < $1";
        execute(&tx, sql, [now.into()]).await?;
        tx.commit().await.map_err(db_error)?;
        let sql =
            "SELECT id FROM upload WHERE state <> 1 AND swept_at IS NULL ORDER BY id LIMIT $1";
        let rows: Vec<Row> = all(self.read(), sql, [i64::from(limit).into()]).await?;
        Ok(rows.into_iter().map(|row| Id::from_uuid(row.id)).collect())
    }

    /// The generations of an ended upload that no blob is made of.
    ///
    /// # Errors
    /// The database's.
    pub async fn loose_generations(&self, upload: UploadId) -> Result<Vec<Uuid>, ServiceError> {
        #[derive(Debug, FromQueryResult)]
        struct Row {
            generation: Uuid,
        }
        let sql = "SELECT f.generation FROM upload_file f WHERE f.upload_id = $1 AND NOT f.present \
                   AND NOT EXISTS (SELECT 1 FROM blob b WHERE b.digest = f.digest \
                   AND b.generation = f.generation)";
        let rows: Vec<Row> = all(self.read(), sql, [upload.uuid().into()]).await?;
        Ok(rows.into_iter().map(|row| row.generation).collect())
    }

    /// Forgets the pieces of generations whose objects are gone, and notes that
    /// the upload was swept.
    ///
    /// # Errors
    /// The database's.
    pub async fn mark_swept(
        &self,
        upload: UploadId,
        generations: &[Uuid],
    ) -> Result<(), ServiceError> {
        let tx = self.sql.begin().await?;
        for generation in generations {
            let sql = "DELETE FROM segment WHERE generation = $1";
            execute(&tx, sql, [(*generation).into()]).await?;
        }
        let sql = "UPDATE upload SET swept_at = $1 WHERE id = $2";
        execute(&tx, sql, [now_micros().into(), upload.uuid().into()]).await?;
        tx.commit().await.map_err(db_error)
    }
}

/// The committed files of an upload, for the version that they become.
pub async fn committed_files(
    tx: &DatabaseTransaction,
    id: UploadId,
    principal: ids::PrincipalId,
) -> Result<Vec<crate::model::FileEntry>, ServiceError> {
    let sql = format!("{UPLOAD} WHERE id = $1");
    let row: Option<UploadRow> = one(tx, &sql, [id.uuid().into()]).await?;
    let upload = row.map(Upload::from).filter(|upload| upload.principal == principal);
    let upload = upload.ok_or_else(|| not_found(id))?;
    if upload.state != UploadState::Committed {
        let message = format!("upload {id} is not committed: commit it first");
        return Err(ServiceError::precondition(message)
            .reason("UPLOAD_NOT_COMMITTED")
            .field("upload_id"));
    }
    let sql = "SELECT path, digest, byte_count FROM upload_file WHERE upload_id = $1 ORDER BY path";
    let rows: Vec<blobs::FileRow> = all(tx, sql, [id.uuid().into()]).await?;
    rows.into_iter().map(blobs::FileRow::into_entry).collect()
}

/// Notes a piece of a generation, in the place of one of the same number.
pub async fn insert_segment(
    tx: &DatabaseTransaction,
    generation: Uuid,
    part: &Segment,
) -> Result<(), ServiceError> {
    let sql = "INSERT INTO segment (generation, ordinal, object_key, byte_begin, byte_count, \
               digest, content) VALUES ($1, $2, $3, $4, $5, $6, $7) \
               ON CONFLICT (generation, ordinal) DO UPDATE SET object_key = excluded.object_key, \
               byte_begin = excluded.byte_begin, byte_count = excluded.byte_count, \
               digest = excluded.digest, content = excluded.content";
    let values = [
        generation.into(),
        part.ordinal.into(),
        part.object_key.clone().into(),
        part.byte_begin.into(),
        part.byte_count.into(),
        part.digest.to_vec().into(),
        part.content.clone().into(),
    ];
    execute(tx, sql, values).await.map(drop)
}

/// There is no such upload, for this caller.
pub fn not_found(id: UploadId) -> ServiceError {
    ServiceError::not_found("upload", id).field("upload_id")
}

async fn renew(
    tx: &DatabaseTransaction,
    upload: &Upload,
    expires_at: i64,
) -> Result<(), ServiceError> {
    let sql = "UPDATE upload SET expires_at = $1 WHERE id = $2 AND state = 1 AND lease_epoch = $3";
    let values = [expires_at.into(), upload.id.uuid().into(), upload.lease_epoch.into()];
    if execute(tx, sql, values).await? == 0 {
        return Err(ended(upload.id));
    }
    if expires_at < upload.expires_at {
        return Ok(());
    }
    let sql = "UPDATE blob SET pinned_until = $1 WHERE state = 1 AND pinned_until < $1 AND digest IN \
               (SELECT digest FROM upload_file WHERE upload_id = $2 AND present)";
    execute(tx, sql, [expires_at.into(), upload.id.uuid().into()]).await.map(drop)
}

/// Moves an upload out of the open state, once.
pub async fn leave_open(
    tx: &DatabaseTransaction,
    upload: &Upload,
    to: UploadState,
) -> Result<(), ServiceError> {
    let sql = "UPDATE upload SET state = $1, lease_epoch = lease_epoch + 1 \
               WHERE id = $2 AND state = 1 AND lease_epoch = $3";
    let values = [(to as i16).into(), upload.id.uuid().into(), upload.lease_epoch.into()];
    match execute(tx, sql, values).await? {
        0 => Err(ended(upload.id)),
        _ => Ok(()),
    }
}

fn ended(id: UploadId) -> ServiceError {
    let message = format!("upload {id} was committed, aborted or has expired: open another one");
    ServiceError::precondition(message).reason("UPLOAD_ENDED").with("upload", id)
}
