//! The sequence of a space's changes, for the indexes that follow it.

use std::collections::HashMap;

use sea_orm::QueryResult;
use service_error::ServiceError;
use space_index::Change;
use sql_store::{db_error, now_micros};
use uuid::Uuid;

use crate::model::Space;
use crate::store::dialect::{is_in_ids, text_list, vector_bytes};
use crate::store::rows::{self, damaged};
use crate::store::{Store, execute};

impl Store {
    /// Up to `limit` changes after one, in order, each with the point that is there now.
    ///
    /// # Errors
    /// The database's.
    pub async fn changes_after(
        &self,
        space: &Space,
        after: i64,
        limit: u32,
    ) -> Result<Vec<Change>, ServiceError> {
        let vector = vector_bytes(self.backend(), space.vectors.element(), "p.");
        let sql = format!(
            "SELECT c.seq AS seq, c.removed AS removed, p.item_id AS item_id, p.number AS number, \
             p.payload AS payload, {vector} FROM point_change c \
             LEFT JOIN point p ON p.space_id = c.space_id AND p.number = c.number \
             WHERE c.space_id = $1 AND c.seq > $2 ORDER BY c.seq LIMIT $3"
        );
        let values = vec![space.id.into(), after.into(), i64::from(limit).into()];
        let found = self.rows(sql, values).await?;
        found.iter().map(|row| self.change(space, row)).collect()
    }

    fn change(&self, space: &Space, row: &QueryResult) -> Result<Change, ServiceError> {
        let removed: i64 = row.try_get("", "removed").map_err(db_error)?;
        let removed = u32::try_from(removed).map_err(|_| damaged("a change"))?;
        let item: Option<String> = row.try_get("", "item_id").map_err(db_error)?;
        let point = item.map(|_| rows::point(self.backend(), &space.vectors, row)).transpose()?;
        let seq = row.try_get("", "seq").map_err(db_error)?;
        Ok(Change { seq, removed: (removed > 0).then_some(removed), point })
    }

    /// The newest change of a space that is there.
    ///
    /// # Errors
    /// `NotFound` for a space that was deleted.
    pub async fn newest(&self, space: &Space) -> Result<i64, ServiceError> {
        let newest = self.newest_of(&[space.id]).await?;
        newest.get(&space.id).copied().ok_or_else(|| ServiceError::not_found("space", &space.name))
    }

    /// The newest changes of these spaces, of those that are still there.
    ///
    /// # Errors
    /// The database's.
    pub async fn newest_of(&self, spaces: &[Uuid]) -> Result<HashMap<Uuid, i64>, ServiceError> {
        let condition = is_in_ids(self.backend(), "id", 1);
        let sql =
            format!("SELECT id, last_seq FROM space WHERE {condition} AND deleted_at IS NULL");
        let found = self.rows(sql, vec![text_list(spaces.iter().map(Uuid::to_string))]).await?;
        let read = |row: &QueryResult| Ok((row.try_get("", "id")?, row.try_get("", "last_seq")?));
        found.iter().map(read).collect::<Result<_, sea_orm::DbErr>>().map_err(db_error)
    }

    /// Forgets changes of a certain age, unless a snapshot still needs them; up to `limit`.
    ///
    /// # Errors
    /// The database's.
    pub async fn forget_changes(&self, age_micros: i64, limit: u32) -> Result<u64, ServiceError> {
        let before = now_micros() - age_micros;
        // A space without a snapshot is read whole when its changes are gone: it is small.
        let sql = "DELETE FROM point_change WHERE (space_id, seq) IN (\
            SELECT c.space_id, c.seq FROM point_change c JOIN space s ON s.id = c.space_id \
            WHERE c.at < $1 AND (s.snapshot_seq = 0 OR c.seq <= s.snapshot_seq) LIMIT $2)";
        let tx = self.sql.begin().await?;
        let values = vec![before.into(), i64::from(limit).into()];
        let gone = execute(&tx, sql, values).await?.rows_affected();
        tx.commit().await.map_err(db_error)?;
        Ok(gone)
    }
}
