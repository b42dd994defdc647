//! The end of what no version sees: snapshots that were replaced, and datasets
//! that were deleted. Metadata goes in one transaction, which notes the objects
//! that are to follow.

use std::collections::{HashMap, HashSet};

use ids::{DatasetId, Id};
use sea_orm::sea_query::Expr;
use sea_orm::{
    ColumnTrait, ConnectionTrait, DatabaseTransaction, EntityTrait, QueryFilter, QueryOrder,
    QuerySelect, Statement, Value,
};
use service_error::{Code, ServiceError};
use sql_store::{db_error, now_micros};
use uuid::Uuid;

use crate::model::{Expired, ListedObject, Verdict};
use crate::store::Store;
use crate::store::commits::lock_dataset;
use crate::store::entity::{block, dataset, doomed_object, purged_dataset, upload};
use crate::store::uploads::{UPLOAD_ABORTED, UPLOAD_OPEN};

/// The newest snapshot that is older than `$2` was the head then, or still is;
/// what comes before it was replaced earlier. Versions and heads stay.
const EXPIRABLE: &str = "dataset_id = $1 AND number < \
    (SELECT MAX(n.number) FROM snapshot n WHERE n.dataset_id = $1 AND n.created_at < $2) \
    AND NOT EXISTS (SELECT 1 FROM version v WHERE v.dataset_id = $1 AND v.snapshot = snapshot.number) \
    AND NOT EXISTS (SELECT 1 FROM branch b WHERE b.dataset_id = $1 \
    AND (b.head_snapshot = snapshot.number OR b.fork_snapshot = snapshot.number))";

/// Blocks that no use shows any more.
const UNUSED: &str = "SELECT b.id FROM block b WHERE b.dataset_id = $1 \
    AND NOT EXISTS (SELECT 1 FROM block_use u WHERE u.block_id = b.id)";

/// Tables with rows of a dataset, those that refer to others first.
const OF_DATASET: [&str; 8] = [
    "version",
    "snapshot",
    "block_deletion",
    "block_use",
    "block",
    "idempotency",
    "dataset_property",
    "branch",
];

impl Store {
    /// Ids of live datasets after one, in their order.
    ///
    /// # Errors
    /// As [`db_error`].
    pub async fn datasets_after(
        &self,
        after: Option<DatasetId>,
        limit: u32,
    ) -> Result<Vec<DatasetId>, ServiceError> {
        let rows: Vec<Uuid> = dataset::Entity::find()
            .select_only()
            .column(dataset::Column::Id)
            .filter(dataset::Column::DeletedAt.is_null())
            .filter(dataset::Column::Id.gt(after.map_or(Uuid::nil(), Id::uuid)))
            .order_by_asc(dataset::Column::Id)
            .limit(u64::from(limit))
            .into_tuple()
            .all(self.read())
            .await
            .map_err(db_error)?;
        Ok(rows.into_iter().map(Id::from_uuid).collect())
    }

    /// Takes out snapshots that are no version and were replaced before a time,
    /// with what only they saw.
    ///
    /// # Errors
    /// As [`db_error`].
    pub async fn expire_snapshots(
        &self,
        dataset: DatasetId,
        before: i64,
    ) -> Result<Expired, ServiceError> {
        let backend = self.sql.backend();
        let values = |last: i64| -> [Value; 2] { [dataset.uuid().into(), last.into()] };
        let look = format!("SELECT 1 AS found FROM snapshot WHERE {EXPIRABLE} LIMIT 1");
        let look = Statement::from_sql_and_values(backend, look, values(before));
        if self.read().query_one_raw(look).await.map_err(db_error)?.is_none() {
            return Ok(Expired::default());
        }
        let tx = self.sql.begin().await?;
        match lock_dataset(&tx, dataset).await {
            Ok(()) => {}
            Err(error) if error.code() == Code::NotFound => return Ok(Expired::default()),
            Err(error) => return Err(error),
        }
        let expire = format!("DELETE FROM snapshot WHERE {EXPIRABLE}");
        let snapshots = run(&tx, &expire, values(before).to_vec()).await?;
        forget_unseen(&tx, dataset).await?;
        let blocks = doom_unused(&tx, dataset).await?;
        tx.commit().await.map_err(db_error)?;
        Ok(Expired { snapshots, blocks })
    }

