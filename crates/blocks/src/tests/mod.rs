//! Blocks written and read back, whole and damaged.

#![allow(clippy::unwrap_used, reason = "tests")]

mod damage;
mod keys;
mod round_trip;

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanArray, FixedSizeBinaryArray, Int32Array, ListBuilder, RecordBatch,
    StringArray, StringBuilder, StructArray, TimestampMicrosecondArray,
};
use arrow::compute::concat_batches;
use arrow::datatypes::{DataType, Field, SchemaRef};
use blob_store::BlobStore;
use filter::{Filter, Pruned};
use futures::TryStreamExt;
use service_error::ServiceError;

use crate::{
    BlockLocation, BlockOptions, BlockReader, BlockRows, BlockWriter, ByteBudget, KeyedBlock,
    Position, ReaderSettings, Reading, ScanPlan, ScanRange, Walk, WrittenBlock,
};

pub(crate) struct Shelf {
    pub store: BlobStore,
    pub reader: BlockReader,
    pub options: BlockOptions,
    pub budget: ByteBudget,
}

impl Shelf {
    pub async fn new() -> Self {
        let store = BlobStore::open("memory://", "items").await.unwrap();
        let reader = BlockReader::new(store.inner(), &ReaderSettings::default());
        let options = BlockOptions { row_group_rows: 4_096, threads: 2, ..BlockOptions::default() };
        Self { store, reader, options, budget: ByteBudget::new(64 << 20) }
    }

    pub async fn write(
        &self,
        batches: &[RecordBatch],
        key: Option<&str>,
    ) -> Result<Vec<WrittenBlock>, ServiceError> {
        let schema = batches[0].schema();
        let (store, budget) = (self.store.clone(), self.budget.clone());
        let mut writer = BlockWriter::new(
            store,
            budget,
            self.options.clone(),
            schema,
            key,
            "set/upload".into(),
        )?;
        for batch in batches {
            writer.write(batch.clone()).await?;
        }
        writer.finish().await
    }

    pub async fn scan(
        &self,
        blocks: &[BlockRows],
        filter: Option<&str>,
        schema: SchemaRef,
        all: SchemaRef,
    ) -> RecordBatch {
        let filter = filter.map(|text| Arc::new(Filter::parse(text, &all).unwrap()));
        let plan = ScanPlan {
            filter,
            dataset_schema: all,
            table_rows: Some(blocks.iter().map(|b| b.location.row_count).sum()),
            ..plan_of(blocks, &schema)
        };
        let batches: Vec<RecordBatch> = self.reader.scan(plan).try_collect().await.unwrap();
        concat_batches(&schema, &batches).unwrap()
    }

    /// All pages of some blocks, one after the other, from the begin or from
    /// the end.
    pub async fn pages(
        &self,
        blocks: &[BlockRows],
        filter: Option<&str>,
        all: &SchemaRef,
        limit: usize,
        back: bool,
    ) -> RecordBatch {
        let reading = reading(filter, all);
        let mut pages: Vec<Vec<RecordBatch>> = Vec::new();
        let mut from = match (back, blocks.last()) {
            (true, Some(last)) => {
                Position { block: blocks.len() - 1, row: last.location.row_count }
            }
            _ => Position { block: 0, row: 0 },
        };
        loop {
            let walk = Walk { from, back, limit };
            let rows = self.reader.walk(blocks, &reading, walk, |_| Pruned::Maybe).await.unwrap();
            assert!(rows.len() <= limit);
            let (Some(first), Some(last)) = (rows.first(), rows.last()) else { break };
            from = if back { *first } else { Position { row: last.row + 1, ..*last } };
            let page = self.reader.rows(blocks, &rows, all, &reading, 1 << 30).await.unwrap();
            assert_eq!(page.iter().map(RecordBatch::num_rows).sum::<usize>(), rows.len());
            pages.push(page);
        }
        if back {
            pages.reverse();
        }
        concat_batches(all, pages.iter().flatten()).unwrap()
    }

