//! Block files whose footer, page index and pages lie while all checksums agree.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::sync::Arc;
use std::time::Duration;

use arrow::array::{
    ArrayRef, BooleanArray, DictionaryArray, Int64Array, ListBuilder, RecordBatch, StringArray,
    StringBuilder,
};
use arrow::datatypes::{Int32Type, SchemaRef};
use blob_store::BlobStore;
use blocks::{
    BlockLocation, BlockOptions, BlockReader, BlockRows, BlockWriter, ByteBudget, Compression,
    KeyedBlock, ReaderSettings, Reading, ScanPlan, ScanRange, WrittenBlock,
};
use bytes::Bytes;
use filter::{Filter, Pruned};
use futures::TryStreamExt;
use hostile::{Dice, rounds, stayed_small, twist};
use service_error::{Code, ServiceError};

const PIECE_BYTES: usize = 64 << 10;
const HEADER_BYTES: usize = 28;
const ROWS: i64 = 3_000;
const ANSWERED_WITHIN: Duration = Duration::from_secs(20);

fn rows() -> RecordBatch {
    let ids: Vec<i64> = (0..ROWS).collect();
    let titles: StringArray = ids.iter().map(|id| Some(format!("title {}", id % 97))).collect();
    let flags: BooleanArray = ids.iter().map(|id| Some(id % 3 == 0)).collect();
    let words: DictionaryArray<Int32Type> =
        ids.iter().map(|id| Some(["a", "bb", "ccc"][(id % 3) as usize])).collect();
    let mut tags = ListBuilder::new(StringBuilder::new());
    for id in &ids {
        tags.append_value((0..id % 3).map(|tag| Some(format!("t{tag}"))));
    }
    RecordBatch::try_from_iter_with_nullable([
        ("id", Arc::new(Int64Array::from(ids)) as ArrayRef, false),
        ("title", Arc::new(titles), true),
        ("flag", Arc::new(flags), true),
        ("word", Arc::new(words), true),
        ("tags", Arc::new(tags.finish()), true),
    ])
    .unwrap()
}

async fn written(store: &BlobStore, batch: &RecordBatch, compression: Compression) -> WrittenBlock {
    let options = BlockOptions { row_group_rows: 1_024, compression, ..BlockOptions::default() };
    let budget = ByteBudget::new(64 << 20);
    let (schema, prefix) = (batch.schema(), "set/upload".to_owned());
    let mut writer =
        BlockWriter::new(store.clone(), budget, options, schema, Some("id"), prefix).unwrap();
    writer.write(batch.clone()).await.unwrap();
    writer.finish().await.unwrap().remove(0)
}

/// Everything that is read of a block: rows, a count, a look-up.
async fn read(
    store: &BlobStore,
    location: BlockLocation,
    schema: SchemaRef,
) -> Result<(), ServiceError> {
    let settings = ReaderSettings { cache_bytes: 1 << 20, ..ReaderSettings::default() };
    let reader = BlockReader::new(store.inner(), &settings);
    let plan = ScanPlan {
        ranges: vec![ScanRange {
            rows: 0..location.row_count,
            location: location.clone(),
            deleted: None,
        }],
        schema: Arc::clone(&schema),
        dataset_schema: Arc::clone(&schema),
        filter: None,
        limit: None,
        batch_bytes: 1 << 20,
        tally: Arc::default(),
        table_rows: None,
    };
    let scanned = reader.scan(plan).try_collect::<Vec<_>>().await.map(drop);
    let filter = Filter::parse("flag = true AND title:\"9\"", &schema).unwrap();
    let reading = Reading::new(Arc::clone(&schema), Some(Arc::new(filter)));
    let block = BlockRows::from(location.clone());
    let counted = reader.count(&[block], &reading, |_| Pruned::Maybe).await.map(drop);
    let keys: ArrayRef = Arc::new(Int64Array::from(vec![5, 2_999, 10_000]));
    let keyed = KeyedBlock { location, range: None, deleted: None };
    let field = schema.field_with_name("id").unwrap();
    let located = blocks::locate(&reader, &[keyed], &keys, field).await.map(drop);
    scanned.and(counted).and(located)
}

/// Makes all checksums agree with what the file holds now.
fn seal(bytes: &mut [u8], footer_length: usize) {
    let data = bytes.len() - footer_length;
    for at in 0..data.div_ceil(PIECE_BYTES) {
        let piece = &bytes[at * PIECE_BYTES..((at + 1) * PIECE_BYTES).min(data)];
        let sum = crc32fast::hash(piece).to_le_bytes();
        let place = data + HEADER_BYTES + at * 4;
        bytes[place..place + 4].copy_from_slice(&sum);
    }
    let mut tail = crc32fast::Hasher::new();
    tail.update(&bytes[data..data + HEADER_BYTES - 4]);
    tail.update(&bytes[data + HEADER_BYTES..]);
    let sum = tail.finalize().to_le_bytes();
    bytes[data + HEADER_BYTES - 4..data + HEADER_BYTES].copy_from_slice(&sum);
}

async fn throw(compression: Compression, seed: u64) {
    let store = BlobStore::open("memory://", "items").await.unwrap();
    let batch = rows();
    let block = written(&store, &batch, compression).await;
    let location = BlockLocation {
        object_key: block.object_key.clone(),
        row_count: block.row_count,
        byte_count: block.byte_count,
        footer_length: block.footer_length,
    };
    let sound = store.get(&block.object_key).await.unwrap().to_vec();
    let footer = usize::try_from(block.footer_length).unwrap();
    let (data, pieces) = (sound.len() - footer, (sound.len() - footer).div_ceil(PIECE_BYTES));
    let mut sealed = sound.clone();
    seal(&mut sealed, footer);
    assert_eq!(sealed, sound, "the test seals as the writer does");
    read(&store, location.clone(), batch.schema()).await.unwrap();
    let mut dice = Dice::new(seed);
    let mut refused = 0;
    for round in 0..rounds() {
        let mut bytes = sound.clone();
        // Footer and page index, the thrift before pages, or anything.
        let part = match round % 3 {
            0 => data + HEADER_BYTES + pieces * 4..bytes.len(),
            1 => 0..data.min(512),
            _ => 0..data,
        };
        twist(&mut bytes[part], &mut dice);
        seal(&mut bytes, footer);
        store.put(&block.object_key, Bytes::from(bytes)).await.unwrap();
        let reading = read(&store, location.clone(), batch.schema());
        let outcome = tokio::time::timeout(ANSWERED_WITHIN, reading).await;
        if let Err(error) = outcome.unwrap_or_else(|_| panic!("round {round} does not end")) {
            assert_eq!(error.code(), Code::DataLoss, "round {round}: {error}");
            refused += 1;
        }
    }
    assert!(refused > rounds() / 10, "{refused} of {} were refused", rounds());
    stayed_small();
}

#[tokio::test(flavor = "multi_thread")]
async fn plain_blocks_that_lie() {
    throw(Compression::None, 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn compressed_blocks_that_lie() {
    throw(Compression::Zstd, 2).await;
}