    /// Forgets datasets that were deleted before a time; answers them.
    ///
    /// # Errors
    /// As [`db_error`].
    pub async fn purge_datasets(
        &self,
        deleted_before: i64,
        limit: u32,
    ) -> Result<Vec<DatasetId>, ServiceError> {
        let due: Vec<Uuid> = dataset::Entity::find()
            .select_only()
            .column(dataset::Column::Id)
            .filter(dataset::Column::DeletedAt.lt(deleted_before))
            .order_by_asc(dataset::Column::Id)
            .limit(u64::from(limit))
            .into_tuple()
            .all(self.read())
            .await
            .map_err(db_error)?;
        let mut purged = Vec::with_capacity(due.len());
        for id in due {
            if self.purge(id, deleted_before).await? {
                purged.push(Id::from_uuid(id));
            }
        }
        Ok(purged)
    }

    async fn purge(&self, id: Uuid, deleted_before: i64) -> Result<bool, ServiceError> {
        let tx = self.sql.begin().await?;
        let lock = "UPDATE dataset SET revision = revision + 1 WHERE id = $1 AND deleted_at < $2";
        if run(&tx, lock, vec![id.into(), deleted_before.into()]).await? == 0 {
            return Ok(false);
        }
        let abort = "UPDATE upload SET state = $2, lease_epoch = lease_epoch + 1 \
            WHERE dataset_id = $1 AND state = $3";
        run(&tx, abort, vec![id.into(), UPLOAD_ABORTED.into(), UPLOAD_OPEN.into()]).await?;
        let statistics = "DELETE FROM block_column_stats WHERE block_id IN \
            (SELECT b.id FROM block b WHERE b.dataset_id = $1)";
        run(&tx, statistics, vec![id.into()]).await?;
        for table in OF_DATASET {
            let sql = format!("DELETE FROM {table} WHERE dataset_id = $1");
            run(&tx, &sql, vec![id.into()]).await?;
        }
        run(&tx, "DELETE FROM dataset WHERE id = $1", vec![id.into()]).await?;
        let note = "INSERT INTO purged_dataset (dataset_id, purged_at, gone_at) VALUES ($1, $2, NULL) \
            ON CONFLICT (dataset_id) DO NOTHING";
        run(&tx, note, vec![id.into(), now_micros().into()]).await?;
        tx.commit().await.map_err(db_error)?;
        Ok(true)
    }

    /// Objects and datasets whose bytes are to be deleted, up to `limit` each.
    ///
    /// # Errors
    /// As [`db_error`].
    pub async fn list_doomed(
        &self,
        limit: u32,
    ) -> Result<(Vec<String>, Vec<DatasetId>), ServiceError> {
        let objects = doomed_object::Entity::find()
            .select_only()
            .column(doomed_object::Column::ObjectKey)
            .order_by_asc(doomed_object::Column::ObjectKey)
            .limit(u64::from(limit))
            .into_tuple()
            .all(self.read())
            .await
            .map_err(db_error)?;
        let datasets: Vec<Uuid> = purged_dataset::Entity::find()
            .select_only()
            .column(purged_dataset::Column::DatasetId)
            .filter(purged_dataset::Column::GoneAt.is_null())
            .order_by_asc(purged_dataset::Column::DatasetId)
            .limit(u64::from(limit))
            .into_tuple()
            .all(self.read())
            .await
            .map_err(db_error)?;
        Ok((objects, datasets.into_iter().map(Id::from_uuid).collect()))
    }

    /// Notes that bytes are gone.
    ///
    /// # Errors
    /// As [`db_error`].
    pub async fn confirm_gone(
        &self,
        objects: &[String],
        datasets: &[DatasetId],
    ) -> Result<(), ServiceError> {
        let tx = self.sql.begin().await?;
        doomed_object::Entity::delete_many()
            .filter(doomed_object::Column::ObjectKey.is_in(objects))
            .exec(&tx)
            .await
            .map_err(db_error)?;
        purged_dataset::Entity::update_many()
            .col_expr(purged_dataset::Column::GoneAt, Expr::value(now_micros()))
            .filter(purged_dataset::Column::DatasetId.is_in(datasets.iter().map(|id| id.uuid())))
            .exec(&tx)
            .await
            .map_err(db_error)?;
        tx.commit().await.map_err(db_error)
    }

