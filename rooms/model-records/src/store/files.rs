//! Files of versions, and the tree of a namespace.

use ids::{ModelVersionId, NamespaceId, PrincipalId, UploadId};
use sea_orm::{ConnectionTrait, DatabaseTransaction};
use service_error::ServiceError;
use sql_store::{db_error, now_micros};

use super::Store;
use super::blobs::{self, FileRow};
use super::sql::{all, execute, one};
use super::uploads;
use crate::model::{Blob, FileEntry, Segment, Upload, UploadState};

/// How often a file is looked for anew that others make and remove meanwhile.
const TRIES: u32 = 3;

impl Store {
    /// Files of a version after a path, by path.
    ///
    /// # Errors
    /// The database's.
    pub async fn version_files(
        &self,
        version: ModelVersionId,
        after: &str,
        limit: u32,
    ) -> Result<Vec<FileEntry>, ServiceError> {
        let sql = "SELECT path, digest, byte_count FROM version_file \
                   WHERE version_id = $1 AND path > $2 ORDER BY path LIMIT $3";
        let values = [version.uuid().into(), after.into(), i64::from(limit).into()];
        let rows: Vec<FileRow> = all(self.read(), sql, values).await?;
        rows.into_iter().map(FileRow::into_entry).collect()
    }

    /// A file of a version.
    ///
    /// # Errors
    /// The database's.
    pub async fn version_file(
        &self,
        version: ModelVersionId,
        path: &str,
    ) -> Result<Option<FileEntry>, ServiceError> {
        let sql = "SELECT path, digest, byte_count FROM version_file \
                   WHERE version_id = $1 AND path = $2";
        let row: Option<FileRow> =
            one(self.read(), sql, [version.uuid().into(), path.into()]).await?;
        row.map(FileRow::into_entry).transpose()
    }

    /// A file of a namespace's tree.
    ///
    /// # Errors
    /// The database's.
    pub async fn tree_file(
        &self,
        namespace: NamespaceId,
        path: &str,
    ) -> Result<Option<FileEntry>, ServiceError> {
        let sql = "SELECT path, digest, byte_count FROM tree_file \
                   WHERE namespace_id = $1 AND path = $2";
        let row: Option<FileRow> =
            one(self.read(), sql, [namespace.uuid().into(), path.into()]).await?;
        row.map(FileRow::into_entry).transpose()
    }

    /// Files of a tree below a directory (without its last `/`; empty: all),
    /// after a path, by path.
    ///
    /// # Errors
    /// The database's.
    pub async fn tree_files(
        &self,
        namespace: NamespaceId,
        below: &str,
        after: &str,
        limit: u32,
    ) -> Result<Vec<FileEntry>, ServiceError> {
        tree_below(self.read(), namespace, below, after, limit).await
    }

    /// Puts the one file of an upload, which came in one piece, into a tree, in
    /// the place of one of the same path; the upload is committed by it.
    ///
    /// # Errors
    /// `FailedPrecondition` if the upload is no longer open.
    pub async fn put_tree_file(
        &self,
        upload: &Upload,
        path: &str,
        blob: &Blob,
        segment: &Segment,
    ) -> Result<(), ServiceError> {
        let tx = self.sql.begin().await?;
        uploads::leave_open(&tx, upload, UploadState::Committed).await?;
        let counted = blobs::put_blob(&tx, blob, now_micros()).await?;
        if counted == blob.generation {
            uploads::insert_segment(&tx, blob.generation, segment).await?;
            let sql = "UPDATE upload SET swept_at = $1 WHERE id = $2";
            execute(&tx, sql, [now_micros().into(), upload.id.uuid().into()]).await?;
        }
        let entry =
            FileEntry { path: path.to_owned(), digest: blob.digest, byte_count: blob.byte_count };
        replace_tree_file(&tx, upload.namespace, &entry).await?;
        tx.commit().await.map_err(db_error)
    }

    /// Puts the files of a committed upload into a tree, under their own paths.
    ///
    /// # Errors
    /// `NotFound` for the upload, `FailedPrecondition` if it is not committed.
    pub async fn put_tree_upload(
        &self,
        namespace: NamespaceId,
        upload: UploadId,
        principal: PrincipalId,
    ) -> Result<(), ServiceError> {
        let tx = self.sql.begin().await?;
        for entry in uploads::committed_files(&tx, upload, principal).await? {
            replace_tree_file(&tx, namespace, &entry).await?;
        }
        tx.commit().await.map_err(db_error)
    }

    /// Removes a file of a tree, or, where there is none, all below a directory;
    /// answers how many.
    ///
    /// # Errors
    /// The database's.
    pub async fn remove_tree(
        &self,
        namespace: NamespaceId,
        path: &str,
    ) -> Result<usize, ServiceError> {
        let mut removed = self.remove_tree_files(namespace, &[path.to_owned()]).await?;
        if removed > 0 {
            return Ok(removed);
        }
        loop {
            let files = self.tree_files(namespace, path, "", 1_000).await?;
            if files.is_empty() {
                return Ok(removed);
            }
            let paths: Vec<String> = files.into_iter().map(|file| file.path).collect();
            removed += self.remove_tree_files(namespace, &paths).await?;
        }
    }

