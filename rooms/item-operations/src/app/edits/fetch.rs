//! Whole rows by their keys, wherever they are.

use std::collections::{BTreeMap, HashMap};
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
use crate::app::answers::{Room, too_much};
use crate::app::items::RowsRequest;
use crate::app::merge::taken;
use crate::app::reading::Opened;
use crate::app::view::View;

const GET: &str = "quarry.items.v1.EditsService/BatchGetItems";
const KEYS_MAX: usize = 1_000;
/// Memory of whole rows that are looked at one after the other.
const STEP_BYTES: usize = 8 << 20;
/// Memory of the rows of one edit: they are in the delta as a whole.
pub const ROWS_BYTES_MAX: usize = 64 << 20;

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

/// Where the row of a key is.
#[derive(Debug, Clone, Copy)]
enum Spot {
    Block(Position),
    /// A row of the view's tail.
    Tail(usize),
}

impl App {
    /// Where the rows of keys are, each asked for once; `None`: there is none.
    async fn spots(
        &self,
        opened: &Opened,
        view: &View,
        keys: &ArrayRef,
    ) -> Result<Vec<Option<Spot>>, ServiceError> {
        let positions = self.locate(opened, &view.blocks, keys).await?;
        let spot = |(row, position): (usize, Option<Position>)| {
            let changed = match view.changed.is_empty() {
                true => None,
                false => view.changed.get(key_bytes(keys, row)?.as_slice()).copied(),
            };
            Ok::<_, ServiceError>(match changed {
                Some(row) => row.map(Spot::Tail),
                None => position.map(Spot::Block),
            })
        };
        positions.into_iter().enumerate().map(spot).collect()
    }

    /// The rows of keys, each asked for once.
    ///
    /// # Errors
    /// `ResourceExhausted` where they take more memory than an edit may.
    pub async fn rows_of(
        &self,
        opened: &Opened,
        view: &View,
        keys: &ArrayRef,
        schema: &SchemaRef,
    ) -> Result<Rows, ServiceError> {
        let spots = self.spots(opened, view, keys).await?;
        let in_block = |spot: &Option<Spot>| match spot {
            Some(Spot::Block(position)) => Some(*position),
            _ => None,
        };
        let mut sorted: Vec<Position> = spots.iter().filter_map(in_block).collect();
        sorted.sort_unstable();
        let reading = Reading::new(Arc::clone(&opened.schema), None);
        let read = self.reader.rows(&view.blocks, &sorted, schema, &reading, ROWS_BYTES_MAX);
        let read = read.await?;
        if read.iter().map(RecordBatch::num_rows).sum::<usize>() < sorted.len() {
            let message = format!(
                "the rows take more than {ROWS_BYTES_MAX} bytes; edit fewer at once, or put them with Flight"
            );
            return Err(ServiceError::exhausted(message).reason("EDIT_TOO_LARGE").field("keys"));
        }
        let failed = |error| ServiceError::internal(format!("rows by key: {error}"));
        let blocks = arrow::compute::concat_batches(schema, &read).map_err(failed)?;
        let tail = match &view.tail {
            Some(tail) => projected(tail, schema)?,
            None => RecordBatch::new_empty(Arc::clone(schema)),
        };
        let place = |spot: &Spot| match spot {
            Spot::Block(position) => sorted.binary_search(position).ok().map(|row| (0, row)),
            Spot::Tail(row) => Some((1, *row)),
        };
        let places: Vec<(usize, usize)> = spots.iter().flatten().filter_map(place).collect();
        let there = spots.iter().map(Option::is_some).collect();
        let batch = match places.is_empty() {
            true => RecordBatch::new_empty(Arc::clone(schema)),
            false => interleave_record_batch(&[&blocks, &tail], &places).map_err(failed)?,
        };
        Ok(Rows { there, batch })
    }

    /// Rows by their keys, in the order of the keys.
    ///
    /// # Errors
    /// A dataset without a key; a text that is no key of its type; more rows than an answer
    /// holds.
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
        let mut wanted: BTreeMap<&str, usize> = BTreeMap::new();
        for key in keys {
            *wanted.entry(key).or_default() += 1;
        }
        let (wanted, times): (Vec<&str>, Vec<usize>) = wanted.into_iter().unzip();
        let parsed = parsed_keys(&opened, &wanted)?;
        let spots = self.spots(&opened, &view, &parsed).await?;
        let columns = columns_of(&schema);
        let room = Room::beside(&columns);
        let mut got = Got { opened: &opened, schema: &schema, times, room, found: HashMap::new() };
        self.get_spots(&view, &spots, &mut got).await?;
        let items = keys.iter().map(|key| {
            let at = wanted.binary_search(&key.as_str()).ok();
            let (item, revision) = at.and_then(|at| got.found.get(&at).cloned()).unzip();
            FoundItem { key: key.clone(), item, revision: revision.unwrap_or_default() }
        });
        Ok(Found { items: items.collect(), columns, version: opened.version })
    }

    /// Reads the rows of keys a few at a time: a revision is of the whole row, however few of
    /// its columns are asked for.
    async fn get_spots(
        &self,
        view: &View,
        spots: &[Option<Spot>],
        got: &mut Got<'_>,
    ) -> Result<(), ServiceError> {
        let (mut in_blocks, mut in_tail) = (Vec::new(), Vec::new());
        for (key, spot) in spots.iter().enumerate() {
            match spot {
                Some(Spot::Block(position)) => in_blocks.push((*position, key)),
                Some(Spot::Tail(row)) => in_tail.push((*row, key)),
                None => {}
            }
        }
        in_blocks.sort_unstable();
        let positions: Vec<Position> = in_blocks.iter().map(|(position, _)| *position).collect();
        let opened = got.opened;
        let whole = &opened.schema;
        let reading = Reading::new(Arc::clone(whole), None);
        let mut next = 0;
        while next < positions.len() {
            let rest = &positions[next..];
            let read = self.reader.rows(&view.blocks, rest, whole, &reading, STEP_BYTES).await?;
            let begin = next;
            for batch in &read {
                let keys = in_blocks[next..].iter().map(|(_, key)| *key);
                got.take(batch, keys.take(batch.num_rows()))?;
                next += batch.num_rows();
            }
            if next == begin {
                return Err(ServiceError::internal("a row that was found is not there"));
            }
        }
        if let Some(tail) = &view.tail {
            let (rows, keys): (Vec<usize>, Vec<usize>) = in_tail.into_iter().unzip();
            got.take(&taken(tail, &rows)?, keys.into_iter())?;
        }
        Ok(())
    }
}

/// What a batch get has found.
struct Got<'a> {
    opened: &'a Opened,
    schema: &'a SchemaRef,
    /// How often each key is asked for.
    times: Vec<usize>,
    room: Room,
    /// By key: its row and the row's revision.
    found: HashMap<usize, (Item, String)>,
}

impl Got<'_> {
    fn take(
        &mut self,
        rows: &RecordBatch,
        keys: impl Iterator<Item = usize>,
    ) -> Result<(), ServiceError> {
        let shown = items_of(&projected(rows, self.schema)?, self.opened.items_profile)?;
        for (row, (item, key)) in shown.into_iter().zip(keys).enumerate() {
            if !self.room.take(&item, self.times.get(key).copied().unwrap_or(1)) {
                return Err(too_much("keys"));
            }
            self.found.insert(key, (item, revision_of(rows, row)?));
        }
        Ok(())
    }
}

/// The columns of a schema out of a batch that has them.
pub fn projected(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch, ServiceError> {
    blocks::conform(batch, schema)
        .map_err(|error| ServiceError::internal(format!("the delta's rows: {error}")))
}
