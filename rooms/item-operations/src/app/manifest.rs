//! The blocks of a snapshot, kept by snapshot: they never change.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::compute::concat;
use arrow::datatypes::{DataType, Schema};
use blocks::{BlockLocation, BlockRows, KeyedBlock};
use caller::Caller;
use catalog_api::v1::{Block, Value};
use cells::cell;
use filter::{ColumnRange, Filter, Pruned};
use moka::sync::Cache;
use roaring::RoaringBitmap;
use service_error::ServiceError;
use uuid::Uuid;

use crate::app::catalog::Catalog;
use crate::app::values::range_of;

/// About what a column's statistics take in memory.
const RANGE_BYTES: usize = 512;

/// A committed block.
#[derive(Debug, Clone)]
pub struct ManifestBlock {
    pub id: String,
    pub rows: BlockRows,
    /// The snapshot that last changed its deleted rows; a commit names it.
    pub revision: i64,
    ranges: Arc<HashMap<String, KnownRange>>,
}

#[derive(Debug, Clone)]
struct KnownRange {
    range: ColumnRange,
    exact: bool,
}

/// What is known of a column over all blocks, in wire values.
#[derive(Debug, Default)]
pub struct Merged {
    pub null_count: i64,
    pub min: Option<Value>,
    pub max: Option<Value>,
    pub exact: bool,
}

/// What is known of a column over all blocks.
#[derive(Debug, Default)]
pub struct Bounds {
    /// `None` where a block does not know.
    pub null_count: Option<u64>,
    /// An array of one.
    pub min: Option<ArrayRef>,
    /// An array of one.
    pub max: Option<ArrayRef>,
    pub exact: bool,
}

/// The nulls of a column and its bounds, if every block that holds a value
/// knows them.
pub fn bounds(manifest: &[ManifestBlock], column: &str) -> Result<Bounds, ServiceError> {
    let mut total = Bounds { null_count: Some(0), exact: true, ..Bounds::default() };
    let (mut mins, mut maxes, mut known) = (Vec::new(), Vec::new(), true);
    for block in manifest {
        let Some(KnownRange { range, exact }) = block.ranges.get(column) else {
            (known, total.null_count) = (false, None);
            continue;
        };
        total.null_count = total.null_count.zip(range.null_count).map(|(a, b)| a + b);
        match (&range.min, &range.max) {
            (Some(min), Some(max)) => {
                mins.push(min.as_ref());
                maxes.push(max.as_ref());
                // A bound may be a deleted row's.
                total.exact &= *exact && block.rows.deleted.is_none();
            }
            _ => known &= range.null_count == Some(block.rows.location.row_count),
        }
    }
    if !known || mins.is_empty() {
        return Ok(total);
    }
    let unreadable =
        |error| ServiceError::internal(format!("the bounds of {column:?} have no order: {error}"));
    let least = blocks::min_and_max(&concat(&mins).map_err(unreadable)?).map_err(unreadable)?;
    let greatest = blocks::min_and_max(&concat(&maxes).map_err(unreadable)?).map_err(unreadable)?;
    total.min = least.map(|(min, _)| min);
    total.max = greatest.map(|(_, max)| max);
    Ok(total)
}

/// As [`bounds`], in wire values; nulls that a block does not know count none.
pub fn merged(manifest: &[ManifestBlock], column: &str) -> Result<Merged, ServiceError> {
    let bounds = bounds(manifest, column)?;
    let known = manifest.iter().filter_map(|block| block.ranges.get(column));
    let nulls: u64 = known.map(|known| known.range.null_count.unwrap_or(0)).sum();
    Ok(Merged {
        null_count: i64::try_from(nulls).unwrap_or(0),
        min: bounds.min.map(|min| cell(&min, 0)).transpose()?,
        max: bounds.max.map(|max| cell(&max, 0)).transpose()?,
        exact: bounds.exact,
    })
}

impl AsRef<BlockRows> for ManifestBlock {
    fn as_ref(&self) -> &BlockRows {
        &self.rows
    }
}

