//! Names by their trigrams, filled behind the scan: up to a watermark they are
//! in the index, what is newer is read one by one.

use sea_orm::{DatabaseTransaction, DbBackend};
use service_error::ServiceError;
use sql_store::{current_number, db_error, next_numbers};

use super::bulk;
use super::{Store, execute, get};

const WATERMARK: &str = "named";
const PAGE: i64 = 20_000;

impl Store {
    /// Up to which entry names are in the index.
    pub(super) async fn named_up_to(&self) -> Result<i64, ServiceError> {
        if self.has_trigrams { current_number(self.read(), WATERMARK).await } else { Ok(0) }
    }

    /// Puts the next names into the index; false when all are in it.
    ///
    /// # Errors
    /// The database's.
    pub async fn index_names(&self) -> Result<bool, ServiceError> {
        if !self.has_trigrams {
            return Ok(false);
        }
        let from = self.named_up_to().await?;
        let look = "SELECT MAX(id) AS id, COUNT(*) AS n FROM (SELECT id FROM entry WHERE id > $1 ORDER BY id LIMIT $2) page";
        let row = self.row(look, vec![from.into(), PAGE.into()]).await?;
        let Some(row) = row else { return Ok(false) };
        let Some(to) = get::<Option<i64>>(&row, "id")? else { return Ok(false) };
        let tx = self.sql.begin().await?;
        // Of two that fill it at once the second finds the watermark moved.
        let reached = next_numbers(&tx, WATERMARK, 0).await?;
        if reached != from {
            return Ok(true);
        }
        let step = u32::try_from(to - from)
            .map_err(|_| ServiceError::internal("a page of names is too long"))?;
        let sql = match self.backend() {
            DbBackend::Postgres => {
                "INSERT INTO entry_text (entry_id, name) SELECT id, name FROM entry WHERE id > $1 AND id <= $2
                 ON CONFLICT DO NOTHING"
            }
            _ => "INSERT INTO entry_text (rowid, name) SELECT id, name FROM entry WHERE id > $1 AND id <= $2",
        };
        execute(&tx, sql, vec![from.into(), to.into()]).await?;
        next_numbers(&tx, WATERMARK, step).await?;
        tx.commit().await.map_err(db_error)?;
        Ok(get::<i64>(&row, "n")? == PAGE)
    }

    /// Takes names out of the index, before their entries change or go.
    pub(super) async fn forget_names(
        &self,
        tx: &DatabaseTransaction,
        entries: &[i64],
    ) -> Result<(), ServiceError> {
        if !self.has_trigrams {
            return Ok(());
        }
        let (backend, up_to) = (self.backend(), current_number(tx, WATERMARK).await?);
        let sql = match backend {
            DbBackend::Postgres => {
                format!(
                    "DELETE FROM entry_text WHERE {} AND entry_id <= $2",
                    bulk::in_numbers(backend, "entry_id", 1)
                )
            }
            _ => format!(
                "INSERT INTO entry_text (entry_text, rowid, name)
                 SELECT 'delete', id, name FROM entry WHERE {} AND id <= $2",
                bulk::in_numbers(backend, "id", 1)
            ),
        };
        execute(tx, &sql, vec![bulk::numbers(backend, entries), up_to.into()]).await.map(drop)
    }

    /// Puts names that are below the watermark back into the index.
    pub(super) async fn learn_names(
        &self,
        tx: &DatabaseTransaction,
        entries: &[i64],
    ) -> Result<(), ServiceError> {
        if !self.has_trigrams {
            return Ok(());
        }
        let (backend, up_to) = (self.backend(), current_number(tx, WATERMARK).await?);
        let column = if backend == DbBackend::Postgres { "entry_id" } else { "rowid" };
        let sql = format!(
            "INSERT INTO entry_text ({column}, name) SELECT id, name FROM entry WHERE {} AND id <= $2",
            bulk::in_numbers(backend, "id", 1)
        );
        execute(tx, &sql, vec![bulk::numbers(backend, entries), up_to.into()]).await.map(drop)
    }
}
