//! Small writes and bulk edits: tags in both forms, marks, what restoring brings back, leases of
//! long commits.

use std::collections::HashMap;

use arrow::array::{ArrayRef, AsArray, BooleanArray, Int64Array, LargeStringArray};
use catalog_api::v1::Value;
use catalog_api::v1::value::Kind;
use items_api::v1::bulk_edit_items_request::Change;
use items_api::v1::edits_service_client::EditsServiceClient;
use items_api::v1::{
    BatchGetItemsRequest, BulkEditItemsRequest, CountItemsRequest, EditTagsRequest,
    GetStatisticsRequest, ListItemsRequest, PatchItemRequest, RestoreItemsRequest, TagChange,
};
use row_delta::Place;
use serde_json::json;
use service_error::Code;

use super::unruly::{Mood, Moods};
use super::*;

fn edits(house: &House) -> EditsServiceClient<Transport> {
    EditsServiceClient::new(house.transport.clone())
}

fn text(of: &str) -> Value {
    Value { kind: Some(Kind::StringValue(of.into())) }
}

/// Rows with a number as key.
fn numbered(range: std::ops::Range<i64>, width: i64) -> RecordBatch {
    let ids: Int64Array = range.clone().collect();
    let widths: Int64Array = range.map(|_| width).collect();
    RecordBatch::try_from_iter([("id", Arc::new(ids) as ArrayRef), ("width", Arc::new(widths))])
        .unwrap()
}

