//! What nothing names goes, what somebody may still read stays, and a crash in between
//! changes neither.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use crate::history;
use api::refusal::refused;
use arrow_flight::FlightDescriptor;
use catalog_api::v1::{CreateNamespaceRequest, DeleteDatasetRequest};
use harness::{Database, Platform, Session, Setup, Topology, data, eventually, get_ticket};
use items_api::v1::{CollectGarbageRequest, ListItemsRequest, PatchItemRequest};
use ops_api::v1::{JobState, JobsWatchRequest};
use tonic::{Code, Status};

const NAMESPACE: &str = "gc";

/// Nothing is kept for long, and nothing is collected unasked.
async fn platform(topology: Topology, database: Database, grace: &str) -> Platform {
    let platform = Setup::new(topology, database)
        .variable("QUARRY_CATALOG__UPLOAD_LEASE_SECONDS", "2")
        .variable("QUARRY_CATALOG__SNAPSHOT_LEASE_SECONDS", "1")
        .variable("QUARRY_CATALOG__DELETED_RETENTION_SECONDS", "0")
        .variable("QUARRY_ITEMS__GARBAGE__SECONDS", "0")
        .variable("QUARRY_ITEMS__GARBAGE__GRACE_SECONDS", grace)
        .variable("QUARRY_ITEMS__DELTA__FLUSH_ROWS", "1")
        .variable("QUARRY_ITEMS__COMPACTION__SECONDS", "1")
        .bucket()
        .start()
        .await;
    let request = CreateNamespaceRequest { name: NAMESPACE.into(), ..Default::default() };
    platform.admin().namespaces().create_namespace(request).await.unwrap();
    platform
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(dir) else { return Vec::new() };
    let paths = entries.map_while(Result::ok).map(|entry| entry.path());
    paths.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

/// A file beside a block, as a writer that died left it an hour ago.
fn left_behind(beside: &Path, name: &str) -> PathBuf {
    let path = beside.with_file_name(name);
    std::fs::write(&path, b"a block of nobody").unwrap();
    let file = std::fs::File::options().write(true).open(&path).unwrap();
    file.set_modified(SystemTime::now() - Duration::from_secs(3_600)).unwrap();
    path
}

/// Collects, and answers what the job counted.
async fn collect(session: &Session, dry_run: bool) -> Result<BTreeMap<String, i64>, Status> {
    let request = CollectGarbageRequest { dry_run };
    let name = session.maintenance().collect_garbage(request).await?.into_inner().job;
    let mut changes = session.jobs().watch(JobsWatchRequest { name }).await?.into_inner();
    let mut last = None;
    while let Some(change) = changes.message().await? {
        last = change.job.or(last);
    }
    let job = last.expect("a job");
    assert_eq!(job.state(), JobState::Completed, "{job:?}");
    Ok(job.result.into_iter().collect())
}

async fn patch(session: &Session, dataset: &str, id: i64, width: i64) {
    let request = PatchItemRequest {
        namespace: NAMESPACE.into(),
        dataset: dataset.into(),
        key: id.to_string(),
        cells: HashMap::from([("width".to_owned(), history::int(width))]),
        ..Default::default()
    };
    session.edits().patch_item(request).await.unwrap();
}

fn page(dataset: &str, page_token: &str) -> ListItemsRequest {
    ListItemsRequest {
        namespace: NAMESPACE.into(),
        dataset: dataset.into(),
        page_size: 4,
        page_token: page_token.into(),
        ..Default::default()
    }
}

async fn leftovers(topology: Topology, database: Database) {
    let platform = platform(topology, database, "120").await;
    let admin = platform.admin();
    harness::put(&admin, NAMESPACE, "rows", vec![data::rows(0, 100)]).await.unwrap();
    let bucket = platform.bucket_dir().join("items");
    let block = files(&bucket).into_iter().find(|path| path.extension().is_some()).unwrap();
    let orphan = left_behind(&block, "orphan.parquet");
    let young = block.with_file_name("young.parquet");
    std::fs::write(&young, b"perhaps about to be committed").unwrap();
    // Below a dataset that no catalog of ours ever had.
    let upload = block.parent().unwrap().file_name().unwrap();
    let elsewhere = bucket.join(uuid::Uuid::now_v7().to_string()).join(upload);
    std::fs::create_dir_all(&elsewhere).unwrap();
    let unknown = left_behind(&elsewhere.join("x"), "unknown.parquet");

    let counted = collect(&admin, true).await.unwrap();
    assert_eq!((counted["objects"], counted["young_objects"]), (1, 1), "{counted:?}");
    assert_eq!(counted["unknown_objects"], 1);
    assert!(orphan.exists(), "a dry run deletes nothing");
    let done = collect(&admin, false).await.unwrap();
    assert_eq!((done["objects"], done["bytes"]), (1, 17), "{done:?}");
    assert!(!orphan.exists() && young.exists() && unknown.exists() && block.exists());
    assert_eq!(history::rows(&admin, NAMESPACE, "rows").await.len(), 100);
    let said = platform.cli(&["datasets", "gc", "--dry-run", "-o", "json"]).await.json();
    assert_eq!(said["job"]["result"]["young_objects"].to_string().trim_matches('"'), "1", "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_crash_left_is_found_counted_and_deleted() {
    leftovers(Topology::OneProcess, Database::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_crash_left_is_found_counted_and_deleted_split() {
    leftovers(Topology::Split, Database::Postgres).await;
}

/// A token and a ticket of a snapshot that was replaced and collected say so; versions and
/// the head read as before.
#[tokio::test(flavor = "multi_thread")]
async fn a_stale_page_token_is_refused_and_never_answered_wrongly() {
    let platform = platform(Topology::OneProcess, Database::Sqlite, "120").await;
    let admin = platform.admin();
    harness::put(&admin, NAMESPACE, "rows", vec![data::rows(0, 20)]).await.unwrap();
    let first = admin.items().list_items(page("rows", "")).await.unwrap().into_inner();
    let flushed = async |id: i64| {
        let info = async || {
            let descriptor = FlightDescriptor::new_path(vec![NAMESPACE.into(), "rows".into()]);
            admin.flight().get_flight_info(descriptor).await.unwrap().into_inner()
        };
        let before = info().await.total_bytes;
        patch(&admin, "rows", id, 1).await;
        // Bytes of blocks that the head sees: the row has left the delta.
        eventually("a flush", Duration::from_secs(20), async || {
            Some(info().await).filter(|now| now.total_bytes != before)
        })
        .await
    };
    let info = flushed(1).await;
    let second = admin.items().list_items(page("rows", "")).await.unwrap().into_inner();
    for id in 2..5 {
        flushed(id).await;
    }
    let (token, ticket) = (second.next_page_token, info.endpoint[0].ticket.clone().unwrap());
    let gone = eventually("the snapshot's end", Duration::from_secs(30), async || {
        collect(&admin, false).await.unwrap();
        admin.items().list_items(page("rows", &token)).await.err()
    })
    .await;
    assert!(gone.message().contains("snapshot"), "{gone:?}");
    refused::<()>(Err(gone), Code::FailedPrecondition);
    let gone = get_ticket(&admin, ticket).await.unwrap_err();
    assert_eq!(gone.code(), Code::FailedPrecondition, "{gone:?}");
    // The first page was of a version, which stays.
    let mut then = first.items;
    let mut token = first.next_page_token;
    while !token.is_empty() {
        let next = admin.items().list_items(page("rows", &token)).await.unwrap().into_inner();
        then.extend(next.items);
        token = next.next_page_token;
    }
    let widths: Vec<_> = then.iter().map(|row| row.values[1].clone()).collect();
    assert_eq!(widths, (0..20).map(|id| history::int(data::width(id))).collect::<Vec<_>>());
    let now = history::rows(&admin, NAMESPACE, "rows").await;
    assert_eq!(now.iter().filter(|(_, width)| *width == 1).count(), 4);
}

/// S1.5: metadata, then bytes, and killed anywhere between them.
async fn purge(topology: Topology, database: Database) {
    let mut platform = platform(topology, database, "2").await;
    harness::put(&platform.admin(), NAMESPACE, "stays", vec![data::rows(0, 50)]).await.unwrap();
    for round in 0..3u64 {
        let admin = platform.admin();
        let blocks = |platform: &Platform| files(&platform.bucket_dir().join("items")).len();
        let before = blocks(&platform);
        for at in 0..3 {
            let name = format!("goes-{round}-{at}");
            let rows = vec![data::rows(0, 50)];
            harness::put(&admin, NAMESPACE, &name, rows).await.unwrap();
            patch(&admin, &name, 1, 1).await;
            let request = DeleteDatasetRequest { namespace: NAMESPACE.into(), name: name.clone() };
            admin.datasets().delete_dataset(request).await.unwrap();
            // Its name is free at once, and what is made under it is another dataset.
            if at == 0 {
                harness::put(&admin, NAMESPACE, &name, vec![data::rows(0, 7)]).await.unwrap();
            }
        }
        let collecting = {
            let admin = admin.apart();
            tokio::spawn(async move { drop(collect_or_die(&admin).await) })
        };
        let moment = Duration::from_millis(round * 60);
        tokio::time::timeout(moment, std::future::pending::<()>()).await.unwrap_err();
        platform.kill9();
        collecting.await.unwrap();
        platform.restart().await;
        let admin = platform.admin();
        eventually("purged", Duration::from_secs(60), async || {
            collect_or_die(&admin).await.ok()?;
            // One block of the dataset that took a name.
            (blocks(&platform) == before + 1).then_some(())
        })
        .await;
        assert_eq!(history::rows(&admin, NAMESPACE, "stays").await.len(), 50);
        let again = format!("goes-{round}-0");
        assert_eq!(history::rows(&admin, NAMESPACE, &again).await.len(), 7);
    }
}

/// As [`collect`], on a server that may be killed meanwhile.
async fn collect_or_die(session: &Session) -> Result<(), Status> {
    let request = CollectGarbageRequest { dry_run: false };
    let name = session.maintenance().collect_garbage(request).await?.into_inner().job;
    let mut changes = session.jobs().watch(JobsWatchRequest { name }).await?.into_inner();
    while changes.message().await?.is_some() {}
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn deleted_datasets_are_purged_whatever_dies() {
    purge(Topology::OneProcess, Database::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn deleted_datasets_are_purged_whatever_dies_split() {
    purge(Topology::Split, Database::Postgres).await;
}
