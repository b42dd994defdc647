//! Unique columns: whatever door a value comes through, no second row has it.

use std::collections::HashMap;
use std::fs;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, StringArray};
use arrow::record_batch::RecordBatch;
use catalog_api::v1::Value;
use catalog_api::v1::value::Kind;
use futures::stream;
use harness::{Put, Session};
use http::Method;
use items_api::v1::{
    CreateItemRequest, CreateItemResponse, CreateVersionRequest, DeleteItemRequest,
    PatchItemRequest, PatchItemResponse, RollbackToVersionRequest,
};
use options_api::v1::{Level, ResourceKind, Role};
use serde_json::json;
use tonic::{Code, Response, Status};
use tonic_types::StatusExt;

use crate::cases::puts::count;
use crate::refusal::well_formed;
use crate::stage::Stage;

fn coded(rows: &[(i64, Option<&str>)]) -> RecordBatch {
    let ids: Int64Array = rows.iter().map(|row| row.0).collect();
    let codes: StringArray = rows.iter().map(|row| row.1).collect();
    let columns: [(&str, ArrayRef, bool); 2] =
        [("id", Arc::new(ids), false), ("code", Arc::new(codes), true)];
    RecordBatch::try_from_iter_with_nullable(columns).expect("a batch")
}

fn put(ns: &str, mode: &str) -> Put {
    Put::to(ns, "rows", coded(&[]).schema()).option("mode", mode)
}

/// A put of rows into `rows`, which is there.
async fn send(
    session: &Session,
    ns: &str,
    mode: &str,
    rows: &[(i64, Option<&str>)],
) -> Result<(), Status> {
    put(ns, mode).send(session, stream::iter(vec![coded(rows)])).await.map(drop)
}

/// A dataset of these rows whose `code` is unique.
async fn made(stage: &Stage, rows: &[(i64, Option<&str>)]) -> String {
    let ns = stage.namespace().await;
    let first = put(&ns, "append").option("unique_columns", vec!["code"]);
    first.send(&stage.admin, stream::iter(vec![coded(rows)])).await.expect("a dataset");
    ns
}

fn cells(code: &str) -> HashMap<String, Value> {
    let value = Value { kind: Some(Kind::StringValue(code.into())) };
    HashMap::from([("code".to_owned(), value)])
}

async fn create(
    session: &Session,
    ns: &str,
    id: i64,
    code: &str,
) -> Result<Response<CreateItemResponse>, Status> {
    let mut cells = cells(code);
    cells.insert("id".to_owned(), Value { kind: Some(Kind::IntValue(id)) });
    let request = CreateItemRequest {
        namespace: ns.into(),
        dataset: "rows".into(),
        cells,
        ..Default::default()
    };
    session.edits().create_item(request).await
}

async fn patch(
    session: &Session,
    ns: &str,
    id: i64,
    code: &str,
) -> Result<Response<PatchItemResponse>, Status> {
    let request = PatchItemRequest {
        namespace: ns.into(),
        dataset: "rows".into(),
        key: id.to_string(),
        cells: cells(code),
        ..Default::default()
    };
    session.edits().patch_item(request).await
}

async fn delete(session: &Session, ns: &str, id: i64) {
    let request = DeleteItemRequest {
        namespace: ns.into(),
        dataset: "rows".into(),
        key: id.to_string(),
        ..Default::default()
    };
    session.edits().delete_item(request).await.expect("a row that goes");
}

async fn flush(session: &Session, ns: &str) {
    let request = CreateVersionRequest {
        namespace: ns.into(),
        dataset: "rows".into(),
        message: String::new(),
    };
    session.edits().create_version(request).await.expect("a version");
}

/// Refused by the column and the value; answers the key of the row that has it.
#[track_caller]
fn taken<T: std::fmt::Debug>(answer: Result<T, Status>, value: &str) -> String {
    let status = answer.expect_err("the value is there");
    assert_eq!(status.code(), Code::AlreadyExists, "{status:?}");
    well_formed(&status);
    let info = status.get_details_error_info().expect("ErrorInfo");
    assert_eq!(info.reason, "VALUE_EXISTS", "{status:?}");
    assert_eq!(info.metadata.get("value").map(String::as_str), Some(value), "{status:?}");
    assert!(status.message().contains("code") && status.message().contains(value), "{status:?}");
    info.metadata.get("key").expect("a key").clone()
}