    pub async fn count(&self, blocks: &[BlockRows], filter: &str, all: &SchemaRef) -> u64 {
        let reading = reading(Some(filter), all);
        self.reader.count(blocks, &reading, |_| Pruned::Maybe).await.unwrap()
    }
}

pub(crate) fn reading(filter: Option<&str>, all: &SchemaRef) -> Reading {
    let filter = filter.map(|text| Arc::new(Filter::parse(text, all).unwrap()));
    Reading::new(all.clone(), filter)
}

pub(crate) fn live(blocks: &[WrittenBlock]) -> Vec<BlockRows> {
    blocks.iter().map(|block| location(block).into()).collect()
}

pub(crate) fn location(block: &WrittenBlock) -> BlockLocation {
    BlockLocation {
        object_key: block.object_key.clone(),
        row_count: block.row_count,
        byte_count: block.byte_count,
        footer_length: block.footer_length,
    }
}

pub(crate) fn keyed(block: &WrittenBlock) -> KeyedBlock {
    let stats = &block.columns[0];
    let range = stats.min.clone().zip(stats.max.clone());
    KeyedBlock { location: location(block), range, deleted: None }
}

/// A scrambled but repeatable number.
pub(crate) fn scramble(n: u64) -> u64 {
    let mixed = n.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    (mixed ^ (mixed >> 29)).wrapping_mul(0xBF58_476D_1CE4_E5B9)
}

pub(crate) fn id_of(n: u64) -> [u8; 16] {
    let mut id = [0; 16];
    id[..8].copy_from_slice(&scramble(n).to_be_bytes());
    id[8..].copy_from_slice(&n.to_be_bytes());
    id
}

/// Rows with many types, keys in scrambled order.
pub(crate) fn rows(range: std::ops::Range<u64>) -> RecordBatch {
    let ids = FixedSizeBinaryArray::try_from_iter(range.clone().map(id_of)).unwrap();
    let width: Int32Array =
        range.clone().map(|n| (n % 11 != 0).then_some((n % 4_000) as i32)).collect();
    let title: StringArray =
        range.clone().map(|n| Some(format!("title {}", scramble(n) % 1_000))).collect();
    let flag: BooleanArray = range.clone().map(|n| Some(n % 3 == 0)).collect();
    let at = TimestampMicrosecondArray::from_iter_values(range.clone().map(|n| n as i64))
        .with_timezone("UTC");
    let mut tags = ListBuilder::new(StringBuilder::new());
    for n in range.clone() {
        if n % 7 == 0 {
            tags.append_null();
        } else {
            tags.append_value((0..n % 3).map(|i| Some(format!("t{i}"))));
        }
    }
    let inner: ArrayRef = Arc::new(Int32Array::from_iter_values(range.map(|n| n as i32)));
    let shape = StructArray::from(vec![(Arc::new(Field::new("x", DataType::Int32, true)), inner)]);
    RecordBatch::try_from_iter_with_nullable([
        ("id", Arc::new(ids) as ArrayRef, false),
        ("width", Arc::new(width), true),
        ("title", Arc::new(title), true),
        ("flag", Arc::new(flag), true),
        ("at", Arc::new(at), true),
        ("tags", Arc::new(tags.finish()), true),
        ("shape", Arc::new(shape), true),
    ])
    .unwrap()
}

/// The same rows in key order.
pub(crate) fn by_id(batch: &RecordBatch) -> RecordBatch {
    let order = arrow::compute::sort_to_indices(batch.column(0), None, None).unwrap();
    arrow::compute::take_record_batch(batch, &order).unwrap()
}

/// All columns of all rows, in batches of some hundred rows.
pub fn plan_of(blocks: &[BlockRows], schema: &SchemaRef) -> ScanPlan {
    let range = |block: &BlockRows| ScanRange {
        location: block.location.clone(),
        rows: 0..block.location.row_count,
        deleted: block.deleted.clone(),
    };
    ScanPlan {
        ranges: blocks.iter().map(range).collect(),
        schema: Arc::clone(schema),
        dataset_schema: Arc::clone(schema),
        filter: None,
        limit: None,
        batch_bytes: 100_000,
        tally: Arc::default(),
        table_rows: None,
    }
}
