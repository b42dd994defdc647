//! The commit: one transaction that moves an upload to committed and the head
//! to a new snapshot.
//!
//! It begins by updating the dataset's row (the namespace's, if the dataset is
//! yet to be made), so commits to one dataset pass one after the other and the
//! decision to rebase is made on the head as it is. The compare-and-swap on the
//! branch and on the upload stand besides: they hold whatever the lock does.

use ids::{DatasetId, PrincipalId};
use sea_orm::{ConnectionTrait, DatabaseTransaction, EntityTrait, Set, Statement, Value};
use service_error::ServiceError;
use sql_store::{db_error, now_micros};

use crate::model::commit::{HeadNow, Idempotency, may_commit};
use crate::model::{
    CommitMode, CommitPlan, Committed, MAIN_BRANCH, OutboxEvent, Snapshot, Totals, Upload,
    UploadState, Version,
};
use crate::store::datasets::{Place, dataset_of_name, insert_dataset};
use crate::store::entity::{branch, idempotency, snapshot, version};
use crate::store::namespaces::lock_namespace;
use crate::store::uploads::{UPLOAD_ABORTED, UPLOAD_COMMITTED, closed, leave_open, upload_in};
use crate::store::versions::{snapshot_of, version_in};
use crate::store::{Store, blocks, no_dataset};

/// The numbers that a commit takes; both only grow.
struct Numbers {
    snapshot: i64,
    version: i64,
}

impl Store {
    /// Commits a plan, or answers what the same commit did before. The event
    /// tells of a dataset that the commit made.
    ///
    /// # Errors
    /// `Conflict` (`HEAD_MOVED`, `DATASET_EXISTS`, `UPLOAD_MOVED`),
    /// `FailedPrecondition` (`UPLOAD_ABORTED`, `IDEMPOTENCY_KEY_REUSED`),
    /// `NotFound` for a dataset, namespace or upload that is gone.
    pub async fn commit(
        &self,
        plan: &CommitPlan,
        idempotency_until: i64,
    ) -> Result<(Committed, Option<OutboxEvent>), ServiceError> {
        let tx = self.sql.begin().await?;
        let upload = upload_in(&tx, plan.upload).await?.owned_by(plan.principal)?;
        let (dataset, event) = match lock_or_make(&tx, plan, &upload).await? {
            Target::Existing(dataset) => (dataset, None),
            Target::Made(dataset, event) => (dataset, Some(event)),
        };
        // Read again under the lock.
        let upload = upload_in(&tx, plan.upload).await?;
        if let Some(version) = replayed(&tx, plan, dataset, &upload).await? {
            tx.commit().await.map_err(db_error)?;
            return Ok((Committed { dataset, version, replayed: true }, None));
        }
        if plan.create.is_some() && event.is_none() {
            return Err(exists_meanwhile(plan));
        }
        if upload.state != UploadState::Open {
            return Err(closed(&upload));
        }
        let version = append_snapshot(&tx, plan, dataset, &upload).await?;
        if let Some(idempotency) = &plan.idempotency {
            remember(&tx, plan.principal, dataset, idempotency, version.number, idempotency_until)
                .await?;
        }
        tx.commit().await.map_err(db_error)?;
        Ok((Committed { dataset, version, replayed: false }, event))
    }
}

enum Target {
    Existing(DatasetId),
    Made(DatasetId, OutboxEvent),
}

async fn lock_or_make(
    tx: &DatabaseTransaction,
    plan: &CommitPlan,
    upload: &Upload,
) -> Result<Target, ServiceError> {
    let Some((namespace, new)) = &plan.create else {
        lock_dataset(tx, plan.dataset).await?;
        return Ok(Target::Existing(plan.dataset));
    };
    let namespace_name = plan.path.split('/').next().unwrap_or_default();
    lock_namespace(tx, *namespace, namespace_name).await?;
    if let Some(dataset) = dataset_of_name(tx, *namespace, new.name.as_str()).await? {
        lock_dataset(tx, dataset).await?;
        return Ok(Target::Existing(dataset));
    }
    // Made before and deleted since: its commit is not to be had again.
    if upload.state != UploadState::Open {
        return Err(closed(upload));
    }
    let place = Place { namespace: *namespace, namespace_name, dataset: plan.dataset };
    let event = insert_dataset(tx, place, new, plan.principal).await?;
    Ok(Target::Made(plan.dataset, event))
}

