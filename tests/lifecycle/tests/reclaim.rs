//! What a deleted namespace leaves behind is reclaimed, and said in bytes.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use harness::{Database, Platform, Topology};
use http::Method;
use serde_json::{Value, json};

const BYTES: usize = 300_000;

async fn collected(platform: &Platform, args: &[&str]) -> Value {
    let all = [&["models", "gc", "--trash-seconds", "0", "-o", "json"], args].concat();
    platform.cli(&all).await.json()
}

/// Files of runs are the namespace's: they stay while it is there, and go with it.
async fn reclaims(topology: Topology, database: Database) {
    let platform = Platform::start(topology, database).await;
    let admin = platform.admin();
    let put = async |path: &str, byte: &str| {
        let path = format!("/api/2.0/mlflow-artifacts/artifacts/0/run/artifacts/{path}");
        let answer = admin.http(Method::PUT, &path, Some(byte.repeat(BYTES))).await;
        assert_eq!(answer.status, 200, "{answer:?}");
    };
    let made = json!({ "name": "e" });
    let made = admin.post("/api/2.0/mlflow/experiments/create", &made).await;
    assert_eq!(made.status, 200, "{made:?}");
    put("weights", "w").await;
    put("weights-again", "w").await;
    put("log", "l").await;
    let kept = collected(&platform, &[]).await;
    assert_eq!((&kept["freed_bytes"], &kept["reclaimed_files"]), (&json!(0), &json!(0)), "{kept}");
    let gone = admin.delete("/v1/namespaces/default").await;
    assert_eq!(gone.status, 200, "{gone:?}");
    let bytes = json!(2 * BYTES);
    let would = collected(&platform, &["--dry-run"]).await;
    assert_eq!((&would["freed_bytes"], &would["blobs"]), (&bytes, &json!(2)), "{would}");
    let done = collected(&platform, &[]).await;
    assert_eq!((&done["freed_bytes"], &done["reclaimed_files"]), (&bytes, &json!(3)), "{done}");
    let again = collected(&platform, &[]).await;
    assert_eq!((&again["freed_bytes"], &again["blobs"]), (&json!(0), &json!(0)), "{again}");
}

#[tokio::test]
async fn a_deleted_namespace_leaves_no_bytes_in_one_process() {
    reclaims(Topology::OneProcess, Database::Sqlite).await;
}

#[tokio::test]
async fn a_deleted_namespace_leaves_no_bytes_between_processes() {
    reclaims(Topology::Split, Database::Postgres).await;
}
