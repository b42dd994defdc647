//! Small writes: made, seen at once by every read, conflicts, repetitions.

use std::collections::HashMap;

use arrow::array::{AsArray, Int64Array};
use arrow::datatypes::Int64Type;
use arrow::record_batch::RecordBatch;
use catalog_api::v1::Value;
use catalog_api::v1::value::Kind;
use futures::stream;
use harness::{Put, Session, data, get_all, put};
use items_api::v1::bulk_edit_items_request::Change;
use items_api::v1::{
    BatchCreateItemsRequest, BatchDeleteItemsRequest, BatchGetItemsRequest, BatchPatchItemsRequest,
    BulkEditItemsRequest, CountItemsRequest, CreateItemRequest, CreateVersionRequest,
    DeleteItemRequest, ItemPatch, ListItemsRequest, NewItem, PatchItemRequest, RestoreItemsRequest,
    RollbackToVersionRequest,
};
use options_api::v1::{Level, ResourceKind, Role};
use serde_json::json;
use tonic::Code;

use crate::cases::flight::{by_key, path};
use crate::cases::puts::{count, version_of};
use crate::refusal::refused;
use crate::stage::{Stage, unique};

fn int(n: i64) -> Value {
    Value { kind: Some(Kind::IntValue(n)) }
}

fn text(t: &str) -> Value {
    Value { kind: Some(Kind::StringValue(t.into())) }
}

fn cells(of: &[(&str, Value)]) -> HashMap<String, Value> {
    of.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect()
}

fn row(id: i64, width: i64) -> HashMap<String, Value> {
    let favorite = Value { kind: Some(Kind::BoolValue(false)) };
    cells(&[
        ("id", int(id)),
        ("width", int(width)),
        ("section", text("new")),
        ("is_favorite", favorite),
    ])
}

fn create(ns: &str, id: i64) -> CreateItemRequest {
    CreateItemRequest {
        namespace: ns.into(),
        dataset: "rows".into(),
        cells: row(id, 7),
        ..Default::default()
    }
}

fn patch(ns: &str, id: i64, width: i64) -> PatchItemRequest {
    PatchItemRequest {
        namespace: ns.into(),
        dataset: "rows".into(),
        key: id.to_string(),
        cells: cells(&[("width", int(width))]),
        ..Default::default()
    }
}

fn bulk(ns: &str, filter: &str, change: Change) -> BulkEditItemsRequest {
    BulkEditItemsRequest {
        namespace: ns.into(),
        dataset: "rows".into(),
        filter: filter.into(),
        change: Some(change),
        ..Default::default()
    }
}

async fn counted(session: &Session, ns: &str, filter: &str) -> i64 {
    let request = CountItemsRequest {
        namespace: ns.into(),
        dataset: "rows".into(),
        filter: filter.into(),
        ..Default::default()
    };
    session.items().count_items(request).await.expect("a count").into_inner().count
}

/// The key of every row, by pages of seven.
async fn paged(session: &Session, ns: &str, filter: &str) -> Vec<i64> {
    let (mut ids, mut page_token) = (Vec::new(), String::new());
    loop {
        let request = ListItemsRequest {
            namespace: ns.into(),
            dataset: "rows".into(),
            filter: filter.into(),
            page_size: 7,
            page_token,
            ..Default::default()
        };
        let page = session.items().list_items(request).await.expect("a page").into_inner();
        ids.extend(page.items.iter().map(|item| match item.values[0].kind {
            Some(Kind::IntValue(id)) => id,
            ref other => panic!("no key: {other:?}"),
        }));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return ids;
        }
    }
}

async fn scanned(session: &Session, ns: &str) -> RecordBatch {
    by_key(&get_all(session, path(ns, "rows")).await.expect("a scan"))
}

fn ids_of(batch: &RecordBatch) -> Vec<i64> {
    batch.column(0).as_primitive::<Int64Type>().values().to_vec()
}