async fn lock_dataset(tx: &DatabaseTransaction, dataset: DatasetId) -> Result<(), ServiceError> {
    let sql = "UPDATE dataset SET revision = revision + 1 WHERE id = $1 AND deleted_at IS NULL";
    let lock =
        Statement::from_sql_and_values(tx.get_database_backend(), sql, [dataset.uuid().into()]);
    match tx.execute_raw(lock).await.map_err(db_error)?.rows_affected() {
        0 => Err(no_dataset(dataset)),
        _ => Ok(()),
    }
}

/// What the same commit did before, known by its key or by its upload.
async fn replayed(
    tx: &DatabaseTransaction,
    plan: &CommitPlan,
    dataset: DatasetId,
    upload: &Upload,
) -> Result<Option<Version>, ServiceError> {
    if let Some(idempotency) = &plan.idempotency {
        let key = (plan.principal.uuid(), dataset.uuid(), idempotency.key.clone());
        let stored = idempotency::Entity::find_by_id(key).one(tx).await.map_err(db_error)?;
        if let Some(stored) = stored {
            idempotency.matches(&stored.body_hash)?;
            // A retry brought the same blocks under another upload: they are swept.
            if upload.state == UploadState::Open {
                leave_open(tx, upload, UPLOAD_ABORTED, 0).await?;
            }
            return version_in(tx, dataset, stored.version).await;
        }
    }
    if upload.state == UploadState::Committed && upload.dataset_id == dataset {
        return version_in(tx, dataset, upload.version).await;
    }
    Ok(None)
}

fn exists_meanwhile(plan: &CommitPlan) -> ServiceError {
    let message =
        format!("dataset {} was made by another commit meanwhile; commit to it", plan.path);
    ServiceError::conflict(message).reason("DATASET_EXISTS").with("dataset", &plan.path)
}

async fn append_snapshot(
    tx: &DatabaseTransaction,
    plan: &CommitPlan,
    dataset: DatasetId,
    upload: &Upload,
) -> Result<Version, ServiceError> {
    let (branch, head) = read_head(tx, dataset).await?;
    let added_since_base = added_between(tx, dataset, plan.base_snapshot, head.number).await?;
    may_commit(
        plan.mode,
        plan.base_snapshot,
        plan.keys_checked,
        HeadNow { snapshot: head, added_since_base },
    )?;
    let numbers = take_numbers(tx, dataset).await?;
    if !leave_open(tx, upload, UPLOAD_COMMITTED, numbers.version).await? {
        return Err(closed(&upload_in(tx, upload.id).await?));
    }
    let totals = Totals::after(plan.mode, &head, &plan.blocks)?;
    if plan.mode == CommitMode::Overwrite {
        end_all_blocks(tx, dataset, numbers.snapshot).await?;
    }
    let version = write_snapshot(tx, plan, dataset, &branch, &head, &numbers, totals).await?;
    blocks::insert_blocks(tx, dataset, plan.upload.uuid(), numbers.snapshot, &plan.blocks).await?;
    move_head(tx, &branch, &numbers).await?;
    Ok(version)
}

async fn read_head(
    tx: &DatabaseTransaction,
    dataset: DatasetId,
) -> Result<(branch::Model, Snapshot), ServiceError> {
    let key = (dataset.uuid(), MAIN_BRANCH);
    let found = branch::Entity::find_by_id(key).one(tx).await.map_err(db_error)?;
    let branch = found.ok_or_else(|| ServiceError::data_loss("a dataset has no main branch"))?;
    if branch.head_snapshot == 0 {
        return Ok((branch, Snapshot::default()));
    }
    let key = (dataset.uuid(), branch.head_snapshot);
    let found = snapshot::Entity::find_by_id(key).one(tx).await.map_err(db_error)?;
    let head = found.ok_or_else(|| ServiceError::data_loss("a branch's head is no snapshot"))?;
    Ok((branch, snapshot_of(&head)))
}

/// Whether a commit after `base` up to `head` added blocks.
async fn added_between(
    tx: &DatabaseTransaction,
    dataset: DatasetId,
    base: i64,
    head: i64,
) -> Result<bool, ServiceError> {
    if base >= head {
        return Ok(false);
    }
    let sql = "SELECT 1 AS found FROM block_use WHERE dataset_id = $1 AND branch = $2 \
        AND begin_snapshot > $3 AND begin_snapshot <= $4 LIMIT 1";
    let values: [Value; 4] = [dataset.uuid().into(), MAIN_BRANCH.into(), base.into(), head.into()];
    let look = Statement::from_sql_and_values(tx.get_database_backend(), sql, values);
    Ok(tx.query_one_raw(look).await.map_err(db_error)?.is_some())
}

