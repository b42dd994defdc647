//! Points page by page, as they all were at one moment.

use sea_orm::{
    AccessMode, DatabaseTransaction, DbBackend, IsolationLevel, TransactionOptions,
    TransactionTrait,
};
use service_error::ServiceError;
use space_index::Point;
use sql_store::db_error;
use tokio::sync::SemaphorePermit;

use crate::model::Space;
use crate::store::rows;
use crate::store::{Store, rows as select};

/// The points of a space by their numbers, in pages of one moment: a point that is replaced takes
/// a greater number, and separate reads would meet it twice. Its transaction ends when it is
/// dropped; while there is one, nothing else is to be read for the same answer.
#[derive(Debug)]
pub struct Pages<'a> {
    store: &'a Store,
    space: &'a Space,
    tx: DatabaseTransaction,
    limit: u32,
    after: u32,
    is_over: bool,
    _turn: SemaphorePermit<'a>,
}

impl Store {
    /// Begins to read all points of a space, `limit` at once.
    ///
    /// # Errors
    /// The database's.
    pub async fn pages<'a>(
        &'a self,
        space: &'a Space,
        limit: u32,
    ) -> Result<Pages<'a>, ServiceError> {
        let turn = self.page_turns.acquire().await;
        let turn = turn.map_err(|_| ServiceError::unavailable("the database is being closed"))?;
        // SQLite's readers see one moment in any transaction, and know no other isolation.
        let is_postgres = self.backend() == DbBackend::Postgres;
        let options = TransactionOptions {
            isolation_level: is_postgres.then_some(IsolationLevel::RepeatableRead),
            access_mode: is_postgres.then_some(AccessMode::ReadOnly),
            ..TransactionOptions::default()
        };
        let tx = self.read().begin_with_options(options).await.map_err(db_error)?;
        Ok(Pages { store: self, space, tx, limit, after: 0, is_over: false, _turn: turn })
    }
}

impl Pages<'_> {
    /// The next points, by number; nothing after the last ones.
    ///
    /// # Errors
    /// The database's.
    pub async fn next(&mut self) -> Result<Option<Vec<Point>>, ServiceError> {
        if self.is_over {
            return Ok(None);
        }
        let columns = self.store.point_columns(&self.space.vectors);
        let sql = format!(
            "SELECT {columns} FROM point WHERE space_id = $1 AND number > $2 ORDER BY number LIMIT $3"
        );
        let (after, limit) = (i64::from(self.after), i64::from(self.limit));
        let found =
            select(&self.tx, sql, vec![self.space.id.into(), after.into(), limit.into()]).await?;
        self.is_over = found.len() < self.limit as usize;
        let backend = self.store.backend();
        let points = found.iter().map(|row| rows::point(backend, &self.space.vectors, row));
        let points = points.collect::<Result<Vec<Point>, _>>()?;
        let Some(last) = points.last() else { return Ok(None) };
        self.after = last.number;
        Ok(Some(points))
    }
}