/// Pages, the count and the scan say the same, with and without a filter.
async fn agree(session: &Session, ns: &str) -> Vec<i64> {
    let scan = ids_of(&scanned(session, ns).await);
    let mut pages = paged(session, ns, "").await;
    pages.sort_unstable();
    assert_eq!(pages, scan, "pages and scan");
    assert_eq!(counted(session, ns, "").await, i64::try_from(scan.len()).unwrap());
    let few = paged(session, ns, "width < 1500").await.len();
    assert_eq!(counted(session, ns, "width < 1500").await, i64::try_from(few).unwrap());
    scan
}

async fn version(session: &Session, ns: &str) -> i64 {
    let request = CreateVersionRequest {
        namespace: ns.into(),
        dataset: "rows".into(),
        message: String::new(),
    };
    let made = session.edits().create_version(request).await.expect("a version").into_inner();
    made.version.expect("a version").number
}

async fn with_rows(stage: &Stage, rows: i64) -> String {
    let ns = stage.namespace().await;
    put(&stage.admin, &ns, "rows", vec![data::rows(0, rows)]).await.unwrap();
    ns
}

/// Rows made, changed, deleted and brought back are seen at once, and the same
/// after they went into the blocks.
pub async fn lifecycle(stage: &Stage) {
    let ns = with_rows(stage, 60).await;
    let (admin, mut edits) = (&stage.admin, stage.admin.edits());
    let made = edits.create_item(create(&ns, 100)).await.unwrap().into_inner().item.unwrap();
    assert_eq!(made.key, "100");
    let twice = edits.create_item(create(&ns, 100)).await.unwrap_err();
    assert_eq!(twice.code(), Code::AlreadyExists);
    assert_eq!(edits.create_item(create(&ns, 5)).await.unwrap_err().code(), Code::AlreadyExists);
    let patched = edits.patch_item(patch(&ns, 5, 9_999)).await.unwrap().into_inner();
    assert_ne!(patched.item.unwrap().revision, "");
    let delete = DeleteItemRequest {
        namespace: ns.clone(),
        dataset: "rows".into(),
        key: "6".into(),
        ..Default::default()
    };
    edits.delete_item(delete.clone()).await.unwrap();
    assert_eq!(edits.delete_item(delete).await.unwrap_err().code(), Code::NotFound);
    let missing = edits.patch_item(patch(&ns, 6, 1)).await.unwrap_err();
    assert_eq!(missing.code(), Code::NotFound);
    let expected: Vec<i64> = (0..60).filter(|id| *id != 6).chain([100]).collect();
    assert_eq!(agree(admin, &ns).await, expected);
    assert_eq!(counted(admin, &ns, "width = 9999").await, 1);

    let before = version(admin, &ns).await;
    assert_eq!(agree(admin, &ns).await, expected, "after the flush");
    assert_eq!(counted(admin, &ns, "width = 9999").await, 1);

    let restore = RestoreItemsRequest {
        namespace: ns.clone(),
        dataset: "rows".into(),
        keys: vec!["6".into()],
        ..Default::default()
    };
    edits.restore_items(restore.clone()).await.unwrap();
    assert_eq!(counted(admin, &ns, &format!("id = 6 AND width = {}", data::width(6))).await, 1);
    assert_eq!(edits.restore_items(restore).await.unwrap_err().code(), Code::FailedPrecondition);
    let mut old = path(&ns, "rows");
    old.path.push(before.to_string());
    assert_eq!(ids_of(&by_key(&get_all(admin, old).await.unwrap())), expected, "a version stays");

    let back = RollbackToVersionRequest {
        namespace: ns.clone(),
        dataset: "rows".into(),
        version: "1".into(),
        message: String::new(),
    };
    edits.rollback_to_version(back).await.unwrap();
    assert_eq!(scanned(admin, &ns).await, data::rows(0, 60));
    edits.patch_item(patch(&ns, 5, 1)).await.unwrap();
    assert_eq!(counted(admin, &ns, "width = 1").await, 1);
}

