//! What a commit does to the blocks that are there: rows deleted, blocks taken
//! out, earlier ones seen again. All inside the commit's transaction.

use std::collections::HashMap;

use ids::{BlockId, DatasetId, Id};
use sea_orm::{
    ConnectionTrait, DatabaseTransaction, EntityTrait, FromQueryResult, Set, Statement, Value,
};
use service_error::ServiceError;
use sql_store::db_error;
use uuid::Uuid;

use crate::model::deletion::{count, read_positions, touched, write_positions};
use crate::model::{BlockNow, CommitPlan, MAIN_BRANCH, Totals};
use crate::store::blocks::visible_deletion;
use crate::store::dialect::{id_list, is_in_list};
use crate::store::entity::block_deletion;

/// Rows of one INSERT.
const ROWS_PER_INSERT: usize = 1_000;

#[derive(Debug, FromQueryResult)]
struct NowRow {
    id: Uuid,
    row_count: i64,
    byte_count: i64,
    revision: Option<i64>,
    positions: Option<Vec<u8>>,
}

/// What a commit makes of the blocks it touches; computed before it writes.
#[derive(Debug, Default)]
pub struct Touched {
    /// (block, its deleted rows from now on).
    deleted: Vec<(BlockNow, roaring::RoaringBitmap)>,
    /// Blocks that are seen no more: removed, or without a live row.
    ended: Vec<BlockId>,
    /// What goes off the totals.
    less: Totals,
}

impl Touched {
    /// The head's totals without what the commit takes away.
    pub const fn off(&self, head: Totals) -> Totals {
        Totals {
            rows: head.rows - self.less.rows,
            bytes: head.bytes - self.less.bytes,
            blocks: head.blocks - self.less.blocks,
        }
    }
}

/// Compares the blocks that a commit names with the head's.
///
/// # Errors
/// `Conflict` with reason `BLOCK_TOUCHED`; positions that do not fit.
pub async fn touch(
    tx: &DatabaseTransaction,
    plan: &CommitPlan,
    dataset: DatasetId,
    head: i64,
) -> Result<Touched, ServiceError> {
    let mut made = Touched::default();
    if plan.deletions.is_empty() && plan.removals.is_empty() {
        return Ok(made);
    }
    let deletions = plan.deletions.iter().map(|deletion| deletion.block);
    let named: Vec<BlockId> =
        deletions.chain(plan.removals.iter().map(|removal| removal.block)).collect();
    let mut now = blocks_now(tx, dataset, head, &named).await?;
    for deletion in &plan.deletions {
        let block = now.remove(&deletion.block).ok_or_else(|| touched(deletion.block))?;
        let after = block.after(deletion)?;
        made.less.rows += count(&deletion.positions);
        if count(&after) == block.row_count {
            made.less.bytes += block.byte_count;
            made.less.blocks += 1;
            made.ended.push(block.block);
        } else {
            made.deleted.push((block, after));
        }
    }
    for removal in &plan.removals {
        let block = now.remove(&removal.block).ok_or_else(|| touched(removal.block))?;
        block.is_as_read(removal.revision)?;
        made.less.rows += block.live_rows();
        made.less.bytes += block.byte_count;
        made.less.blocks += 1;
        made.ended.push(block.block);
    }
    Ok(made)
}

async fn blocks_now(
    tx: &DatabaseTransaction,
    dataset: DatasetId,
    head: i64,
    named: &[BlockId],
) -> Result<HashMap<BlockId, BlockNow>, ServiceError> {
    let backend = tx.get_database_backend();
    let sql = format!(
        "SELECT b.id, b.row_count, b.byte_count, x.snapshot AS revision, x.positions \
         FROM block_use u JOIN block b ON b.id = u.block_id {} \
         WHERE u.dataset_id = $1 AND u.branch = $2 AND u.end_snapshot IS NULL AND {}",
        visible_deletion("$3"),
        is_in_list(backend, "u.block_id", 4)
    );
    let values: [Value; 4] = [
        dataset.uuid().into(),
        MAIN_BRANCH.into(),
        head.into(),
        id_list(named.iter().map(|id| id.uuid())),
    ];
    let statement = Statement::from_sql_and_values(backend, sql, values);
    let rows = NowRow::find_by_statement(statement).all(tx).await.map_err(db_error)?;
    let mut found = HashMap::with_capacity(rows.len());
    for row in rows {
        let block = Id::from_uuid(row.id);
        let deleted = match row.positions.filter(|bytes| !bytes.is_empty()) {
            None => roaring::RoaringBitmap::new(),
            Some(bytes) => read_positions(&bytes).map_err(|error| {
                ServiceError::data_loss(format!("deleted rows of block {block}: {error}"))
            })?,
        };
        let now = BlockNow {
            block,
            row_count: row.row_count,
            byte_count: row.byte_count,
            revision: row.revision.unwrap_or(0),
            deleted,
        };
        found.insert(block, now);
    }
    Ok(found)
}

