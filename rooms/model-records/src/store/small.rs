//! Small files of trees: bytes and names of many in one transaction.

use std::collections::BTreeMap;

use sea_orm::{ConnectionTrait, DatabaseTransaction, DbBackend, FromQueryResult, Value};
use service_error::ServiceError;
use sql_store::{db_error, now_micros};
use uuid::Uuid;

use super::Store;
use super::blobs::{self, digest_of};
use super::files::replaced_meanwhile;
use super::sql::{Values, all, insert_all};
use crate::model::{Digest, FileEntry, SmallFile};

type Place = (Uuid, String);

#[derive(Debug, FromQueryResult)]
struct TreeRow {
    namespace_id: Uuid,
    path: String,
    digest: Vec<u8>,
    byte_count: i64,
}

#[derive(Debug, FromQueryResult)]
struct KeptRow {
    digest: Vec<u8>,
    generation: Uuid,
}

impl Store {
    /// Puts files into their trees, each in the place of one of the same path:
    /// all of them or none. Of several under one path the last stays.
    ///
    /// # Errors
    /// `Conflict` if another one made one of them meanwhile.
    pub async fn put_small_files(&self, files: &[SmallFile]) -> Result<(), ServiceError> {
        // By place, so that nobody who takes rows in the same order waits in a circle.
        let by_place: BTreeMap<Place, &SmallFile> =
            files.iter().map(|of| ((of.namespace.uuid(), of.path.clone()), of)).collect();
        if by_place.is_empty() {
            return Ok(());
        }
        if self.sql.backend() == DbBackend::Sqlite {
            let (statements, values) = at_once(&by_place);
            return self.sql.run_script(&statements, values).await;
        }
        let tx = self.sql.begin().await?;
        let before = self.taken(&tx, &by_place).await?;
        keep_bytes(&tx, &by_place).await?;
        let now = now_micros();
        let row = |(place, of): (&Place, &&SmallFile)| -> Vec<Value> {
            let (namespace, path) = place.clone();
            let size = size_of(&of.content);
            vec![namespace.into(), path.into(), of.digest.to_vec().into(), size.into(), now.into()]
        };
        let (old, new): (Vec<_>, Vec<_>) =
            by_place.iter().partition(|(place, _)| before.contains_key(*place));
        let into = "tree_file (namespace_id, path, digest, byte_count, at)";
        // These rows are ours until the commit.
        let replace = "ON CONFLICT (namespace_id, path) DO UPDATE SET digest = excluded.digest, \
                       byte_count = excluded.byte_count, at = excluded.at";
        insert_all(&tx, into, old.into_iter().map(row).collect(), replace).await?;
        let wanted = new.len() as u64;
        let skip = "ON CONFLICT (namespace_id, path) DO NOTHING";
        if insert_all(&tx, into, new.into_iter().map(row).collect(), skip).await? != wanted {
            return Err(replaced_meanwhile());
        }
        let gone: Vec<FileEntry> = before.into_values().collect();
        blobs::count(&tx, &gone, -1).await?;
        tx.commit().await.map_err(db_error)
    }

    /// Takes the rows that will be replaced; answers what they stand for.
    async fn taken(
        &self,
        tx: &DatabaseTransaction,
        files: &BTreeMap<Place, &SmallFile>,
    ) -> Result<BTreeMap<Place, FileEntry>, ServiceError> {
        let mut values = Values::new(self.sql.backend());
        let places: Vec<String> = files
            .keys()
            .map(|(namespace, path)| {
                let namespace = values.add(*namespace);
                format!("(namespace_id = {namespace} AND path = {})", values.add(path.clone()))
            })
            .collect();
        let sql = format!(
            "UPDATE tree_file SET at = at WHERE {} \
             RETURNING namespace_id, path, digest, byte_count",
            places.join(" OR ")
        );
        let mut taken = BTreeMap::new();
        for row in all::<TreeRow, _>(tx, &sql, values.all).await? {
            let TreeRow { namespace_id, path, digest, byte_count } = row;
            let entry = FileEntry { path: path.clone(), digest: digest_of(digest)?, byte_count };
            taken.insert((namespace_id, path), entry);
        }
        Ok(taken)
    }
}

/// Bytes of which there is no row yet, for all that is known.
struct New<'a> {
    content: &'a [u8],
    generation: Uuid,
    refs: i64,
}

/// By digest: everybody takes blobs in this order.
fn new_bytes<'a>(files: &BTreeMap<Place, &'a SmallFile>) -> BTreeMap<Digest, New<'a>> {
    let mut new: BTreeMap<Digest, New<'a>> = BTreeMap::new();
    for of in files.values() {
        let fresh = || New { content: &of.content, generation: Uuid::now_v7(), refs: 0 };
        new.entry(of.digest).or_insert_with(fresh).refs += 1;
    }
    new
}