/// Whoever names the revision it read is told when the row is another by now.
pub async fn conflicts(stage: &Stage) {
    let ns = with_rows(stage, 20).await;
    let (admin, mut edits) = (&stage.admin, stage.admin.edits());
    let request = BatchGetItemsRequest {
        namespace: ns.clone(),
        dataset: "rows".into(),
        keys: vec!["3".into(), "99".into()],
        ..Default::default()
    };
    let found = edits.batch_get_items(request.clone()).await.unwrap().into_inner();
    assert!(found.items[0].item.is_some() && found.items[1].item.is_none());
    let revision = found.items[0].revision.clone();
    // It is the same in the delta and in the blocks.
    edits.patch_item(patch(&ns, 3, data::width(3))).await.unwrap();
    version(admin, &ns).await;
    let again = edits.batch_get_items(request).await.unwrap().into_inner();
    assert_eq!(again.items[0].revision, revision);

    let with = |width| PatchItemRequest { revision: revision.clone(), ..patch(&ns, 3, width) };
    let (mut one, mut other) = (admin.edits(), admin.apart().edits());
    let (a, b) = tokio::join!(one.patch_item(with(1)), other.patch_item(with(2)));
    let lost = match (a, b) {
        (Ok(_), Err(status)) | (Err(status), Ok(_)) => status,
        (a, b) => panic!("one wins: {a:?} {b:?}"),
    };
    assert_eq!(lost.code(), Code::Aborted, "{lost:?}");
    assert_eq!(counted(admin, &ns, "width < 3").await, 1);
    // Without a revision both are made, one after the other.
    let (a, b) =
        tokio::join!(one.patch_item(patch(&ns, 3, 11)), other.patch_item(patch(&ns, 3, 12)));
    assert!(a.is_ok() && b.is_ok());
}

/// A batch is made whole or not at all, and once under one key.
pub async fn batches(stage: &Stage) {
    let ns = with_rows(stage, 20).await;
    let (admin, mut edits) = (&stage.admin, stage.admin.edits());
    let batch = |ids: &[i64], key: &str| BatchCreateItemsRequest {
        namespace: ns.clone(),
        dataset: "rows".into(),
        items: ids.iter().map(|id| NewItem { cells: row(*id, 5) }).collect(),
        idempotency_key: key.into(),
    };
    let clash = edits.batch_create_items(batch(&[200, 7], "")).await.unwrap_err();
    assert_eq!(clash.code(), Code::AlreadyExists);
    assert_eq!(counted(admin, &ns, "").await, 20, "nothing of it");
    let key = unique("key");
    let first = edits.batch_create_items(batch(&[200, 201], &key)).await.unwrap().into_inner();
    let again = edits.batch_create_items(batch(&[200, 201], &key)).await.unwrap().into_inner();
    assert_eq!(first.items, again.items);
    assert_eq!(counted(admin, &ns, "").await, 22);
    let other = edits.batch_create_items(batch(&[300], &key)).await.unwrap_err();
    assert_eq!(other.code(), Code::FailedPrecondition);

    let patches = [3, 200].map(|id: i64| ItemPatch {
        key: id.to_string(),
        cells: cells(&[("section", text("patched"))]),
        ..Default::default()
    });
    let request = BatchPatchItemsRequest {
        namespace: ns.clone(),
        dataset: "rows".into(),
        patches: patches.to_vec(),
        ..Default::default()
    };
    let done = edits.batch_patch_items(request).await.unwrap().into_inner();
    assert_eq!(done.items.len(), 2);
    assert_eq!(counted(admin, &ns, "section = \"patched\"").await, 2);
    let wrong = PatchItemRequest { cells: cells(&[("width", text("wide"))]), ..patch(&ns, 3, 0) };
    refused(edits.patch_item(wrong).await, Code::InvalidArgument);
    let of_key = PatchItemRequest { cells: cells(&[("id", int(4))]), ..patch(&ns, 3, 0) };
    refused(edits.patch_item(of_key).await, Code::InvalidArgument);
    let gone = BatchDeleteItemsRequest {
        namespace: ns.clone(),
        dataset: "rows".into(),
        keys: vec!["3".into(), "200".into(), "12345".into()],
        ..Default::default()
    };
    let gone = edits.batch_delete_items(gone).await.unwrap().into_inner();
    assert_eq!(gone.affected_rows, 2);
    assert_eq!(agree(admin, &ns).await.len(), 20);
}

