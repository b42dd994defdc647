//! `kill -9` at any moment of small writes, flushes, bulk puts, bulk edits and
//! compaction: every acknowledged write is there afterwards, none twice, an edit of many
//! rows is there whole or not at all, and pages are the scan. `QUARRY_KILLS` says how
//! many kills; a few unless it does.

use std::time::Duration;

use crate::history::{self, Keys, Known, ROWS, WIDE};
use arrow::array::{AsArray, Int64Array};
use arrow::datatypes::Int64Type;
use arrow::record_batch::RecordBatch;
use catalog_api::v1::CreateNamespaceRequest;
use harness::{Database, Platform, Setup, Topology, data};

const KILLS_DEFAULT: u64 = 4;
const NAMESPACE: &str = "kills";
const WRITERS: i64 = 3;
/// More than the delta takes: an edit of all of them is a bulk commit.
const WIDE_ROWS: i64 = 3_000;

fn kills() -> u64 {
    std::env::var("QUARRY_KILLS").ok().and_then(|n| n.parse().ok()).unwrap_or(KILLS_DEFAULT)
}

async fn platform(topology: Topology, database: Database) -> Platform {
    Setup::new(topology, database)
        .variable("QUARRY_CATALOG__UPLOAD_LEASE_SECONDS", "3")
        .variable("QUARRY_CATALOG__SNAPSHOT_LEASE_SECONDS", "10")
        .variable("QUARRY_ITEMS__SWEEP_SECONDS", "1")
        .variable("QUARRY_ITEMS__GARBAGE__SECONDS", "2")
        .variable("QUARRY_ITEMS__GARBAGE__GRACE_SECONDS", "3")
        .variable("QUARRY_ITEMS__DELTA__FLUSH_ROWS", "5")
        .variable("QUARRY_ITEMS__DELTA__FLUSH_SECONDS", "1")
        .variable("QUARRY_ITEMS__DELTA__FENCE_LEASE_SECONDS", "1")
        .variable("QUARRY_ITEMS__COMPACTION__SECONDS", "1")
        .start()
        .await
}

/// Rows whose width is 0.
fn wide_rows() -> RecordBatch {
    let rows = data::rows(0, WIDE_ROWS);
    let mut columns = rows.columns().to_vec();
    let zeros = columns[1].as_primitive::<Int64Type>().len();
    columns[1] = std::sync::Arc::new(Int64Array::from(vec![0; zeros]));
    RecordBatch::try_new(rows.schema(), columns).unwrap()
}

async fn survives(topology: Topology, database: Database) {
    let mut platform = platform(topology, database).await;
    let request = CreateNamespaceRequest { name: NAMESPACE.into(), ..Default::default() };
    platform.admin().namespaces().create_namespace(request).await.unwrap();
    harness::put(&platform.admin(), NAMESPACE, ROWS, vec![data::rows(0, 10)]).await.unwrap();
    harness::put(&platform.admin(), NAMESPACE, WIDE, vec![wide_rows()]).await.unwrap();
    let mut known: Vec<Keys> = vec![Keys::new(); WRITERS as usize];
    let mut wide = Known { now: Some(0), asked: None };
    let mut parts = 1;
    let (mut acknowledged, begun) = (0, std::time::Instant::now());
    for round in 0..kills() {
        let writers: Vec<_> = (1..=WRITERS)
            .zip(std::mem::take(&mut known))
            .map(|(writer, known)| {
                let (session, of) = (platform.admin().apart(), (writer, round as i64));
                tokio::spawn(history::write(session, NAMESPACE, of, known, || true))
            })
            .collect();
        let putting =
            tokio::spawn(history::put(platform.admin().apart(), NAMESPACE, parts, || true));
        let editing =
            tokio::spawn(history::edit_all(platform.admin().apart(), NAMESPACE, wide.clone()));
        // Each round dies at another moment.
        let moment = Duration::from_millis(200 + (round * 389) % 1_700);
        tokio::time::timeout(moment, std::future::pending::<()>()).await.unwrap_err();
        platform.kill9();
        for writer in writers {
            known.push(writer.await.unwrap());
        }
        parts = putting.await.unwrap();
        wide = editing.await.unwrap();
        platform.restart().await;
        let session = platform.admin();
        let found = history::rows(&session, NAMESPACE, ROWS).await;
        for known in &mut known {
            acknowledged += known.len();
            history::check(&found, known, parts);
        }
        let found = history::rows(&session, NAMESPACE, WIDE).await;
        history::check_wide(&found, WIDE_ROWS, &mut wide);
    }
    let edits = wide.now.unwrap();
    let took = begun.elapsed();
    println!("{} kills, {acknowledged} keys compared, {edits} bulk edits, {took:?}", kills());
}

#[tokio::test(flavor = "multi_thread")]
async fn one_process_on_sqlite() {
    survives(Topology::OneProcess, Database::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn split_on_postgres() {
    survives(Topology::Split, Database::Postgres).await;
}
