//! Vector search through the public door: gRPC, JSON and the command line.

use std::fs;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryArray, FixedSizeListArray, Float32Array, Int64Array, RecordBatch, StringArray,
    UInt64Array,
};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field};
use harness::{Session, eventually, put};
use identity_api::v1::TokenScope;
use options_api::v1::{Level, ResourceKind, Role};
use serde_json::json;
use tonic::Code;
use vectors_api::v1 as api;
use vectors_api::v1::query::Kind;

use crate::stage::{Stage, unique};

fn point(item: &str, values: &[f32]) -> api::Point {
    let vector = Some(api::Vector { values: values.to_vec(), ..Default::default() });
    api::Point { item_id: item.into(), vector, ..Default::default() }
}

async fn create(session: &Session, namespace: &str) {
    let request = api::CreateSpaceRequest {
        namespace: namespace.into(),
        space: "s".into(),
        dimension: 3,
        ..Default::default()
    };
    session.spaces().create_space(request).await.expect("a space");
}

async fn upsert(session: &Session, namespace: &str, points: Vec<api::Point>) -> i64 {
    let request = api::UpsertPointsRequest {
        namespace: namespace.into(),
        space: "s".into(),
        points,
        ..Default::default()
    };
    session.points().upsert_points(request).await.expect("a write").into_inner().token
}

fn near(namespace: &str, values: &[f32]) -> api::SearchRequest {
    let vector = api::Vector { values: values.to_vec(), ..Default::default() };
    api::SearchRequest {
        namespace: namespace.into(),
        space: "s".into(),
        query: Some(api::Query { kind: Some(Kind::Vector(vector)) }),
        k: Some(2),
        ..Default::default()
    }
}

/// Points go in and come out nearest first, by gRPC and by JSON alike.
pub async fn round_trip(stage: &Stage) {
    let (admin, ns) = (&stage.admin, stage.namespace().await);
    create(admin, &ns).await;
    let points = vec![point("x", &[1.0, 0.0, 0.0]), point("y", &[0.0, 1.0, 0.0])];
    let token = upsert(admin, &ns, points).await;
    assert_eq!(token, 2);
    let got = admin.search().search(near(&ns, &[0.9, 0.1, 0.0])).await.expect("hits").into_inner();
    let items: Vec<&str> = got.hits.iter().map(|hit| hit.item_id.as_str()).collect();
    assert_eq!(items, ["x", "y"]);
    let url = format!("/v1/namespaces/{ns}/spaces/s:search");
    let body = json!({ "query": { "vector": { "values": [0.9, 0.1, 0.0] } }, "k": 2 });
    let answer = admin.post(&url, &body).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let json = answer.json();
    assert_eq!(json["hits"][0]["item_id"], "x", "{json}");
    assert_eq!(json["explain"]["cardinality"], "2", "{json}");
    let payload = json!({ "points": [{
        "item_id": "z",
        "vector": { "values": [0.0, 0.0, 1.0] },
        "payload": { "kind": { "string_value": "cat" }, "n": { "int_value": "7" } },
    }]});
    let written = admin.post(&format!("/v1/namespaces/{ns}/spaces/s/points"), &payload).await;
    assert_eq!((written.status, written.json()["token"].as_str()), (200, Some("3")));
    let body = json!({
        "query": { "vector": { "values": [1, 1, 1] } },
        "filter": "kind = \"cat\" AND n < 8",
        "with_payload": true,
    });
    let json = admin.post(&url, &body).await.json();
    assert_eq!(json["hits"].as_array().map(Vec::len), Some(1), "{json}");
    assert_eq!(json["hits"][0]["payload"]["n"]["int_value"], "7", "{json}");
    let bad = json!({ "query": { "vector": { "values": [1] } } });
    let answer = admin.post(&url, &bad).await;
    assert_eq!(
        (answer.status, answer.json()["error"]["status"].as_str()),
        (400, Some("INVALID_ARGUMENT"))
    );
}

