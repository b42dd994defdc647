//! What was imported into which dataset, item by item: the next import is the
//! difference.

use std::collections::HashMap;

use sea_orm::{ConnectionTrait, DatabaseTransaction, QueryResult};
use service_error::ServiceError;
use sql_store::{db_error, next_number, now_micros};
use uuid::Uuid;

use super::bulk::{self, Column};
use super::found::{FOUND, found_of};
use super::{Store, below, execute, get};
use crate::model::Found;

const COLUMNS: &str = "id, uuid, location_id, path, dataset_id, dataset, layout, query, seq, version, samples, imported_at";
const PAGE: i64 = 50_000;

/// A directory of a location that goes into a dataset.
#[derive(Debug, Clone)]
pub struct Import {
    pub id: i64,
    pub uuid: Uuid,
    pub location: i64,
    /// Relative to the location.
    pub path: String,
    pub dataset_id: Uuid,
    /// `namespace/name`, as it was called.
    pub dataset: String,
    /// The layout that was asked for; empty: whatever it looks like.
    pub layout: String,
    /// What else was asked for.
    pub query: String,
    /// Changes up to this one are in the dataset; 0: nothing is yet.
    pub seq: i64,
    pub version: i64,
    pub samples: i64,
    pub imported_at: i64,
}

/// What identifies an import.
#[derive(Debug, Clone)]
pub struct ImportKey {
    pub location: i64,
    pub path: String,
    pub dataset_id: Uuid,
    pub dataset: String,
    pub layout: String,
    pub query: String,
}

/// What an import came to.
#[derive(Debug, Default)]
pub struct ImportDone {
    pub seq: i64,
    pub version: i64,
    pub samples: i64,
    /// Items that are there now, with their fingerprints.
    pub put: Vec<(Uuid, [u8; 16])>,
    /// Items that are not there any more.
    pub gone: Vec<Uuid>,
}

fn import_of(row: &QueryResult) -> Result<Import, ServiceError> {
    Ok(Import {
        id: get(row, "id")?,
        uuid: get(row, "uuid")?,
        location: get(row, "location_id")?,
        path: get(row, "path")?,
        dataset_id: get(row, "dataset_id")?,
        dataset: get(row, "dataset")?,
        layout: get(row, "layout")?,
        query: get(row, "query")?,
        seq: get(row, "seq")?,
        version: get(row, "version")?,
        samples: get(row, "samples")?,
        imported_at: get(row, "imported_at")?,
    })
}

/// Items of one import stand together.
fn item_key(import: i64, item: Uuid) -> Vec<u8> {
    [&import.to_be_bytes()[..], item.as_bytes()].concat()
}

