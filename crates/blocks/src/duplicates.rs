//! Whether new blocks bring a key that is there already: by range, by bloom
//! filter, then by merging sorted key columns in bounded memory.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::collections::binary_heap::PeekMut;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::row::Rows;
use roaring::RoaringBitmap;
use service_error::ServiceError;

use crate::access::Access;
use crate::error::arrow_error;
use crate::footer::{BlockFile, BlockLocation};
use crate::keys::{KeyCodec, prefix, shown};
use crate::read::{BlockReader, bloom_lacks};
use crate::scan::{BlockScan, Pass};
use crate::statistics::RowGroupRanges;
use crate::tally::Tally;

/// As many new keys are held in memory and looked up; more are merged.
const KEYS_HELD_MAX: u64 = 262_144;
/// In a row group that may hold so many of the new keys its bloom filter is
/// not asked: reading is cheaper.
pub(crate) const BLOOM_PROBES_MAX: usize = 256;
/// Committed blocks that are merged at once; bounds open readers.
const MERGED_AT_ONCE: usize = 32;
/// Memory of a step of a key stream.
const KEY_BATCH_BYTES: usize = 256 << 10;

/// A block with the range of its keys.
#[derive(Debug, Clone)]
pub struct KeyedBlock {
    /// Where it is.
    pub location: BlockLocation,
    /// Least and greatest key, or bounds around them, each an array of one.
    pub range: Option<(ArrayRef, ArrayRef)>,
    /// Positions of rows whose keys do not count.
    pub deleted: Option<Arc<RoaringBitmap>>,
}

/// A key that would be there twice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Duplicate {
    /// The key as text.
    pub key: String,
}

/// Looks for a key of `new` blocks that another of them or one of `existing`
/// holds. Each block is sorted by the key and holds each key once.
///
/// # Errors
/// `DataLoss` for a damaged block, or as the object store fails.
pub async fn find_duplicate(
    reader: &BlockReader,
    new: &[KeyedBlock],
    existing: &[KeyedBlock],
    key: &Field,
) -> Result<Option<Duplicate>, ServiceError> {
    let codec = KeyCodec::new(key.data_type()).map_err(|error| arrow_error("in memory", error))?;
    let new = spans(&codec, new)?;
    let existing = spans(&codec, existing)?;
    let touched: Vec<&Span> =
        existing.iter().filter(|old| new.iter().any(|n| n.overlaps(old))).collect();
    let candidates: Vec<&Span> = new
        .iter()
        .enumerate()
        .filter(|(i, n)| {
            touched.iter().any(|old| n.overlaps(old))
                || new.iter().enumerate().any(|(j, other)| *i != j && n.overlaps(other))
        })
        .map(|(_, span)| span)
        .collect();
    if candidates.is_empty() {
        return Ok(None);
    }
    let fresh = open_all(reader, &candidates).await?;
    let access = reader.access(&Arc::default());
    let keys = Keys { field: Arc::new(Schema::new(vec![key.clone()])), access };
    let total: u64 = candidates.iter().map(|span| span.location.row_count).sum();
    if total <= KEYS_HELD_MAX {
        return look_up(reader, keys, fresh, &touched).await;
    }
    let mut groups: Vec<&[&Span]> = touched.chunks(MERGED_AT_ONCE).collect();
    if groups.is_empty() {
        groups.push(&[]);
    }
    for group in groups {
        let mut files = fresh.clone();
        files.extend(open_all(reader, group).await?);
        let keys = keys.clone();
        let found = reader.work("key columns", move || keys.merge(&files)).await?;
        if found.is_some() {
            return Ok(found);
        }
    }
    Ok(None)
}

/// Least and greatest key, as bytes that order as the keys do.
pub(crate) type KeyBounds = (Box<[u8]>, Box<[u8]>);

pub(crate) struct Span {
    pub location: BlockLocation,
    pub range: Option<KeyBounds>,
    pub deleted: Option<Arc<RoaringBitmap>>,
}

impl Span {
    fn overlaps(&self, other: &Self) -> bool {
        match (&self.range, &other.range) {
            (Some((min, max)), Some((other_min, other_max))) => {
                min <= other_max && other_min <= max
            }
            _ => true,
        }
    }
}

pub(crate) fn spans(codec: &KeyCodec, blocks: &[KeyedBlock]) -> Result<Vec<Span>, ServiceError> {
    let bytes =
        |array: &ArrayRef| codec.bytes(array).map_err(|error| arrow_error("in memory", error));
    blocks
        .iter()
        .map(|block| {
            let range = match &block.range {
                Some((min, max)) => Some((bytes(min)?, bytes(max)?)),
                None => None,
            };
            let deleted = block.deleted.clone();
            Ok(Span { location: block.location.clone(), range, deleted })
        })
        .collect()
}

