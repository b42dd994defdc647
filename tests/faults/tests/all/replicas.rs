//! Two item stores on one Postgres and one bucket, written to and stopped at any moment:
//! no acknowledged write is lost, none is doubled, and a commit whose holder was taken
//! for dead is refused. `QUARRY_ROUNDS` says how many times one of them is stopped.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::history::{self, Keys, ROWS, WIDE};
use catalog_api::v1::CreateNamespaceRequest;
use futures::stream;
use harness::{Database, Platform, Put, Replica, Role, Session, Setup, Topology, data, eventually};
use items_api::v1::bulk_edit_items_request::Change;
use items_api::v1::{
    BatchGetItemsRequest, BulkEditItemsRequest, CountItemsRequest, PatchChange, PatchItemRequest,
};
use tonic::Code;

const ROUNDS_DEFAULT: u64 = 2;
pub const NAMESPACE: &str = "two";
/// Longer than a fence's lease, so that the other one settles it.
pub const STOPPED: Duration = Duration::from_millis(1_800);

pub fn rounds() -> u64 {
    std::env::var("QUARRY_ROUNDS").ok().and_then(|n| n.parse().ok()).unwrap_or(ROUNDS_DEFAULT)
}

/// A platform with two item stores, whose garbage is looked for so often.
pub async fn both(sweep_seconds: &str) -> (Platform, Replica) {
    let platform = Setup::new(Topology::Split, Database::Postgres)
        .variable("QUARRY_CATALOG__UPLOAD_LEASE_SECONDS", "9")
        .variable("QUARRY_ITEMS__SWEEP_SECONDS", sweep_seconds)
        .variable("QUARRY_ITEMS__GARBAGE__SECONDS", sweep_seconds)
        .variable("QUARRY_ITEMS__GARBAGE__GRACE_SECONDS", "6")
        .variable("QUARRY_ITEMS__DELTA__FLUSH_ROWS", "5")
        .variable("QUARRY_ITEMS__DELTA__FLUSH_SECONDS", "1")
        .variable("QUARRY_ITEMS__DELTA__FENCE_LEASE_SECONDS", "1")
        .variable("QUARRY_ITEMS__COMPACTION__SECONDS", "1")
        .bucket()
        .start()
        .await;
    let replica = platform.join_replica().await;
    let request = CreateNamespaceRequest { name: NAMESPACE.into(), ..Default::default() };
    platform.admin().namespaces().create_namespace(request).await.unwrap();
    (platform, replica)
}

pub async fn pass(time: Duration) {
    tokio::time::timeout(time, std::future::pending::<()>()).await.unwrap_err();
}