/// Writes what [`touch`] computed, as of `snapshot`.
pub async fn write_touched(
    tx: &DatabaseTransaction,
    made: &Touched,
    dataset: DatasetId,
    snapshot: i64,
) -> Result<(), ServiceError> {
    for chunk in made.deleted.chunks(ROWS_PER_INSERT) {
        let rows = chunk.iter().map(|(block, deleted)| block_deletion::ActiveModel {
            block_id: Set(block.block.uuid()),
            branch: Set(MAIN_BRANCH),
            snapshot: Set(snapshot),
            dataset_id: Set(dataset.uuid()),
            row_count: Set(count(deleted)),
            positions: Set(write_positions(deleted)),
        });
        block_deletion::Entity::insert_many(rows)
            .exec_without_returning(tx)
            .await
            .map_err(db_error)?;
    }
    if made.ended.is_empty() {
        return Ok(());
    }
    let backend = tx.get_database_backend();
    let sql = format!(
        "UPDATE block_use SET end_snapshot = $1 WHERE dataset_id = $2 AND branch = $3 \
         AND end_snapshot IS NULL AND {}",
        is_in_list(backend, "block_id", 4)
    );
    let values: [Value; 4] = [
        snapshot.into(),
        dataset.uuid().into(),
        MAIN_BRANCH.into(),
        id_list(made.ended.iter().map(|id| id.uuid())),
    ];
    let end = Statement::from_sql_and_values(backend, sql, values);
    tx.execute_raw(end).await.map_err(db_error)?;
    Ok(())
}

/// Sees again, from `snapshot` on, the blocks and the deleted rows of `earlier`.
/// All uses were ended before.
pub async fn see_again(
    tx: &DatabaseTransaction,
    dataset: DatasetId,
    earlier: i64,
    snapshot: i64,
) -> Result<(), ServiceError> {
    let values: [Value; 4] =
        [dataset.uuid().into(), MAIN_BRANCH.into(), earlier.into(), snapshot.into()];
    let seen = "u.dataset_id = $1 AND u.branch = $2 AND u.begin_snapshot <= $3 \
        AND (u.end_snapshot IS NULL OR u.end_snapshot > $3)";
    let uses = format!(
        "INSERT INTO block_use (dataset_id, branch, begin_snapshot, ordinal, block_id, end_snapshot) \
         SELECT u.dataset_id, u.branch, $4, ROW_NUMBER() OVER (ORDER BY u.begin_snapshot, u.ordinal), \
         u.block_id, NULL FROM block_use u WHERE {seen}"
    );
    // A block without deleted rows then may have some now: that is said too.
    let deletions = format!(
        "INSERT INTO block_deletion (block_id, branch, snapshot, dataset_id, row_count, positions) \
         SELECT u.block_id, u.branch, $4, u.dataset_id, COALESCE(x.row_count, 0), COALESCE(x.positions, {}) \
         FROM block_use u JOIN block b ON b.id = u.block_id {} WHERE {seen} \
         AND EXISTS (SELECT 1 FROM block_deletion y WHERE y.block_id = u.block_id AND y.branch = u.branch)",
        empty_bytes(tx),
        visible_deletion("$3")
    );
    for sql in [deletions, uses] {
        let insert = Statement::from_sql_and_values(tx.get_database_backend(), sql, values.clone());
        tx.execute_raw(insert).await.map_err(db_error)?;
    }
    Ok(())
}

fn empty_bytes(tx: &DatabaseTransaction) -> &'static str {
    match tx.get_database_backend() {
        sea_orm::DbBackend::Postgres => "''::bytea",
        _ => "x''",
    }
}
