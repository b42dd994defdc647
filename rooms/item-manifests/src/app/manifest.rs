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
    /// Its id in the catalog.
    pub id: String,
    /// Where it is, and which of its rows are deleted.
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
    /// Nulls; what is not known counts none.
    pub null_count: i64,
    /// The least value.
    pub min: Option<Value>,
    /// The greatest value.
    pub max: Option<Value>,
    /// All three are what a scan would find.
    pub exact: bool,
}

/// What is known of a column over all blocks; `exact` says that all of it is as a scan of the
/// rows would find it.
#[derive(Debug, Default)]
pub struct Bounds {
    /// Of rows that are left; `None` where a block does not know.
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
            (known, total.null_count, total.exact) = (false, None, false);
            continue;
        };
        let nulls = block.live_nulls(range.null_count);
        total.null_count = total.null_count.zip(nulls.map(|(count, _)| count)).map(|(a, b)| a + b);
        total.exact &= nulls.is_some_and(|(_, is_exact)| is_exact);
        match (&range.min, &range.max) {
            (Some(min), Some(max)) => {
                mins.push(min.as_ref());
                maxes.push(max.as_ref());
                // A bound may be a deleted row's.
                total.exact &= *exact && block.rows.deleted.is_none();
            }
            _ => {
                let is_bare = range.null_count == Some(block.rows.location.row_count);
                total.exact &= is_bare;
                known &= is_bare;
            }
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
    let known = manifest.iter().filter_map(|block| {
        block.live_nulls(block.ranges.get(column)?.range.null_count).map(|(count, _)| count)
    });
    let nulls: u64 = known.sum();
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
    /// As the catalog tells it.
    ///
    /// # Errors
    /// `DataLoss` for deleted rows that cannot be read.
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

    /// How many of the rows that are left are null in a column, and whether exactly so many;
    /// `in_file` is the count of all rows.
    fn live_nulls(&self, in_file: Option<u64>) -> Option<(u64, bool)> {
        let (rows, live) = (self.rows.location.row_count, self.live_rows());
        let nulls = in_file?;
        Some(match nulls {
            _ if live == rows => (nulls, true),
            0 => (0, true),
            nulls if nulls == rows => (live, true),
            // Which of the deleted rows were null is not known.
            nulls => (nulls.min(live), false),
        })
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

    /// The block and the range of its keys.
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

/// The blocks of a snapshot in storage order.
pub type Manifest = Arc<Vec<ManifestBlock>>;

/// Manifests by dataset and snapshot.
#[derive(Debug)]
pub struct Manifests {
    cache: Cache<(Uuid, i64), Manifest>,
}

impl Manifests {
    /// Keeps about so many bytes of them.
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use arrow::datatypes::Field;
    use catalog_api::v1::ColumnStatistics;
    use catalog_api::v1::value::Kind;

    fn number(n: i64) -> Option<Value> {
        Some(Value { kind: Some(Kind::IntValue(n)) })
    }

    /// A block of ten rows.
    fn block(nulls: Option<i64>, bounds: Option<(i64, i64)>, deleted: &[u32]) -> ManifestBlock {
        let schema = Schema::new(vec![Field::new("n", DataType::Int64, true)]);
        let mut deletions = Vec::new();
        let gone: RoaringBitmap = deleted.iter().copied().collect();
        gone.serialize_into(&mut deletions).unwrap();
        let columns = nulls.map(|null_count| ColumnStatistics {
            column: "n".into(),
            null_count,
            min: bounds.and_then(|(min, _)| number(min)),
            max: bounds.and_then(|(_, max)| number(max)),
            exact: true,
        });
        let columns = columns.into_iter().collect();
        let block = Block { row_count: 10, deletions, columns, ..Block::default() };
        ManifestBlock::of(&block, &schema).unwrap()
    }

    fn known(blocks: &[ManifestBlock]) -> (i64, bool, bool) {
        let known = merged(blocks, "n").unwrap();
        (known.null_count, known.min.is_some(), known.exact)
    }

    #[test]
    fn what_is_said_to_be_exact_is() {
        let plain = || block(Some(2), Some((1, 9)), &[]);
        assert_eq!(known(&[plain(), plain()]), (4, true, true));
        assert_eq!(known(&[block(Some(10), None, &[])]), (10, false, true), "all null");
        assert_eq!(known(&[block(Some(10), None, &[3])]), (9, false, true), "and one deleted");
        assert_eq!(known(&[block(Some(0), Some((1, 9)), &[3])]), (0, true, false), "a bound");
        assert_eq!(known(&[block(Some(9), Some((1, 1)), &[1, 2])]), (8, true, false));
        assert_eq!(known(&[plain(), block(None, None, &[])]), (2, false, false), "not known");
        assert_eq!(known(&[block(Some(0), None, &[])]), (0, false, false), "values, no bounds");
        let bounds = bounds(&[block(Some(10), None, &[3, 4])], "n").unwrap();
        assert_eq!((bounds.null_count, bounds.exact), (Some(8), true));
    }
}
