//! Points: written, read, counted.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use caller::Caller;
use filter::Filter;
use options_api::v1::Level;
use payload_index::{ColumnType, PAYLOAD_BYTES_MAX, Payload, PayloadIndex};
use service_error::ServiceError;
use space_index::Point;
use vector_questions::{allowed, filter_error};

use crate::app::App;
use crate::model::{
    Address, BATCH_POINTS_MAX, DELETE_ITEMS_MAX, ITEM_ID_BYTES_MAX, OwnedVector, Space,
    check_embedder, no_nul,
};
use crate::store::{NewPoint, Written};

/// Rows that a filtered scroll reads at once.
const SCAN_ROWS: u32 = 1_000;

/// A point as a request brings it.
#[derive(Debug, Clone)]
pub struct Upsert {
    /// Whose it is.
    pub item_id: String,
    /// Its numbers.
    pub values: Vec<f32>,
    /// Or its bits.
    pub bits: Vec<u8>,
    /// What it can be filtered by.
    pub payload: Payload,
}

/// Points of one write.
#[derive(Debug, Clone)]
pub struct Batch {
    /// All or none.
    pub points: Vec<Upsert>,
    /// What made the vectors; empty: the space's.
    pub embedder: String,
}

/// A page of points.
#[derive(Debug, Clone)]
pub struct Scroll {
    /// Empty: all.
    pub filter: String,
    /// The last item of the page before.
    pub after: String,
    /// At most so many.
    pub size: u32,
}

impl App {
    /// Writes points and applies them to this replica's index before it answers.
    ///
    /// # Errors
    /// `InvalidArgument` naming the point; `NotFound`; `PermissionDenied`; as the store's.
    pub async fn upsert_points(
        &self,
        caller: &Caller,
        address: &Address,
        batch: Batch,
    ) -> Result<Written, ServiceError> {
        let action = "quarry.vectors.v1.PointsService/UpsertPoints";
        let space = self.space_for(caller, Level::Write, address, action).await?;
        self.write_points(&space, batch).await
    }

    /// Writes points for whoever was let in already.
    pub(super) async fn write_points(
        &self,
        space: &Arc<Space>,
        batch: Batch,
    ) -> Result<Written, ServiceError> {
        let (points, columns) = rows_of(space, &batch)?;
        let written = self.store.upsert(space, &points, &columns, &batch.embedder).await?;
        self.applied(space, written.seq).await;
        Ok(written)
    }

    /// Writes those of the points whose rows are other ones, or that have none; how many were
    /// equal. A row that stays as it is takes no number and no place in an index.
    pub(super) async fn write_changed(
        &self,
        space: &Arc<Space>,
        batch: Batch,
    ) -> Result<u64, ServiceError> {
        let (mut points, columns) = rows_of(space, &batch)?;
        let count = points.len();
        // An embedder that is still to be recorded is, with the first write.
        if batch.embedder.is_empty() || batch.embedder == space.embedder {
            let items: Vec<String> = points.iter().map(|point| point.item_id.clone()).collect();
            let there = self.store.points_of(space, &items).await?;
            let there: HashMap<&str, &Point> =
                there.iter().map(|point| (point.item_id.as_str(), point)).collect();
            points.retain(|point| {
                there.get(point.item_id.as_str()).is_none_or(|row| {
                    row.vector != point.vector || row.payload.to_bytes() != point.payload
                })
            });
        }
        if !points.is_empty() {
            let written = self.store.upsert(space, &points, &columns, &batch.embedder).await?;
            self.applied(space, written.seq).await;
        }
        Ok((count - points.len()) as u64)
    }

    /// Deletes the points of items.
    ///
    /// # Errors
    /// `NotFound`; `PermissionDenied`.
    pub async fn delete_points(
        &self,
        caller: &Caller,
        address: &Address,
        item_ids: &[String],
    ) -> Result<Written, ServiceError> {
        let action = "quarry.vectors.v1.PointsService/DeletePoints";
        let space = self.space_for(caller, Level::Write, address, action).await?;
        if item_ids.is_empty() || item_ids.len() > DELETE_ITEMS_MAX {
            let message =
                format!("{} items; a deletion has 1 to {DELETE_ITEMS_MAX}", item_ids.len());
            return Err(ServiceError::invalid("item_ids", message));
        }
        no_nuls("item_ids", item_ids)?;
        let written = self.store.delete_points(&space, item_ids).await?;
        self.applied(&space, written.seq).await;
        Ok(written)
    }

