//! Blobs: counted references, leases, and the way out. A blob is marked for
//! deletion by one statement that looks at both.

use sea_orm::{DatabaseTransaction, FromQueryResult, Value};
use service_error::ServiceError;
use sql_store::{db_error, now_micros};
use uuid::Uuid;

use super::sql::{Values, all, execute, insert_all, one};
use super::{Store, VisibleRows};
use crate::model::{Blob, Digest, FileEntry, Segment};

const LIVE: i16 = 1;
const DELETING: i16 = 2;

#[derive(Debug, FromQueryResult)]
struct BlobRow {
    digest: Vec<u8>,
    byte_count: i64,
    generation: Uuid,
}

impl BlobRow {
    fn into_blob(self) -> Result<Blob, ServiceError> {
        let digest = digest_of(self.digest)?;
        Ok(Blob { digest, byte_count: self.byte_count, generation: self.generation })
    }
}

#[derive(Debug, FromQueryResult)]
pub struct FileRow {
    pub path: String,
    pub digest: Vec<u8>,
    pub byte_count: i64,
}

impl FileRow {
    pub fn into_entry(self) -> Result<FileEntry, ServiceError> {
        let digest = digest_of(self.digest)?;
        Ok(FileEntry { path: self.path, digest, byte_count: self.byte_count })
    }
}

#[derive(Debug, FromQueryResult)]
struct SegmentRow {
    ordinal: i64,
    object_key: String,
    byte_begin: i64,
    byte_count: i64,
    digest: Vec<u8>,
    content: Option<Vec<u8>>,
}

/// A stored digest.
pub fn digest_of(bytes: Vec<u8>) -> Result<Digest, ServiceError> {
    bytes.try_into().map_err(|_| ServiceError::data_loss("a stored digest is no SHA-256"))
}

impl Store {
    /// Those of some blobs that a caller can read already, each with its size and
    /// pinned until a time: files of versions it may see, and of trees of its namespaces.
    ///
    /// # Errors
    /// The database's.
    pub async fn pin_readable(
        &self,
        visible: &VisibleRows,
        digests: &[Digest],
        until: i64,
    ) -> Result<Vec<(Digest, i64)>, ServiceError> {
        const AT_ONCE: usize = 500;
        let mut readable = Vec::new();
        for some in digests.chunks(AT_ONCE) {
            let mut values = Values::new(self.sql.backend());
            let list: Vec<String> = some.iter().map(|digest| values.add(digest.to_vec())).collect();
            let list = list.join(", ");
            let seen = visible.condition(&mut values);
            let owned = visible.namespace_condition("t.namespace_id", &mut values);
            let sql = format!(
                "SELECT b.digest, b.byte_count, b.generation FROM blob b WHERE b.state = 1 AND \
                 b.digest IN ({list}) AND (EXISTS (SELECT 1 FROM version_file f \
                 JOIN version v ON v.id = f.version_id JOIN model m ON m.id = v.model_id \
                 WHERE f.digest = b.digest AND v.deleted_at IS NULL AND m.deleted_at IS NULL AND {seen}) \
                 OR EXISTS (SELECT 1 FROM tree_file t WHERE t.digest = b.digest AND {owned}))"
            );
            let found: Vec<BlobRow> = all(self.read(), &sql, values.all).await?;
            for row in found {
                let blob = row.into_blob()?;
                readable.push((blob.digest, blob.byte_count));
            }
        }
        if readable.is_empty() {
            return Ok(readable);
        }
        let tx = self.sql.begin().await?;
        let mut pinned = Vec::with_capacity(readable.len());
        readable.sort_unstable();
        for (digest, byte_count) in readable {
            // One that is being deleted meanwhile is sent like any other.
            if pin(&tx, &digest, until).await? {
                pinned.push((digest, byte_count));
            }
        }
        tx.commit().await.map_err(db_error)?;
        Ok(pinned)
    }