impl ManifestBlock {
    pub fn of(block: &Block, schema: &Schema) -> Result<Self, ServiceError> {
        let count = |n: i64| u64::try_from(n).unwrap_or(0);
        let location = BlockLocation {
            object_key: block.object_key.clone(),
            row_count: count(block.row_count),
            byte_count: count(block.byte_count),
            footer_length: count(block.footer_length),
        };
        let types: HashMap<&str, &DataType> = schema
            .fields()
            .iter()
            .map(|field| (field.name().as_str(), field.data_type()))
            .collect();
        let ranges = block.columns.iter().filter_map(|column| {
            let data_type = types.get(column.column.as_str())?;
            let known = KnownRange { range: range_of(column, data_type), exact: column.exact };
            Some((column.column.clone(), known))
        });
        Ok(Self {
            id: block.id.clone(),
            rows: BlockRows { location, deleted: deleted_rows(block)? },
            revision: block.deletion_revision,
            ranges: Arc::new(ranges.collect()),
        })
    }

    /// Rows that are not deleted.
    pub fn live_rows(&self) -> u64 {
        self.rows.live_count()
    }

    /// Deletes further rows.
    pub fn hide(&mut self, more: RoaringBitmap) {
        let all = match &self.rows.deleted {
            Some(deleted) => deleted.as_ref() | more,
            None => more,
        };
        self.rows.deleted = Some(Arc::new(all));
    }

    /// Rows that are deleted here and not in an earlier state of the block.
    pub fn hidden_beside(&self, before: &Self) -> RoaringBitmap {
        match (&self.rows.deleted, &before.rows.deleted) {
            (Some(now), Some(before)) if Arc::ptr_eq(now, before) => RoaringBitmap::new(),
            (Some(now), Some(before)) => now.as_ref() - before.as_ref(),
            (Some(now), None) => now.as_ref().clone(),
            (None, _) => RoaringBitmap::new(),
        }
    }

    /// What statistics alone tell of the block.
    pub fn prune(&self, filter: &Filter) -> Pruned {
        filter.prune(Some(self.rows.location.row_count), |column| {
            self.ranges.get(column).map(|known| known.range.clone())
        })
    }

    pub fn keyed(&self, key: &str) -> KeyedBlock {
        let range = self
            .ranges
            .get(key)
            .and_then(|known| known.range.min.clone().zip(known.range.max.clone()));
        let deleted = self.rows.deleted.clone();
        KeyedBlock { location: self.rows.location.clone(), range, deleted }
    }

    fn memory_bytes(&self) -> usize {
        let deleted = self.rows.deleted.as_ref().map_or(0, |rows| rows.serialized_size());
        self.rows.location.object_key.len() + self.ranges.len() * RANGE_BYTES + deleted
    }
}

/// The positions that a snapshot does not see.
fn deleted_rows(block: &Block) -> Result<Option<Arc<RoaringBitmap>>, ServiceError> {
    if block.deletions.is_empty() {
        return Ok(None);
    }
    let positions =
        RoaringBitmap::deserialize_from(block.deletions.as_slice()).map_err(|error| {
            ServiceError::data_loss(format!("deleted rows of block {}: {error}", block.id))
        })?;
    Ok(Some(Arc::new(positions)).filter(|positions| !positions.is_empty()))
}

pub type Manifest = Arc<Vec<ManifestBlock>>;

/// Manifests by dataset and snapshot.
#[derive(Debug)]
pub struct Manifests {
    cache: Cache<(Uuid, i64), Manifest>,
}

impl Manifests {
    pub fn new(bytes: u64) -> Self {
        let weigh = |_: &(Uuid, i64), manifest: &Manifest| {
            let bytes: usize = manifest.iter().map(ManifestBlock::memory_bytes).sum();
            u32::try_from(bytes + 64).unwrap_or(u32::MAX)
        };
        Self { cache: Cache::builder().max_capacity(bytes).weigher(weigh).build() }
    }

    /// The blocks of a snapshot in storage order. The caller's right to them
    /// was checked before.
    pub async fn get(
        &self,
        catalog: &Catalog,
        caller: &Caller,
        dataset: Uuid,
        snapshot: i64,
        schema: &Schema,
    ) -> Result<Manifest, ServiceError> {
        if snapshot == 0 {
            return Ok(Manifest::default());
        }
        if let Some(manifest) = self.cache.get(&(dataset, snapshot)) {
            return Ok(manifest);
        }
        let blocks = catalog.blocks(caller, &dataset.to_string(), snapshot, 0).await?;
        let blocks: Result<Vec<_>, ServiceError> =
            blocks.iter().map(|block| ManifestBlock::of(block, schema)).collect();
        let manifest: Manifest = Arc::new(blocks?);
        self.cache.insert((dataset, snapshot), Arc::clone(&manifest));
        Ok(manifest)
    }
}