    /// The points of items, of those that have one.
    ///
    /// # Errors
    /// `NotFound` for the space.
    pub async fn get_points(
        &self,
        caller: &Caller,
        address: &Address,
        item_ids: &[String],
    ) -> Result<(Arc<Space>, Vec<Point>), ServiceError> {
        let action = "quarry.vectors.v1.PointsService/GetPoints";
        let space = self.space_for(caller, Level::Read, address, action).await?;
        if item_ids.is_empty() || item_ids.len() > BATCH_POINTS_MAX {
            let message =
                format!("{} items; a look-up has 1 to {BATCH_POINTS_MAX}", item_ids.len());
            return Err(ServiceError::invalid("item_ids", message));
        }
        no_nuls("item_ids", item_ids)?;
        let points = self.store.points_of(&space, item_ids).await?;
        Ok((space, points))
    }

    /// Up to one more point than the page holds, in the order of item ids.
    ///
    /// # Errors
    /// `NotFound` for the space; a filter that does not fit its columns.
    pub async fn scroll_points(
        &self,
        caller: &Caller,
        address: &Address,
        scroll: Scroll,
    ) -> Result<(Arc<Space>, Vec<Point>), ServiceError> {
        let action = "quarry.vectors.v1.PointsService/ScrollPoints";
        let space = self.space_for(caller, Level::Read, address, action).await?;
        let wanted = scroll.size as usize + 1;
        let Some((filter, columns)) = self.row_filter(&space, &scroll.filter).await? else {
            let limit = scroll.size.saturating_add(1);
            let points = self.store.points_after_item(&space, &scroll.after, limit).await?;
            return Ok((space, points));
        };
        let mut found = Vec::new();
        let mut after = scroll.after;
        loop {
            let rows = self.store.points_after_item(&space, &after, SCAN_ROWS).await?;
            let is_last = rows.len() < SCAN_ROWS as usize;
            let Some(last) = rows.last() else { break };
            after.clone_from(&last.item_id);
            found.extend(passing_rows(&filter, &columns, rows)?);
            if is_last || found.len() >= wanted {
                break;
            }
        }
        found.truncate(wanted);
        Ok((space, found))
    }

    /// How many points pass a filter, of those that are there now.
    ///
    /// # Errors
    /// `NotFound` for the space; a filter that does not fit its columns.
    pub async fn count_points(
        &self,
        caller: &Caller,
        address: &Address,
        filter: &str,
    ) -> Result<u64, ServiceError> {
        let action = "quarry.vectors.v1.PointsService/CountPoints";
        let space = self.space_for(caller, Level::Read, address, action).await?;
        if filter.trim().is_empty() {
            let found = self.store.space(space.id).await?;
            let found = found.ok_or_else(|| ServiceError::not_found("space", address))?;
            return Ok(u64::try_from(found.points).unwrap_or(0));
        }
        if let Some(index) = self.index_at(&space, crate::model::Consistency::Strong).await? {
            let passing = allowed(&index, filter)?;
            return Ok(passing.map_or_else(|| index.summary().points, |passing| passing.len()));
        }
        let Some((filter, columns)) = self.row_filter(&space, filter).await? else { return Ok(0) };
        let mut count = 0;
        let mut pages = self.store.pages(&space, SCAN_ROWS).await?;
        while let Some(rows) = pages.next().await? {
            count += passing_rows(&filter, &columns, rows)?.len() as u64;
        }
        Ok(count)
    }

    /// A filter over rows, with the columns that it was parsed against.
    pub(super) async fn row_filter(
        &self,
        space: &Space,
        text: &str,
    ) -> Result<Option<(Filter, BTreeMap<String, ColumnType>)>, ServiceError> {
        if text.trim().is_empty() {
            return Ok(None);
        }
        let columns = self.store.payload_columns(space.id).await?;
        let schema = PayloadIndex::with_columns(&columns).schema();
        let filter = Filter::parse(text, &schema).map_err(|error| filter_error(&error))?;
        Ok(Some((filter, columns)))
    }
}

