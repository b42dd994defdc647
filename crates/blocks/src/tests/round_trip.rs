//! What goes in comes out, however it is asked for.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, DictionaryArray, Int64Array, RecordBatch, StringArray,
};
use arrow::compute::{concat_batches, filter_record_batch};
use arrow::datatypes::{Int32Type, Int64Type, Schema, SchemaRef};
use filter::{Filter, Pruned};
use futures::TryStreamExt;
use roaring::RoaringBitmap;

use super::{Shelf, by_id, live, plan_of, reading, rows};
use crate::{Position, Reading, ScanPlan, Walk};

fn naive(batch: &RecordBatch, filter: &str) -> RecordBatch {
    let mask = Filter::parse(filter, &batch.schema()).unwrap().evaluate(batch).unwrap();
    filter_record_batch(batch, &mask).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn three_hundred_thousand_unsorted_rows_come_back_sorted() {
    let mut shelf = Shelf::new().await;
    shelf.options.row_group_rows = 131_072;
    let batches: Vec<RecordBatch> = (0..30).map(|i| rows(i * 10_000..(i + 1) * 10_000)).collect();
    let written = shelf.write(&batches, Some("id")).await.unwrap();
    assert_eq!(written.len(), 1);
    assert_eq!(written[0].row_count, 300_000);
    let all = batches[0].schema();
    let expected = by_id(&concat_batches(&all, &batches).unwrap());
    assert_eq!(shelf.scan(&live(&written), None, all.clone(), all.clone()).await, expected);
    let object = shelf.store.get(&written[0].object_key).await.unwrap();
    assert_eq!(object.len() as u64, written[0].byte_count);
}

const FILTERS: [&str; 11] = [
    "width > 3900 AND flag = true",
    "width = null",
    "title = \"title 7\" OR tags:\"t1\"",
    "title = \"title 7\"",
    "title:\"le 99\" AND flag = false",
    "flag",
    "NOT shape.x < 24000",
    "width > 100000",
    "width != null OR width = null",
    "at < \"1970-01-01T00:00:00.001Z\"",
    "at > \"1970-01-01T00:00:00.020Z\" AND NOT flag AND width IN (7, 8, 9)",
];

#[tokio::test(flavor = "multi_thread")]
async fn filters_pages_and_counts_agree_with_the_naive_twin() {
    let mut shelf = Shelf::new().await;
    shelf.options.block_rows_max = 9_000;
    let batches: Vec<RecordBatch> = (0..5).map(|i| rows(i * 5_000..(i + 1) * 5_000)).collect();
    let written = live(&shelf.write(&batches, Some("id")).await.unwrap());
    assert_eq!(written.len(), 3);
    let all = batches[0].schema();
    let whole = shelf.scan(&written, None, all.clone(), all.clone()).await;
    assert_eq!(whole.num_rows(), 25_000);
    assert_eq!(shelf.pages(&written, None, &all, 777, false).await, whole);
    assert_eq!(shelf.pages(&written, None, &all, 777, true).await, whole);
    // Cold, then with columns in memory, then with indexes.
    for round in 0..3 {
        for text in FILTERS {
            let expected = naive(&whole, text);
            let case = format!("{text}, round {round}");
            let scanned = shelf.scan(&written, Some(text), all.clone(), all.clone()).await;
            assert_eq!(scanned, expected, "{case}");
            let back = round == 1;
            let paged = shelf.pages(&written, Some(text), &all, 213, back).await;
            assert_eq!(paged, expected, "{case}");
            let count = shelf.count(&written, text, &all).await;
            assert_eq!(count, expected.num_rows() as u64, "{case}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn deleted_rows_are_nowhere() {
    let mut shelf = Shelf::new().await;
    shelf.options.block_rows_max = 9_000;
    let batches: Vec<RecordBatch> = (0..5).map(|i| rows(i * 5_000..(i + 1) * 5_000)).collect();
    let mut blocks = live(&shelf.write(&batches, Some("id")).await.unwrap());
    let all = batches[0].schema();
    let whole = shelf.scan(&blocks, None, all.clone(), all.clone()).await;
    // Some rows, nearly all, and a whole row group.
    let gone: [RoaringBitmap; 3] = [
        (0..9_000u32).filter(|n| n % 5 == 0).collect(),
        (0..9_000u32).filter(|n| n % 100 != 1).collect(),
        (4_096..7_000u32).collect(),
    ];
    let mut kept = Vec::new();
    for (block, gone) in blocks.iter_mut().zip(gone) {
        let rows = u32::try_from(block.location.row_count).unwrap();
        kept.extend((0..rows).map(|row| Some(!gone.contains(row))));
        block.deleted = Some(Arc::new(gone.into_iter().filter(|row| *row < rows).collect()));
    }
    let rest = filter_record_batch(&whole, &kept.into_iter().collect()).unwrap();
    let live_rows: u64 = blocks.iter().map(crate::BlockRows::live_count).sum();
    assert_eq!(rest.num_rows() as u64, live_rows);
    assert_eq!(shelf.scan(&blocks, None, all.clone(), all.clone()).await, rest);
    for back in [false, true] {
        assert_eq!(shelf.pages(&blocks, None, &all, 501, back).await, rest);
    }
    for round in 0..3 {
        for text in FILTERS {
            let expected = naive(&rest, text);
            let case = format!("{text}, round {round}");
            let scanned = shelf.scan(&blocks, Some(text), all.clone(), all.clone()).await;
            assert_eq!(scanned, expected, "{case}");
            assert_eq!(shelf.pages(&blocks, Some(text), &all, 97, round == 1).await, expected);
            assert_eq!(shelf.count(&blocks, text, &all).await, expected.num_rows() as u64);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_ends_when_its_rows_take_too_much_memory() {
    let shelf = Shelf::new().await;
    let batch = rows(0..9_000);
    let blocks = live(&shelf.write(std::slice::from_ref(&batch), Some("id")).await.unwrap());
    let (all, reading) = (batch.schema(), reading(None, &batch.schema()));
    let walk = Walk { from: Position { block: 0, row: 0 }, back: false, limit: 9_000 };
    let found = shelf.reader.walk(&blocks, &reading, walk, |_| Pruned::Maybe).await.unwrap();
    let page = shelf.reader.rows(&blocks, &found, &all, &reading, 50_000).await.unwrap();
    let bytes: usize = page.iter().map(crate::slice_bytes).sum();
    assert!((1..9_000).contains(&page.iter().map(RecordBatch::num_rows).sum::<usize>()));
    assert!(bytes < 100_000, "{bytes}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_read_once_is_not_fetched_again() {
    let shelf = Shelf::new().await;
    let batch = rows(0..20_000);
    let blocks = live(&shelf.write(std::slice::from_ref(&batch), Some("id")).await.unwrap());
    let all = batch.schema();
    let cost = async |filter: &str| {
        let reading = reading(Some(filter), &all);
        shelf.reader.count(&blocks, &reading, |_| Pruned::Maybe).await.unwrap();
        reading.tally.cost()
    };
    let (first, second, third) =
        (cost("width = 7").await, cost("width = 8").await, cost("width = 9").await);
    assert!(first.gets > 0 && first.cells_decoded == 5, "{first:?}");
    assert_eq!((second.gets, second.bytes, second.cells_decoded), (0, 0, 0));
    assert_eq!((third.gets, third.cells_hot), (0, second.cells_hot));
    assert!(cost("flag").await.indexes == 0 && cost("flag").await.indexes > 0);
    assert!(cost("flag AND width = 3").await.cells_decoded == 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_projection_answers_its_columns_in_its_order() {
    let shelf = Shelf::new().await;
    let batch = rows(0..6_000);
    let written = shelf.write(std::slice::from_ref(&batch), Some("id")).await.unwrap();
    let all = batch.schema();
    let few: SchemaRef = Arc::new(all.project(&[3, 1]).unwrap());
    let found =
        shelf.scan(&live(&written), Some("title = \"title 5\""), few.clone(), all.clone()).await;
    assert_eq!(found.schema(), few);
    assert_eq!(found, naive(&by_id(&batch), "title = \"title 5\"").project(&[3, 1]).unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_found_and_a_strange_one_is_not() {
    let shelf = Shelf::new().await;
    let batch = rows(0..20_000);
    let written = shelf.write(std::slice::from_ref(&batch), Some("id")).await.unwrap();
    let (written, all) = (live(&written), batch.schema());
    for (n, expected) in [(12_345u64, 1), (20_001, 0)] {
        let id = uuid::Uuid::from_bytes(super::id_of(n)).to_string();
        let filter = Arc::new(Filter::equals(&all, "id", &id).unwrap());
        let reading = Reading::new(all.clone(), Some(filter));
        let walk = Walk { from: Position { block: 0, row: 0 }, back: false, limit: 2 };
        let found = shelf.reader.walk(&written, &reading, walk, |_| Pruned::Maybe).await.unwrap();
        assert_eq!(found.len(), expected);
        if expected == 1 {
            let page = shelf.reader.rows(&written, &found, &all, &reading, 1 << 20).await.unwrap();
            let shape = page[0].column_by_name("shape").unwrap().as_struct().column(0).clone();
            assert_eq!(shape.as_primitive::<Int32Type>().value(0), 12_345);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn statistics_are_those_of_the_rows() {
    let shelf = Shelf::new().await;
    let numbers: Int64Array = (0..10_000).map(|n| (n % 10 != 0).then_some(n)).collect();
    let long: StringArray =
        (0..10_000).map(|n| Some(format!("{n:05}{}", "x".repeat(100)))).collect();
    let batch = RecordBatch::try_from_iter_with_nullable([
        ("n", Arc::new(numbers) as ArrayRef, true),
        ("s", Arc::new(long), true),
    ]);
    let written = shelf.write(&[batch.unwrap()], None).await.unwrap();
    let [n, s] = written[0].columns.as_slice() else { panic!() };
    assert_eq!((n.null_count, n.exact), (1_000, true));
    assert_eq!(n.min.as_ref().unwrap().as_primitive::<Int64Type>().value(0), 1);
    assert_eq!(n.max.as_ref().unwrap().as_primitive::<Int64Type>().value(0), 9_999);
    assert!(!s.exact);
    assert!(s.max.as_ref().unwrap().as_string::<i32>().value(0).len() <= 64);
}

#[tokio::test(flavor = "multi_thread")]
async fn types_come_back_as_they_were() {
    let shelf = Shelf::new().await;
    let words: DictionaryArray<Int32Type> =
        (0..5_000).map(|n| if n % 5 == 0 { None } else { Some(["a", "b"][n % 2]) }).collect();
    let views = arrow::compute::cast(
        &StringArray::from(vec!["v"; 5_000]),
        &arrow::datatypes::DataType::Utf8View,
    )
    .unwrap();
    let batch = RecordBatch::try_from_iter_with_nullable([
        ("d", Arc::new(words) as ArrayRef, true),
        ("v", views, true),
    ])
    .unwrap();
    let written = shelf.write(std::slice::from_ref(&batch), None).await.unwrap();
    let found = shelf.scan(&live(&written), None, batch.schema(), batch.schema()).await;
    assert_eq!(found.schema(), batch.schema());
    assert_eq!(format!("{:?}", found.column(1)), format!("{:?}", batch.column(1)));
    assert_eq!(found.column(0).null_count(), 1_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn columns_that_a_block_is_older_than_are_null() {
    let shelf = Shelf::new().await;
    let batch = rows(0..100);
    let written = shelf.write(std::slice::from_ref(&batch), Some("id")).await.unwrap();
    let mut fields: Vec<_> = batch.schema().fields().iter().cloned().collect();
    fields.push(Arc::new(arrow::datatypes::Field::new(
        "late",
        arrow::datatypes::DataType::Int64,
        true,
    )));
    let all: SchemaRef = Arc::new(Schema::new(fields));
    let found = shelf.scan(&live(&written), None, all.clone(), all.clone()).await;
    assert_eq!(found.column_by_name("late").unwrap().null_count(), 100);
    assert_eq!(
        shelf.scan(&live(&written), Some("late = 3"), all.clone(), all.clone()).await.num_rows(),
        0
    );
    assert_eq!(
        shelf
            .scan(&live(&written), Some("late = null AND flag"), all.clone(), all)
            .await
            .num_rows(),
        34
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn writers_share_a_budget_without_waiting_for_each_other_for_ever() {
    let mut shelf = Shelf::new().await;
    shelf.budget = crate::ByteBudget::new(2 << 20);
    let shelf = Arc::new(shelf);
    let puts = (0..4u64).map(|put| {
        let shelf = shelf.clone();
        tokio::spawn(async move {
            let batches: Vec<RecordBatch> = (0..20)
                .map(|i| rows(put * 100_000 + i * 1_000..put * 100_000 + (i + 1) * 1_000))
                .collect();
            let written = shelf.write(&batches, Some("id")).await.unwrap();
            written.iter().map(|block| block.row_count).sum::<u64>()
        })
    });
    for put in futures::future::join_all(puts).await {
        assert_eq!(put.unwrap(), 20_000);
    }
    assert_eq!(shelf.budget.free(), 2 << 20);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_fits_is_kept_when_it_is_streamed_again() {
    let shelf = Shelf::new().await;
    let batch = rows(0..9_000);
    let written = shelf.write(std::slice::from_ref(&batch), Some("id")).await.unwrap();
    let blocks = live(&written);
    let sorted = by_id(&batch);
    let streamed = async |table_rows: Option<u64>| {
        let plan = ScanPlan { table_rows, ..plan_of(&blocks, &batch.schema()) };
        let tally = Arc::clone(&plan.tally);
        let found: Vec<RecordBatch> = shelf.reader.scan(plan).try_collect().await.unwrap();
        let found_rows = concat_batches(&batch.schema(), &found).unwrap();
        assert_eq!(found_rows, sorted);
        assert!(found.len() > 3, "a batch for each row group at least");
        tally.cost()
    };
    // Not kept: what is read once, and what is a part of more than there is room for.
    for table_rows in [None, None, None, Some(u64::MAX), Some(u64::MAX)] {
        assert!(streamed(table_rows).await.gets > 0);
    }
    assert!(streamed(Some(9_000)).await.gets > 0, "the first time it is only noted");
    assert!(streamed(Some(9_000)).await.cells_decoded > 0);
    let third = streamed(Some(9_000)).await;
    assert_eq!((third.gets, third.cells_decoded), (0, 0));
    assert!(third.cells_hot > 0);
}