fn size_of(content: &[u8]) -> i64 {
    i64::try_from(content.len()).unwrap_or(i64::MAX)
}

/// Counts rows of blobs as referenced. What is being deleted has no references; it
/// lives on as this generation.
fn count_sql(rows: &[String]) -> String {
    format!(
        "INSERT INTO blob (digest, byte_count, generation, state, refs, pinned_until, created_at) \
         VALUES {} ON CONFLICT (digest) DO UPDATE SET \
         generation = CASE WHEN blob.state = 2 THEN excluded.generation ELSE blob.generation END, \
         refs = blob.refs + excluded.refs, state = 1",
        rows.join(", ")
    )
}

/// All of it for one turn of SQLite's one writing connection, whose thread runs the
/// statements one after the other: nobody else writes, so that nothing that one
/// finds has to be known here before the next.
fn at_once(files: &BTreeMap<Place, &SmallFile>) -> (String, Vec<Value>) {
    let mut values = Values::new(DbBackend::Sqlite);
    let now = values.add(now_micros());
    let (mut blobs, mut segments) = (Vec::new(), Vec::new());
    for (digest, of) in new_bytes(files) {
        let row: [Value; 5] = [
            digest.to_vec().into(),
            size_of(of.content).into(),
            of.generation.into(),
            of.refs.into(),
            of.content.to_vec().into(),
        ];
        let [bytes, size, generation, refs, content] = row.map(|value| values.add(value));
        blobs.push(format!("({bytes}, {size}, {generation}, 1, {refs}, {now}, {now})"));
        segments.push(format!("({generation}, {size}, {bytes}, {content})"));
    }
    let (mut places, mut rows) = (Vec::new(), Vec::new());
    // Each says its digest again: by its number above, hardly a statement would be one that the
    // connection knows, since paths and digests are in orders of their own.
    for ((namespace, path), of) in files {
        let (namespace, path) = (values.add(*namespace), values.add(path.clone()));
        let digest = values.add(of.digest.to_vec());
        let size = values.add(size_of(&of.content));
        places.push(format!("({namespace}, {path})"));
        rows.push(format!("({namespace}, {path}, {digest}, {size}, {now})"));
    }
    let (count, segments) = (count_sql(&blobs), segments.join(", "));
    let (places, rows) = (places.join(", "), rows.join(", "));
    let sql = format!(
        "UPDATE blob SET refs = refs - gone.files FROM (SELECT old.digest, COUNT(*) AS files \
         FROM (VALUES {places}) AS place CROSS JOIN tree_file AS old \
         ON old.namespace_id = place.column1 AND old.path = place.column2 GROUP BY old.digest) \
         AS gone WHERE blob.digest = gone.digest; \
         {count}; \
         INSERT INTO segment \
         (generation, ordinal, object_key, byte_begin, byte_count, digest, content) \
         SELECT new.column1, 0, '', 0, new.column2, new.column3, new.column4 \
         FROM (VALUES {segments}) AS new \
         CROSS JOIN blob ON blob.digest = new.column3 AND blob.generation = new.column1; \
         INSERT INTO tree_file (namespace_id, path, digest, byte_count, at) VALUES {rows} \
         ON CONFLICT (namespace_id, path) DO UPDATE SET digest = excluded.digest, \
         byte_count = excluded.byte_count, at = excluded.at"
    );
    (sql, values.all)
}

/// Counts the bytes as referenced, and keeps those that are not kept yet.
async fn keep_bytes(
    tx: &DatabaseTransaction,
    files: &BTreeMap<Place, &SmallFile>,
) -> Result<(), ServiceError> {
    let new = new_bytes(files);
    let now = now_micros();
    let mut values = Values::new(tx.get_database_backend());
    let rows: Vec<String> = new
        .iter()
        .map(|(digest, of)| {
            let row: [Value; 5] = [
                digest.to_vec().into(),
                size_of(of.content).into(),
                of.generation.into(),
                of.refs.into(),
                now.into(),
            ];
            let [digest, size, generation, refs, now] = row.map(|value| values.add(value));
            format!("({digest}, {size}, {generation}, 1, {refs}, {now}, {now})")
        })
        .collect();
    let sql = format!("{} RETURNING digest, generation", count_sql(&rows));
    let mut segments: Vec<Vec<Value>> = Vec::new();
    for row in all::<KeptRow, _>(tx, &sql, values.all).await? {
        let digest = digest_of(row.digest)?;
        let Some(of) = new.get(&digest).filter(|of| of.generation == row.generation) else {
            continue;
        };
        segments.push(vec![
            of.generation.into(),
            0_i64.into(),
            String::new().into(),
            0_i64.into(),
            size_of(of.content).into(),
            digest.to_vec().into(),
            of.content.to_vec().into(),
        ]);
    }
    let into = "segment (generation, ordinal, object_key, byte_begin, byte_count, digest, content)";
    insert_all(tx, into, segments, "").await.map(drop)
}