/// A write's points as their rows will be, and the columns of their payload.
fn rows_of(
    space: &Space,
    batch: &Batch,
) -> Result<(Vec<NewPoint>, BTreeMap<String, ColumnType>), ServiceError> {
    check_embedder(&batch.embedder)?;
    if batch.points.is_empty() || batch.points.len() > BATCH_POINTS_MAX {
        let message = format!("{} points; a write has 1 to {BATCH_POINTS_MAX}", batch.points.len());
        return Err(ServiceError::invalid("points", message));
    }
    let mut seen = BTreeSet::new();
    let mut columns: BTreeMap<String, ColumnType> = BTreeMap::new();
    let mut points = Vec::with_capacity(batch.points.len());
    for (at, point) in batch.points.iter().enumerate() {
        check_item_id(&format!("points[{at}].item_id"), &point.item_id)?;
        if !seen.insert(point.item_id.as_str()) {
            let message = format!("{:?} is there twice in one write", point.item_id);
            return Err(ServiceError::invalid(&format!("points[{at}].item_id"), message));
        }
        points.push(checked(space, at, point, &mut columns)?);
    }
    Ok((points, columns))
}

/// The rows that pass, in their order.
pub(super) fn passing_rows(
    filter: &Filter,
    columns: &BTreeMap<String, ColumnType>,
    rows: Vec<Point>,
) -> Result<Vec<Point>, ServiceError> {
    let mut index = PayloadIndex::with_columns(columns);
    // By their places: an index takes ascending numbers, and memory for what lies between.
    for (at, row) in (0..).zip(&rows) {
        index.insert(at, &row.item_id, &row.payload);
    }
    let passing = index
        .passing(filter)
        .map_err(|error| ServiceError::invalid("filter", error).reason("FILTER_INVALID"))?;
    Ok((0..).zip(rows).filter(|(at, _)| passing.contains(*at)).map(|(_, row)| row).collect())
}

/// Whether a point is one of the space's.
pub(super) fn check_point(space: &Space, point: &Upsert) -> Result<(), ServiceError> {
    check_item_id("item_id", &point.item_id)?;
    checked(space, 0, point, &mut BTreeMap::new()).map(drop)
}

fn no_nuls(field: &str, texts: &[String]) -> Result<(), ServiceError> {
    texts.iter().enumerate().try_for_each(|(at, text)| no_nul(&format!("{field}[{at}]"), text))
}

fn check_item_id(field: &str, item_id: &str) -> Result<(), ServiceError> {
    if item_id.is_empty() || item_id.len() > ITEM_ID_BYTES_MAX {
        let message = format!("{} bytes; an item id has 1 to {ITEM_ID_BYTES_MAX}", item_id.len());
        return Err(ServiceError::invalid(field, message));
    }
    no_nul(field, item_id)
}

/// A point as its row will be, and its columns among those known so far.
pub(super) fn checked(
    space: &Space,
    at: usize,
    point: &Upsert,
    columns: &mut BTreeMap<String, ColumnType>,
) -> Result<NewPoint, ServiceError> {
    let field = format!("points[{at}].vector");
    let vector =
        OwnedVector::new(point.values.clone(), point.bits.clone(), &space.vectors, &field)?;
    let stored = vector.stored(&space.vectors, &field)?;
    for (name, value) in point.payload.fields() {
        let Some(column_type) = value.column_type() else { continue };
        let known = *columns.entry(name.clone()).or_insert(column_type);
        if known != column_type {
            let message = format!(
                "{name:?} is {} here and {} in a point before",
                column_type.data_type(),
                known.data_type()
            );
            return Err(ServiceError::invalid(&format!("points[{at}].payload"), message)
                .reason("PAYLOAD_TYPE_MISMATCH")
                .with("column", name));
        }
    }
    let payload = point.payload.to_bytes();
    if payload.len() > PAYLOAD_BYTES_MAX {
        let message = format!("{} bytes; at most {PAYLOAD_BYTES_MAX}", payload.len());
        return Err(ServiceError::invalid(&format!("points[{at}].payload"), message));
    }
    Ok(NewPoint { item_id: point.item_id.clone(), vector: stored, payload })
}
