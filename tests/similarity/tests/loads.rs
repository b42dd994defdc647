//! Vectors that a dataset carries, through `kill -9` in the middle of a load and through a backup.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{ArrayRef, FixedSizeListArray, Float32Array, Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Field};
use catalog_api::v1::CreateNamespaceRequest;
use harness::{
    Database, Launch, Platform, Postgres, Process, Role, Session, Setup, Topology, eventually, put,
};
use serde_json::{Value, json};
use tempfile::TempDir;
use vectors_api::v1 as api;

const NAMESPACE: &str = "loads";
const ROWS: i64 = 20_000;
/// Rows of a write.
const BATCH: i64 = 1_000;
const SOON: Duration = Duration::from_secs(90);

/// Rows whose vectors stand on a line, in the order of their ids.
fn rows() -> Vec<RecordBatch> {
    let batch = |from: i64| {
        let ids: Vec<i64> = (from..from + BATCH).collect();
        let values: Vec<f32> = ids.iter().flat_map(|id| [*id as f32, 1.0]).collect();
        let field = Arc::new(Field::new_list_field(DataType::Float32, true));
        let vectors = FixedSizeListArray::new(field, 2, Arc::new(Float32Array::from(values)), None);
        let columns = [
            ("id", Arc::new(Int64Array::from(ids)) as ArrayRef, false),
            ("at", Arc::new(vectors), true),
        ];
        RecordBatch::try_from_iter_with_nullable(columns).unwrap()
    };
    (0..ROWS / BATCH).map(|at| batch(at * BATCH)).collect()
}

async fn filled(database: Database) -> Platform {
    let platform = Setup::new(Topology::OneProcess, database).start().await;
    let admin = platform.admin();
    let request = CreateNamespaceRequest { name: NAMESPACE.into(), ..Default::default() };
    admin.namespaces().create_namespace(request).await.unwrap();
    put(&admin, NAMESPACE, "d", rows()).await.unwrap();
    let request = api::CreateSpaceRequest {
        namespace: NAMESPACE.into(),
        dataset: "d".into(),
        space: "s".into(),
        dimension: 2,
        metric: api::Metric::L2.into(),
        ..Default::default()
    };
    admin.spaces().create_space(request).await.unwrap();
    platform
}

const LOAD: [&str; 7] = ["vectors", "load", "loads/d", "--space", "s", "--vector-column", "at"];

async fn space(session: &Session) -> Option<api::Space> {
    let request = api::GetSpaceRequest {
        namespace: NAMESPACE.into(),
        dataset: "d".into(),
        space: "s".into(),
    };
    session.spaces().get_space(request).await.ok()?.into_inner().space
}

/// The nearest items of a place on the line.
async fn nearest(session: &Session, at: f32) -> Vec<String> {
    let vector = api::Vector { values: vec![at, 1.0], bits: Vec::new() };
    let strong = api::consistency::Kind::Strong(true);
    let request = api::SearchRequest {
        namespace: NAMESPACE.into(),
        dataset: "d".into(),
        space: "s".into(),
        query: Some(api::Query { kind: Some(api::query::Kind::Vector(vector)) }),
        k: Some(3),
        exact: true,
        consistency: Some(api::Consistency { kind: Some(strong) }),
        ..Default::default()
    };
    let found = session.search().search(request).await.unwrap().into_inner();
    found.hits.into_iter().map(|hit| hit.item_id).collect()
}