    /// Whether anything may name objects, now or later.
    ///
    /// Uploads are looked at before blocks: one that is not open then has made
    /// all the blocks that it will ever make.
    ///
    /// # Errors
    /// As [`db_error`].
    pub async fn judge_objects(
        &self,
        objects: &[ListedObject],
    ) -> Result<Vec<Verdict>, ServiceError> {
        let ids =
            |of: fn(&ListedObject) -> Uuid| -> HashSet<Uuid> { objects.iter().map(of).collect() };
        // An upload's objects are below its dataset; elsewhere they are not its own.
        let uploads: HashMap<(Uuid, Uuid), i16> = upload::Entity::find()
            .select_only()
            .columns([upload::Column::Id, upload::Column::DatasetId, upload::Column::State])
            .filter(upload::Column::Id.is_in(ids(|object| object.upload.uuid())))
            .into_tuple::<(Uuid, Uuid, i16)>()
            .all(self.read())
            .await
            .map_err(db_error)?
            .into_iter()
            .map(|(upload, dataset, state)| ((upload, dataset), state))
            .collect();
        let known = self.known_datasets(ids(|object| object.dataset.uuid())).await?;
        let blocks: HashSet<String> = block::Entity::find()
            .select_only()
            .column(block::Column::ObjectKey)
            .filter(block::Column::ObjectKey.is_in(objects.iter().map(|o| o.object_key.as_str())))
            .into_tuple::<String>()
            .all(self.read())
            .await
            .map_err(db_error)?
            .into_iter()
            .collect();
        let place = |object: &ListedObject| (object.upload.uuid(), object.dataset.uuid());
        let verdict = |object: &ListedObject| match uploads.get(&place(object)) {
            _ if blocks.contains(&object.object_key) => Verdict::Kept,
            Some(&UPLOAD_OPEN) => Verdict::Kept,
            Some(_) => Verdict::Garbage,
            None if known.contains(&object.dataset.uuid()) => Verdict::Garbage,
            None => Verdict::Unknown,
        };
        Ok(objects.iter().map(verdict).collect())
    }

    /// Those of some ids that are, or once were, datasets of this catalog.
    async fn known_datasets(&self, ids: HashSet<Uuid>) -> Result<HashSet<Uuid>, ServiceError> {
        let mut known: HashSet<Uuid> = dataset::Entity::find()
            .select_only()
            .column(dataset::Column::Id)
            .filter(dataset::Column::Id.is_in(ids.iter().copied()))
            .into_tuple::<Uuid>()
            .all(self.read())
            .await
            .map_err(db_error)?
            .into_iter()
            .collect();
        let purged = purged_dataset::Entity::find()
            .select_only()
            .column(purged_dataset::Column::DatasetId)
            .filter(purged_dataset::Column::DatasetId.is_in(ids))
            .into_tuple::<Uuid>()
            .all(self.read())
            .await
            .map_err(db_error)?;
        known.extend(purged);
        Ok(known)
    }
}

/// Uses and deleted rows that no snapshot sees that is left.
async fn forget_unseen(tx: &DatabaseTransaction, dataset: DatasetId) -> Result<(), ServiceError> {
    for sql in [
        "DELETE FROM block_use WHERE dataset_id = $1 AND end_snapshot IS NOT NULL AND NOT EXISTS \
         (SELECT 1 FROM snapshot s WHERE s.dataset_id = $1 AND s.number >= block_use.begin_snapshot \
         AND s.number < block_use.end_snapshot)",
        "DELETE FROM block_deletion WHERE dataset_id = $1 AND EXISTS \
         (SELECT 1 FROM block_deletion y WHERE y.block_id = block_deletion.block_id \
         AND y.branch = block_deletion.branch AND y.snapshot > block_deletion.snapshot \
         AND NOT EXISTS (SELECT 1 FROM snapshot s WHERE s.dataset_id = $1 \
         AND s.number >= block_deletion.snapshot AND s.number < y.snapshot))",
    ] {
        run(tx, sql, vec![dataset.uuid().into()]).await?;
    }
    Ok(())
}

/// Forgets blocks without a use and notes their objects; answers how many.
async fn doom_unused(tx: &DatabaseTransaction, dataset: DatasetId) -> Result<u64, ServiceError> {
    let note = format!(
        "INSERT INTO doomed_object (object_key, dataset_id, doomed_at) \
         SELECT d.object_key, d.dataset_id, $2 FROM block d WHERE d.id IN ({UNUSED}) \
         ON CONFLICT (object_key) DO NOTHING"
    );
    let noted = run(tx, &note, vec![dataset.uuid().into(), now_micros().into()]).await?;
    for (table, column) in
        [("block_column_stats", "block_id"), ("block_deletion", "block_id"), ("block", "id")]
    {
        let sql = format!("DELETE FROM {table} WHERE {column} IN ({UNUSED})");
        run(tx, &sql, vec![dataset.uuid().into()]).await?;
    }
    Ok(noted)
}

async fn run(tx: &DatabaseTransaction, sql: &str, values: Vec<Value>) -> Result<u64, ServiceError> {
    let statement = Statement::from_sql_and_values(tx.get_database_backend(), sql, values);
    Ok(tx.execute_raw(statement).await.map_err(db_error)?.rows_affected())
}
