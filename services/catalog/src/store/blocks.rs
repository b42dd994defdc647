//! Rows of blocks, and which of them a snapshot sees.

use std::collections::HashMap;

use ids::{BlockId, DatasetId, Id};
use sea_orm::{
    ColumnTrait, DatabaseTransaction, EntityTrait, FromQueryResult, QueryFilter, QueryOrder, Set,
    Statement, Value,
};
use service_error::ServiceError;
use sql_store::{db_error, is_unique_violation};
use uuid::Uuid;

use crate::model::{Block, BlockCursor, ColumnStats, MAIN_BRANCH, ManifestEntry};
use crate::store::Store;
use crate::store::entity::{block, block_column_stats, block_use};
use crate::store::rows::{stats_of, stats_row};

/// Rows of one INSERT: well below SQLite's 32,766 parameters.
const ROWS_PER_INSERT: usize = 1_000;

/// A use is seen from its begin until before its end.
const VISIBLE: &str = "u.dataset_id = $1 AND u.branch = $2 AND u.begin_snapshot <= $3 \
    AND (u.end_snapshot IS NULL OR u.end_snapshot > $3)";

/// Joins the deleted rows `x` of block `b` that are in force at a snapshot.
pub fn visible_deletion(snapshot: &str) -> String {
    format!(
        "LEFT JOIN block_deletion x ON x.block_id = b.id AND x.branch = u.branch AND x.snapshot = \
         (SELECT MAX(z.snapshot) FROM block_deletion z WHERE z.block_id = b.id AND z.branch = u.branch \
         AND z.snapshot <= {snapshot})"
    )
}

#[derive(Debug, FromQueryResult)]
struct EntryRow {
    begin_snapshot: i64,
    ordinal: i64,
    id: Uuid,
    object_key: String,
    row_count: i64,
    byte_count: i64,
    footer_length: i64,
    content_hash: Vec<u8>,
    deleted_count: Option<i64>,
    positions: Option<Vec<u8>>,
    revision: Option<i64>,
}

/// Which part of a snapshot's blocks to list.
#[derive(Debug, Clone, Copy)]
pub struct BlockRange {
    pub dataset: DatasetId,
    pub snapshot: i64,
    /// Only blocks that were added after this snapshot; 0: all.
    pub added_after: i64,
    pub cursor: Option<BlockCursor>,
    pub limit: u32,
}

impl Store {
    /// Blocks that a snapshot sees, in storage order, without statistics.
    ///
    /// # Errors
    /// As [`db_error`].
    pub async fn list_blocks(&self, range: BlockRange) -> Result<Vec<ManifestEntry>, ServiceError> {
        let cursor = match range.cursor {
            Some(cursor) => cursor,
            None => self.first_cursor(range).await?,
        };
        let sql = format!(
            "SELECT u.begin_snapshot, u.ordinal, b.id, b.object_key, b.row_count, b.byte_count, b.footer_length, \
             b.content_hash, x.row_count AS deleted_count, x.positions, x.snapshot AS revision \
             FROM block_use u JOIN block b ON b.id = u.block_id {} WHERE {VISIBLE} \
             AND (u.begin_snapshot, u.ordinal) > ($4, $5) ORDER BY u.begin_snapshot, u.ordinal LIMIT $6",
            visible_deletion("$3")
        );
        let mut values = visible_values(range);
        values.extend([
            cursor.snapshot_begin.into(),
            cursor.ordinal.into(),
            i64::from(range.limit).into(),
        ]);
        let statement = Statement::from_sql_and_values(self.sql.backend(), sql, values);
        let rows =
            EntryRow::find_by_statement(statement).all(self.read()).await.map_err(db_error)?;
        let mut row_begin = cursor.row_end;
        let entries = rows.into_iter().map(|row| {
            let entry = entry_of(row, row_begin);
            row_begin += entry.live_rows();
            entry
        });
        Ok(entries.collect())
    }

    /// The cursor before the first block, with the rows that come before it.
    async fn first_cursor(&self, range: BlockRange) -> Result<BlockCursor, ServiceError> {
        if range.added_after <= 0 {
            return Ok(BlockCursor { snapshot_begin: 0, ordinal: 0, row_end: 0 });
        }
        let sql = format!(
            "SELECT CAST(COALESCE(SUM(b.row_count - COALESCE(x.row_count, 0)), 0) AS BIGINT) AS rows_before \
             FROM block_use u JOIN block b ON b.id = u.block_id {} WHERE {VISIBLE} AND u.begin_snapshot <= $4",
            visible_deletion("$3")
        );
        let mut values = visible_values(range);
        values.push(range.added_after.into());
        let statement = Statement::from_sql_and_values(self.sql.backend(), sql, values);
        let row = sea_orm::ConnectionTrait::query_one_raw(self.read(), statement)
            .await
            .map_err(db_error)?;
        let row_end = row.map_or(Ok(0), |row| row.try_get("", "rows_before")).map_err(db_error)?;
        Ok(BlockCursor { snapshot_begin: range.added_after, ordinal: i64::MAX, row_end })
    }