/// Who may not read the namespace finds no space; a revoked token finds nothing any more.
pub async fn permissions(stage: &Stage) {
    let namespace = stage.namespace_of(&stage.admin).await;
    create(&stage.admin, &namespace.name).await;
    upsert(&stage.admin, &namespace.name, vec![point("x", &[1.0, 0.0, 0.0])]).await;
    let (user, session) = stage.user(Role::User).await;
    let search = near(&namespace.name, &[1.0, 0.0, 0.0]);
    let hidden = session.search().search(search.clone()).await.expect_err("hidden");
    assert_eq!(hidden.code(), Code::NotFound, "{hidden:?}");
    stage.grant(&user, ResourceKind::Namespace, &namespace.id, Level::Read).await;
    eventually("the grant", std::time::Duration::from_secs(5), async || {
        session.search().search(search.clone()).await.ok()
    })
    .await;
    let write = api::UpsertPointsRequest {
        namespace: namespace.name.clone(),
        space: "s".into(),
        points: vec![point("y", &[0.0, 1.0, 0.0])],
        ..Default::default()
    };
    let denied = session.points().upsert_points(write).await.expect_err("it may only read");
    assert_eq!(denied.code(), Code::PermissionDenied, "{denied:?}");
    let reading = stage.platform.session(&stage.token(&user.name, TokenScope::ReadOnly).await);
    reading.search().search(search).await.expect("a reading token searches");
}

/// The command line's names and the shape of its JSON.
pub async fn command_line(stage: &Stage) {
    let platform = &stage.platform;
    let ns = unique("cli");
    platform.cli(&["namespaces", "create", &ns, "-o", "json"]).await.json();
    let rows = platform.scratch().join(format!("{ns}.csv"));
    fs::write(&rows, "id,name\n1,a\n").expect("a file");
    let dataset = format!("{ns}/d");
    let imported = platform.cli(&["import", rows.to_str().expect("a path"), &dataset]).await;
    assert_eq!(imported.code, 0, "{imported:?}");
    let space = format!("{dataset}/s");
    let made = ["spaces", "create", &space, "--dimension", "3", "--metric", "cosine", "-o", "json"];
    let made = platform.cli(&made).await.json();
    assert_eq!(made["space"]["metric"], "METRIC_COSINE", "{made}");
    let points = [("a", [1.0, 0.0, 0.0]), ("b", [0.8, 0.6, 0.0]), ("c", [0.0, 0.0, 1.0])];
    let request = api::UpsertPointsRequest {
        namespace: ns.clone(),
        dataset: "d".into(),
        space: "s".into(),
        points: points.iter().map(|(item, values)| point(item, values)).collect(),
        ..Default::default()
    };
    stage.admin.points().upsert_points(request).await.expect("a write");
    let file = platform.scratch().join(format!("{ns}.json"));
    fs::write(&file, "[1.0, 0.0, 0.0]").expect("a file");
    let file = file.to_str().expect("a path");
    let by_vector =
        format!("vectors search --space {space} --vector {file} -k 3 --threshold 0.5 -o json");
    let by_vector: Vec<&str> = by_vector.split(' ').collect();
    let found = platform.cli(&by_vector).await.json();
    let items: Vec<&str> = found["results"]
        .as_array()
        .expect("results")
        .iter()
        .filter_map(|hit| hit["item_id"].as_str())
        .collect();
    assert_eq!(items, ["a", "b"], "{found}");
    assert!((found["results"][1]["score"].as_f64().expect("a score") - 0.8).abs() < 1e-6);
    assert!((found["results"][1]["distance"].as_f64().expect("one") - 0.2).abs() < 1e-6);
    for name in ["strategy", "cardinality", "scanned", "exact"] {
        assert!(found["explain"].get(name).is_some(), "{found}");
    }
    let by_item =
        ["vectors", "search", "--space", &space, "--item", "a", "-k", "1", "--exact", "-o", "json"];
    let found = platform.cli(&by_item).await.json();
    assert_eq!(found["results"][0]["item_id"], "b", "{found}");
    let filtered = [
        "vectors",
        "search",
        "--space",
        &space,
        "--item",
        "a",
        "--filter",
        "item_id = \"c\"",
        "-o",
        "json",
    ];
    assert_eq!(platform.cli(&filtered).await.json()["results"][0]["item_id"], "c");
    looked_after(stage, &dataset, &space).await;
}