/// `kill -9` in the middle of a load, and a small write to the dataset before it goes on: it goes
/// on with the rows that it had begun to read. Each write of a point takes a number of the space.
async fn goes_on_after_a_kill(database: Database) {
    let mut platform = filled(database).await;
    let load = [&LOAD[..], &["--id-column", "id", "--no-wait", "-o", "json"]].concat();
    let queued = platform.cli(&load).await.json();
    let job = queued["job"]["name"].as_str().unwrap().to_owned();
    let admin = platform.admin();
    let begun = eventually("a batch", SOON, async || {
        space(&admin).await.filter(|space| space.point_count > 0)
    })
    .await;
    assert!(begun.point_count < ROWS, "it was killed too late to tell anything");
    platform.kill9();
    platform.restart().await;
    let admin = platform.admin();
    let items = format!("/v1/namespaces/{NAMESPACE}/datasets/d/items");
    let gone = admin.delete(&format!("{items}/0")).await;
    assert_eq!(gone.status, 200, "{gone:?}");
    let watched = platform.cli(&["jobs", "watch", &job, "-o", "json"]).await;
    assert_eq!(watched.code, 0, "{watched:?}");
    let after = space(&admin).await.unwrap();
    assert_eq!(after.point_count, ROWS, "none is lost");
    assert_eq!(after.token, ROWS, "none is written twice");
    assert_eq!(nearest(&admin, 7_000.2).await, ["7000", "7001", "6999"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_load_goes_on_after_a_kill_on_sqlite() {
    goes_on_after_a_kill(Database::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_load_goes_on_after_a_kill_on_postgres() {
    goes_on_after_a_kill(Database::Postgres).await;
}

fn launch(dir: &TempDir, name: &str, args: &[&str]) -> Launch {
    Launch {
        name: name.to_owned(),
        args: args.iter().map(|arg| (*arg).to_owned()).collect(),
        variables: BTreeMap::new(),
        dir: dir.path().to_owned(),
    }
}

/// A restored platform answers from its rows' own index, not from what lay beside them.
async fn is_found_after_a_restore(database: Database) {
    let mut platform = filled(database).await;
    let load = [&LOAD[..], &["--id-column", "id", "-o", "json"]].concat();
    let loaded: Value = platform.cli(&load).await.json();
    assert_eq!(loaded["job"]["result"]["rows"], json!(ROWS), "{loaded}");
    let admin = platform.admin();
    let delete = api::DeletePointsRequest {
        namespace: NAMESPACE.into(),
        dataset: "d".into(),
        space: "s".into(),
        item_ids: vec!["500".into()],
    };
    admin.points().delete_points(delete).await.unwrap();
    let expected = ["501", "499", "502"];
    assert_eq!(nearest(&admin, 500.2).await, expected);

    let dir = TempDir::new().unwrap();
    let (place, data_dir) = (dir.path().join("backup"), dir.path().join("data"));
    let (place, data_dir) = (place.display().to_string(), data_dir.display().to_string());
    let own = platform.data_dir(Role::Catalog).display().to_string();
    let on_postgres = platform.postgres().is_some();
    let url = on_postgres.then(|| database_url(&platform));
    let mut backup = vec!["db", "backup", &place, "--data-dir", &own, "-o", "json"];
    backup.extend(url.iter().flat_map(|url| ["--database-url", url]));
    platform.cli(&backup).await.json();
    let postgres = on_postgres.then(Postgres::start);
    let url = postgres.as_ref().map(Postgres::create_database);
    let mut restore = vec!["db", "restore", &place, "--data-dir", &data_dir, "-o", "json"];
    let mut serve = vec!["serve", "--data-dir", &data_dir, "--listen", "127.0.0.1:0"];
    serve.extend(["--ops-listen", "127.0.0.1:0"]);
    for args in [&mut restore, &mut serve] {
        args.extend(url.iter().flat_map(|url| ["--database-url", url]));
    }
    Process::run(&launch(&dir, "restore", &restore)).json();
    let mut server = Process::spawn(launch(&dir, "restored", &serve));
    server.ready().await;
    let file = std::fs::read_to_string(dir.path().join("data/admin-token"));
    let token = file.unwrap_or_else(|_| platform.admin_token().to_owned());
    let restored = Session::new(server.listen(), Some(token.trim()));
    assert_eq!(space(&restored).await.unwrap().point_count, ROWS - 1);
    assert_eq!(nearest(&restored, 500.2).await, expected);
}

fn database_url(platform: &Platform) -> String {
    let pid = platform.process(Role::Catalog).pid();
    let variables = std::fs::read_to_string(format!("/proc/{pid}/environ")).unwrap();
    let found = variables.split('\0').find_map(|one| one.strip_prefix("QUARRY_DATABASE_URL="));
    found.unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn vectors_are_found_after_a_restore_on_sqlite() {
    is_found_after_a_restore(Database::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn vectors_are_found_after_a_restore_on_postgres() {
    is_found_after_a_restore(Database::Postgres).await;
}
