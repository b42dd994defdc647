//! The nearest points by Postgres itself, for when no index of ours may be in
//! memory.

use ann::Metric;
use sea_orm::{ConnectionTrait, DbBackend, Statement, TransactionTrait, Value};
use service_error::ServiceError;
use sql_store::db_error;
use uuid::Uuid;

use crate::model::Space;
use crate::store::dialect::{
    indexed_dimension_max, indexed_expression, indexed_parameter, operator, vector_value,
};
use crate::store::{Store, execute};

/// The widest walk that pgvector makes.
const EF_MAX: usize = 1_000;
/// Rows that a walk goes on to when a filter took the first ones.
const SCAN_ROWS_MAX: usize = 20_000;

/// The name of a space's HNSW index.
pub fn index_name(space: Uuid) -> String {
    format!("point_hnsw_{}", space.simple())
}

impl Store {
    /// Whether the database itself can order points by distance.
    #[must_use]
    pub fn orders_by_distance(&self) -> bool {
        self.backend() == DbBackend::Postgres
    }

    /// Makes an HNSW index of a space's rows, with the operator class of its metric. Whether
    /// there is one afterwards: not on SQLite, nor beyond pgvector's dimensions.
    ///
    /// # Errors
    /// The database's.
    pub async fn make_sql_index(&self, space: &Space) -> Result<bool, ServiceError> {
        let settings = &space.vectors;
        let element = settings.element();
        if !self.orders_by_distance() || settings.dimension() > indexed_dimension_max(element) {
            return Ok(false);
        }
        let (_, class) = operator(settings.metric(), element);
        let tx = self.sql.begin().await?;
        let sql = format!(
            "CREATE INDEX IF NOT EXISTS {} ON point USING hnsw ({} public.{class}) \
             WHERE space_id = '{}'",
            index_name(space.id),
            indexed_expression(settings),
            space.id
        );
        // The space before its points, as whoever writes takes them: else each waits for the other.
        let note = "UPDATE space SET sql_indexed = $1 WHERE id = $2";
        execute(&tx, note, vec![true.into(), space.id.into()]).await?;
        tx.execute_unprepared(&sql).await.map_err(db_error)?;
        tx.commit().await.map_err(db_error)?;
        Ok(true)
    }

    /// The numbers of the `k` nearest by Postgres, and whether that was exact. The planner may
    /// take the HNSW index unless `exact` is asked for; a walk that ends before it has found as
    /// many as there are is not taken for an answer.
    ///
    /// # Errors
    /// The database's.
    pub async fn nearest(
        &self,
        space: &Space,
        stored: &[u8],
        k: usize,
        exact: bool,
    ) -> Result<(Vec<u32>, bool), ServiceError> {
        let exact = exact || !space.sql_indexed || is_of_emptiness(space, stored);
        let numbers = self.nearest_by(space, stored, k, exact).await?;
        let points = usize::try_from(space.points).unwrap_or(0);
        if !exact && numbers.len() < k.min(points) {
            return Ok((self.nearest_by(space, stored, k, true).await?, true));
        }
        Ok((numbers, exact))
    }

    async fn nearest_by(
        &self,
        space: &Space,
        stored: &[u8],
        k: usize,
        exact: bool,
    ) -> Result<Vec<u32>, ServiceError> {
        let tx = self.read().begin().await.map_err(db_error)?;
        for setting in nearest_settings(k, exact) {
            tx.execute_unprepared(&setting).await.map_err(db_error)?;
        }
        let limit: Value = i64::try_from(k).unwrap_or(i64::MAX).into();
        let (sql, values) = if is_of_emptiness(space, stored) {
            (emptiest_sql(space), vec![limit])
        } else {
            let query = vector_value(DbBackend::Postgres, &space.vectors, stored);
            (nearest_sql(space, exact), vec![query, limit])
        };
        let statement = Statement::from_sql_and_values(DbBackend::Postgres, sql, values);
        let found = tx.query_all_raw(statement).await.map_err(db_error)?;
        tx.commit().await.map_err(db_error)?;
        let number = |row: &sea_orm::QueryResult| {
            let number: i64 = row.try_get("", "number").map_err(db_error)?;
            Ok(u32::try_from(number).unwrap_or(0))
        };
        found.iter().map(number).collect()
    }

    /// How Postgres would find the nearest, in its own words.
    ///
    /// # Errors
    /// The database's.
    #[cfg(test)]
    pub async fn nearest_plan(&self, space: &Space, stored: &[u8]) -> Result<String, ServiceError> {
        let tx = self.read().begin().await.map_err(db_error)?;
        for other in ["enable_seqscan", "enable_sort"] {
            tx.execute_unprepared(&format!("SET LOCAL {other} = off")).await.map_err(db_error)?;
        }
        let Value::String(Some(text)) = vector_value(DbBackend::Postgres, &space.vectors, stored)
        else {
            return Ok(String::new());
        };
        let sql = nearest_sql(space, false).replace("$1", &format!("'{text}'")).replace("$2", "10");
        let statement = Statement::from_string(DbBackend::Postgres, format!("EXPLAIN {sql}"));
        let found = tx.query_all_raw(statement).await.map_err(db_error)?;
        let lines: Result<Vec<String>, _> =
            found.iter().map(|row| row.try_get("", "QUERY PLAN")).collect();
        Ok(lines.map_err(db_error)?.join("\n"))
    }
}

/// Settings of the one transaction that searches.
fn nearest_settings(k: usize, exact: bool) -> Vec<String> {
    if exact {
        return vec!["SET LOCAL enable_indexscan = off".to_owned()];
    }
    vec![
        "SET LOCAL hnsw.iterative_scan = strict_order".to_owned(),
        format!("SET LOCAL hnsw.ef_search = {}", (4 * k).clamp(100, EF_MAX)),
        format!("SET LOCAL hnsw.max_scan_tuples = {}", SCAN_ROWS_MAX.max(10 * k)),
    ]
}

/// Whether a query has no bits under Jaccard: equal to what has none, and as far as can be from
/// everything else. pgvector calls two empty ones far too.
fn is_of_emptiness(space: &Space, stored: &[u8]) -> bool {
    space.vectors.metric() == Metric::Jaccard && stored.iter().all(|byte| *byte == 0)
}

/// The nearest to nothing.
fn emptiest_sql(space: &Space) -> String {
    format!(
        "SELECT number FROM point WHERE space_id = '{}' \
         ORDER BY (bit_count({}) > 0), item_id LIMIT $1",
        space.id,
        indexed_expression(&space.vectors)
    )
}

/// The space's id stands in the text, so that the planner sees the partial index.
fn nearest_sql(space: &Space, exact: bool) -> String {
    let (operator, _) = operator(space.vectors.metric(), space.vectors.element());
    let (column, query) =
        (indexed_expression(&space.vectors), indexed_parameter(&space.vectors, 1));
    // Ties beyond the k-th are decided by item, which an index scan does not know.
    let tie = if exact { ", item_id" } else { "" };
    format!(
        "SELECT number FROM point WHERE space_id = '{}' \
         ORDER BY {column} OPERATOR(public.{operator}) {query}{tie} LIMIT $2",
        space.id
    )
}
