//! Unique columns: no way to write brings a value that a row has, whoever writes beside it.

use std::collections::HashMap;

use arrow::array::{ArrayRef, Int64Array, StringArray};
use catalog_api::v1::Value;
use catalog_api::v1::value::Kind;
use items_api::v1::analysis_service_client::AnalysisServiceClient;
use items_api::v1::bulk_edit_items_request::Change;
use items_api::v1::edits_service_client::EditsServiceClient;
use items_api::v1::{
    BatchCreateItemsRequest, BatchPatchItemsRequest, BulkEditItemsRequest, CreateVersionRequest,
    DeleteItemRequest, DescribeItemsRequest, ItemPatch, NewItem, PatchChange, RestoreItemsRequest,
    RollbackToVersionRequest, SetUniqueColumnsRequest,
};
use serde_json::json;
use service_error::Code;

use super::*;

/// A house with one dataset whose `code` is unique, and its admin.
struct Shop {
    house: House,
    who: Who,
}

type Row<'a> = (i64, Option<&'a str>);

fn coded(rows: &[Row<'_>]) -> RecordBatch {
    let ids: Int64Array = rows.iter().map(|row| row.0).collect();
    let codes: StringArray = rows.iter().map(|row| row.1).collect();
    RecordBatch::try_from_iter_with_nullable([
        ("id", Arc::new(ids) as ArrayRef, false),
        ("code", Arc::new(codes), true),
    ])
    .unwrap()
}

fn cells(code: &str) -> HashMap<String, Value> {
    let value = Value { kind: Some(Kind::StringValue(code.into())) };
    HashMap::from([("code".to_owned(), value)])
}

fn with_id(id: i64, code: &str) -> HashMap<String, Value> {
    let mut cells = cells(code);
    cells.insert("id".to_owned(), Value { kind: Some(Kind::IntValue(id)) });
    cells
}

impl Shop {
    async fn of(rows: &[Row<'_>], unique: &[&str]) -> Self {
        let house = House::with(|settings| settings.compaction.seconds = 0).await;
        let shop = Self { house, who: Who::admin() };
        let made = json!({"dataset": "vision/u", "unique_columns": unique});
        shop.house.put(&shop.who, command(made), &[coded(rows)]).await.unwrap();
        shop
    }

    fn edits(&self) -> EditsServiceClient<Transport> {
        EditsServiceClient::new(self.house.transport.clone())
    }

    async fn put(&self, mode: &str, rows: &[Row<'_>]) -> Result<(), ServiceError> {
        let asked = command(json!({"dataset": "vision/u", "mode": mode}));
        self.house.put(&self.who, asked, &[coded(rows)]).await.map(drop)
    }

    async fn create(&self, rows: &[(i64, &str)]) -> Result<(), ServiceError> {
        let items = rows.iter().map(|(id, code)| NewItem { cells: with_id(*id, code) });
        let request = BatchCreateItemsRequest {
            namespace: "vision".into(),
            dataset: "u".into(),
            items: items.collect(),
            ..Default::default()
        };
        self.edits().batch_create_items(self.house.by(&self.who, request)).await?;
        Ok(())
    }

    async fn patch(&self, rows: &[(i64, &str)]) -> Result<(), ServiceError> {
        let patch = |(id, code): &(i64, &str)| ItemPatch {
            key: id.to_string(),
            cells: cells(code),
            ..Default::default()
        };
        let request = BatchPatchItemsRequest {
            namespace: "vision".into(),
            dataset: "u".into(),
            patches: rows.iter().map(patch).collect(),
            ..Default::default()
        };
        self.edits().batch_patch_items(self.house.by(&self.who, request)).await?;
        Ok(())
    }

    async fn delete(&self, id: i64) {
        let request = DeleteItemRequest {
            namespace: "vision".into(),
            dataset: "u".into(),
            key: id.to_string(),
            ..Default::default()
        };
        self.edits().delete_item(self.house.by(&self.who, request)).await.unwrap();
    }

    async fn set_where(&self, filter: &str, code: &str) -> Result<(), ServiceError> {
        let change = PatchChange { cells: cells(code), update_mask: Vec::new() };
        let request = BulkEditItemsRequest {
            namespace: "vision".into(),
            dataset: "u".into(),
            filter: filter.into(),
            change: Some(Change::Patch(change)),
            ..Default::default()
        };
        self.edits().bulk_edit_items(self.house.by(&self.who, request)).await?;
        Ok(())
    }

    async fn restore(&self, id: i64) -> Result<(), ServiceError> {
        let request = RestoreItemsRequest {
            namespace: "vision".into(),
            dataset: "u".into(),
            keys: vec![id.to_string()],
            ..Default::default()
        };
        self.edits().restore_items(self.house.by(&self.who, request)).await?;
        Ok(())
    }

    async fn flush(&self) {
        let request = CreateVersionRequest {
            namespace: "vision".into(),
            dataset: "u".into(),
            message: String::new(),
        };
        self.edits().create_version(self.house.by(&self.who, request)).await.unwrap();
    }

    async fn rollback(&self, version: i64) -> Result<(), ServiceError> {
        let request = RollbackToVersionRequest {
            namespace: "vision".into(),
            dataset: "u".into(),
            version: version.to_string(),
            message: String::new(),
        };
        self.edits().rollback_to_version(self.house.by(&self.who, request)).await?;
        Ok(())
    }

    async fn declare(&self, columns: &[&str]) -> Result<(), ServiceError> {
        let request = SetUniqueColumnsRequest {
            namespace: "vision".into(),
            dataset: "u".into(),
            columns: columns.iter().map(|name| (*name).to_owned()).collect(),
        };
        self.edits().set_unique_columns(self.house.by(&self.who, request)).await?;
        Ok(())
    }

    async fn compact(&self) -> bool {
        let request = DescribeItemsRequest {
            namespace: "vision".into(),
            dataset: "u".into(),
            ..Default::default()
        };
        let mut client = AnalysisServiceClient::new(self.house.transport.clone());
        let said = client.describe_items(self.house.by(&self.who, request)).await.unwrap();
        let dataset = said.into_inner().dataset_id.parse().unwrap();
        self.house.app.compact(dataset).await.unwrap()
    }

    /// Rows in the order of their keys.
    async fn rows(&self) -> RecordBatch {
        by_id(&self.house.get(&self.who, path("u")).await.unwrap())
    }
}

/// Somebody has the value; one of these rows.
#[track_caller]
fn taken(outcome: Result<(), ServiceError>, value: &str, keys: &[i64]) {
    let error = outcome.expect_err("the value is there");
    assert_eq!((error.code(), error.reason_text()), (Code::AlreadyExists, "VALUE_EXISTS"));
    assert_eq!((error.field_name(), error.detail("value")), (Some("code"), Some(value)), "{error}");
    let key: i64 = error.detail("key").expect("a key").parse().unwrap();
    assert!(keys.contains(&key), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_put_brings_a_value_that_a_row_has() {
    let shop = Shop::of(&[(1, Some("a")), (2, Some("b")), (3, None), (4, None)], &["code"]).await;
    taken(shop.put("append", &[(5, Some("a"))]).await, "a", &[1]);
    taken(shop.put("append", &[(5, Some("c")), (6, Some("c"))]).await, "c", &[5, 6]);
    taken(shop.put("upsert", &[(2, Some("a"))]).await, "a", &[1]);
    taken(shop.put("upsert", &[(7, Some("b"))]).await, "b", &[2]);
    taken(shop.put("overwrite", &[(1, Some("x")), (2, Some("x"))]).await, "x", &[1, 2]);
    let before = coded(&[(1, Some("a")), (2, Some("b")), (3, None), (4, None)]);
    assert_eq!(shop.rows().await, before, "nothing is written");
    // Rows that give way make room, and nulls are no values.
    shop.put("upsert", &[(1, Some("b")), (2, Some("a"))]).await.unwrap();
    shop.put("append", &[(5, None), (6, Some("c"))]).await.unwrap();
    let ids = RecordBatch::try_from_iter([("id", Arc::clone(coded(&[(1, None)]).column(0)))]);
    let delete = command(json!({"dataset": "vision/u", "mode": "delete"}));
    shop.house.put(&shop.who, delete, &[ids.unwrap()]).await.unwrap();
    shop.put("append", &[(8, Some("b"))]).await.unwrap();
    shop.put("overwrite", &[(1, Some("a")), (2, Some("b"))]).await.unwrap();
    taken(shop.put("append", &[(9, Some("b"))]).await, "b", &[2]);
    // A dataset that the put makes is not made.
    let made = json!({"dataset": "vision/w", "unique_columns": ["code"]});
    let twice = coded(&[(1, Some("a")), (2, Some("a"))]);
    let refused = shop.house.put(&shop.who, command(made), std::slice::from_ref(&twice)).await;
    taken(refused.map(drop), "a", &[1, 2]);
    let absent = command(json!({"dataset": "vision/w", "mode": "delete"}));
    let absent = shop.house.put(&shop.who, absent, &[twice]).await.unwrap_err();
    assert_eq!(absent.code(), Code::NotFound);
    for wrong in [&["none"][..], &["id"], &["code", "code"]] {
        let made = json!({"dataset": "vision/w", "unique_columns": wrong});
        let refused = shop.house.put(&shop.who, command(made), &[coded(&[(1, None)])]).await;
        let error = refused.unwrap_err();
        assert_eq!(error.field_name(), Some("unique_columns"), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_edit_brings_a_value_that_a_row_has() {
    let shop = Shop::of(&[(1, Some("a")), (2, Some("b")), (3, None), (4, None)], &["code"]).await;
    taken(shop.create(&[(5, "a")]).await, "a", &[1]);
    taken(shop.create(&[(5, "c"), (6, "c")]).await, "c", &[5, 6]);
    shop.create(&[(5, "c")]).await.unwrap();
    taken(shop.create(&[(6, "c")]).await, "c", &[5]);
    taken(shop.patch(&[(2, "a")]).await, "a", &[1]);
    taken(shop.patch(&[(3, "d"), (4, "d")]).await, "d", &[3, 4]);
    shop.patch(&[(2, "b")]).await.unwrap();
    shop.patch(&[(1, "b"), (2, "a")]).await.unwrap();
    taken(shop.set_where("id > 2", "z").await, "z", &[3, 4, 5]);
    shop.set_where("id = 3", "z").await.unwrap();
    taken(shop.set_where("id = 4", "z").await, "z", &[3]);
    // What the delta holds counts for puts, too, and what went is free.
    taken(shop.put("append", &[(9, Some("z"))]).await, "z", &[3]);
    shop.delete(2).await;
    shop.create(&[(7, "a")]).await.unwrap();
    taken(shop.restore(2).await, "a", &[7]);
    shop.delete(7).await;
    shop.restore(2).await.unwrap();
    taken(shop.create(&[(7, "a")]).await, "a", &[2]);
    // The same after a flush and after a compaction.
    shop.flush().await;
    taken(shop.create(&[(8, "z")]).await, "z", &[3]);
    for id in 10..22 {
        shop.put("append", &[(id, Some(&format!("n{id}")))]).await.unwrap();
    }
    assert!(shop.compact().await);
    taken(shop.create(&[(30, "n12")]).await, "n12", &[12]);
    taken(shop.put("append", &[(30, Some("n21"))]).await, "n21", &[21]);
    taken(shop.patch(&[(1, "n11")]).await, "n11", &[11]);
    shop.patch(&[(12, "free")]).await.unwrap();
    shop.create(&[(30, "n12")]).await.unwrap();
    // What a version held, it may hold again.
    shop.rollback(1).await.unwrap();
    let first = coded(&[(1, Some("a")), (2, Some("b")), (3, None), (4, None)]);
    assert_eq!(shop.rows().await, first);
    shop.create(&[(5, "n12")]).await.unwrap();
    taken(shop.create(&[(6, "b")]).await, "b", &[2]);
}

#[tokio::test(flavor = "multi_thread")]
async fn columns_are_declared_once_their_rows_are_seen_to_be_so() {
    let shop = Shop::of(&[(1, Some("a")), (2, Some("a")), (3, None), (4, None)], &[]).await;
    taken(shop.declare(&["code"]).await, "a", &[1, 2]);
    shop.put("append", &[(5, Some("a"))]).await.unwrap();
    shop.delete(2).await;
    shop.delete(5).await;
    // The delta's rows count.
    shop.create(&[(6, "a")]).await.unwrap();
    taken(shop.declare(&["code"]).await, "a", &[1, 6]);
    shop.patch(&[(6, "f")]).await.unwrap();
    shop.declare(&["code"]).await.unwrap();
    taken(shop.create(&[(7, "a")]).await, "a", &[1]);
    taken(shop.put("append", &[(7, Some("f"))]).await, "f", &[6]);
    taken(shop.rollback(1).await, "a", &[1, 2]);
    let wrong = shop.declare(&["none"]).await.unwrap_err();
    assert_eq!(wrong.field_name(), Some("unique_columns"), "{wrong}");
    shop.declare(&[]).await.unwrap();
    shop.create(&[(7, "a")]).await.unwrap();
    shop.rollback(1).await.unwrap();
    let foreign = SetUniqueColumnsRequest {
        namespace: "vision".into(),
        dataset: "u".into(),
        columns: vec!["code".into()],
    };
    let refused = shop.edits().set_unique_columns(shop.house.by(&Who::user(), foreign)).await;
    assert_eq!(ServiceError::from(refused.unwrap_err()).code(), Code::NotFound);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_writers_at_once_one_brings_the_value() {
    let shop = Arc::new(Shop::of(&[(1, Some("a"))], &["code"]).await);
    let mut writers = tokio::task::JoinSet::new();
    for id in 100..116 {
        let shop = Arc::clone(&shop);
        writers.spawn(async move {
            let code = format!("c{}", id % 2);
            match id % 4 {
                0 | 1 => shop.create(&[(id, &code)]).await,
                _ => shop.put("append", &[(id, Some(&code))]).await,
            }
        });
    }
    let mut made = 0;
    while let Some(outcome) = writers.join_next().await {
        match outcome.unwrap() {
            Ok(()) => made += 1,
            Err(error) => assert!(error.reason_is("VALUE_EXISTS"), "{error}"),
        }
    }
    assert_eq!(made, 2, "one of each");
    assert_eq!(shop.rows().await.num_rows(), 3);
    // A declaration beside writers: either they are seen or they are refused.
    let shop = Arc::new(Shop::of(&[(1, Some("a"))], &[]).await);
    let writing = Arc::clone(&shop);
    let writer = tokio::spawn(async move {
        for id in 2..40 {
            let _ = writing.create(&[(id, &format!("b{}", id / 2))]).await;
        }
    });
    while shop.declare(&["code"]).await.is_err() {
        shop.put("overwrite", &[(1, Some("a"))]).await.unwrap();
    }
    writer.await.unwrap();
    let rows = shop.rows().await;
    let codes: Vec<_> =
        arrow::array::AsArray::as_string::<i32>(rows.column(1)).iter().flatten().collect();
    let distinct: std::collections::HashSet<_> = codes.iter().collect();
    assert_eq!(distinct.len(), codes.len(), "{codes:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn writers_of_different_values_all_come_through() {
    let shop = Arc::new(Shop::of(&[(1, Some("a"))], &["code"]).await);
    let mut writers = tokio::task::JoinSet::new();
    // More than an edit has attempts.
    for id in 2..202 {
        let shop = Arc::clone(&shop);
        writers.spawn(async move { shop.create(&[(id, &format!("c{id}"))]).await });
    }
    while let Some(outcome) = writers.join_next().await {
        outcome.unwrap().unwrap();
    }
    assert_eq!(shop.rows().await.num_rows(), 201);
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_that_the_server_makes_do_not_pass_by_and_many_values_are_compared() {
    let shop = Shop::of(&[(1, Some("a"))], &["code"]).await;
    let only = |codes: &[&str]| {
        let codes: StringArray = codes.iter().map(|code| Some(*code)).collect();
        RecordBatch::try_from_iter([("external_id", Arc::new(codes) as ArrayRef)]).unwrap()
    };
    let items = |more: serde_json::Value| {
        let mut asked = json!({"dataset": "vision/i", "profile": "items"});
        asked.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        command(asked)
    };
    let made = items(json!({"unique_columns": ["external_id"]}));
    shop.house.put(&shop.who, made, &[only(&["x", "y"])]).await.unwrap();
    let again = shop.house.put(&shop.who, items(json!({})), &[only(&["z", "y"])]).await;
    let error = again.unwrap_err();
    assert_eq!((error.reason_text(), error.detail("value")), ("VALUE_EXISTS", Some("y")));
    assert_eq!(error.detail("key").map(str::len), Some(36), "{error}");
    let keyed = items(json!({"idempotency_key": "k"}));
    shop.house.put(&shop.who, keyed.clone(), &[only(&["z"])]).await.unwrap();
    shop.house.put(&shop.who, keyed, &[only(&["z"])]).await.expect("the same put again");
    // More than are held in memory.
    let many = |range: std::ops::Range<i64>| {
        let codes: Vec<String> = range.clone().map(|id| format!("m{}", id % 310_000)).collect();
        let rows: Vec<Row<'_>> =
            range.zip(&codes).map(|(id, code)| (id, Some(code.as_str()))).collect();
        coded(&rows)
    };
    let append = || command(json!({"dataset": "vision/u"}));
    let twice = shop.house.put(&shop.who, append(), &[many(10..310_011)]).await;
    taken(twice.map(drop), "m10", &[10, 310_010]);
    shop.house.put(&shop.who, append(), &[many(10..300_000)]).await.unwrap();
    taken(shop.put("append", &[(400_000, Some("m299999"))]).await, "m299999", &[299_999]);
    let beyond = shop.house.put(&shop.who, append(), &[many(590_000..900_000)]).await;
    let error = beyond.unwrap_err();
    assert!(error.reason_is("VALUE_EXISTS"), "{error}");
    let key: i64 = error.detail("key").unwrap().parse().unwrap();
    assert!(key < 300_000, "the row that is there is named: {error}");
    shop.house.put(&shop.who, append(), &[many(300_000..310_000)]).await.unwrap();
}
