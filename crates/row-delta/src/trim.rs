//! What may be forgotten: changes that the blocks have held for longer than any
//! snapshot is read, edits that are old, datasets that are gone.

use sea_orm::{ConnectionTrait, FromQueryResult, Statement, Value};
use service_error::ServiceError;
use sql_store::{db_error, now_micros};
use uuid::Uuid;

use crate::log::place_values;
use crate::{Place, RowDelta};

/// Branches that one pass trims.
const PLACES_PER_PASS: i64 = 200;

#[derive(Debug, FromQueryResult)]
struct OldMark {
    dataset_id: Uuid,
    branch: i32,
    watermark: i64,
}

impl RowDelta {
    /// Deletes changes that were absorbed before a time. Answers how many.
    ///
    /// # Errors
    /// As the database fails.
    pub async fn trim(&self, absorbed_before: i64) -> Result<u64, ServiceError> {
        let sql = "SELECT dataset_id, branch, MAX(watermark) AS watermark FROM delta_mark \
            WHERE absorbed_at < $1 GROUP BY dataset_id, branch LIMIT $2";
        let values: [Value; 2] = [absorbed_before.into(), PLACES_PER_PASS.into()];
        let statement = Statement::from_sql_and_values(self.sql.backend(), sql, values);
        let marks =
            OldMark::find_by_statement(statement).all(self.sql.read()).await.map_err(db_error)?;
        let mut trimmed = 0;
        for mark in marks {
            let place = Place { dataset: mark.dataset_id, branch: mark.branch };
            trimmed += self.trim_to(place, mark.watermark).await?;
        }
        Ok(trimmed)
    }

    async fn trim_to(&self, place: Place, watermark: i64) -> Result<u64, ServiceError> {
        let tx = self.sql.begin().await?;
        let backend = tx.get_database_backend();
        let mut trimmed = 0;
        for sql in [
            // First what tells a reader, then the rows.
            "UPDATE delta_head SET trimmed = $3 WHERE dataset_id = $1 AND branch = $2 AND trimmed < $3",
            "DELETE FROM delta_mark WHERE dataset_id = $1 AND branch = $2 AND watermark <= $3",
            "DELETE FROM delta_image WHERE dataset_id = $1 AND branch = $2 AND seq <= $3",
            "DELETE FROM delta_row WHERE dataset_id = $1 AND branch = $2 AND seq <= $3",
        ] {
            let mut values = place_values(place);
            values.push(watermark.into());
            let statement = Statement::from_sql_and_values(backend, sql, values);
            trimmed = tx.execute_raw(statement).await.map_err(db_error)?.rows_affected();
        }
        tx.commit().await.map_err(db_error)?;
        Ok(trimmed)
    }

    /// Forgets edits whose time is over.
    ///
    /// # Errors
    /// As the database fails.
    pub async fn forget_edits(&self) -> Result<u64, ServiceError> {
        let tx = self.sql.begin().await?;
        let statement = Statement::from_sql_and_values(
            tx.get_database_backend(),
            "DELETE FROM delta_edit WHERE expires_at < $1",
            [now_micros().into()],
        );
        let forgotten = tx.execute_raw(statement).await.map_err(db_error)?.rows_affected();
        tx.commit().await.map_err(db_error)?;
        Ok(forgotten)
    }

    /// Forgets everything of a dataset that is gone.
    ///
    /// # Errors
    /// As the database fails.
    pub async fn purge(&self, dataset: Uuid) -> Result<(), ServiceError> {
        let tx = self.sql.begin().await?;
        for table in ["delta_row", "delta_image", "delta_mark", "delta_edit", "delta_head"] {
            let statement = Statement::from_sql_and_values(
                tx.get_database_backend(),
                format!("DELETE FROM {table} WHERE dataset_id = $1"),
                [dataset.into()],
            );
            tx.execute_raw(statement).await.map_err(db_error)?;
        }
        tx.commit().await.map_err(db_error)
    }
}
