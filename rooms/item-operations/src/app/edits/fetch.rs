//! Whole rows by their keys, wherever they are.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch};
use arrow::compute::{concat, interleave_record_batch};
use arrow::datatypes::SchemaRef;
use blocks::{Position, Reading};
use caller::Caller;
use catalog_api::v1::Column;
use cells::{columns_of, items_of, revision_of};
use filter::Filter;
use items_api::v1::{FoundItem, Item};
use row_delta::key_bytes;
use service_error::ServiceError;

use super::App;
use crate::app::items::RowsRequest;
use crate::app::reading::Opened;
use crate::app::view::View;

const GET: &str = "quarry.items.v1.EditsService/BatchGetItems";
const KEYS_MAX: usize = 1_000;

/// Rows that were found by key.
#[derive(Debug)]
pub struct Found {
    /// The columns of each row.
    pub columns: Vec<Column>,
    /// One a key.
    pub items: Vec<FoundItem>,
    /// The version that was read.
    pub version: i64,
}

/// Rows by key: which of the keys have one, and the rows of those, in order.
pub struct Rows {
    pub there: Vec<bool>,
    pub batch: RecordBatch,
}

/// Keys as text in the type of the key column.
pub fn parsed_keys(opened: &Opened, keys: &[&str]) -> Result<ArrayRef, ServiceError> {
    let data_type = opened.key_field()?.data_type();
    let mut parts = Vec::with_capacity(keys.len());
    for key in keys {
        let spelled = opened.spelled_key(key);
        let filter = Filter::equals(&opened.schema, &opened.key, &spelled)
            .map_err(|error| ServiceError::invalid("key", error.message))?;
        let value = filter.required_values().first().map(|(_, value)| Arc::clone(value));
        let value = value.ok_or_else(|| ServiceError::invalid("key", "is no key"))?;
        parts.push(match value.data_type() == data_type {
            true => value,
            false => arrow::compute::cast(&value, data_type)
                .map_err(|error| ServiceError::invalid("key", error))?,
        });
    }
    if parts.is_empty() {
        return Ok(arrow::array::new_empty_array(data_type));
    }
    let parts: Vec<&dyn Array> = parts.iter().map(AsRef::as_ref).collect();
    concat(&parts).map_err(|error| ServiceError::invalid("key", error))
}

impl App {
    /// The rows of keys, each asked for once.
    pub async fn rows_of(
        &self,
        opened: &Opened,
        view: &View,
        keys: &ArrayRef,
        schema: &SchemaRef,
    ) -> Result<Rows, ServiceError> {
        let positions = self.locate(opened, &view.blocks, keys).await?;
        let mut sorted: Vec<Position> = positions.iter().flatten().copied().collect();
        sorted.sort_unstable();
        let reading = Reading::new(Arc::clone(&opened.schema), None);
        let read = self.reader.rows(&view.blocks, &sorted, schema, &reading, usize::MAX).await?;
        let failed = |error| ServiceError::internal(format!("rows by key: {error}"));
        let blocks = arrow::compute::concat_batches(schema, &read).map_err(failed)?;
        let tail = match &view.tail {
            Some(tail) => projected(tail, schema)?,
            None => RecordBatch::new_empty(Arc::clone(schema)),
        };
        let (mut there, mut places) = (Vec::with_capacity(keys.len()), Vec::new());
        for (row, position) in positions.iter().enumerate() {
            let changed = match view.changed.is_empty() {
                true => None,
                false => view.changed.get(key_bytes(keys, row)?.as_slice()).copied(),
            };
            let place = match (changed, position) {
                (Some(row), _) => row.map(|row| (1, row)),
                (None, Some(position)) => sorted.binary_search(position).ok().map(|row| (0, row)),
                (None, None) => None,
            };
            there.push(place.is_some());
            places.extend(place);
        }
        let batch = match places.is_empty() {
            true => RecordBatch::new_empty(Arc::clone(schema)),
            false => interleave_record_batch(&[&blocks, &tail], &places).map_err(failed)?,
        };
        Ok(Rows { there, batch })
    }

    /// Rows by their keys, in the order of the keys.
    ///
    /// # Errors
    /// A dataset without a key; a text that is no key of its type.
    pub async fn batch_get(
        &self,
        caller: &Caller,
        request: &RowsRequest,
        keys: &[String],
        commit_token: &str,
    ) -> Result<Found, ServiceError> {
        if keys.len() > KEYS_MAX {
            return Err(ServiceError::invalid("keys", format!("at most {KEYS_MAX} at once")));
        }
        let opened = self.open(caller, &request.address, &request.version, GET).await?;
        self.check_commit_token(&opened, commit_token).await?;
        let schema = opened.project(&request.columns)?;
        let view = self.view(caller, &opened).await?;
        let mut wanted: Vec<&str> = keys.iter().map(String::as_str).collect();
        wanted.sort_unstable();
        wanted.dedup();
        let parsed = parsed_keys(&opened, &wanted)?;
        let whole = Arc::clone(&opened.schema);
        let rows = self.rows_of(&opened, &view, &parsed, &whole).await?;
        let shown = items_of(&projected(&rows.batch, &schema)?, opened.items_profile)?;
        let mut found: std::collections::HashMap<&str, (Item, String)> = Default::default();
        let there = wanted.iter().zip(&rows.there).filter(|(_, there)| **there);
        for (row, ((key, _), item)) in there.zip(shown).enumerate() {
            found.insert(*key, (item, revision_of(&rows.batch, row)?));
        }
        let items = keys.iter().map(|key| {
            let (item, revision) = found.get(key.as_str()).cloned().unzip();
            FoundItem { key: key.clone(), item, revision: revision.unwrap_or_default() }
        });
        Ok(Found { columns: columns_of(&schema), items: items.collect(), version: opened.version })
    }
}

/// The columns of a schema out of a batch that has them.
pub fn projected(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch, ServiceError> {
    blocks::conform(batch, schema)
        .map_err(|error| ServiceError::internal(format!("the delta's rows: {error}")))
}