/// Edits by filter, few rows and many, over what is in blocks and what is not.
pub async fn by_filter(stage: &Stage) {
    let ns = with_rows(stage, 1_000).await;
    let (admin, mut edits) = (&stage.admin, stage.admin.edits());
    edits.create_item(create(&ns, 5_000)).await.unwrap();
    let favorites = counted(admin, &ns, "is_favorite = true AND width < 1500").await;
    assert!(favorites > 3);
    let off = bulk(&ns, "is_favorite = true AND width < 1500", Change::Favorite(false));
    let done = edits.bulk_edit_items(off).await.unwrap().into_inner();
    assert_eq!(done.affected_rows, favorites);
    assert_eq!(counted(admin, &ns, "is_favorite = true AND width < 1500").await, 0);

    let narrow = counted(admin, &ns, "width < 1010").await;
    let few = edits.bulk_edit_items(bulk(&ns, "width < 1010", Change::Delete(true))).await;
    assert_eq!(few.unwrap().into_inner().affected_rows, narrow);
    let wide = counted(admin, &ns, "width > 3000").await;
    assert!(wide > 64, "{wide} rows are few");
    let mut request = bulk(&ns, "width > 3000", Change::Delete(true));
    request.idempotency_key = "wide".into();
    // Asked again when nothing is left, or something else, it is what it was.
    for _ in 0..2 {
        let many = edits.bulk_edit_items(request.clone()).await;
        assert_eq!(many.unwrap().into_inner().affected_rows, wide);
    }
    let other = BulkEditItemsRequest { filter: "width < 1020".into(), ..request };
    refused(edits.bulk_edit_items(other).await, Code::FailedPrecondition);
    let left = agree(admin, &ns).await;
    assert_eq!(i64::try_from(left.len()).unwrap(), 1_001 - narrow - wide);
    let none = edits.bulk_edit_items(bulk(&ns, "", Change::Delete(true))).await;
    refused(none, Code::InvalidArgument);
}

fn keys(ids: &[i64]) -> RecordBatch {
    let ids = Int64Array::from(ids.to_vec());
    RecordBatch::try_from_iter([("id", std::sync::Arc::new(ids) as arrow::array::ArrayRef)])
        .unwrap()
}

/// Puts that replace rows and take them away, over the delta and under it.
pub async fn puts(stage: &Stage) {
    let ns = with_rows(stage, 100).await;
    let (admin, mut edits) = (&stage.admin, stage.admin.edits());
    edits.patch_item(patch(&ns, 5, 1)).await.unwrap();
    edits.create_item(create(&ns, 500)).await.unwrap();
    // The put is later than the patch, so it wins; what it does not name stays.
    let upsert = Put::to(&ns, "rows", data::schema()).option("mode", "upsert");
    let said =
        upsert.send(admin, stream::iter(vec![data::rows(0, 10), data::rows(200, 205)])).await;
    assert_eq!(version_of(&said.unwrap()), 2);
    assert_eq!(counted(admin, &ns, &format!("id = 5 AND width = {}", data::width(5))).await, 1);
    let expected: Vec<i64> = (0..100).chain(200..205).chain([500]).collect();
    assert_eq!(agree(admin, &ns).await, expected);
    edits.patch_item(patch(&ns, 5, 2)).await.unwrap();
    let gone = keys(&[5, 500, 201, 9_999]);
    let delete = Put::to(&ns, "rows", gone.schema()).option("mode", "delete");
    let said = delete.send(admin, stream::iter(vec![gone])).await.unwrap();
    assert_eq!(said["rows"], 3, "the rows that went, not the keys that were sent: {said}");
    let expected: Vec<i64> = (0..100).filter(|id| *id != 5).chain([200, 202, 203, 204]).collect();
    assert_eq!(agree(admin, &ns).await, expected);
    // A key that the delta made is no new one, and one that it deleted is.
    edits.create_item(create(&ns, 600)).await.unwrap();
    let clash = put(admin, &ns, "rows", vec![data::rows(600, 601)]).await.unwrap_err();
    assert_eq!(clash.code(), Code::AlreadyExists);
    put(admin, &ns, "rows", vec![data::rows(5, 6)]).await.unwrap();
    assert_eq!(agree(admin, &ns).await.len(), expected.len() + 2);
    let over = Put::to(&ns, "rows", data::schema()).option("mode", "overwrite");
    over.send(admin, stream::iter(vec![data::rows(0, 3)])).await.unwrap();
    assert_eq!(agree(admin, &ns).await, [0, 1, 2], "the delta went with the rest");
}

