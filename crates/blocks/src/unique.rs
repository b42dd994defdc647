//! Whether a value of a column that is not the key would stand in two rows.
//!
//! Few values are looked for by range and bloom filter, then in the column of the row groups that
//! are left. Many are compared by sorted hashes, a part of all hashes at a time, so that memory is
//! bounded whatever comes.

use std::collections::hash_map::{DefaultHasher, Entry};
use std::collections::{HashMap, HashSet};
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, UInt32Array};
use arrow::compute::{concat, take};
use arrow::datatypes::{Field, Schema, SchemaRef};
use service_error::ServiceError;

use crate::access::{Access, Group};
use crate::duplicates::{KeyedBlock, spans};
use crate::error::arrow_error;
use crate::find::Position;
use crate::keys::{KeyCodec, shown};
use crate::locate::{Part, Sought, parts_of};
use crate::plan::Planner;
use crate::read::{BlockReader, bloom_lacks};
use crate::rows::Rows;
use crate::tally::Tally;

/// So many new values are held in memory and looked up; more are hashed.
const VALUES_HELD_MAX: u64 = 262_144;
/// In a row group that may hold more of the values its bloom filter is not asked: reading is cheaper.
const BLOOM_PROBES_MAX: usize = 16_384;
/// Hashes that are sorted at once.
const HASHES_AT_ONCE: u64 = 4 << 20;
/// Hashes of two rows whose values are compared at once.
const COMPARED_AT_ONCE: usize = 100;
/// Rows of one hash that a row group brings to a comparison: two would do.
const ROWS_OF_A_HASH: usize = 4;

/// A value that two rows would have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Repeated {
    /// The value as text.
    pub value: String,
    /// The later one of the rows; blocks are counted over both lists, the new ones first.
    pub row: Position,
}

/// Looks for a value of live rows of `new` that another of them or one of `existing` has; nulls
/// are no values. No two rows of `existing` have the same.
///
/// # Errors
/// `DataLoss` for a damaged block, or as the object store fails.
pub async fn find_repeated(
    reader: &BlockReader,
    new: &[KeyedBlock],
    existing: &[KeyedBlock],
    column: &Field,
) -> Result<Option<Repeated>, ServiceError> {
    let total: u64 = new.iter().map(|block| block.location.row_count).sum();
    if total == 0 {
        return Ok(None);
    }
    if total > VALUES_HELD_MAX {
        let all: Vec<KeyedBlock> = new.iter().chain(existing).cloned().collect();
        return by_hash(reader, &all, column).await;
    }
    let (values, rows) = held(reader, new, column).await?;
    let row_of = |at: usize| rows.get(at).copied().unwrap_or(Position { block: 0, row: 0 });
    if let Some((_, later)) = first_repeated(&values)? {
        return Ok(Some(Repeated { value: shown(&values, later), row: row_of(later) }));
    }
    let found = find_value(reader, existing, &values, column).await?;
    Ok(found.map(|(at, row)| Repeated {
        value: shown(&values, at),
        row: Position { block: new.len() + row.block, ..row },
    }))
}

/// The first value of a column that stands in it twice, and where: the earlier row, the later one.
/// Nulls are no values.
///
/// # Errors
/// A type that has no order.
pub fn first_repeated(values: &ArrayRef) -> Result<Option<(usize, usize)>, ServiceError> {
    let failed = |error| arrow_error("in memory", error);
    let rows = KeyCodec::new(values.data_type()).and_then(|codec| codec.rows(values));
    let rows = rows.map_err(failed)?;
    let mut seen: HashMap<&[u8], usize> = HashMap::with_capacity(values.len());
    for at in (0..values.len()).filter(|at| values.is_valid(*at)) {
        match seen.entry(rows.row(at).data()) {
            Entry::Occupied(before) => return Ok(Some((*before.get(), at))),
            Entry::Vacant(place) => place.insert(at),
        };
    }
    Ok(None)
}

/// A value as a message shows it.
#[must_use]
pub fn value_text(values: &ArrayRef, row: usize) -> String {
    shown(values, row)
}

