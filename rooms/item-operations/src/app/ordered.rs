//! Rows in an order of the caller's, as a stream in bounded memory.
//!
//! A few first rows are found by their places and then fetched; more are sorted, and what does
//! not fit in memory is spilled. Rows that the order does not tell apart come by their key.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use blocks::{OrderBy, Ordering, Position, conform};
use caller::Caller;
use filter::Filter;
use futures::{StreamExt, TryStreamExt, future, stream};
use service_error::ServiceError;
use sql_engine::{SortBy, Sorted, Table, TableName};

use crate::app::App;
use crate::app::looking::Look;
use crate::app::reading::Opened;
use crate::app::sql_snapshot::SqlSnapshot;
use crate::app::watched::Batches;

/// So many rows are found by their places.
const FOUND_MAX: u64 = 10_000;
/// So many first rows are kept in memory while all pass by; more are sorted as a whole.
const FIRST_MAX: u64 = 100_000;
/// Rows that are fetched at once.
const FETCHED_ROWS: usize = 1_000;

/// What to order, and how.
pub struct OrderedRead {
    pub filter: Option<Arc<Filter>>,
    /// The columns to answer.
    pub schema: SchemaRef,
    pub order: Vec<OrderBy>,
    pub limit: Option<u64>,
}

impl App {
    /// The passing rows of an opened dataset in an order.
    pub async fn ordered(
        &self,
        caller: &Caller,
        opened: &Opened,
        mut read: OrderedRead,
    ) -> Result<Batches, ServiceError> {
        OrderBy::check(&read.order, &opened.schema)?;
        let is_told_apart = read.order.iter().any(|by| by.column == opened.key);
        if !opened.key.is_empty() && !is_told_apart {
            read.order.push(OrderBy { column: opened.key.clone(), descending: false });
        }
        match read.limit {
            Some(limit) if limit <= FOUND_MAX => self.found(caller, opened, read, limit).await,
            _ => self.sorted(caller, opened, read).await,
        }
    }

    async fn found(
        &self,
        caller: &Caller,
        opened: &Opened,
        read: OrderedRead,
        limit: u64,
    ) -> Result<Batches, ServiceError> {
        let look = self.look(caller, opened, read.filter, &Arc::default()).await?;
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let ordering = Ordering { by: read.order, after: None, back: false, limit };
        let rows = match limit {
            0 => Vec::new(),
            _ => self.reader.ordered(look.blocks(), &look.reading, ordering, look.prune()).await?,
        };
        let rows: Vec<Position> = rows.into_iter().map(|row| row.position).collect();
        let (app, schema) = (self.clone(), read.schema);
        let batches = stream::try_unfold((look, rows, 0), move |(look, rows, begin)| {
            let (app, schema) = (app.clone(), Arc::clone(&schema));
            async move {
                let end = rows.len().min(begin + FETCHED_ROWS);
                if begin == end {
                    return Ok(None);
                }
                let batch = app.fitting(&look, &rows[begin..end], &schema).await?;
                let next = begin + batch.num_rows();
                Ok::<_, ServiceError>(Some((batch, (look, rows, next))))
            }
        });
        Ok(batches.boxed())
    }

    /// The first of these rows that fit in memory; one at least.
    async fn fitting(
        &self,
        look: &Look,
        rows: &[Position],
        schema: &SchemaRef,
    ) -> Result<RecordBatch, ServiceError> {
        let mut count = rows.len();
        loop {
            let batch = self.rows_in_any_order(look, &rows[..count], schema).await?;
            if batch.num_rows() == count {
                return Ok(batch);
            }
            if count == 1 {
                return Err(ServiceError::internal("a row that was found is not there"));
            }
            count = batch.num_rows().min(count / 2).max(1);
        }
    }

    async fn sorted(
        &self,
        caller: &Caller,
        opened: &Opened,
        read: OrderedRead,
    ) -> Result<Batches, ServiceError> {
        let view = self.view(caller, opened).await?;
        let snapshot = SqlSnapshot::new(self.reader.clone(), view, opened);
        let name = TableName {
            namespace: opened.address.namespace.clone(),
            dataset: opened.address.dataset.clone(),
            version: String::new(),
        };
        let table = Table::new(name, Arc::clone(&opened.schema), Arc::new(snapshot));
        let by = |by: OrderBy| SortBy { column: by.column, descending: by.descending };
        let first = read.limit.filter(|limit| *limit <= FIRST_MAX);
        let sorted = Sorted {
            columns: read.schema.fields().iter().map(|field| field.name().clone()).collect(),
            by: read.order.into_iter().map(by).collect(),
            limit: first.and_then(|limit| usize::try_from(limit).ok()),
        };
        let planned = self.sql.plan_sorted(table.filtered(read.filter), &sorted).await?;
        let (schema, asker) = (read.schema, caller.principal.uuid().as_u128());
        let batches = self.sql.run(planned, asker)?.batches.and_then(move |batch| {
            future::ready(conform(&batch, &schema).map_err(|error| {
                ServiceError::internal(format!("the rows are not what was announced: {error}"))
            }))
        });
        Ok(first_rows(batches.boxed(), read.limit))
    }
}

/// At most so many rows; what comes after them is not asked for.
fn first_rows(batches: Batches, limit: Option<u64>) -> Batches {
    let Some(limit) = limit else { return batches };
    let left = usize::try_from(limit).unwrap_or(usize::MAX);
    stream::try_unfold((batches, left), |(mut batches, left)| async move {
        if left == 0 {
            return Ok(None);
        }
        let Some(batch) = batches.try_next().await? else { return Ok(None) };
        let batch = batch.slice(0, batch.num_rows().min(left));
        let left = left - batch.num_rows();
        Ok::<_, ServiceError>(Some((batch, (batches, left))))
    })
    .boxed()
}
