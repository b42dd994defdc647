//! What a job does with points that are there: their dataset's columns as it is, and an end
//! to those whose items are gone.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use arrow::array::RecordBatch;
use futures::TryStreamExt;
use jobs::{Interrupt, Work};
use payload_index::Payload;
use service_error::ServiceError;
use vector_rows::{Columns, item_ids};

use crate::app::App;
use crate::app::load::{Arguments, Loaded};
use crate::model::{BATCH_POINTS_MAX, DELETE_ITEMS_MAX, Space};

/// Item ids of points that are in memory at once, while they are looked for in the dataset.
const LOOKED_FOR: usize = 1_000_000;
/// Of them, so many are read at once.
const ITEMS: u32 = 10_000;

impl App {
    /// Gives points the columns of a batch's rows. Rows without a point are passed over.
    pub(super) async fn write_columns(
        &self,
        space: &Arc<Space>,
        batch: RecordBatch,
        arguments: &Arguments,
        (work, loaded): (&Work, &mut Loaded),
    ) -> Result<(), Interrupt> {
        let (id, named) = (&arguments.id_column, &arguments.payload_columns);
        let (columns, _) = Columns::of_payload(batch.schema_ref(), id, named)
            .map_err(|error| ServiceError::invalid("payload_columns", error))?;
        let names = columns.payload();
        let rows = super::blocking(move || columns.payload_rows(&batch))
            .await?
            .map_err(|error| ServiceError::data_loss(error.to_string()))?;
        let mut rows = rows.into_iter().peekable();
        while rows.peek().is_some() {
            // Of one id the last row, as if they had been written one by one.
            let mut given: HashMap<String, Payload> = HashMap::new();
            for row in rows.by_ref().take(BATCH_POINTS_MAX) {
                match row.payload {
                    Ok(payload) if !row.item_id.is_empty() => {
                        given.insert(row.item_id, payload);
                    }
                    Ok(_) => loaded.fail(work, "", "a row without an id"),
                    Err(message) => loaded.fail(work, &row.item_id, &message),
                }
            }
            let set = self.store.set_columns(space, &given, &names).await?;
            self.applied(space, set.written.seq).await;
            for (item, message) in &set.failed {
                loaded.fail(work, item, message);
            }
            let same = set.found - set.written.changed - set.failed.len() as u64;
            loaded.unchanged += i64::try_from(same).unwrap_or(i64::MAX);
            loaded.without_point += i64::try_from(given.len() as u64 - set.found).unwrap_or(0);
            if work.is_stopping() {
                return Err(Interrupt::Stopped);
            }
        }
        Ok(())
    }

    /// Deletes the points of items that the dataset does not have. Points are read before the
    /// dataset is asked, so one that was written for an item that was there stays.
    pub(super) async fn delete_missing(
        &self,
        work: &Work,
        space: &Arc<Space>,
        arguments: &Arguments,
        loaded: &mut Loaded,
    ) -> Result<(), Interrupt> {
        work.phase("deleting points of missing items", "points");
        let mut after = String::new();
        loop {
            let (mut left, is_last) = self.items_of_points(space, &mut after).await?;
            if !left.is_empty() {
                self.without_items(work, arguments, &mut left).await?;
            }
            let left: Vec<String> = left.into_iter().collect();
            for some in left.chunks(DELETE_ITEMS_MAX) {
                let written = self.store.delete_points(space, some).await?;
                self.applied(space, written.seq).await;
                loaded.deleted += i64::try_from(written.changed).unwrap_or(i64::MAX);
                work.step(&*loaded).await?;
            }
            if is_last {
                return Ok(());
            }
        }
    }

    /// The next item ids that have points, and whether they are the last.
    async fn items_of_points(
        &self,
        space: &Space,
        after: &mut String,
    ) -> Result<(HashSet<String>, bool), ServiceError> {
        let mut items = HashSet::new();
        while items.len() < LOOKED_FOR {
            let some = self.store.items_after(space, after, ITEMS).await?;
            let is_last = some.len() < ITEMS as usize;
            if let Some(last) = some.last() {
                after.clone_from(last);
            }
            items.extend(some);
            if is_last {
                return Ok((items, true));
            }
        }
        Ok((items, false))
    }

    /// Takes out what the dataset has.
    async fn without_items(
        &self,
        work: &Work,
        arguments: &Arguments,
        left: &mut HashSet<String>,
    ) -> Result<(), Interrupt> {
        let columns = std::slice::from_ref(&arguments.id_column);
        let name = arguments.source();
        let source = self.items.find(&name, arguments.version, columns).await?;
        for ticket in source.tickets {
            let mut batches = std::pin::pin!(self.items.rows(ticket).await?);
            while let Some(batch) = batches.try_next().await? {
                let ids = item_ids(&batch, &arguments.id_column)
                    .map_err(|error| ServiceError::data_loss(error.to_string()))?;
                for id in ids.into_iter().flatten() {
                    left.remove(&id);
                }
                if work.is_stopping() {
                    return Err(Interrupt::Stopped);
                }
            }
        }
        Ok(())
    }
}