    async fn remove_tree_files(
        &self,
        namespace: NamespaceId,
        paths: &[String],
    ) -> Result<usize, ServiceError> {
        let tx = self.sql.begin().await?;
        let mut gone = Vec::with_capacity(paths.len());
        for path in paths {
            // What it stands for is read as it goes: another writer may have
            // replaced it since it was listed.
            let sql = "DELETE FROM tree_file WHERE namespace_id = $1 AND path = $2 \
                       RETURNING path, digest, byte_count";
            let place = [namespace.uuid().into(), path.clone().into()];
            let row: Option<FileRow> = one(&tx, sql, place).await?;
            gone.extend(row.map(FileRow::into_entry).transpose()?);
        }
        blobs::count(&tx, &gone, -1).await?;
        tx.commit().await.map_err(db_error)?;
        Ok(gone.len())
    }
}

/// Puts a file whose blob is live into a tree. The row is taken before it is
/// read: of two who replace the same file, the second counts the first's bytes
/// down and not once more those that were there before both.
pub async fn replace_tree_file(
    tx: &DatabaseTransaction,
    namespace: NamespaceId,
    entry: &FileEntry,
) -> Result<(), ServiceError> {
    blobs::count(tx, std::slice::from_ref(entry), 1).await?;
    for _ in 0..TRIES {
        let place = || [namespace.uuid().into(), entry.path.clone().into()];
        let sql = "UPDATE tree_file SET at = at WHERE namespace_id = $1 AND path = $2 \
                   RETURNING path, digest, byte_count";
        let before: Option<FileRow> = one(tx, sql, place()).await?;
        let sql = if before.is_some() {
            "UPDATE tree_file SET digest = $3, byte_count = $4, at = $5 \
             WHERE namespace_id = $1 AND path = $2"
        } else {
            "INSERT INTO tree_file (namespace_id, path, digest, byte_count, at) \
             VALUES ($1, $2, $3, $4, $5) ON CONFLICT (namespace_id, path) DO NOTHING"
        };
        let [namespace, path] = place();
        let digest = entry.digest.to_vec().into();
        let values = [namespace, path, digest, entry.byte_count.into(), now_micros().into()];
        if execute(tx, sql, values).await? == 0 {
            continue;
        }
        return match before {
            Some(before) => blobs::count(tx, &[before.into_entry()?], -1).await,
            None => Ok(()),
        };
    }
    Err(replaced_meanwhile())
}

/// Others make and remove the same file all the time.
pub fn replaced_meanwhile() -> ServiceError {
    ServiceError::conflict("the file was made or removed meanwhile: send it again")
        .reason("FILE_REPLACED")
}

async fn tree_below<C: ConnectionTrait>(
    db: &C,
    namespace: NamespaceId,
    below: &str,
    after: &str,
    limit: u32,
) -> Result<Vec<FileEntry>, ServiceError> {
    // '0' follows '/': the range is exactly what begins with the directory.
    let (begin, end) = if below.is_empty() {
        (String::new(), char::MAX.to_string())
    } else {
        (format!("{below}/"), format!("{below}0"))
    };
    let begin = if after > begin.as_str() { after.to_owned() } else { begin };
    let sql = "SELECT path, digest, byte_count FROM tree_file WHERE namespace_id = $1 \
               AND path > $2 AND path < $3 ORDER BY path LIMIT $4";
    let values = [namespace.uuid().into(), begin.into(), end.into(), i64::from(limit).into()];
    let rows: Vec<FileRow> = all(db, sql, values).await?;
    rows.into_iter().map(FileRow::into_entry).collect()
}

/// The files that a version is made of: of another version, or of a tree. Paths
/// of a tree lose the directory.
pub async fn files_of(
    tx: &DatabaseTransaction,
    copy_from: Option<ModelVersionId>,
    tree: Option<&(NamespaceId, String)>,
) -> Result<Vec<FileEntry>, ServiceError> {
    const FILES_MAX: u32 = 10_000;
    if let Some(version) = copy_from {
        let sql = "SELECT path, digest, byte_count FROM version_file WHERE version_id = $1";
        let rows: Vec<FileRow> = all(tx, sql, [version.uuid().into()]).await?;
        return rows.into_iter().map(FileRow::into_entry).collect();
    }
    let Some((namespace, below)) = tree else { return Ok(Vec::new()) };
    let mut files = tree_below(tx, *namespace, below, "", FILES_MAX + 1).await?;
    if files.len() > FILES_MAX as usize {
        let message = format!("{below} holds more than {FILES_MAX} files");
        return Err(ServiceError::invalid("source", message));
    }
    for file in &mut files {
        file.path.drain(..=below.len());
    }
    Ok(files)
}