async fn open_all(reader: &BlockReader, spans: &[&Span]) -> Result<Vec<Opened>, ServiceError> {
    let mut files = Vec::with_capacity(spans.len());
    for span in spans {
        files.push(open(reader, span).await?);
    }
    Ok(files)
}

async fn open(reader: &BlockReader, span: &Span) -> Result<Opened, ServiceError> {
    let file = reader.open(&span.location, &Tally::default()).await?;
    Ok(Opened { file, deleted: span.deleted.clone() })
}

/// An open block, and which of its keys do not count.
#[derive(Clone)]
struct Opened {
    file: Arc<BlockFile>,
    deleted: Option<Arc<RoaringBitmap>>,
}

/// The new keys in memory against each touched block.
async fn look_up(
    reader: &BlockReader,
    keys: Keys,
    fresh: Vec<Opened>,
    touched: &[&Span],
) -> Result<Option<Duplicate>, ServiceError> {
    let collect = keys.clone();
    let gathered = reader.work("key columns", move || collect.gather(&fresh)).await?;
    let held = match gathered {
        Gathered::Repeated(duplicate) => return Ok(Some(duplicate)),
        Gathered::Keys(held) => Arc::new(held),
    };
    for span in touched {
        let block = open(reader, span).await?;
        let (keys, held) = (keys.clone(), Arc::clone(&held));
        let found = reader.work("key columns", move || keys.probe(&block, &held)).await?;
        if found.is_some() {
            return Ok(found);
        }
    }
    Ok(None)
}

/// A key that orders as its column does.
type Entry = (u128, Box<[u8]>);

/// Fixed types fit the number whole, their first byte (not null) aside; longer
/// keys keep the rest.
fn entry(bytes: &[u8], fixed: bool) -> Entry {
    if fixed {
        return (prefix(&bytes[1..]), Box::default());
    }
    (prefix(bytes), bytes.get(16..).unwrap_or_default().into())
}

fn is_fixed(data_type: &DataType) -> bool {
    match data_type {
        DataType::FixedSizeBinary(width) => *width <= 16,
        other => other.primitive_width().is_some_and(|width| width <= 16),
    }
}

#[derive(Debug, Clone)]
struct Keys {
    /// The key column alone.
    field: SchemaRef,
    access: Access,
}

enum Gathered {
    Keys(Vec<(Entry, ArrayRef)>),
    Repeated(Duplicate),
}

/// The keys of one block in order.
struct KeyStream {
    scan: BlockScan,
    codec: KeyCodec,
    fixed: bool,
    batch: Option<(Rows, ArrayRef)>,
    at: usize,
    /// The row of the block that comes next.
    row: u64,
    deleted: Option<Arc<RoaringBitmap>>,
}

impl KeyStream {
    fn next(&mut self) -> Result<Option<Entry>, ServiceError> {
        loop {
            if let Some((rows, _)) = &self.batch
                && self.at < rows.num_rows()
            {
                let row = u32::try_from(self.row).unwrap_or(u32::MAX);
                let entry = entry(rows.row(self.at).data(), self.fixed);
                (self.at, self.row) = (self.at + 1, self.row + 1);
                if self.deleted.as_ref().is_some_and(|deleted| deleted.contains(row)) {
                    continue;
                }
                return Ok(Some(entry));
            }
            let Some(batch) = self.scan.next_batch()? else { return Ok(None) };
            let column = Arc::clone(batch.column(0));
            let rows =
                self.codec.rows(&column).map_err(|error| arrow_error("key column", error))?;
            self.batch = Some((rows, column));
            self.at = 0;
        }
    }

    /// The key that `next` answered last, as text.
    fn last_shown(&self) -> String {
        self.batch
            .as_ref()
            .map_or_else(String::new, |(_, column)| shown(column, self.at.saturating_sub(1)))
    }

    fn last_value(&self) -> Option<ArrayRef> {
        self.batch.as_ref().map(|(_, column)| column.slice(self.at.saturating_sub(1), 1))
    }
}

