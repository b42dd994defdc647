//! Where many keys are: by range, by bloom filter, then in the key column of
//! the row groups that are left. Blocks are sorted by key, so a column is walked
//! once beside the sorted keys.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef};
use arrow::datatypes::{Field, Schema, SchemaRef};
use arrow::error::ArrowError;
use arrow::row::Rows as KeyRows;
use roaring::RoaringBitmap;
use service_error::ServiceError;

use crate::access::{Access, Group};
use crate::duplicates::{BLOOM_PROBES_MAX, KeyedBlock, Span, spans};
use crate::error::{arrow_error, parquet_error};
use crate::find::Position;
use crate::keys::KeyCodec;
use crate::plan::Planner;
use crate::read::{BlockReader, bloom_lacks};
use crate::rows::Rows;
use crate::statistics::{PageRanges, RowGroupRanges};
use crate::tally::Tally;

/// Of a row group in which more keys may be, the whole column is read.
const KEYS_BY_PAGE_MAX: usize = 32;

/// Keys in their order, with where each stood in the question.
pub(crate) struct Sought {
    pub column: ArrayRef,
    rows: KeyRows,
    pub order: Vec<usize>,
}

impl Sought {
    /// Nulls are not looked for.
    pub fn of(keys: &ArrayRef, codec: &KeyCodec) -> Result<Self, ArrowError> {
        let rows = codec.rows(keys)?;
        let mut order: Vec<usize> = (0..keys.len()).filter(|at| keys.is_valid(*at)).collect();
        order.sort_unstable_by(|a, b| rows.row(*a).cmp(&rows.row(*b)));
        Ok(Self { column: Arc::clone(keys), rows, order })
    }

    pub fn key(&self, at: usize) -> &[u8] {
        self.rows.row(self.order[at]).data()
    }

    /// The keys that lie within bounds; unknown bounds hold all.
    fn near(&self, min: Option<&[u8]>, max: Option<&[u8]>) -> std::ops::Range<usize> {
        let count = self.order.len();
        let from = min.map_or(0, |min| self.first(|key| key >= min));
        let to = max.map_or(count, |max| self.first(|key| key > max));
        from..to.max(from)
    }

    fn first(&self, reached: impl Fn(&[u8]) -> bool) -> usize {
        self.order.partition_point(|at| !reached(self.rows.row(*at).data()))
    }
}

/// A row group that may hold some of the keys.
#[derive(Clone)]
pub(crate) struct Part {
    pub block: usize,
    pub group: Group,
    /// Which of them: places in their order.
    pub near: std::ops::Range<usize>,
    pub deleted: Option<Arc<RoaringBitmap>>,
}

/// The live row of each key, in the order of `keys`; `None` where there is
/// none. Each key is asked for once and has one live row at most.
///
/// # Errors
/// `DataLoss` for a damaged block, or as the object store fails.
pub async fn locate(
    reader: &BlockReader,
    blocks: &[KeyedBlock],
    keys: &ArrayRef,
    key: &Field,
) -> Result<Vec<Option<Position>>, ServiceError> {
    let failed = |error| arrow_error("in memory", error);
    let codec = KeyCodec::new(key.data_type()).map_err(failed)?;
    let sought = Arc::new(Sought::of(keys, &codec).map_err(failed)?);
    let mut found = vec![None; keys.len()];
    let schema: SchemaRef = Arc::new(Schema::new(vec![key.clone()]));
    let mut parts = Vec::new();
    for (block, span) in spans(&codec, blocks)?.into_iter().enumerate() {
        parts.extend(parts_of(reader, block, &span, &sought, &codec, key).await?);
    }
    let access = reader.access(&Arc::<Tally>::default());
    let asked = Arc::clone(&sought);
    let answers = reader.spread(parts, move |part| part.search(&access, &asked, &schema)).await?;
    for (at, position) in answers.into_iter().flatten() {
        if let Some(slot) = sought.order.get(at).and_then(|at| found.get_mut(*at)) {
            *slot = Some(position);
        }
    }
    Ok(found)
}

/// The row groups of a block that may hold some of the keys.
pub(crate) async fn parts_of(
    reader: &BlockReader,
    block: usize,
    span: &Span,
    sought: &Sought,
    codec: &KeyCodec,
    key: &Field,
) -> Result<Vec<Part>, ServiceError> {
    let near = match &span.range {
        Some((min, max)) => sought.near(Some(min), Some(max)),
        None => 0..sought.order.len(),
    };
    if near.is_empty() {
        return Ok(Vec::new());
    }
    let file = reader.open(&span.location, &Tally::default()).await?;
    let metadata = file.metadata();
    let ranges = RowGroupRanges::of(metadata.schema(), metadata.metadata(), key.name())
        .map_err(|error| parquet_error(file.key(), error))?;
    let planner = Planner::new(Arc::clone(&file), None)?;
    let bytes =
        |value: &Option<ArrayRef>| value.as_ref().map(|value| codec.bytes(value)).transpose();
    let mut parts = Vec::new();
    for index in 0..metadata.metadata().num_row_groups() {
        let Some(plan) = planner.whole(index) else { continue };
        let range = ranges.range(index);
        let failed = |error| arrow_error(file.key(), error);
        let (min, max) = (bytes(&range.min).map_err(failed)?, bytes(&range.max).map_err(failed)?);
        let near = sought.near(min.as_deref(), max.as_deref());
        if !near.is_empty() {
            let group = Group::of(&file, &plan);
            parts.push(Part { block, group, near, deleted: span.deleted.clone() });
        }
    }
    Ok(parts)
}