/// Counts, a rebuild, what is refused, the end of the space.
async fn looked_after(stage: &Stage, dataset: &str, space: &str) {
    let platform = &stage.platform;
    let stats = platform.cli(&["vectors", "stats", "--space", space, "-o", "json"]).await.json();
    assert_eq!(stats["index"]["points"], 3, "{stats}");
    let rebuilt = platform.cli(&["vectors", "rebuild", "--space", space, "-o", "json"]).await;
    assert_eq!(rebuilt.json()["index"]["segments"], 1);
    let absent = format!("{dataset}/absent");
    let absent = platform.cli(&["vectors", "search", "--space", &absent, "--item", "a"]).await;
    assert_eq!(absent.code, 3, "{absent:?}");
    let k = platform.cli(&["vectors", "search", "--space", space, "--item", "a", "-k", "0"]).await;
    assert_eq!(k.code, 7, "{k:?}");
    let deleted = platform.cli(&["spaces", "delete", space]).await;
    assert_eq!(deleted.code, 0, "{deleted:?}");
    let list = platform.cli(&["spaces", "list", dataset, "-o", "json"]).await.json();
    assert_eq!(list["spaces"], json!([]));
}

/// Rows that carry vectors: an axis each, a little apart.
fn carrying(from: i64, to: i64) -> RecordBatch {
    let ids: Vec<i64> = (from..to).collect();
    let values: Vec<f32> = ids
        .iter()
        .flat_map(|id| (0..4).map(move |axis| if id % 4 == axis { 1.0 } else { *id as f32 * 1e-5 }))
        .collect();
    let field = Arc::new(Field::new_list_field(DataType::Float32, true));
    let vectors = FixedSizeListArray::new(field, 4, Arc::new(Float32Array::from(values)), None);
    let section = |id: &i64| if id % 2 == 0 { "even" } else { "odd" };
    RecordBatch::try_from_iter_with_nullable([
        ("id", Arc::new(Int64Array::from(ids.clone())) as ArrayRef, false),
        (
            "section",
            Arc::new(ids.iter().map(|id| Some(section(id))).collect::<StringArray>()),
            true,
        ),
        ("embedding", Arc::new(vectors), true),
    ])
    .expect("a batch")
}

/// The vectors that a dataset carries become a space, its columns filters.
pub async fn load(stage: &Stage) {
    let platform = &stage.platform;
    let ns = stage.namespace().await;
    put(&stage.admin, &ns, "d", vec![carrying(0, 1_500), carrying(1_500, 3_000)])
        .await
        .expect("a put");
    let (dataset, space) = (format!("{ns}/d"), format!("{ns}/d/s"));
    let create = ["spaces", "create", &space, "--dimension", "4", "--metric", "l2", "-o", "json"];
    platform.cli(&create).await.json();
    let load = [
        "vectors",
        "load",
        &dataset,
        "--space",
        "s",
        "--id-column",
        "id",
        "--vector-column",
        "embedding",
        "-o",
        "json",
    ];
    let loaded = platform.cli(&load).await.json();
    assert_eq!(loaded["job"]["state"], "JOB_STATE_COMPLETED", "{loaded}");
    assert_eq!(loaded["job"]["result"]["rows"], 3_000, "{loaded}");
    let shown = platform.cli(&["spaces", "show", &space, "-o", "json"]).await.json();
    assert_eq!(shown["space"]["point_count"], 3_000);
    // Twice is as good as once, and what is there already is not written again.
    let again = platform.cli(&load).await.json();
    assert_eq!(again["job"]["result"]["unchanged"], 3_000, "{again}");
    let shown = platform.cli(&["spaces", "show", &space, "-o", "json"]).await.json();
    let (count, token) = (&shown["space"]["point_count"], &shown["space"]["token"]);
    assert_eq!((count, token), (&json!(3_000), &json!(3_000)), "{shown}");
    let search = [
        "vectors",
        "search",
        "--space",
        &space,
        "--item",
        "9",
        "-k",
        "3",
        "--filter",
        "section = \"odd\" AND id < 20",
        "-o",
        "json",
    ];
    let found = platform.cli(&search).await.json();
    assert_eq!(found["explain"]["cardinality"], 10, "{found}");
    let items: Vec<&str> = found["results"]
        .as_array()
        .expect("results")
        .iter()
        .filter_map(|hit| hit["item_id"].as_str())
        .collect();
    assert_eq!(items.len(), 3, "{found}");
    assert!(items[..2].iter().all(|id| ["5", "13"].contains(id)), "{found}");
    assert!(["1", "17"].contains(&items[2]), "{found}");
    small_writes(stage, &ns, &load).await;
    direct_points(stage, &ns).await;
    wrong_loads(stage, &dataset, &load).await;
}

