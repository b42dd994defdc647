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

use crate::model::commit::{HeadNow, Idempotency, may_commit, moved};
use crate::model::{
    CommitMode, CommitPlan, Committed, MAIN_BRANCH, OutboxEvent, Snapshot, Totals, Upload,
    UploadState, Version,
};
use crate::store::datasets::{Place, dataset_of_name, insert_dataset};
use crate::store::entity::{branch, idempotency, snapshot, version};
use crate::store::merges::{see_again, touch, write_touched};
use crate::store::namespaces::lock_namespace;
use crate::store::rows::{unique_of, unique_text};
use crate::store::uploads::{
    Became, UPLOAD_ABORTED, UPLOAD_COMMITTED, closed, leave_open, upload_in,
};
use crate::store::versions::{snapshot_of, version_in};
use crate::store::{Store, blocks, no_dataset};

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
        if let Some(before) = replayed(&tx, plan, dataset, &upload).await? {
            tx.commit().await.map_err(db_error)?;
            return Ok((before, None));
        }
        if plan.create.is_some() && event.is_none() {
            return Err(exists_meanwhile(plan));
        }
        if upload.state != UploadState::Open {
            return Err(closed(&upload));
        }
        let committed = append_snapshot(&tx, plan, dataset, &upload).await?;
        if let Some(idempotency) = &plan.idempotency {
            remember(&tx, plan.principal, idempotency, &committed, idempotency_until).await?;
        }
        tx.commit().await.map_err(db_error)?;
        Ok((committed, event))
    }

    /// What a commit under a key did before.
    ///
    /// # Errors
    /// `FailedPrecondition` with reason `IDEMPOTENCY_KEY_REUSED`.
    pub async fn find_commit(
        &self,
        principal: PrincipalId,
        dataset: DatasetId,
        asked: &Idempotency,
    ) -> Result<Option<Committed>, ServiceError> {
        let key = (principal.uuid(), dataset.uuid(), asked.key.clone());
        let stored = idempotency::Entity::find_by_id(key).one(self.read()).await;
        let Some(stored) = stored.map_err(db_error)? else { return Ok(None) };
        asked.matches(&stored.body_hash)?;
        let became = Became { snapshot: stored.snapshot, version: stored.version };
        before(self.read(), dataset, became, stored.affected_rows).await.map(Some)
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

pub async fn lock_dataset(
    tx: &DatabaseTransaction,
    dataset: DatasetId,
) -> Result<(), ServiceError> {
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
) -> Result<Option<Committed>, ServiceError> {
    if let Some(idempotency) = &plan.idempotency {
        let key = (plan.principal.uuid(), dataset.uuid(), idempotency.key.clone());
        let stored = idempotency::Entity::find_by_id(key).one(tx).await.map_err(db_error)?;
        if let Some(stored) = stored {
            idempotency.matches(&stored.body_hash)?;
            // A retry brought the same blocks under another upload: they are swept.
            if upload.state == UploadState::Open {
                leave_open(tx, upload, UPLOAD_ABORTED, Became::default()).await?;
            }
            let became = Became { snapshot: stored.snapshot, version: stored.version };
            return before(tx, dataset, became, stored.affected_rows).await.map(Some);
        }
    }
    if upload.state == UploadState::Committed && upload.dataset_id == dataset {
        let became = Became { snapshot: upload.snapshot, version: upload.version };
        return before(tx, dataset, became, plan.affected_rows).await.map(Some);
    }
    Ok(None)
}

async fn before<C: ConnectionTrait>(
    tx: &C,
    dataset: DatasetId,
    became: Became,
    affected_rows: i64,
) -> Result<Committed, ServiceError> {
    let version = match became.version {
        0 => None,
        number => version_in(tx, dataset, number).await?,
    };
    let named = version.as_ref().map_or(0, |version| version.snapshot.number);
    let snapshot = if became.snapshot == 0 { named } else { became.snapshot };
    Ok(Committed { dataset, version, snapshot, affected_rows, replayed: true })
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
) -> Result<Committed, ServiceError> {
    let (branch, head) = read_head(tx, dataset).await?;
    let base = plan.footing.base_snapshot;
    let added_since_base = added_between(tx, dataset, base, head.number).await?;
    may_commit(plan.mode, &plan.footing, HeadNow { snapshot: head, added_since_base })?;
    keep_unique(tx, plan, dataset, head.number).await?;
    let touched = touch(tx, plan, dataset, head.number).await?;
    let numbers = take_numbers(tx, dataset, plan.named).await?;
    if !leave_open(tx, upload, UPLOAD_COMMITTED, numbers).await? {
        return Err(closed(&upload_in(tx, upload.id).await?));
    }
    let left = match plan.mode {
        CommitMode::Append | CommitMode::Merge => touched.off(Totals::from(&head)),
        CommitMode::Overwrite => Totals::default(),
        CommitMode::Rollback(earlier) => totals_of(tx, dataset, earlier).await?,
    };
    let made = Snapshot {
        number: numbers.snapshot,
        watermark: plan.footing.watermark.map_or(head.watermark, |watermark| watermark.to),
        ..snapshot_with(left.with(&plan.blocks)?)
    };
    write_snapshot(tx, dataset, &branch, &made).await?;
    match plan.mode {
        CommitMode::Append | CommitMode::Merge => {
            write_touched(tx, &touched, dataset, numbers.snapshot).await?;
        }
        CommitMode::Overwrite => end_all_blocks(tx, dataset, numbers.snapshot).await?,
        CommitMode::Rollback(earlier) => {
            end_all_blocks(tx, dataset, numbers.snapshot).await?;
            see_again(tx, dataset, earlier, numbers.snapshot).await?;
        }
    }
    blocks::insert_blocks(tx, dataset, plan.upload.uuid(), numbers.snapshot, &plan.blocks).await?;
    let version = match plan.named {
        true => Some(write_version(tx, plan, dataset, &branch, numbers.version, made).await?),
        false => None,
    };
    move_head(tx, &branch, numbers, plan.named).await?;
    let (snapshot, affected_rows) = (made.number, plan.affected_rows);
    Ok(Committed { dataset, version, snapshot, affected_rows, replayed: false })
}

const fn snapshot_with(totals: Totals) -> Snapshot {
    Snapshot {
        number: 0,
        row_count: totals.rows,
        byte_count: totals.bytes,
        block_count: totals.blocks,
        watermark: 0,
    }
}

async fn totals_of(
    tx: &DatabaseTransaction,
    dataset: DatasetId,
    snapshot: i64,
) -> Result<Totals, ServiceError> {
    if snapshot == 0 {
        return Ok(Totals::default());
    }
    let key = (dataset.uuid(), snapshot);
    let found = snapshot::Entity::find_by_id(key).one(tx).await.map_err(db_error)?;
    let found = found.ok_or_else(|| ServiceError::not_found("snapshot", snapshot))?;
    Ok(Totals::from(&snapshot_of(&found)))
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

/// Writes the unique columns that a commit declares; else refuses one that looked at others.
async fn keep_unique(
    tx: &DatabaseTransaction,
    plan: &CommitPlan,
    dataset: DatasetId,
    head: i64,
) -> Result<(), ServiceError> {
    let backend = tx.get_database_backend();
    if plan.unique.declares {
        let sql = "UPDATE dataset SET unique_columns = $2 WHERE id = $1";
        let values: [Value; 2] = [dataset.uuid().into(), unique_text(&plan.unique.columns).into()];
        let declare = Statement::from_sql_and_values(backend, sql, values);
        tx.execute_raw(declare).await.map_err(db_error)?;
        return Ok(());
    }
    let sql = "SELECT unique_columns FROM dataset WHERE id = $1";
    let look = Statement::from_sql_and_values(backend, sql, [dataset.uuid().into()]);
    let row = tx.query_one_raw(look).await.map_err(db_error)?.ok_or_else(|| no_dataset(dataset))?;
    let text: Option<String> = row.try_get("", "unique_columns").map_err(db_error)?;
    match unique_of(text.as_deref()) == plan.unique.columns {
        true => Ok(()),
        false => Err(moved(plan.footing.base_snapshot, head)),
    }
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

/// The numbers that a commit takes; both only grow.
async fn take_numbers(
    tx: &DatabaseTransaction,
    dataset: DatasetId,
    named: bool,
) -> Result<Became, ServiceError> {
    let sql = "UPDATE dataset SET last_snapshot = last_snapshot + 1, last_version = last_version + $2 \
        WHERE id = $1 RETURNING last_snapshot, last_version";
    let values: [Value; 2] = [dataset.uuid().into(), i64::from(named).into()];
    let take = Statement::from_sql_and_values(tx.get_database_backend(), sql, values);
    let row = tx.query_one_raw(take).await.map_err(db_error)?.ok_or_else(|| no_dataset(dataset))?;
    let version: i64 = row.try_get("", "last_version").map_err(db_error)?;
    Ok(Became {
        snapshot: row.try_get("", "last_snapshot").map_err(db_error)?,
        version: if named { version } else { 0 },
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
    dataset: DatasetId,
    branch: &branch::Model,
    made: &Snapshot,
) -> Result<(), ServiceError> {
    let row = snapshot::ActiveModel {
        dataset_id: Set(dataset.uuid()),
        number: Set(made.number),
        branch: Set(branch.branch),
        parent: Set(branch.head_snapshot),
        row_count: Set(made.row_count),
        byte_count: Set(made.byte_count),
        block_count: Set(made.block_count),
        watermark: Set(made.watermark),
        created_at: Set(now_micros()),
    };
    snapshot::Entity::insert(row).exec_without_returning(tx).await.map_err(db_error)?;
    Ok(())
}

async fn write_version(
    tx: &DatabaseTransaction,
    plan: &CommitPlan,
    dataset: DatasetId,
    branch: &branch::Model,
    number: i64,
    snapshot: Snapshot,
) -> Result<Version, ServiceError> {
    let version = Version {
        number,
        parent: branch.head_version,
        message: plan.message.clone(),
        author: plan.principal,
        created_at: now_micros(),
        snapshot,
    };
    let named = version::ActiveModel {
        dataset_id: Set(dataset.uuid()),
        number: Set(number),
        snapshot: Set(snapshot.number),
        parent: Set(version.parent),
        message: Set(version.message.clone()),
        author: Set(version.author.uuid()),
        created_at: Set(version.created_at),
    };
    version::Entity::insert(named).exec_without_returning(tx).await.map_err(db_error)?;
    Ok(version)
}

async fn move_head(
    tx: &DatabaseTransaction,
    read: &branch::Model,
    numbers: Became,
    named: bool,
) -> Result<(), ServiceError> {
    let sql = "UPDATE branch SET head_snapshot = $1, head_version = $2, revision = revision + 1 \
        WHERE dataset_id = $3 AND branch = $4 AND revision = $5";
    let values: [Value; 5] = [
        numbers.snapshot.into(),
        (if named { numbers.version } else { read.head_version }).into(),
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
    key: &Idempotency,
    committed: &Committed,
    expires_at: i64,
) -> Result<(), ServiceError> {
    let row = idempotency::ActiveModel {
        principal: Set(principal.uuid()),
        dataset_id: Set(committed.dataset.uuid()),
        key: Set(key.key.clone()),
        body_hash: Set(key.body_hash.clone()),
        version: Set(committed.version.as_ref().map_or(0, |version| version.number)),
        expires_at: Set(expires_at),
        snapshot: Set(committed.snapshot),
        affected_rows: Set(committed.affected_rows),
    };
    idempotency::Entity::insert(row).exec_without_returning(tx).await.map_err(db_error)?;
    Ok(())
}