type Found = (usize, Position);

/// The least and greatest key of each page of a row group, ascending as the keys do.
struct Pages {
    begins: Vec<u64>,
    least: KeyRows,
    greatest: KeyRows,
}

impl Pages {
    /// The rows of the pages that may hold a key.
    fn near(&self, key: &[u8], rows: usize) -> std::ops::Range<usize> {
        let count = self.begins.len();
        let from = partition(0, count, |page| self.greatest.row(page).data() < key);
        let to = from + partition(from, count, |page| self.least.row(page).data() <= key);
        let begin = |page: usize| {
            self.begins.get(page).map_or(rows, |row| usize::try_from(*row).unwrap_or(rows))
        };
        begin(from)..begin(to).max(begin(from))
    }
}

impl Part {
    fn search(
        &self,
        access: &Access,
        sought: &Sought,
        schema: &SchemaRef,
    ) -> Result<Vec<Found>, ServiceError> {
        let mut left: Vec<usize> = self.near.clone().collect();
        let name = schema.field(0).name();
        if left.len() <= BLOOM_PROBES_MAX
            && let Some(bloom) = access.bloom(&self.group.file, name, self.group.index)?
        {
            left.retain(|at| !bloom_lacks(&bloom, &sought.column.slice(sought.order[*at], 1)));
        }
        let mut found = Vec::new();
        if left.is_empty() {
            return Ok(found);
        }
        if left.len() > KEYS_BY_PAGE_MAX {
            self.walk(access, sought, &left, Rows::All(self.group.rows), schema, &mut found)?;
            return Ok(found);
        }
        let pages = self.pages(schema)?;
        for at in left {
            let rows = match &pages {
                Some(pages) => Rows::Range(pages.near(sought.key(at), self.group.rows)),
                None => Rows::All(self.group.rows),
            };
            self.walk(access, sought, &[at], rows, schema, &mut found)?;
        }
        Ok(found)
    }

    /// The pages of the key column; `None` if the file tells nothing of them.
    fn pages(&self, schema: &SchemaRef) -> Result<Option<Pages>, ServiceError> {
        let file = &self.group.file;
        let (metadata, name) = (file.metadata(), schema.field(0).name());
        let pages = PageRanges::of(metadata.schema(), metadata.metadata(), name, self.group.index)
            .map_err(|error| parquet_error(file.key(), error))?;
        let Some(pages) = pages else { return Ok(None) };
        let failed = |error| arrow_error(file.key(), error);
        let codec = KeyCodec::new(schema.field(0).data_type()).map_err(failed)?;
        let (least, greatest) = pages.bounds();
        let known = least.null_count() + greatest.null_count() == 0;
        let bounds = match known {
            true => {
                Some((codec.rows(least).map_err(failed)?, codec.rows(greatest).map_err(failed)?))
            }
            false => None,
        };
        Ok(bounds.map(|(least, greatest)| Pages { begins: pages.begins, least, greatest }))
    }

    /// Walks some rows of the key column beside keys, both ascending.
    fn walk(
        &self,
        access: &Access,
        sought: &Sought,
        keys: &[usize],
        rows: Rows,
        schema: &SchemaRef,
        found: &mut Vec<Found>,
    ) -> Result<(), ServiceError> {
        if rows.is_empty() {
            return Ok(());
        }
        let batch = access.rows(&self.group, &rows, schema)?;
        let failed = |error| arrow_error(self.group.file.key(), error);
        let codec = KeyCodec::new(schema.field(0).data_type()).map_err(failed)?;
        let column = codec.rows(batch.column(0)).map_err(failed)?;
        let numbers = rows.numbers();
        let mut from = 0;
        for at in keys {
            let key = sought.key(*at);
            // Few keys leap, many step.
            from += partition(from, column.num_rows(), |row| column.row(row).data() < key);
            if from == column.num_rows() {
                break;
            }
            if column.row(from).data() != key {
                continue;
            }
            let row = self.group.begin + u64::from(numbers.value(from));
            let gone = u32::try_from(row)
                .is_ok_and(|row| self.deleted.as_ref().is_some_and(|gone| gone.contains(row)));
            if !gone {
                found.push((*at, Position { block: self.block, row }));
            }
        }
        Ok(())
    }
}

/// How many of `from..to` pass, which is those up to a point.
fn partition(from: usize, to: usize, pass: impl Fn(usize) -> bool) -> usize {
    let mut step = 1;
    while from + step < to && pass(from + step) {
        step *= 2;
    }
    let (mut low, mut high) = (from + step / 2, (from + step).min(to));
    while low < high {
        let middle = low.midpoint(high);
        if pass(middle) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    low - from
}

#[cfg(test)]
mod tests {
    use super::partition;

    #[test]
    fn leaps_end_where_steps_would() {
        for to in 0..40 {
            for from in 0..=to {
                for point in from..=to {
                    assert_eq!(partition(from, to, |row| row < point), point - from);
                }
            }
        }
    }
}