/// Points that were upserted get their items' columns and keep their vectors; those whose items
/// are gone go when that is asked for.
async fn direct_points(stage: &Stage, ns: &str) {
    let (admin, platform) = (&stage.admin, &stage.platform);
    let (dataset, space) = (format!("{ns}/d"), format!("{ns}/d/own"));
    let create = ["spaces", "create", &space, "--dimension", "2", "--metric", "cosine"];
    platform.cli(&[&create[..], &["-o", "json"]].concat()).await.json();
    let url = format!("/v1/namespaces/{ns}/datasets/d/spaces/own");
    let point = |item: &str| {
        json!({
            "item_id": item,
            "vector": { "values": [0.6, 0.8] },
            "payload": { "mine": { "int_value": "1" }, "section": { "string_value": "old" } },
        })
    };
    let points = json!({ "points": [point("6"), point("8"), point("absent")] });
    let written = admin.post(&format!("{url}/points"), &points).await;
    assert_eq!(written.status, 200, "{written:?}");
    let load = ["vectors", "load", &dataset, "--space", "own", "--id-column", "id", "-o", "json"];
    let loaded = platform.cli(&load).await.json();
    let result = &loaded["job"]["result"];
    let counts = ["rows", "failed", "unchanged", "without_point", "deleted"];
    let counts = counts.map(|name| result[name].as_i64().unwrap_or(-1));
    assert_eq!(counts, [3_000, 0, 0, 2_998, 0], "{loaded}");
    let again = platform.cli(&load).await.json();
    assert_eq!(again["job"]["result"]["unchanged"], 2, "{again}");
    let search = async |filter: &str| -> Vec<(String, f64)> {
        let query = json!({ "vector": { "values": [0.6, 0.8] } });
        let body = json!({ "query": query, "k": 5, "filter": filter });
        let found = admin.post(&format!("{url}:search"), &body).await.json();
        let hits = found["hits"].as_array().unwrap_or_else(|| panic!("{found}"));
        let hit = |hit: &serde_json::Value| {
            let item = hit["item_id"].as_str().unwrap_or_default().to_owned();
            (item, hit["score"].as_f64().unwrap_or_default())
        };
        hits.iter().map(hit).collect()
    };
    let moved = search("section = \"moved\" AND mine = 1").await;
    assert_eq!(moved.len(), 1, "{moved:?}");
    assert_eq!(moved[0].0, "6");
    assert!((moved[0].1 - 1.0).abs() < 1e-6, "its vector is what it was: {moved:?}");
    assert_eq!(search("section = \"old\"").await.len(), 1, "its item is not in the dataset");
    let pruned = platform.cli(&[&load[..], &["--delete-missing"]].concat()).await.json();
    assert_eq!(pruned["job"]["result"]["deleted"], 1, "{pruned}");
    let left: Vec<String> = search("").await.into_iter().map(|(item, _)| item).collect();
    assert_eq!(left, ["6", "8"]);
    let embedder = platform.cli(&[&load[..], &["--embedder", "x"]].concat()).await;
    assert_eq!(embedder.code, 7, "of no vectors: {embedder:?}");
}

/// A load reads the dataset as it is: what was written to it one by one, too.
async fn small_writes(stage: &Stage, ns: &str, load: &[&str]) {
    let (admin, url) = (&stage.admin, format!("/v1/namespaces/{ns}/datasets/d/items"));
    let one = |value: f64| json!({ "double_value": value });
    let vector = json!({ "list_value": { "values": [one(5.0), one(5.0), one(5.0), one(5.0)] } });
    let cells = json!({
        "id": { "int_value": "9000" },
        "section": { "string_value": "new" },
        "embedding": vector,
    });
    let made = admin.post(&url, &json!({ "cells": cells })).await;
    assert_eq!(made.status, 200, "{made:?}");
    let moved = json!({ "cells": { "section": { "string_value": "moved" } } });
    let patched = admin.patch(&format!("{url}/6"), &moved).await;
    assert_eq!(patched.status, 200, "{patched:?}");
    assert_eq!(admin.delete(&format!("{url}/7")).await.status, 200);
    let loaded = stage.platform.cli(load).await.json();
    let result = &loaded["job"]["result"];
    assert_eq!((&result["rows"], &result["unchanged"]), (&json!(3_000), &json!(2_998)), "{loaded}");
    let search = format!("/v1/namespaces/{ns}/datasets/d/spaces/s:search");
    for (filter, item) in [("section = \"new\"", "9000"), ("section = \"moved\"", "6")] {
        let query = json!({ "vector": { "values": [5.0, 5.0, 5.0, 5.0] } });
        let body = json!({ "query": query, "k": 2, "filter": filter });
        let found = admin.post(&search, &body).await.json();
        assert_eq!(found["hits"].as_array().map(Vec::len), Some(1), "{found}");
        assert_eq!(found["hits"][0]["item_id"], item, "{found}");
    }
    // A version that is named is read as it was.
    let mut version = load.to_vec();
    let named = format!("{ns}/d@1");
    version[2] = &named;
    let loaded = stage.platform.cli(&version).await.json();
    assert_eq!(loaded["job"]["result"]["unchanged"], 2_999, "only that one row differs: {loaded}");
}