/// A live row of blocks that has one of some values, and which. Nulls are no values.
///
/// # Errors
/// As [`find_repeated`].
pub async fn find_value(
    reader: &BlockReader,
    blocks: &[KeyedBlock],
    values: &ArrayRef,
    column: &Field,
) -> Result<Option<(usize, Position)>, ServiceError> {
    let failed = |error| arrow_error("in memory", error);
    let codec = KeyCodec::new(column.data_type()).map_err(failed)?;
    let sought = Arc::new(Sought::of(values, &codec).map_err(failed)?);
    let schema: SchemaRef = Arc::new(Schema::new(vec![column.clone()]));
    for (block, span) in spans(&codec, blocks)?.into_iter().enumerate() {
        let parts = parts_of(reader, block, &span, &sought, &codec, column).await?;
        let access = reader.access(&Arc::<Tally>::default());
        let (sought, schema) = (Arc::clone(&sought), Arc::clone(&schema));
        let found = reader.spread(parts, move |part| part.holds(&access, &sought, &schema)).await?;
        if let Some(found) = found.into_iter().flatten().next() {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

/// All row groups of blocks.
async fn all_parts(reader: &BlockReader, blocks: &[KeyedBlock]) -> Result<Vec<Part>, ServiceError> {
    let mut parts = Vec::new();
    for (block, keyed) in blocks.iter().enumerate() {
        let file = reader.open(&keyed.location, &Tally::default()).await?;
        let planner = Planner::new(Arc::clone(&file), None)?;
        let plans = (0..file.metadata().metadata().num_row_groups())
            .filter_map(|index| planner.whole(index));
        parts.extend(plans.map(|plan| Part {
            block,
            group: Group::of(&file, &plan),
            near: 0..0,
            deleted: keyed.deleted.clone(),
        }));
    }
    Ok(parts)
}

/// The values of live rows, and whose they are.
async fn held(
    reader: &BlockReader,
    blocks: &[KeyedBlock],
    column: &Field,
) -> Result<(ArrayRef, Vec<Position>), ServiceError> {
    let parts = all_parts(reader, blocks).await?;
    let schema: SchemaRef = Arc::new(Schema::new(vec![column.clone()]));
    let access = reader.access(&Arc::<Tally>::default());
    let held = reader.spread(parts, move |part| part.values(&access, &schema)).await?;
    let mut rows = Vec::new();
    let mut columns = Vec::with_capacity(held.len());
    for (values, positions) in held {
        columns.push(values);
        rows.extend(positions);
    }
    let columns: Vec<&dyn Array> = columns.iter().map(AsRef::as_ref).collect();
    if columns.is_empty() {
        return Ok((arrow::array::new_empty_array(column.data_type()), rows));
    }
    Ok((concat(&columns).map_err(|error| arrow_error("in memory", error))?, rows))
}

/// Compares all values of blocks, a part of their hashes at a time.
async fn by_hash(
    reader: &BlockReader,
    blocks: &[KeyedBlock],
    column: &Field,
) -> Result<Option<Repeated>, ServiceError> {
    let schema: SchemaRef = Arc::new(Schema::new(vec![column.clone()]));
    let parts = all_parts(reader, blocks).await?;
    let total: u64 = blocks.iter().map(|block| block.location.row_count).sum();
    let passes = total.div_ceil(HASHES_AT_ONCE).max(1);
    for pass in 0..passes {
        let (access, own) = (reader.access(&Arc::<Tally>::default()), Arc::clone(&schema));
        let hashes =
            reader.spread(parts.clone(), move |part| part.hashes(&access, &own, (pass, passes)));
        let mut hashes: Vec<u64> = hashes.await?.into_iter().flatten().collect();
        hashes.sort_unstable();
        let mut twice: Vec<u64> =
            hashes.windows(2).filter(|two| two[0] == two[1]).map(|two| two[0]).collect();
        drop(hashes);
        twice.dedup();
        for some in twice.chunks(COMPARED_AT_ONCE) {
            let some: HashSet<u64> = some.iter().copied().collect();
            let (access, own) = (reader.access(&Arc::<Tally>::default()), Arc::clone(&schema));
            let rows = reader.spread(parts.clone(), move |part| part.of(&access, &own, &some));
            let mut seen: HashMap<Box<[u8]>, Position> = HashMap::new();
            for (bytes, value, row) in rows.await?.into_iter().flatten() {
                if let Some(before) = seen.insert(bytes, row) {
                    return Ok(Some(Repeated { value, row: before.max(row) }));
                }
            }
        }
    }
    Ok(None)
}

fn hash_of(bytes: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    bytes.hash(&mut hasher);
    hasher.finish()
}

type Valued = (Box<[u8]>, String, Position);

impl Part {
    /// Shows each live row that has a value: its bytes, its number in the group, the column.
    fn each(
        &self,
        access: &Access,
        schema: &SchemaRef,
        mut visit: impl FnMut(&[u8], usize, &ArrayRef),
    ) -> Result<ArrayRef, ServiceError> {
        let batch = access.rows(&self.group, &Rows::All(self.group.rows), schema)?;
        let column = batch.column(0);
        let rows = KeyCodec::new(column.data_type()).and_then(|codec| codec.rows(column));
        let rows = rows.map_err(|error| arrow_error(self.group.file.key(), error))?;
        for at in (0..column.len()).filter(|at| column.is_valid(*at) && !self.is_gone(*at)) {
            visit(rows.row(at).data(), at, column);
        }
        Ok(Arc::clone(column))
    }

    fn is_gone(&self, at: usize) -> bool {
        let Some(deleted) = &self.deleted else { return false };
        u32::try_from(self.position(at).row).is_ok_and(|row| deleted.contains(row))
    }

    fn position(&self, at: usize) -> Position {
        Position { block: self.block, row: self.group.begin + at as u64 }
    }

    /// A live row that has one of the values that may be here.
    fn holds(
        &self,
        access: &Access,
        sought: &Sought,
        schema: &SchemaRef,
    ) -> Result<Option<(usize, Position)>, ServiceError> {
        let mut left: Vec<usize> = self.near.clone().collect();
        let name = schema.field(0).name();
        if left.len() <= BLOOM_PROBES_MAX
            && let Some(bloom) = access.bloom(&self.group.file, name, self.group.index)?
        {
            left.retain(|at| !bloom_lacks(&bloom, &sought.column.slice(sought.order[*at], 1)));
        }
        if left.is_empty() {
            return Ok(None);
        }
        let wanted: HashMap<&[u8], usize> =
            left.iter().map(|at| (sought.key(*at), sought.order[*at])).collect();
        let mut found = None;
        self.each(access, schema, |bytes, at, _| {
            if found.is_none()
                && let Some(value) = wanted.get(bytes)
            {
                found = Some((*value, self.position(at)));
            }
        })?;
        Ok(found)
    }

    fn values(
        &self,
        access: &Access,
        schema: &SchemaRef,
    ) -> Result<(ArrayRef, Vec<Position>), ServiceError> {
        let mut kept: Vec<u32> = Vec::new();
        let column = self.each(access, schema, |_, at, _| {
            kept.extend(u32::try_from(at));
        })?;
        let rows = kept.iter().map(|at| self.position(*at as usize)).collect();
        let values = take(&column, &UInt32Array::from(kept), None)
            .map_err(|error| arrow_error(self.group.file.key(), error))?;
        Ok((values, rows))
    }

    /// The hashes of values that belong to a pass.
    fn hashes(
        &self,
        access: &Access,
        schema: &SchemaRef,
        (pass, passes): (u64, u64),
    ) -> Result<Vec<u64>, ServiceError> {
        let mut hashes = Vec::new();
        self.each(access, schema, |bytes, _, _| {
            let hash = hash_of(bytes);
            if hash % passes == pass {
                hashes.push(hash);
            }
        })?;
        Ok(hashes)
    }

    /// Rows whose values have some hashes.
    fn of(
        &self,
        access: &Access,
        schema: &SchemaRef,
        some: &HashSet<u64>,
    ) -> Result<Vec<Valued>, ServiceError> {
        let mut counts: HashMap<u64, usize> = HashMap::new();
        let mut found = Vec::new();
        self.each(access, schema, |bytes, at, column| {
            let hash = hash_of(bytes);
            if !some.contains(&hash) {
                return;
            }
            let count = counts.entry(hash).or_default();
            if *count < ROWS_OF_A_HASH {
                *count += 1;
                found.push((bytes.into(), shown(column, at), self.position(at)));
            }
        })?;
        Ok(found)
    }
}