impl Store {
    /// The import of a directory into a dataset, made if it is new. One that
    /// is asked for otherwise than before starts anew.
    ///
    /// # Errors
    /// The database's.
    pub async fn open_import(&self, key: ImportKey) -> Result<Import, ServiceError> {
        let tx = self.sql.begin().await?;
        let id = next_number(&tx, "import").await?;
        let sql = format!(
            "INSERT INTO import (id, uuid, location_id, path, dataset_id, dataset, layout, query, seq, version, samples,
               imported_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, 0, 0, 0, 0)
             ON CONFLICT (location_id, dataset_id, path) DO UPDATE SET
               seq = CASE WHEN import.layout = excluded.layout AND import.query = excluded.query THEN import.seq ELSE 0 END,
               dataset = excluded.dataset, layout = excluded.layout, query = excluded.query
             RETURNING {COLUMNS}"
        );
        let values = vec![
            id.into(),
            Uuid::now_v7().into(),
            key.location.into(),
            key.path.into(),
            key.dataset_id.into(),
            key.dataset.into(),
            key.layout.into(),
            key.query.into(),
        ];
        let row = tx.query_one_raw(self.statement(&sql, values)).await.map_err(db_error)?;
        tx.commit().await.map_err(db_error)?;
        import_of(&row.ok_or_else(|| ServiceError::internal("an import has no row"))?)
    }

    /// Imports of some locations, after a number.
    ///
    /// # Errors
    /// The database's.
    pub async fn imports(
        &self,
        locations: &[i64],
        after: i64,
        limit: u32,
    ) -> Result<Vec<Import>, ServiceError> {
        let backend = self.backend();
        let sql = format!(
            "SELECT {COLUMNS} FROM import WHERE {} AND id > $2 ORDER BY id LIMIT $3",
            bulk::in_numbers(backend, "location_id", 1)
        );
        let values = vec![bulk::numbers(backend, locations), after.into(), i64::from(limit).into()];
        self.rows(&sql, values).await?.iter().map(import_of).collect()
    }

    /// The items of an import with their fingerprints.
    ///
    /// # Errors
    /// The database's.
    pub async fn import_items(&self, import: i64) -> Result<HashMap<Uuid, Vec<u8>>, ServiceError> {
        let mut items = HashMap::new();
        let mut after = item_key(import, Uuid::nil());
        let end = (import + 1).to_be_bytes().to_vec();
        loop {
            let sql = "SELECT item, print FROM import_item WHERE item >= $1 AND item < $2 ORDER BY item LIMIT $3";
            let values = vec![after.clone().into(), end.clone().into(), PAGE.into()];
            let rows = self.rows(sql, values).await?;
            for row in &rows {
                let key: Vec<u8> = get(row, "item")?;
                let item = key.get(8..).and_then(|bytes| Uuid::from_slice(bytes).ok());
                let item =
                    item.ok_or_else(|| ServiceError::data_loss("an import's item has no id"))?;
                items.insert(item, get::<Option<Vec<u8>>>(row, "print")?.unwrap_or_default());
                after = key;
            }
            if rows.len() < usize::try_from(PAGE).unwrap_or(usize::MAX) {
                return Ok(items);
            }
            after.push(0);
        }
    }

    /// Says that items may be in the dataset soon.
    ///
    /// # Errors
    /// The database's.
    pub async fn claim_items(&self, import: i64, items: &[Uuid]) -> Result<(), ServiceError> {
        let tx = self.sql.begin().await?;
        let keys = items.iter().map(|item| Some(item_key(import, *item))).collect();
        let nothing = Column::Bytes(vec![Some(Vec::new()); items.len()]);
        let columns = [("item", Column::Bytes(keys)), ("print", nothing)];
        bulk::insert(&tx, "import_item", &columns, "ON CONFLICT (item) DO NOTHING").await?;
        tx.commit().await.map_err(db_error)
    }

    /// Notes what an import came to.
    ///
    /// # Errors
    /// The database's.
    pub async fn end_import(&self, import: i64, done: ImportDone) -> Result<(), ServiceError> {
        let tx = self.sql.begin().await?;
        let keys = |items: &[Uuid]| {
            Column::Bytes(items.iter().map(|item| Some(item_key(import, *item))).collect())
        };
        let (items, prints): (Vec<Uuid>, Vec<_>) =
            done.put.iter().map(|(item, print)| (*item, Some(print.to_vec()))).unzip();
        let columns = [("item", keys(&items)), ("print", Column::Bytes(prints))];
        let replace = "ON CONFLICT (item) DO UPDATE SET print = excluded.print";
        bulk::insert(&tx, "import_item", &columns, replace).await?;
        let nothing = Column::Bytes(vec![None; done.gone.len()]);
        bulk::update(&tx, "import_item", &[("item", keys(&done.gone)), ("print", nothing)], "")
            .await?;
        let gone = "DELETE FROM import_item WHERE item >= $1 AND item < $2 AND print IS NULL";
        let range =
            vec![import.to_be_bytes().to_vec().into(), (import + 1).to_be_bytes().to_vec().into()];
        execute(&tx, gone, range).await?;
        let sql = "UPDATE import SET seq = $2, version = $3, samples = $4, imported_at = $5 WHERE id = $1";
        let values = vec![
            import.into(),
            done.seq.into(),
            done.version.into(),
            done.samples.into(),
            now_micros().into(),
        ];
        execute(&tx, sql, values).await?;
        tx.commit().await.map_err(db_error)
    }

    pub(super) async fn forget_import_items(
        &self,
        tx: &DatabaseTransaction,
        import: i64,
    ) -> Result<(), ServiceError> {
        let sql = "DELETE FROM import_item WHERE item >= $1 AND item < $2";
        let range =
            vec![import.to_be_bytes().to_vec().into(), (import + 1).to_be_bytes().to_vec().into()];
        execute(tx, sql, range).await.map(drop)
    }

    /// Whether a path is an archive that is looked into, or lies in one.
    ///
    /// # Errors
    /// The database's.
    pub async fn is_in_archive(&self, location: i64, path: &str) -> Result<bool, ServiceError> {
        let sql = "SELECT 1 AS found FROM dir WHERE location_id = $1 AND path = $2 AND archive IS NOT NULL";
        Ok(self.row(sql, vec![location.into(), path.into()]).await?.is_some())
    }

    /// The regular files at and below a directory, after (directory, entry);
    /// `archives`: those in archives too.
    ///
    /// # Errors
    /// The database's.
    pub async fn files_below(
        &self,
        location: i64,
        path: &str,
        after: (i64, i64),
        limit: u32,
        archives: bool,
    ) -> Result<Vec<ListedFile>, ServiceError> {
        let of = if archives { "" } else { "AND d.archive IS NULL" };
        let (from, to) = below(path);
        let sql = format!(
            "SELECT {FOUND}, d.id AS dir_id, e.changed, c.likeness
             FROM dir d JOIN entry e ON e.dir_id = d.id LEFT JOIN content c ON c.id = e.content_id
             WHERE d.location_id = $1 {of} AND (d.path >= $2 AND d.path < $4 AND (d.path = $2 OR d.path >= $3)) AND e.kind = 1
               AND e.gone IS NULL AND e.hashed <> 3 AND d.id >= $5 AND (d.id > $5 OR e.id > $6)
             ORDER BY d.id, e.id LIMIT $7"
        );
        let values = vec![
            location.into(),
            path.into(),
            from.into(),
            to.into(),
            after.0.into(),
            after.1.into(),
            i64::from(limit).into(),
        ];
        let rows = self.rows(&sql, values).await?;
        rows.iter()
            .map(|row| {
                Ok(ListedFile {
                    found: found_of(row)?,
                    dir: get(row, "dir_id")?,
                    changed: get(row, "changed")?,
                    likeness: get(row, "likeness")?,
                })
            })
            .collect()
    }
}

/// A file with what an import needs of it.
#[derive(Debug, Clone)]
pub struct ListedFile {
    pub found: Found,
    /// The directory's number: pages go on after (dir, id).
    pub dir: i64,
    pub changed: i64,
    pub likeness: Option<i64>,
}