/// Vectors of half precision, and a column that nothing can be filtered by.
pub async fn halves(stage: &Stage) {
    let ns = stage.namespace().await;
    let values: Vec<f32> = (0..100).flat_map(|n| [n as f32 / 8.0, 1.0]).collect();
    let halves = cast(&Float32Array::from(values), &DataType::Float16).expect("halves");
    let field = Arc::new(Field::new_list_field(DataType::Float16, true));
    let vectors = FixedSizeListArray::new(field, 2, halves, None);
    let blobs = BinaryArray::from_iter_values((0..100).map(|n: u8| [n]));
    let hashes = UInt64Array::from_iter_values((0..100).map(|n| u64::MAX - n));
    let rows = RecordBatch::try_from_iter_with_nullable([
        ("id", Arc::new(Int64Array::from_iter_values(0..100)) as ArrayRef, false),
        ("none", Arc::new(Int64Array::new_null(100)), true),
        ("hash", Arc::new(hashes), true),
        ("blob", Arc::new(blobs), true),
        ("half", Arc::new(vectors), true),
    ]);
    put(&stage.admin, &ns, "d", vec![rows.expect("a batch")]).await.expect("a put");
    let (dataset, space) = (format!("{ns}/d"), format!("{ns}/d/s"));
    let request = api::CreateSpaceRequest {
        namespace: ns.clone(),
        dataset: "d".into(),
        space: "s".into(),
        dimension: 2,
        metric: api::Metric::L2.into(),
        element: api::Element::F16.into(),
        ..Default::default()
    };
    stage.admin.spaces().create_space(request).await.expect("a space");
    let load = ["vectors", "load", &dataset, "--space", "s", "--id-column", "id"];
    let load = [&load[..], &["--vector-column", "half", "-o", "json"]].concat();
    let loaded = stage.platform.cli(&load).await.json();
    assert_eq!(loaded["job"]["result"]["rows"], 100, "{loaded}");
    assert_eq!(loaded["columns_left_out"], json!(["hash", "blob"]), "{loaded}");
    let mut wrong = [&load[..], &["--delete-missing"]].concat();
    for (id_column, why) in [("half", "ids are texts"), ("none", "none of the 100 rows")] {
        wrong[6] = id_column;
        let refused = stage.platform.cli(&wrong).await;
        assert_ne!(refused.code, 0, "{refused:?}");
        assert!(format!("{refused:?}").contains(why), "{refused:?}");
    }
    let search = ["vectors", "search", "--space", &space, "--item", "40", "-k", "2", "--exact"];
    let found = stage.platform.cli(&[&search[..], &["-o", "json"]].concat()).await.json();
    // Equally far: the item decides.
    assert_eq!(found["results"][0]["item_id"], "39", "{found}");
    assert_eq!(found["results"][1]["item_id"], "41", "{found}");
    assert_eq!(found["results"][1]["distance"], 0.125, "{found}");
}

/// Columns and spaces that are not there, or do not fit.
async fn wrong_loads(stage: &Stage, dataset: &str, load: &[&str]) {
    let platform = &stage.platform;
    for (column, value, exit) in
        [("--id-column", "nope", 7), ("--vector-column", "section", 7), ("--space", "absent", 3)]
    {
        let mut wrong = load.to_vec();
        let at = wrong.iter().position(|arg| *arg == column).expect("an option");
        wrong[at + 1] = value;
        let refused = platform.cli(&wrong).await;
        assert_eq!(refused.code, exit, "{column} {value}: {refused:?}");
    }
    let narrow = format!("{dataset}/narrow");
    let create = ["spaces", "create", &narrow, "--dimension", "5", "-o", "json"];
    platform.cli(&create).await.json();
    let mut wrong = load.to_vec();
    wrong[4] = "narrow";
    assert_eq!(platform.cli(&wrong).await.code, 7, "another dimension");
}