impl Keys {
    fn stream(
        &self,
        block: &Opened,
        groups: Vec<usize>,
        row: u64,
    ) -> Result<KeyStream, ServiceError> {
        let file = &block.file;
        let data_type = self.field.field(0).data_type();
        let pass = Pass {
            row_groups: groups,
            selection: None,
            schema: Arc::clone(&self.field),
            batch_bytes: KEY_BATCH_BYTES,
            batch_rows: None,
        };
        Ok(KeyStream {
            scan: BlockScan::new(Arc::clone(file), pass, &self.access)?,
            codec: KeyCodec::new(data_type).map_err(|error| arrow_error(file.key(), error))?,
            fixed: is_fixed(data_type),
            batch: None,
            at: 0,
            row,
            deleted: block.deleted.clone(),
        })
    }

    fn merged<F>(&self, files: &[Opened], mut visit: F) -> Result<Option<Duplicate>, ServiceError>
    where
        F: FnMut(&Entry, &KeyStream),
    {
        let mut streams = Vec::with_capacity(files.len());
        let mut heap = BinaryHeap::with_capacity(files.len());
        for file in files {
            let groups = (0..file.file.metadata().metadata().num_row_groups()).collect();
            let mut stream = self.stream(file, groups, 0)?;
            if let Some(first) = stream.next()? {
                heap.push(Reverse((first, streams.len())));
            }
            streams.push(stream);
        }
        let mut before: Option<Entry> = None;
        while let Some(mut least) = heap.peek_mut() {
            let Reverse((now, index)) = &mut *least;
            let stream = &mut streams[*index];
            if before.as_ref() == Some(now) {
                return Ok(Some(Duplicate { key: stream.last_shown() }));
            }
            visit(now, stream);
            // The next key takes the place of this one: one way down the heap.
            before = Some(match stream.next()? {
                Some(next) => std::mem::replace(now, next),
                None => PeekMut::pop(least).0.0,
            });
        }
        Ok(None)
    }

    fn merge(&self, files: &[Opened]) -> Result<Option<Duplicate>, ServiceError> {
        self.merged(files, |_, _| {})
    }

    /// All keys of some blocks, ascending.
    fn gather(&self, files: &[Opened]) -> Result<Gathered, ServiceError> {
        let mut held = Vec::new();
        let repeated = self.merged(files, |entry, stream| {
            if let Some(value) = stream.last_value() {
                held.push((entry.clone(), value));
            }
        })?;
        Ok(repeated.map_or(Gathered::Keys(held), Gathered::Repeated))
    }

    /// The held keys against one block, row group by row group.
    fn probe(
        &self,
        block: &Opened,
        held: &[(Entry, ArrayRef)],
    ) -> Result<Option<Duplicate>, ServiceError> {
        let file = &block.file;
        let field = self.field.field(0);
        let failed = |error| crate::error::parquet_error(file.key(), error);
        let codec =
            KeyCodec::new(field.data_type()).map_err(|error| arrow_error(file.key(), error))?;
        let fixed = is_fixed(field.data_type());
        let metadata = file.metadata();
        let ranges = RowGroupRanges::of(metadata.schema(), metadata.metadata(), field.name())
            .map_err(failed)?;
        for index in 0..metadata.metadata().num_row_groups() {
            let range = ranges.range(index);
            let bound = |value: &Option<ArrayRef>| -> Result<Option<Entry>, ServiceError> {
                let Some(value) = value else { return Ok(None) };
                let bytes = codec.bytes(value).map_err(|error| arrow_error(file.key(), error))?;
                Ok(Some(entry(&bytes, fixed)))
            };
            let from =
                bound(&range.min)?.map_or(0, |min| held.partition_point(|(key, _)| *key < min));
            let to = bound(&range.max)?
                .map_or(held.len(), |max| held.partition_point(|(key, _)| *key <= max));
            let near = held.get(from..to).unwrap_or_default();
            if near.is_empty() || self.bloom_lacks_all(file, index, near)? {
                continue;
            }
            let before = metadata.metadata().row_groups().iter().take(index);
            let before = before.map(|group| u64::try_from(group.num_rows()).unwrap_or(0)).sum();
            let mut stream = self.stream(block, vec![index], before)?;
            while let Some(entry) = stream.next()? {
                if near.binary_search_by(|(key, _)| key.cmp(&entry)).is_ok() {
                    return Ok(Some(Duplicate { key: stream.last_shown() }));
                }
            }
        }
        Ok(None)
    }

    fn bloom_lacks_all(
        &self,
        file: &BlockFile,
        group: usize,
        near: &[(Entry, ArrayRef)],
    ) -> Result<bool, ServiceError> {
        if near.len() > BLOOM_PROBES_MAX {
            return Ok(false);
        }
        let bloom = self.access.bloom(file, self.field.field(0).name(), group)?;
        Ok(bloom.is_some_and(|bloom| near.iter().all(|(_, value)| bloom_lacks(&bloom, value))))
    }
}