    /// The live blob of a digest.
    ///
    /// # Errors
    /// The database's.
    pub async fn blob(&self, digest: &Digest) -> Result<Option<Blob>, ServiceError> {
        let sql = "SELECT digest, byte_count, generation FROM blob WHERE digest = $1 AND state = 1";
        let row: Option<BlobRow> = one(self.read(), sql, [digest.to_vec().into()]).await?;
        row.map(BlobRow::into_blob).transpose()
    }

    /// The pieces of a generation, in order. The bytes that lie in rows come with
    /// them only where there is one such piece: a file of many would fill memory.
    /// [`Self::segment_content`] has those of the others.
    ///
    /// # Errors
    /// The database's.
    pub async fn segments(&self, generation: Uuid) -> Result<Vec<Segment>, ServiceError> {
        let sql = "SELECT ordinal, object_key, byte_begin, byte_count, digest, \
                   CASE WHEN object_key = '' AND (SELECT COUNT(*) FROM (SELECT 1 FROM segment \
                   WHERE generation = $1 LIMIT 2) few) = 1 THEN content END AS content \
                   FROM segment WHERE generation = $1 ORDER BY ordinal";
        let rows: Vec<SegmentRow> = all(self.read(), sql, [generation.into()]).await?;
        let segment = |row: SegmentRow| {
            Ok(Segment {
                generation,
                ordinal: row.ordinal,
                object_key: row.object_key,
                byte_begin: row.byte_begin,
                byte_count: row.byte_count,
                digest: digest_of(row.digest)?,
                content: row.content,
            })
        };
        rows.into_iter().map(segment).collect()
    }

    /// The bytes of a piece that lie in its row.
    ///
    /// # Errors
    /// `DataLoss` if there are none.
    pub async fn segment_content(
        &self,
        generation: Uuid,
        ordinal: i64,
    ) -> Result<Vec<u8>, ServiceError> {
        #[derive(Debug, FromQueryResult)]
        struct Row {
            content: Option<Vec<u8>>,
        }
        let sql = "SELECT content FROM segment WHERE generation = $1 AND ordinal = $2";
        let row: Option<Row> = one(self.read(), sql, [generation.into(), ordinal.into()]).await?;
        row.and_then(|row| row.content).ok_or_else(|| {
            ServiceError::data_loss("a file's bytes are not in their row: restore it from a backup")
                .reason("BLOB_LOST")
        })
    }

    /// Blobs that nothing references and no lease holds, at most `limit`.
    ///
    /// # Errors
    /// The database's.
    pub async fn loose_blobs(&self, limit: u32) -> Result<Vec<Blob>, ServiceError> {
        let sql = "SELECT digest, byte_count, generation FROM blob \
                   WHERE refs = 0 AND (state = 2 OR pinned_until < $1) LIMIT $2";
        let values = [now_micros().into(), i64::from(limit).into()];
        let rows: Vec<BlobRow> = all(self.read(), sql, values).await?;
        rows.into_iter().map(BlobRow::into_blob).collect()
    }

    /// Marks a blob as being deleted, if still nothing needs it.
    ///
    /// # Errors
    /// The database's.
    pub async fn mark_deleting(&self, blob: &Blob) -> Result<bool, ServiceError> {
        let tx = self.sql.begin().await?;
        let sql = "UPDATE blob SET state = $1 WHERE digest = $2 AND generation = $3 AND refs = 0 \
                   AND (state = 2 OR pinned_until < $4)";
        let values = [
            DELETING.into(),
            blob.digest.to_vec().into(),
            blob.generation.into(),
            now_micros().into(),
        ];
        let marked = execute(&tx, sql, values).await? > 0;
        tx.commit().await.map_err(db_error)?;
        Ok(marked)
    }

    /// Forgets a generation whose objects are gone, and its blob unless the
    /// bytes were stored again meanwhile.
    ///
    /// # Errors
    /// The database's.
    pub async fn forget_blob(&self, blob: &Blob) -> Result<(), ServiceError> {
        let tx = self.sql.begin().await?;
        let sql = "DELETE FROM blob WHERE digest = $1 AND generation = $2 AND state = 2";
        execute(&tx, sql, [blob.digest.to_vec().into(), blob.generation.into()]).await?;
        execute(&tx, "DELETE FROM segment WHERE generation = $1", [blob.generation.into()]).await?;
        tx.commit().await.map_err(db_error)
    }
}