/// Items whose tags are JSON, one in three without any.
fn tagged(range: std::ops::Range<i64>) -> RecordBatch {
    let ids: StringArray =
        range.clone().map(|n| Some(uuid::Uuid::from_u128(n as u128).to_string())).collect();
    let tags: LargeStringArray =
        range.clone().map(|n| [None, Some(r#"["a"]"#), Some("")][(n % 3) as usize]).collect();
    let favorite: BooleanArray = range.map(|_| Some(false)).collect();
    RecordBatch::try_from_iter([
        ("id", Arc::new(ids) as ArrayRef),
        ("tags_json", Arc::new(tags)),
        ("is_favorite", Arc::new(favorite)),
    ])
    .unwrap()
}

async fn counted(house: &House, who: &Who, dataset: &str, filter: &str) -> i64 {
    let request = CountItemsRequest {
        namespace: "vision".into(),
        dataset: dataset.into(),
        filter: filter.into(),
        ..Default::default()
    };
    house.items().count_items(house.by(who, request)).await.unwrap().into_inner().count
}

async fn bulk(
    house: &House,
    who: &Who,
    dataset: &str,
    filter: &str,
    change: Change,
) -> Result<i64, ServiceError> {
    let request = BulkEditItemsRequest {
        namespace: "vision".into(),
        dataset: dataset.into(),
        filter: filter.into(),
        change: Some(change),
        ..Default::default()
    };
    Ok(edits(house).bulk_edit_items(house.by(who, request)).await?.into_inner().affected_rows)
}

async fn cell_of(house: &House, who: &Who, dataset: &str, key: &str, column: &str) -> Option<Kind> {
    let request = BatchGetItemsRequest {
        namespace: "vision".into(),
        dataset: dataset.into(),
        keys: vec![key.into()],
        columns: vec![column.into()],
        ..Default::default()
    };
    let got = edits(house).batch_get_items(house.by(who, request)).await.unwrap().into_inner();
    got.items[0].item.as_ref().expect("a row").values[0].kind.clone()
}

async fn tag(house: &House, who: &Who, dataset: &str, keys: &[String]) -> Result<(), ServiceError> {
    let request = EditTagsRequest {
        namespace: "vision".into(),
        dataset: dataset.into(),
        keys: keys.to_vec(),
        add: vec!["sea".into(), "a".into()],
        remove: vec!["t0".into()],
        ..Default::default()
    };
    edits(house).edit_tags(house.by(who, request)).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn tags_are_edited_in_lists_and_in_json() {
    let house = House::new().await;
    let who = Who::admin();
    let items = command(json!({"dataset": "vision/json", "profile": "items"}));
    house.put(&who, items, &[tagged(0..30)]).await.unwrap();
    house.put(&who, path("list"), &[rows(0..30)]).await.unwrap();
    let key = |n: u128| uuid::Uuid::from_u128(n).to_string();
    let keys: Vec<String> = (0..3).map(key).collect();
    tag(&house, &who, "json", &keys).await.unwrap();
    for (key, tags) in keys.iter().zip([r#"["sea","a"]"#, r#"["a","sea"]"#, r#"["sea","a"]"#]) {
        let cell = cell_of(&house, &who, "json", key, "tags_json").await;
        assert_eq!(cell, text(tags).kind, "{key}");
    }
    assert_eq!(counted(&house, &who, "json", "tags_json:\"sea\"").await, 3);
    let first = hex::encode(rows(0..3).column(0).as_fixed_size_binary().value(2));
    tag(&house, &who, "list", std::slice::from_ref(&first)).await.unwrap();
    assert_eq!(counted(&house, &who, "list", "tags:\"sea\"").await, 1);
    assert_eq!(counted(&house, &who, "list", "tags:(\"sea\" AND \"a\" AND NOT \"t0\")").await, 1);
    let Some(Kind::ListValue(list)) = cell_of(&house, &who, "list", &first, "tags").await else {
        panic!("no list");
    };
    assert_eq!(list.values, [text("t1"), text("sea"), text("a")]);
    // By filter, as few rows and as many.
    let change = || Change::Tags(TagChange { add: vec!["b".into()], remove: vec!["a".into()] });
    assert_eq!(bulk(&house, &who, "json", "tags_json:\"sea\"", change()).await.unwrap(), 3);
    assert_eq!(counted(&house, &who, "json", "tags_json:(\"b\" AND \"sea\")").await, 3);
    house.put(&who, path("list"), &[rows(30..12_000)]).await.unwrap();
    assert_eq!(bulk(&house, &who, "list", "id != null", change()).await.unwrap(), 12_000);
    assert_eq!(counted(&house, &who, "list", "tags:\"b\"").await, 12_000);
    house.put(&who, path("none"), &[numbered(0..3, 1)]).await.unwrap();
    let error = tag(&house, &who, "none", &["1".into()]).await.unwrap_err();
    assert!(error.reason_is("NO_TAGS"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn marks_are_set_by_filter_and_a_column_that_is_absent_is_told() {
    let house = House::new().await;
    let who = Who::admin();
    let items = command(json!({"dataset": "vision/t", "profile": "items"}));
    house.put(&who, items, &[tagged(0..30)]).await.unwrap();
    let all = "is_favorite = false";
    assert_eq!(bulk(&house, &who, "t", all, Change::Favorite(true)).await.unwrap(), 30);
    assert_eq!(counted(&house, &who, "t", "is_favorite = true").await, 30);
    let error = bulk(&house, &who, "t", "id != null", Change::Flag(true)).await.unwrap_err();
    assert_eq!((error.code(), error.reason_text()), (Code::InvalidArgument, "COLUMN_ABSENT"));
    assert!(error.message().contains("is_flagged") && error.message().contains("first rows"));
    let flags: BooleanArray = (0..5).map(|n| Some(n == 0)).collect();
    let ids: StringArray = (0..5).map(|n| Some(uuid::Uuid::from_u128(n).to_string())).collect();
    let flagged = RecordBatch::try_from_iter([
        ("id", Arc::new(ids) as ArrayRef),
        ("is_flagged", Arc::new(flags)),
    ])
    .unwrap();
    let items = command(json!({"dataset": "vision/f", "profile": "items"}));
    house.put(&who, items, &[flagged]).await.unwrap();
    assert_eq!(bulk(&house, &who, "f", "is_flagged = false", Change::Flag(true)).await.unwrap(), 4);
    assert_eq!(counted(&house, &who, "f", "is_flagged = true").await, 5);
}

async fn restore(house: &House, who: &Who, keys: &[i64]) -> Result<(), ServiceError> {
    let request = RestoreItemsRequest {
        namespace: "vision".into(),
        dataset: "t".into(),
        keys: keys.iter().map(i64::to_string).collect(),
        ..Default::default()
    };
    edits(house).restore_items(house.by(who, request)).await?;
    Ok(())
}

async fn patch(house: &House, who: &Who, key: i64, width: i64) {
    let request = PatchItemRequest {
        namespace: "vision".into(),
        dataset: "t".into(),
        key: key.to_string(),
        cells: HashMap::from([("width".to_owned(), Value { kind: Some(Kind::IntValue(width)) })]),
        ..Default::default()
    };
    edits(house).patch_item(house.by(who, request)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn restoring_brings_the_last_row_back_and_no_older_one() {
    let house = House::new().await;
    let who = Who::admin();
    let put = |mode: &str| command(json!({"dataset": "vision/t", "mode": mode}));
    house.put(&who, put("append"), &[numbered(0..20, 1)]).await.unwrap();
    // 3: changed in the log, then put, then deleted. 4: put, then changed in the log, then
    // deleted there. 5: only put. 2: changed in the log alone, and deleted in bulk.
    for key in [3, 2] {
        patch(&house, &who, key, 2).await;
    }
    house.put(&who, put("upsert"), &[numbered(3..8, 3)]).await.unwrap();
    patch(&house, &who, 4, 4).await;
    house.put(&who, put("delete"), &[numbered(2..6, 0)]).await.unwrap();
    restore(&house, &who, &[2, 3, 5, 4]).await.unwrap();
    for (key, width) in [(3, 3), (4, 4), (5, 3), (2, 2)] {
        let cell = cell_of(&house, &who, "t", &key.to_string(), "width").await;
        assert_eq!(cell, Some(Kind::IntValue(width)), "{key}");
    }
    // A block whose rows are all deleted is in no later snapshot.
    patch(&house, &who, 9, 2).await;
    house.put(&who, put("upsert"), &[numbered(9..10, 3)]).await.unwrap();
    house.put(&who, put("delete"), &[numbered(9..10, 0)]).await.unwrap();
    restore(&house, &who, &[9]).await.unwrap();
    assert_eq!(cell_of(&house, &who, "t", "9", "width").await, Some(Kind::IntValue(3)));
    let error = restore(&house, &who, &[3]).await.unwrap_err();
    assert!(error.reason_is("ITEM_NOT_DELETED"), "{error}");
    let error = restore(&house, &who, &[777]).await.unwrap_err();
    assert!(error.reason_is("ITEM_NOT_FOUND"), "{error}");
}

/// A commit that takes longer than an upload's lease is not given up beneath its writer.
#[tokio::test(flavor = "multi_thread")]
async fn long_edits_keep_their_uploads() {
    let moods = Moods::new();
    let layer = moods.clone();
    let house = House::over(
        |settings| settings.cache_bytes = 1,
        move |blobs| blobs.through(|inner| layer.over(inner)),
    )
    .await;
    let who = Who::admin();
    house.put(&who, path("t"), &[numbered(0..12_000, 1)]).await.unwrap();
    house.catalog.lease_uploads_for(2);
    moods.set(Mood::Slow);
    let width = Value { kind: Some(Kind::IntValue(9)) };
    let patch = items_api::v1::PatchChange {
        cells: HashMap::from([("width".to_owned(), width)]),
        ..Default::default()
    };
    let editing = bulk(&house, &who, "t", "width = 1", Change::Patch(patch));
    let sweeping = async {
        let begun = std::time::Instant::now();
        let mut tick = tokio::time::interval(std::time::Duration::from_millis(100));
        while begun.elapsed() < std::time::Duration::from_secs(5) {
            tick.tick().await;
            // As long as the bucket is read the edit has no upload yet.
            let open = house.catalog.open_uploads() > 0;
            moods.set(if open { Mood::Slow } else { Mood::Fine });
            house.catalog.give_up_expired_uploads();
        }
        moods.set(Mood::Fine);
    };
    let (edited, ()) = tokio::join!(editing, sweeping);
    assert_eq!(edited.unwrap(), 12_000);
    assert_eq!(counted(&house, &who, "t", "width = 9").await, 12_000);
}

async fn page(
    house: &House,
    who: &Who,
    filter: &str,
    order_by: &str,
    token: &str,
) -> (Vec<i64>, String) {
    let request = ListItemsRequest {
        namespace: "vision".into(),
        dataset: "t".into(),
        filter: filter.into(),
        order_by: order_by.into(),
        page_size: 37,
        page_token: token.into(),
        ..Default::default()
    };
    let page = house.items().list_items(house.by(who, request)).await.unwrap().into_inner();
    let key = |item: &items_api::v1::Item| match item.values[0].kind {
        Some(Kind::IntValue(key)) => key,
        ref other => panic!("{other:?}"),
    };
    (page.items.iter().map(key).collect(), page.next_page_token)
}

/// A list is of one moment, whatever is written, flushed and merged between its pages.
#[tokio::test(flavor = "multi_thread")]
async fn pages_stay_those_of_their_list_while_rows_change_and_move() {
    let house = House::with(|settings| {
        settings.blocks.rows_max = 20;
        settings.compaction.seconds = 0;
    })
    .await;
    let who = Who::admin();
    house.put(&who, path("t"), &[numbered(0..400, 1)]).await.unwrap();
    let place = Place::main(uuid::Uuid::parse_str(&dataset_id(&house, &who).await).unwrap());
    for (round, filter, order) in [(1_i64, "width < 100000", ""), (2, "", "id desc")] {
        for key in (round..400).step_by(31) {
            patch(&house, &who, key, 10 + round).await;
        }
        let (mut whole, mut token) = page(&house, &who, filter, order, "").await;
        while !token.is_empty() {
            let (more, next) = page(&house, &who, filter, order, &token).await;
            whole.extend(more);
            token = next;
        }
        assert_eq!(whole.len(), 400, "{filter} {order}");
        let (mut pages, mut token) = page(&house, &who, filter, order, "").await;
        let mut step = 0;
        while !token.is_empty() {
            match step % 3 {
                0 => {
                    for key in [pages[0], *pages.last().unwrap(), 399 - step] {
                        patch(&house, &who, key, 1_000 + step).await;
                    }
                }
                1 => assert!(house.app.flush(place).await.unwrap()),
                _ => {
                    house.app.compact(place.dataset).await.unwrap();
                }
            }
            let (more, next) = page(&house, &who, filter, order, &token).await;
            pages.extend(more);
            (token, step) = (next, step + 1);
        }
        assert!(step > 8, "{step} pages");
        assert_eq!(pages, whole, "{filter} {order}");
    }
}

async fn dataset_id(house: &House, who: &Who) -> String {
    use items_api::v1::analysis_service_client::AnalysisServiceClient;
    let request = items_api::v1::DescribeItemsRequest {
        namespace: "vision".into(),
        dataset: "t".into(),
        ..Default::default()
    };
    let mut client = AnalysisServiceClient::new(house.transport.clone());
    client.describe_items(house.by(who, request)).await.unwrap().into_inner().dataset_id
}

#[tokio::test(flavor = "multi_thread")]
async fn statistics_say_exact_only_what_a_scan_would_find() {
    let house = House::new().await;
    let who = Who::admin();
    let ids: Int64Array = (0..10).collect();
    let nothing: Int64Array = (0..10).map(|_| None::<i64>).collect();
    let floats: arrow::array::Float64Array =
        (0..10).map(|n| Some(if n == 4 { f64::NAN } else { f64::from(n) })).collect();
    let mut tags = ListBuilder::new(StringBuilder::new());
    (0..10).for_each(|_| tags.append_value([Some("t")]));
    let batch = RecordBatch::try_from_iter_with_nullable([
        ("id", Arc::new(ids) as ArrayRef, false),
        ("nothing", Arc::new(nothing), true),
        ("float", Arc::new(floats), true),
        ("tags", Arc::new(tags.finish()), true),
    ])
    .unwrap();
    house.put(&who, path("t"), &[batch]).await.unwrap();
    let known = async || {
        let request = GetStatisticsRequest {
            namespace: "vision".into(),
            dataset: "t".into(),
            ..Default::default()
        };
        let all = house.items().get_statistics(house.by(&who, request)).await.unwrap();
        let all = all.into_inner();
        let of = |c: &catalog_api::v1::ColumnStatistics| (c.null_count, c.exact);
        (all.row_count, all.columns.iter().map(of).collect::<Vec<_>>())
    };
    // Of a list nobody knows bounds, and NaN is above all numbers.
    assert_eq!(known().await, (10, vec![(0, true), (10, true), (0, false), (0, false)]));
    let one = numbered(3..4, 0);
    let delete = command(json!({"dataset": "vision/t", "mode": "delete"}));
    house.put(&who, delete, &[one.project(&[0]).unwrap()]).await.unwrap();
    assert_eq!(known().await, (9, vec![(0, false), (9, true), (0, false), (0, false)]));
}
