//! Each key once, within a block, between blocks, against committed ones.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use service_error::Code;

use super::{Shelf, id_of, keyed, rows};
use crate::{KeyedBlock, find_duplicate};

async fn blocks(shelf: &Shelf, batches: &[RecordBatch]) -> Vec<KeyedBlock> {
    let key = batches[0].schema().field(0).name().clone();
    shelf.write(batches, Some(&key)).await.unwrap().iter().map(keyed).collect()
}

async fn repeated(
    shelf: &Shelf,
    new: &[KeyedBlock],
    old: &[KeyedBlock],
    like: &RecordBatch,
) -> Option<String> {
    let schema = like.schema();
    find_duplicate(&shelf.reader, new, old, schema.field(0)).await.unwrap().map(|found| found.key)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_twice_in_one_block_is_refused_by_name() {
    let shelf = Shelf::new().await;
    let error = shelf.write(&[rows(0..5_000), rows(100..101)], Some("id")).await.unwrap_err();
    assert_eq!(error.code(), Code::AlreadyExists);
    assert_eq!(error.detail("key"), Some(uuid::Uuid::from_bytes(id_of(100)).to_string().as_str()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_null_key_is_refused() {
    let shelf = Shelf::new().await;
    let keys: ArrayRef = Arc::new(Int64Array::from(vec![Some(1), None]));
    let batch = RecordBatch::try_from_iter_with_nullable([("k", keys, true)]).unwrap();
    let error = shelf.write(&[batch], Some("k")).await.unwrap_err();
    assert_eq!((error.code(), error.field_name()), (Code::InvalidArgument, Some("k")));
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_are_compared_between_the_blocks_of_a_put() {
    let mut shelf = Shelf::new().await;
    shelf.options.block_rows_max = 3_000;
    let fine = blocks(&shelf, &[rows(0..9_000)]).await;
    assert_eq!(repeated(&shelf, &fine, &[], &rows(0..1)).await, None);
    let twice = blocks(&shelf, &[rows(0..9_000), rows(17..18)]).await;
    assert_eq!(
        repeated(&shelf, &twice, &[], &rows(0..1)).await,
        Some(uuid::Uuid::from_bytes(id_of(17)).to_string())
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn few_new_keys_are_looked_up_in_committed_blocks() {
    let shelf = Shelf::new().await;
    let old = blocks(&shelf, &[rows(0..30_000)]).await;
    let fresh = blocks(&shelf, &[rows(30_000..30_100)]).await;
    assert_eq!(repeated(&shelf, &fresh, &old, &rows(0..1)).await, None);
    let clash = blocks(&shelf, &[rows(29_999..30_100)]).await;
    assert_eq!(
        repeated(&shelf, &clash, &old, &rows(0..1)).await,
        Some(uuid::Uuid::from_bytes(id_of(29_999)).to_string())
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn many_new_keys_are_merged_with_committed_blocks() {
    let mut shelf = Shelf::new().await;
    shelf.options.row_group_rows = 65_536;
    let numbers = |range: std::ops::Range<i64>| {
        let keys: ArrayRef = Arc::new(Int64Array::from_iter_values(range));
        RecordBatch::try_from_iter([("k", keys)]).unwrap()
    };
    let like = numbers(0..1);
    let old = blocks(&shelf, &[numbers(-300_000..-1)]).await;
    let new = blocks(&shelf, &[numbers(-1..300_000)]).await;
    assert_eq!(repeated(&shelf, &new, &old, &like).await, None);
    let odd = blocks(&shelf, &[numbers(-1_000_000..-999_999), numbers(-2..300_000)]).await;
    assert_eq!(repeated(&shelf, &odd, &old, &like).await, Some("-2".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn long_texts_with_one_beginning_are_told_apart() {
    let shelf = Shelf::new().await;
    let texts = |range: std::ops::Range<u32>| {
        let keys: ArrayRef = Arc::new(StringArray::from_iter_values(
            range.map(|n| format!("{}{n:06}", "p".repeat(80))),
        ));
        RecordBatch::try_from_iter([("k", keys)]).unwrap()
    };
    let old = blocks(&shelf, &[texts(0..2_000)]).await;
    let new = blocks(&shelf, &[texts(2_000..2_100)]).await;
    assert_eq!(repeated(&shelf, &new, &old, &texts(0..1)).await, None);
    let clash = blocks(&shelf, &[texts(1_999..2_100)]).await;
    assert!(repeated(&shelf, &clash, &old, &texts(0..1)).await.unwrap().ends_with("p001999"));
}