/// Prolongs a live blob's lease; answers whether it is live.
pub async fn pin(
    tx: &DatabaseTransaction,
    digest: &Digest,
    until: i64,
) -> Result<bool, ServiceError> {
    let sql = "UPDATE blob SET pinned_until = CASE WHEN pinned_until < $1 THEN $1 \
               ELSE pinned_until END WHERE digest = $2 AND state = 1";
    Ok(execute(tx, sql, [until.into(), digest.to_vec().into()]).await? > 0)
}

/// Makes a generation's bytes a blob, or prolongs the one that is there. Answers
/// the generation that counts.
pub async fn put_blob(
    tx: &DatabaseTransaction,
    blob: &Blob,
    until: i64,
) -> Result<Uuid, ServiceError> {
    #[derive(Debug, FromQueryResult)]
    struct Row {
        generation: Uuid,
    }
    // What is being deleted is another generation's business from here on.
    let sql = "INSERT INTO blob (digest, byte_count, generation, state, refs, pinned_until, created_at) \
               VALUES ($1, $2, $3, 1, 0, $4, $5) ON CONFLICT (digest) DO UPDATE SET \
               generation = CASE WHEN blob.state = 2 THEN excluded.generation ELSE blob.generation END, \
               pinned_until = CASE WHEN blob.pinned_until < excluded.pinned_until \
               THEN excluded.pinned_until ELSE blob.pinned_until END, state = 1 RETURNING generation";
    let values = [
        blob.digest.to_vec().into(),
        blob.byte_count.into(),
        blob.generation.into(),
        until.into(),
        now_micros().into(),
    ];
    let row: Option<Row> = one(tx, sql, values).await?;
    row.map(|row| row.generation).ok_or_else(|| ServiceError::internal("a blob has no row"))
}

/// Counts references to blobs up (or, with `-1`, down).
pub async fn count<'a>(
    tx: &DatabaseTransaction,
    files: impl IntoIterator<Item = &'a FileEntry>,
    by: i64,
) -> Result<(), ServiceError> {
    let mut counts: std::collections::BTreeMap<Digest, i64> = std::collections::BTreeMap::new();
    for file in files {
        *counts.entry(file.digest).or_default() += by;
    }
    // In the order of digests, so that no two transactions wait for each other.
    for (digest, by) in counts {
        let sql = "UPDATE blob SET refs = refs + $1 WHERE digest = $2 AND state = $3";
        let values: [Value; 3] = [by.into(), digest.to_vec().into(), LIVE.into()];
        if execute(tx, sql, values).await? == 0 {
            let message = "a file's bytes are no longer kept: the lease ended; send them again";
            return Err(ServiceError::precondition(message)
                .reason("BLOB_GONE")
                .with("digest", hex::encode(digest)));
        }
    }
    Ok(())
}

/// Gives files, whose blobs were counted, to a version, and the version its totals.
pub async fn attach(
    tx: &DatabaseTransaction,
    version: Uuid,
    model: Uuid,
    files: &[FileEntry],
) -> Result<(), ServiceError> {
    let row = |file: &FileEntry| -> Vec<Value> {
        vec![
            version.into(),
            file.path.clone().into(),
            file.digest.to_vec().into(),
            file.byte_count.into(),
        ]
    };
    let into = "version_file (version_id, path, digest, byte_count)";
    insert_all(tx, into, files.iter().map(row).collect(), "").await?;
    let bytes: i64 = files.iter().map(|file| file.byte_count).sum();
    let digest = crate::model::artifact::manifest_digest(files);
    let sql = "UPDATE version SET byte_count = $1, file_count = $2, digest = $3 WHERE id = $4";
    let number = i64::try_from(files.len()).unwrap_or(i64::MAX);
    let values = [bytes.into(), number.into(), digest.to_vec().into(), version.into()];
    execute(tx, sql, values).await?;
    let sql = "UPDATE model SET byte_count = byte_count + $1 WHERE id = $2";
    execute(tx, sql, [bytes.into(), model.into()]).await.map(drop)
}