/// Puts of every mode, edits of every kind; before and after a flush and a deletion.
pub async fn doors(stage: &Stage) {
    let ns = made(stage, &[(1, Some("a")), (2, Some("b")), (3, None), (4, None)]).await;
    let admin = &stage.admin;
    assert_eq!(taken(send(admin, &ns, "append", &[(5, Some("a"))]).await, "a"), "1");
    taken(send(admin, &ns, "append", &[(5, Some("c")), (6, Some("c"))]).await, "c");
    taken(send(admin, &ns, "upsert", &[(2, Some("a"))]).await, "a");
    taken(send(admin, &ns, "overwrite", &[(7, Some("x")), (8, Some("x"))]).await, "x");
    assert_eq!(count(admin, &ns, "rows").await, 4, "nothing was lost and nothing was added");
    assert_eq!(taken(create(admin, &ns, 5, "b").await, "b"), "2");
    assert_eq!(taken(patch(admin, &ns, 3, "b").await, "b"), "2");
    // What waits for its flush counts, and what is there changes nothing of itself.
    create(admin, &ns, 5, "c").await.expect("a new value");
    patch(admin, &ns, 5, "c").await.expect("its own value");
    assert_eq!(taken(create(admin, &ns, 6, "c").await, "c"), "5");
    assert_eq!(taken(send(admin, &ns, "append", &[(6, Some("c"))]).await, "c"), "5");
    flush(admin, &ns).await;
    assert_eq!(taken(create(admin, &ns, 6, "c").await, "c"), "5");
    // A row that goes leaves its value, in a block as in the delta.
    delete(admin, &ns, 5).await;
    create(admin, &ns, 6, "c").await.expect("a value that is free");
    delete(admin, &ns, 6).await;
    send(admin, &ns, "append", &[(7, Some("c"))]).await.expect("a value that is free");
    delete(admin, &ns, 1).await;
    flush(admin, &ns).await;
    create(admin, &ns, 8, "a").await.expect("a value that is free");
    // The first version holds what it held.
    let back = RollbackToVersionRequest {
        namespace: ns.clone(),
        dataset: "rows".into(),
        version: "1".into(),
        message: String::new(),
    };
    admin.edits().rollback_to_version(back).await.expect("a version without a value twice");
    assert_eq!(taken(create(admin, &ns, 9, "a").await, "a"), "1");
    create(admin, &ns, 9, "c").await.expect("what came after is gone");
    assert_eq!(count(admin, &ns, "rows").await, 5);
}

/// Of writers that bring one value at once one is answered, whatever each of them calls.
pub async fn at_once(stage: &Stage) {
    let ns = made(stage, &[(1, Some("a"))]).await;
    let admin = &stage.admin;
    for round in 0..4 {
        let code = format!("c{round}");
        let id = |n: i64| 10 + round * 10 + n;
        let edit = async |n| create(&admin.apart(), &ns, id(n), &code).await.map(drop);
        let append = async |n| {
            let rows = [(id(n), Some(code.as_str()))];
            send(&admin.apart(), &ns, "append", &rows).await
        };
        let (a, b, c, d) = tokio::join!(edit(0), append(1), edit(2), append(3));
        let outcomes = [a, b, c, d];
        assert_eq!(outcomes.iter().filter(|made| made.is_ok()).count(), 1, "{outcomes:?}");
        let winner = outcomes.iter().position(Result::is_ok).expect("one");
        let winner = id(i64::try_from(winner).expect("a number")).to_string();
        for lost in outcomes.into_iter().filter(Result::is_err) {
            assert_eq!(taken(lost, &code), winner);
        }
    }
    assert_eq!(count(admin, &ns, "rows").await, 5);
}