/// Adds one to a row's width until `until` ends, naming the revision that it read;
/// answers how often it won and how often another was faster.
async fn count_up(session: Session, until: impl Fn() -> bool) -> (i64, i64) {
    let (mut won, mut lost) = (0, 0);
    let (namespace, dataset) = (NAMESPACE.to_owned(), ROWS.to_owned());
    let mut edits = session.edits();
    while until() {
        let request = BatchGetItemsRequest {
            namespace: namespace.clone(),
            dataset: dataset.clone(),
            keys: vec!["0".into()],
            ..Default::default()
        };
        let found = edits.batch_get_items(request).await.unwrap().into_inner().items;
        let item = found[0].item.clone().unwrap();
        let width = match item.values[1].kind {
            Some(catalog_api::v1::value::Kind::IntValue(width)) => width,
            ref other => panic!("no number: {other:?}"),
        };
        let request = PatchItemRequest {
            namespace: namespace.clone(),
            dataset: dataset.clone(),
            key: "0".into(),
            revision: found[0].revision.clone(),
            cells: HashMap::from([("width".to_owned(), history::int(width + 1))]),
            ..Default::default()
        };
        match edits.patch_item(request).await {
            Ok(_) => won += 1,
            Err(status) => {
                assert_eq!(status.code(), Code::Aborted, "{status:?}");
                lost += 1;
            }
        }
    }
    (won, lost)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_either_acknowledged_is_there_once() {
    let (platform, replica) = both("1").await;
    harness::put(&platform.admin(), NAMESPACE, ROWS, vec![data::rows(0, 10)]).await.unwrap();
    let doors = [platform.admin(), replica.admin()];
    let mut known: Vec<Keys> = vec![Keys::new(); 4];
    let (mut parts, mut width, mut lost, mut compared) = (1, data::width(0), 0, 0);
    for round in 0..rounds() {
        let going = Arc::new(AtomicBool::new(true));
        let until = || {
            let going = Arc::clone(&going);
            move || going.load(Ordering::Relaxed)
        };
        let writers: Vec<_> = (1..)
            .zip(std::mem::take(&mut known))
            .map(|(writer, known)| {
                let session = doors[writer as usize % 2].apart();
                let of = (writer, round as i64);
                tokio::spawn(history::write(session, NAMESPACE, of, known, until()))
            })
            .collect();
        let counters: Vec<_> =
            doors.iter().map(|door| tokio::spawn(count_up(door.apart(), until()))).collect();
        let putting = {
            let door = doors[round as usize % 2].apart();
            tokio::spawn(history::put(door, NAMESPACE, parts, until()))
        };
        // One of the two is taken for dead while it holds what it holds.
        pass(Duration::from_millis(300 + (round * 389) % 900)).await;
        let stopped =
            if round % 2 == 0 { platform.process(Role::ItemStore) } else { &replica.item_store };
        stopped.suspend();
        pass(STOPPED).await;
        stopped.go_on();
        pass(Duration::from_millis(700)).await;
        going.store(false, Ordering::Relaxed);
        for writer in writers {
            known.push(writer.await.unwrap());
        }
        parts = putting.await.unwrap();
        for counter in counters {
            let (won, beaten) = counter.await.unwrap();
            (width, lost) = (width + won, lost + beaten);
        }
        for door in &doors {
            let mut found = history::rows(door, NAMESPACE, ROWS).await;
            let counted = found.iter_mut().find(|(id, _)| *id == 0).unwrap();
            assert_eq!(counted.1, width, "each that won counts once");
            counted.1 = data::width(0);
            for known in &mut known {
                compared += known.len();
                history::check(&found, known, parts);
            }
        }
    }
    let logs = format!("{}{}", platform.logs(), replica.item_store.log());
    let settled = logs.matches("a fence was settled").count();
    println!(
        "{} stops, {compared} keys compared, {parts} puts, {lost} conflicts, {settled} fences settled",
        rounds()
    );
    assert!(lost > 0, "two that count up one row at once never met");
}

/// An edit of many rows is stopped while it holds the fence; the other replica waits out
/// its lease and goes on; then the first one wakes up and wants to commit.
#[tokio::test(flavor = "multi_thread")]
async fn a_stale_replica_commits_nothing() {
    // Its objects are not swept meanwhile: it is the commit that is refused.
    let (platform, replica) = both("3600").await;
    let stale = platform.process(Role::ItemStore);
    let mut refused = false;
    for (attempt, moment) in [150, 300, 75, 500, 40, 900].into_iter().enumerate() {
        let dataset = format!("{WIDE}-{attempt}");
        let rows: Vec<_> =
            (0..8).map(|part| data::rows(part * 5_000, part * 5_000 + 5_000)).collect();
        harness::put(&platform.admin(), NAMESPACE, &dataset, rows).await.unwrap();
        let patch = PatchChange {
            cells: HashMap::from([("section".to_owned(), history::text("stale"))]),
            ..Default::default()
        };
        let request = BulkEditItemsRequest {
            namespace: NAMESPACE.into(),
            dataset: dataset.clone(),
            filter: "id >= 0".into(),
            change: Some(Change::Patch(patch)),
            ..Default::default()
        };
        let session = platform.admin().apart();
        let edit = tokio::spawn(async move { session.edits().bulk_edit_items(request).await });
        pass(Duration::from_millis(moment)).await;
        stale.suspend();
        // What the other one writes is later than what the first one read.
        let put = Put::to(NAMESPACE, &dataset, data::schema()).option("mode", "upsert");
        let other = replica.admin();
        let put = put.send(&other, stream::iter(vec![data::rows(0, 10)]));
        let Ok(put) = tokio::time::timeout(Duration::from_secs(15), put).await else {
            // It was stopped in the middle of a transaction, whose locks end with it only.
            stale.go_on();
            drop(edit.await);
            continue;
        };
        put.unwrap();
        let during = changed(&replica.admin(), &dataset).await;
        stale.go_on();
        let ended = edit.await.unwrap();
        // Whatever the moment was: whole or not at all, and the put is there.
        let changed = changed(&replica.admin(), &dataset).await;
        match ended {
            Ok(_) if during == 0 => assert_eq!(changed, 40_000, "made after the put"),
            Ok(_) => assert_eq!(changed, 39_990, "made before the put"),
            Err(status) => {
                assert_eq!(changed, 0, "refused and made: {status:?}");
                assert!(
                    matches!(status.code(), Code::Aborted | Code::FailedPrecondition),
                    "{status:?}"
                );
                refused = true;
            }
        }
        let count = CountItemsRequest {
            namespace: NAMESPACE.into(),
            dataset: dataset.clone(),
            ..Default::default()
        };
        let count = platform.admin().items().count_items(count).await.unwrap().into_inner().count;
        assert_eq!(count, 40_000);
        if refused {
            break;
        }
    }
    assert!(refused, "the edit was never stopped between its fence and its commit");
    eventually("settled by the other one", Duration::from_secs(10), async || {
        replica.item_store.log().contains("a fence was settled").then_some(())
    })
    .await;
}

async fn changed(session: &Session, dataset: &str) -> i64 {
    let request = CountItemsRequest {
        namespace: NAMESPACE.into(),
        dataset: dataset.into(),
        filter: "section = \"stale\"".into(),
        ..Default::default()
    };
    session.items().count_items(request).await.unwrap().into_inner().count
}