async fn take_numbers(
    tx: &DatabaseTransaction,
    dataset: DatasetId,
) -> Result<Numbers, ServiceError> {
    let sql = "UPDATE dataset SET last_snapshot = last_snapshot + 1, last_version = last_version + 1 \
        WHERE id = $1 RETURNING last_snapshot, last_version";
    let take =
        Statement::from_sql_and_values(tx.get_database_backend(), sql, [dataset.uuid().into()]);
    let row = tx.query_one_raw(take).await.map_err(db_error)?.ok_or_else(|| no_dataset(dataset))?;
    Ok(Numbers {
        snapshot: row.try_get("", "last_snapshot").map_err(db_error)?,
        version: row.try_get("", "last_version").map_err(db_error)?,
    })
}

async fn end_all_blocks(
    tx: &DatabaseTransaction,
    dataset: DatasetId,
    snapshot: i64,
) -> Result<(), ServiceError> {
    let sql = "UPDATE block_use SET end_snapshot = $1 WHERE dataset_id = $2 AND branch = $3 AND end_snapshot IS NULL";
    let values: [Value; 3] = [snapshot.into(), dataset.uuid().into(), MAIN_BRANCH.into()];
    let end = Statement::from_sql_and_values(tx.get_database_backend(), sql, values);
    tx.execute_raw(end).await.map_err(db_error)?;
    Ok(())
}

async fn write_snapshot(
    tx: &DatabaseTransaction,
    plan: &CommitPlan,
    dataset: DatasetId,
    branch: &branch::Model,
    head: &Snapshot,
    numbers: &Numbers,
    totals: Totals,
) -> Result<Version, ServiceError> {
    let now = now_micros();
    let made = Snapshot {
        number: numbers.snapshot,
        row_count: totals.rows,
        byte_count: totals.bytes,
        block_count: totals.blocks,
        watermark: head.watermark,
    };
    let row = snapshot::ActiveModel {
        dataset_id: Set(dataset.uuid()),
        number: Set(made.number),
        branch: Set(branch.branch),
        parent: Set(head.number),
        row_count: Set(made.row_count),
        byte_count: Set(made.byte_count),
        block_count: Set(made.block_count),
        watermark: Set(made.watermark),
        created_at: Set(now),
    };
    snapshot::Entity::insert(row).exec_without_returning(tx).await.map_err(db_error)?;
    let named = version::ActiveModel {
        dataset_id: Set(dataset.uuid()),
        number: Set(numbers.version),
        snapshot: Set(made.number),
        parent: Set(branch.head_version),
        message: Set(plan.message.clone()),
        author: Set(plan.principal.uuid()),
        created_at: Set(now),
    };
    version::Entity::insert(named).exec_without_returning(tx).await.map_err(db_error)?;
    Ok(Version {
        number: numbers.version,
        parent: branch.head_version,
        message: plan.message.clone(),
        author: plan.principal,
        created_at: now,
        snapshot: made,
    })
}

async fn move_head(
    tx: &DatabaseTransaction,
    read: &branch::Model,
    numbers: &Numbers,
) -> Result<(), ServiceError> {
    let sql = "UPDATE branch SET head_snapshot = $1, head_version = $2, revision = revision + 1 \
        WHERE dataset_id = $3 AND branch = $4 AND revision = $5";
    let values: [Value; 5] = [
        numbers.snapshot.into(),
        numbers.version.into(),
        read.dataset_id.into(),
        read.branch.into(),
        read.revision.into(),
    ];
    let swap = Statement::from_sql_and_values(tx.get_database_backend(), sql, values);
    match tx.execute_raw(swap).await.map_err(db_error)?.rows_affected() {
        1 => Ok(()),
        _ => {
            Err(ServiceError::conflict("another commit moved the head; retry").reason("HEAD_MOVED"))
        }
    }
}

async fn remember(
    tx: &DatabaseTransaction,
    principal: PrincipalId,
    dataset: DatasetId,
    key: &Idempotency,
    version: i64,
    expires_at: i64,
) -> Result<(), ServiceError> {
    let row = idempotency::ActiveModel {
        principal: Set(principal.uuid()),
        dataset_id: Set(dataset.uuid()),
        key: Set(key.key.clone()),
        body_hash: Set(key.body_hash.clone()),
        version: Set(version),
        expires_at: Set(expires_at),
    };
    idempotency::Entity::insert(row).exec_without_returning(tx).await.map_err(db_error)?;
    Ok(())
}
