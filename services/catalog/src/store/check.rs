//! Every block that a snapshot uses, for whoever checks the files.

use sea_orm::{FromQueryResult, Statement};
use service_error::ServiceError;
use sql_store::db_error;
use uuid::Uuid;

use crate::model::StoredBlock;
use crate::store::Store;

#[derive(Debug, FromQueryResult)]
struct Row {
    id: Uuid,
    object_key: String,
    byte_count: i64,
    content_hash: Vec<u8>,
}

impl Store {
    /// Some blocks after one, by id, whichever dataset they are of.
    ///
    /// # Errors
    /// As [`db_error`].
    pub async fn stored_blocks(
        &self,
        after: Uuid,
        limit: u32,
    ) -> Result<Vec<StoredBlock>, ServiceError> {
        let sql = "SELECT b.id, b.object_key, b.byte_count, b.content_hash FROM block b \
            WHERE b.id > $1 AND EXISTS (SELECT 1 FROM block_use u WHERE u.block_id = b.id) \
            ORDER BY b.id LIMIT $2";
        let values = [after.into(), i64::from(limit).into()];
        let statement = Statement::from_sql_and_values(self.sql.backend(), sql, values);
        let rows = Row::find_by_statement(statement).all(self.read()).await.map_err(db_error)?;
        let block = |row: Row| StoredBlock {
            id: row.id,
            object_key: row.object_key,
            byte_count: row.byte_count,
            content_hash: row.content_hash,
        };
        Ok(rows.into_iter().map(block).collect())
    }
}