/// Declared over rows that are there, by their owner alone, and taken back.
pub async fn declared(stage: &Stage) {
    let namespace = stage.namespace_of(&stage.admin).await;
    let (ns, admin) = (&namespace.name, &stage.admin);
    let rows = [(1, Some("a")), (2, Some("a")), (3, None), (4, None)];
    send(admin, ns, "append", &rows).await.expect("a dataset");
    let path = format!("/v1/namespaces/{ns}/datasets/rows");
    let declare = async |session: &Session, columns: &[&str]| {
        let body = json!({ "columns": columns }).to_string();
        session.http(Method::PUT, &format!("{path}/uniqueColumns"), Some(body)).await
    };
    let refused = declare(admin, &["code"]).await;
    assert_eq!(refused.status, 409, "{refused:?}");
    let details = refused.json()["error"]["details"].clone();
    let info = details.as_array().expect("details").iter().find(|d| d["reason"] == "VALUE_EXISTS");
    let info = info.unwrap_or_else(|| panic!("no reason: {refused:?}"));
    assert_eq!((&info["metadata"]["value"], &info["domain"]), (&json!("a"), &json!("quarry")));
    for wrong in ["none", "id"] {
        let refused = declare(admin, &[wrong]).await;
        assert_eq!(refused.status, 400, "{refused:?}");
        assert!(refused.text.contains(wrong), "{refused:?}");
    }
    create(admin, ns, 5, "a").await.expect("nothing is unique yet");
    delete(admin, ns, 5).await;
    delete(admin, ns, 2).await;
    let (user, writer) = stage.user(Role::User).await;
    stage.grant(&user, ResourceKind::Namespace, &namespace.id, Level::Write).await;
    harness::eventually("the grant", std::time::Duration::from_secs(5), async || {
        patch(&writer, ns, 3, "x").await.ok()
    })
    .await;
    assert_eq!(declare(&writer, &["code"]).await.status, 403);
    let said = declare(admin, &["code"]).await;
    assert_eq!(said.status, 200, "{said:?}");
    let about = admin.get(&path).await.json();
    assert_eq!(about["dataset"]["unique_columns"], json!(["code"]), "{about}");
    // Blocks from before have no filters of theirs.
    assert_eq!(taken(create(&writer, ns, 6, "a").await, "a"), "1");
    assert_eq!(taken(send(&writer, ns, "append", &[(6, Some("x"))]).await, "x"), "3");
    let back = admin.post(&format!("{path}/versions/1:rollback"), &json!({})).await;
    assert_ne!(back.status, 200, "the first version has a twice: {back:?}");
    assert_eq!(declare(admin, &[]).await.status, 200);
    create(admin, ns, 6, "a").await.expect("nothing is unique any more");
}

/// `--unique` at both commands that make datasets, and the command that declares.
pub async fn command_line(stage: &Stage) {
    let platform = &stage.platform;
    let ns = stage.namespace().await;
    let dataset = format!("{ns}/rows");
    let file = platform.scratch().join(format!("{ns}.csv"));
    let path = file.to_str().expect("a path");
    fs::write(&file, "id,code\n1,a\n2,b\n3,b\n").expect("a file");
    let import = ["import", path, &dataset, "--unique", "code"];
    let failed = platform.cli(&import).await;
    assert_ne!(failed.code, 0, "{failed:?}");
    assert!(failed.stderr.contains("code") && failed.stderr.contains("value \"b\""), "{failed:?}");
    let show = platform.cli(&["datasets", "show", &dataset, "-o", "json"]).await;
    assert_ne!(show.code, 0, "nothing of it stays: {show:?}");
    fs::write(&file, "id,code\n1,a\n2,b\n3,\n4,\n").expect("a file");
    let imported = platform.cli(&import).await;
    assert_eq!(imported.code, 0, "{imported:?}");
    let show = platform.cli(&["datasets", "show", &dataset, "-o", "json"]).await.json();
    assert!(show.to_string().contains("\"unique_columns\":[\"code\"]"), "{show}");
    fs::write(&file, "id,code\n5,c\n6,a\n").expect("a file");
    let failed = platform.cli(&["import", path, &dataset]).await;
    assert!(failed.code > 0 && failed.stderr.contains("value \"a\""), "{failed:?}");
    assert_eq!(count(&stage.admin, &ns, "rows").await, 4);
    let other = format!("{ns}/other");
    let schema = "id:int64,code:string,name:string";
    let create =
        ["datasets", "create", &other, "--schema", schema, "--unique", "code,name", "-o", "json"];
    let made = platform.cli(&create).await.json();
    assert!(made.to_string().contains("\"unique_columns\":[\"code\",\"name\"]"), "{made}");
    let taken_back = platform.cli(&["datasets", "unique", &other, "name"]).await;
    assert_eq!(taken_back.code, 0, "{taken_back:?}");
    let wrong = platform.cli(&["datasets", "unique", &other, "nothing"]).await;
    assert!(wrong.code > 0 && wrong.stderr.contains("nothing"), "{wrong:?}");
    let unsaid = platform.cli(&["datasets", "unique", &other]).await;
    assert_eq!(unsaid.code, 2, "{unsaid:?}");
    let none = platform.cli(&["datasets", "unique", &other, "--none"]).await;
    assert_eq!(none.code, 0, "{none:?}");
}