/// An upsert of some columns leaves the others as they are, in the delta and in blocks.
pub async fn partial_upserts(stage: &Stage) {
    let ns = with_rows(stage, 100).await;
    let (admin, mut edits) = (&stage.admin, stage.admin.edits());
    edits.patch_item(patch(&ns, 5, 1)).await.unwrap();
    edits.create_item(create(&ns, 500)).await.unwrap();
    let ids: arrow::array::ArrayRef = std::sync::Arc::new(Int64Array::from(vec![5, 6, 500]));
    let sections: arrow::array::ArrayRef =
        std::sync::Arc::new(arrow::array::StringArray::from(vec!["some"; 3]));
    let some = RecordBatch::try_from_iter([("id", ids), ("section", sections)]).unwrap();
    let upsert = || Put::to(&ns, "rows", some.schema()).option("mode", "upsert");
    upsert().send(admin, stream::iter(vec![some.clone()])).await.unwrap();
    for (id, width) in [(5, 1), (6, data::width(6)), (500, 7)] {
        let kept = format!("id = {id} AND width = {width} AND section = \"some\"");
        assert_eq!(counted(admin, &ns, &kept).await, 1, "{kept}");
    }
    assert_eq!(counted(admin, &ns, "section = \"some\"").await, 3);
    let expected: Vec<i64> = (0..100).chain([500]).collect();
    assert_eq!(agree(admin, &ns).await, expected);
    // A new row has nothing to keep, and its width may not be null.
    let new: arrow::array::ArrayRef = std::sync::Arc::new(Int64Array::from(vec![900]));
    let new = RecordBatch::try_from_iter([("id", new)]).unwrap();
    let refused_put = Put::to(&ns, "rows", new.schema()).option("mode", "upsert");
    let status = refused_put.send(admin, stream::iter(vec![new])).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
    // Each key once, in the words of an upsert.
    let twice = Put::to(&ns, "rows", data::schema()).option("mode", "upsert");
    let twice = twice.send(admin, stream::iter(vec![data::rows(0, 10), data::rows(5, 6)])).await;
    let twice = twice.unwrap_err();
    assert_eq!(twice.code(), Code::InvalidArgument, "{twice:?}");
    assert!(twice.message().contains('5') && !twice.message().contains("append"), "{twice:?}");
    assert_eq!(agree(admin, &ns).await, expected, "nothing of what was refused");
}

/// Edits, puts and versions at once: nothing lost, nothing twice.
pub async fn at_once(stage: &Stage) {
    let ns = with_rows(stage, 50).await;
    let admin = &stage.admin;
    let writer = async |from: i64| {
        let mut edits = admin.apart().edits();
        for id in from..from + 12 {
            edits.create_item(create(&ns, id)).await.expect("an edit");
            edits.patch_item(patch(&ns, id, id)).await.expect("a patch");
        }
    };
    let putter = async || {
        for part in 0..4 {
            let rows = vec![data::rows(2_000 + part * 5, 2_005 + part * 5)];
            let put = Put::to(&ns, "rows", data::schema()).option("mode", "upsert");
            put.send(&admin.apart(), stream::iter(rows)).await.expect("an upsert");
            version(admin, &ns).await;
        }
    };
    tokio::join!(writer(1_000), writer(1_100), putter());
    let expected: Vec<i64> =
        (0..50).chain(1_000..1_012).chain(1_100..1_112).chain(2_000..2_020).collect();
    assert_eq!(agree(admin, &ns).await, expected);
    assert_eq!(counted(admin, &ns, "section = \"new\" AND width >= 1000").await, 24);
    assert_eq!(count(admin, &ns, "rows").await, 94);
}