    /// Adds their statistics to entries.
    ///
    /// # Errors
    /// As [`db_error`].
    pub async fn load_statistics(&self, entries: &mut [ManifestEntry]) -> Result<(), ServiceError> {
        let mut by_block: HashMap<BlockId, Vec<ColumnStats>> = HashMap::new();
        for chunk in entries.chunks(ROWS_PER_INSERT) {
            let rows = block_column_stats::Entity::find()
                .filter(
                    block_column_stats::Column::BlockId
                        .is_in(chunk.iter().map(|entry| entry.block.id.uuid())),
                )
                .order_by_asc(block_column_stats::Column::BlockId)
                .order_by_asc(block_column_stats::Column::Ordinal)
                .all(self.read())
                .await
                .map_err(db_error)?;
            for row in rows {
                by_block.entry(Id::from_uuid(row.block_id)).or_default().push(stats_of(row)?);
            }
        }
        for entry in entries {
            entry.block.columns = by_block.remove(&entry.block.id).unwrap_or_default();
        }
        Ok(())
    }
}

fn visible_values(range: BlockRange) -> Vec<Value> {
    vec![range.dataset.uuid().into(), MAIN_BRANCH.into(), range.snapshot.into()]
}

fn entry_of(row: EntryRow, row_begin: i64) -> ManifestEntry {
    ManifestEntry {
        block: Block {
            id: Id::from_uuid(row.id),
            object_key: row.object_key,
            row_count: row.row_count,
            byte_count: row.byte_count,
            footer_length: row.footer_length,
            content_hash: row.content_hash,
            columns: Vec::new(),
        },
        snapshot_begin: row.begin_snapshot,
        ordinal: row.ordinal,
        row_begin,
        deleted_count: row.deleted_count.unwrap_or(0),
        deletions: row.positions.unwrap_or_default(),
        deletion_revision: row.revision.unwrap_or(0),
    }
}

/// Writes blocks as seen from `snapshot` on.
pub async fn insert_blocks(
    tx: &DatabaseTransaction,
    dataset: DatasetId,
    upload: Uuid,
    snapshot: i64,
    blocks: &[Block],
) -> Result<(), ServiceError> {
    let taken = |error| match is_unique_violation(&error) {
        true => {
            ServiceError::invalid("blocks", "a block of this id or object key was committed before")
        }
        false => db_error(error),
    };
    for chunk in blocks.chunks(ROWS_PER_INSERT) {
        let rows = chunk.iter().map(|block| block::ActiveModel {
            id: Set(block.id.uuid()),
            dataset_id: Set(dataset.uuid()),
            upload_id: Set(upload),
            object_key: Set(block.object_key.clone()),
            row_count: Set(block.row_count),
            byte_count: Set(block.byte_count),
            footer_length: Set(block.footer_length),
            content_hash: Set(block.content_hash.clone()),
        });
        block::Entity::insert_many(rows).exec_without_returning(tx).await.map_err(taken)?;
    }
    let numbered: Vec<_> = (1_i64..).zip(blocks).collect();
    for chunk in numbered.chunks(ROWS_PER_INSERT) {
        let rows = chunk.iter().map(|(ordinal, block)| block_use::ActiveModel {
            dataset_id: Set(dataset.uuid()),
            branch: Set(MAIN_BRANCH),
            begin_snapshot: Set(snapshot),
            ordinal: Set(*ordinal),
            block_id: Set(block.id.uuid()),
            end_snapshot: Set(None),
        });
        block_use::Entity::insert_many(rows).exec_without_returning(tx).await.map_err(db_error)?;
    }
    insert_statistics(tx, blocks).await
}

async fn insert_statistics(tx: &DatabaseTransaction, blocks: &[Block]) -> Result<(), ServiceError> {
    let mut rows = Vec::with_capacity(ROWS_PER_INSERT);
    for block in blocks {
        for (ordinal, stats) in (0_i32..).zip(&block.columns) {
            rows.push(stats_row(block.id.uuid(), ordinal, stats));
            if rows.len() == ROWS_PER_INSERT {
                write_statistics(tx, std::mem::take(&mut rows)).await?;
            }
        }
    }
    write_statistics(tx, rows).await
}

async fn write_statistics(
    tx: &DatabaseTransaction,
    rows: Vec<block_column_stats::ActiveModel>,
) -> Result<(), ServiceError> {
    if rows.is_empty() {
        return Ok(());
    }
    block_column_stats::Entity::insert_many(rows)
        .exec_without_returning(tx)
        .await
        .map_err(db_error)?;
    Ok(())
}