/// Writing needs Write; who may only read is refused, and others see nothing.
pub async fn permissions(stage: &Stage) {
    let ns = stage.namespace_of(&stage.admin).await;
    put(&stage.admin, &ns.name, "rows", vec![data::rows(0, 5)]).await.unwrap();
    let (user, reader) = stage.user(Role::User).await;
    let hidden = reader.edits().patch_item(patch(&ns.name, 1, 1)).await.unwrap_err();
    assert_eq!(hidden.code(), Code::NotFound);
    stage.grant(&user, ResourceKind::Namespace, &ns.id, Level::Read).await;
    harness::eventually("the grant", std::time::Duration::from_secs(5), async || {
        let refused = reader.edits().patch_item(patch(&ns.name, 1, 1)).await.unwrap_err();
        (refused.code() == Code::PermissionDenied).then_some(())
    })
    .await;
}

/// The same over HTTP.
pub async fn http(stage: &Stage) {
    let ns = with_rows(stage, 5).await;
    let items = format!("/v1/namespaces/{ns}/datasets/rows/items");
    let body = json!({"cells": {"width": {"int_value": "77"}}});
    let patched = stage.admin.patch(&format!("{items}/3"), &body).await;
    assert_eq!(patched.status, 200, "{patched:?}");
    assert_eq!(patched.json()["item"]["key"], "3");
    assert_eq!(counted(&stage.admin, &ns, "width = 77").await, 1);
    let gone = stage.admin.delete(&format!("{items}/3")).await;
    assert_eq!(gone.status, 200, "{gone:?}");
    let absent = stage.admin.delete(&format!("{items}/3")).await;
    assert_eq!(absent.status, 404, "{absent:?}");
}

/// Tags of imported items, over every door; and what restoring brings back.
pub async fn tags(stage: &Stage) {
    let ns = stage.namespace().await;
    let samples = concat!(env!("CARGO_MANIFEST_DIR"), "/../../samples/shapes");
    let name = format!("{ns}/rows");
    let imported = stage.platform.cli(&["import", samples, &name]).await;
    assert_eq!(imported.code, 0, "{imported:?}");
    let listed =
        stage.platform.cli(&["items", "list", &name, "--limit", "2", "-o", "json"]).await.json();
    let id = |at: usize| listed["items"][at]["id"].as_str().expect("an id").to_owned();
    let (first, second) = (id(0), id(1));
    let help = stage.platform.cli(&["items", "tag", &name, &first, "--add", "sea"]).await;
    assert_eq!(help.code, 0, "{help:?}");
    assert_eq!(counted(&stage.admin, &ns, "tags_json:\"sea\"").await, 1);
    let body = json!({"keys": [first, second], "add": ["sky"], "remove": ["sea"]});
    let items = format!("/v1/namespaces/{ns}/datasets/rows/items");
    let answer = stage.admin.post(&format!("{items}:editTags"), &body).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(counted(&stage.admin, &ns, "tags_json:\"sea\"").await, 0);
    let change = Change::Tags(items_api::v1::TagChange { add: vec!["all".into()], remove: vec![] });
    let edited = stage.admin.edits().bulk_edit_items(bulk(&ns, "tags_json:\"sky\"", change)).await;
    assert_eq!(edited.expect("an edit").into_inner().affected_rows, 2);
    assert_eq!(counted(&stage.admin, &ns, "tags_json:(\"all\" AND \"sky\")").await, 2);
    let change = Change::Favorite(true);
    let edited = stage.admin.edits().bulk_edit_items(bulk(&ns, "tags_json:\"all\"", change)).await;
    assert_eq!(edited.expect("an edit").into_inner().affected_rows, 2);
    // Some of the samples are favourites from the start.
    let both = "is_favorite = true AND tags_json:\"all\"";
    assert_eq!(counted(&stage.admin, &ns, both).await, 2);
}
