//! Vectors under faults: `kill -9` while the index is built, merged and snapshotted, and a
//! database that goes away during searches. `QUARRY_KILLS` says how many kills; two unless it
//! does.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]
#![allow(clippy::disallowed_methods, reason = "the number of kills is the tester's to choose")]

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use catalog_api::v1::CreateNamespaceRequest;
use harness::{Database, Platform, Session, Setup, Topology, eventually};
use tonic::{Code, Status};
use tonic_types::StatusExt;
use vectors_api::v1 as api;
use vectors_api::v1::consistency::Kind as Fresh;

const KILLS_DEFAULT: u64 = 2;
const NAMESPACE: &str = "vectors-faults";
const BATCH: u64 = 60;
const SOON: Duration = Duration::from_secs(20);
/// Of the points, which part is searched for.
const SEARCHED_ONE_IN: u64 = 7;

fn kills() -> u64 {
    std::env::var("QUARRY_KILLS").ok().and_then(|n| n.parse().ok()).unwrap_or(KILLS_DEFAULT)
}

/// The vector of a point's version; no two are alike.
fn values(point: u64, version: u64) -> Vec<f32> {
    let spread = |seed: u64| ((seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40) as f32) / 1e7;
    (0..8).map(|axis| spread(point * 8 + axis) + version as f32 * 0.01).collect()
}

fn point(point: u64, version: u64) -> api::Point {
    let vector = Some(api::Vector { values: values(point, version), bits: Vec::new() });
    api::Point { item_id: format!("p{point}"), vector, ..Default::default() }
}

async fn made(session: &Session) {
    let request = CreateNamespaceRequest { name: NAMESPACE.into(), ..Default::default() };
    session.namespaces().create_namespace(request).await.unwrap();
    let request = api::CreateSpaceRequest {
        namespace: NAMESPACE.into(),
        space: "s".into(),
        dimension: 8,
        metric: api::Metric::L2.into(),
        ..Default::default()
    };
    session.spaces().create_space(request).await.unwrap();
}

async fn upsert(session: &Session, points: Vec<api::Point>) -> Result<(), Status> {
    let request = api::UpsertPointsRequest {
        namespace: NAMESPACE.into(),
        space: "s".into(),
        points,
        ..Default::default()
    };
    session.points().upsert_points(request).await.map(drop)
}

async fn nearest(
    session: &Session,
    values: Vec<f32>,
    fresh: Option<Fresh>,
) -> Result<api::SearchResponse, Status> {
    let vector = api::Vector { values, bits: Vec::new() };
    let request = api::SearchRequest {
        namespace: NAMESPACE.into(),
        space: "s".into(),
        query: Some(api::Query { kind: Some(api::query::Kind::Vector(vector)) }),
        k: Some(1),
        exact: true,
        consistency: fresh.map(|kind| api::Consistency { kind: Some(kind) }),
        ..Default::default()
    };
    Ok(session.search().search(request).await?.into_inner())
}

/// What is known of a point: its version, none if it was deleted; several while a write was not
/// acknowledged.
type Known = BTreeMap<u64, Vec<Option<u64>>>;

/// Writes, rewrites and deletes until the server is gone.
async fn write(session: Session, round: u64, mut known: Known) -> Known {
    for batch in 0.. {
        let first = (batch % 12) * BATCH;
        let version = round * 1_000 + batch;
        let points: Vec<u64> = (first..first + BATCH).collect();
        if batch % 5 == 4 {
            for at in &points {
                known.entry(*at).or_insert_with(|| vec![None]).push(None);
            }
            let request = api::DeletePointsRequest {
                namespace: NAMESPACE.into(),
                space: "s".into(),
                item_ids: points.iter().map(|at| format!("p{at}")).collect(),
                ..Default::default()
            };
            if session.points().delete_points(request).await.is_err() {
                return known;
            }
            points.iter().for_each(|at| drop(known.insert(*at, vec![None])));
        } else {
            for at in &points {
                known.entry(*at).or_insert_with(|| vec![None]).push(Some(version));
            }
            let points_now = points.iter().map(|at| point(*at, version)).collect();
            if upsert(&session, points_now).await.is_err() {
                return known;
            }
            points.iter().for_each(|at| drop(known.insert(*at, vec![Some(version)])));
        }
    }
    known
}

/// Asks for whole indexes until the server is gone: builds, merges and snapshots all the time.
async fn rebuild(session: Session) {
    let request = api::RebuildIndexRequest {
        namespace: NAMESPACE.into(),
        space: "s".into(),
        ..Default::default()
    };
    while session.spaces().rebuild_index(request.clone()).await.is_ok() {}
}

/// The rows of these points, by item.
async fn rows(session: &Session, points: &[u64]) -> BTreeMap<String, Option<api::Vector>> {
    let get = api::GetPointsRequest {
        namespace: NAMESPACE.into(),
        space: "s".into(),
        item_ids: points.iter().map(|at| format!("p{at}")).collect(),
        with_vector: true,
        ..Default::default()
    };
    let found = session.points().get_points(get).await.unwrap().into_inner().points;
    found.into_iter().map(|point| (point.item_id, point.vector)).collect()
}

/// Every acknowledged write is in its row, nothing deleted is; a part of them is looked for by
/// its own vector.
async fn check(session: &Session, known: &mut Known) {
    let points: Vec<u64> = known.keys().copied().collect();
    let rows = rows(session, &points).await;
    let mut there = 0;
    for (at, versions) in known.iter_mut() {
        let row = rows.get(&format!("p{at}"));
        let is = |version: &Option<u64>| match (version, row) {
            (Some(version), Some(row)) => *row == point(*at, *version).vector,
            (None, None) => true,
            _ => false,
        };
        let now = versions.iter().copied().find(is);
        let now = now.unwrap_or_else(|| panic!("p{at}: {row:?} is none of {versions:?}"));
        *versions = vec![now];
        there += usize::from(now.is_some());
        if at % SEARCHED_ONE_IN != 0 {
            continue;
        }
        let of = values(*at, now.unwrap_or(0));
        let found = nearest(session, of, Some(Fresh::Strong(true))).await.unwrap();
        let found = found.hits.first().map(|hit| hit.item_id.clone());
        match now {
            Some(_) => assert_eq!(found, Some(format!("p{at}"))),
            None => assert_ne!(found, Some(format!("p{at}")), "it was deleted"),
        }
    }
    let count = api::CountPointsRequest {
        namespace: NAMESPACE.into(),
        space: "s".into(),
        ..Default::default()
    };
    let count = session.points().count_points(count).await.unwrap().into_inner().count;
    assert_eq!(usize::try_from(count), Ok(there));
}

async fn survives(topology: Topology, database: Database) {
    let mut platform = Setup::new(topology, database)
        .variable("QUARRY_VECTORS__HEAD_ROWS_MAX", "100")
        .start()
        .await;
    made(&platform.admin()).await;
    let mut known = Known::new();
    for round in 1..=kills() {
        let writing = tokio::spawn(write(platform.admin().apart(), round, known));
        let building = tokio::spawn(rebuild(platform.admin().apart()));
        // Each round dies at another moment.
        let moment = Duration::from_millis(500 + (round * 389) % 1_300);
        tokio::time::timeout(moment, std::future::pending::<()>()).await.unwrap_err();
        platform.kill9();
        known = writing.await.unwrap();
        building.await.unwrap();
        platform.restart().await;
        let session = platform.admin();
        assert!(!known.is_empty(), "nothing was written in round {round}");
        check(&session, &mut known).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn kills_on_sqlite() {
    survives(Topology::OneProcess, Database::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn kills_on_postgres() {
    survives(Topology::OneProcess, Database::Postgres).await;
}

/// Whoever asks for what may be a little old is answered from the index for a while; whoever asks
/// for all that was written is told that nobody knows.
#[tokio::test(flavor = "multi_thread")]
async fn a_database_away_leaves_eventual_answers_for_a_while() {
    let mut platform = Platform::start(Topology::OneProcess, Database::Postgres).await;
    let session = platform.admin();
    made(&session).await;
    upsert(&session, (0..100).map(|at| point(at, 0)).collect()).await.unwrap();
    nearest(&session, values(7, 0), Some(Fresh::Strong(true))).await.unwrap();
    platform.postgres().unwrap().kill();
    let gone = Instant::now();
    let (mut answered, mut last) = (0, Duration::ZERO);
    while gone.elapsed() < Duration::from_millis(1_800) {
        let found = nearest(&session, values(7, 0), None).await;
        let found = found.unwrap_or_else(|status| panic!("{:?}: {status:?}", gone.elapsed()));
        assert_eq!(found.hits[0].item_id, "p7");
        (answered, last) = (answered + 1, gone.elapsed());
    }
    assert!(answered > 3 && last > Duration::from_secs(1), "{answered} answers, to {last:?}");
    let strong = nearest(&session, values(7, 0), Some(Fresh::Strong(true))).await.unwrap_err();
    assert_eq!(strong.code(), Code::Unavailable, "{strong:?}");
    let said = strong.get_details_error_info();
    assert!(said.is_some_and(|info| !info.reason.is_empty()), "{strong:?}");
    let refused =
        eventually("a refusal", SOON, async || nearest(&session, values(7, 0), None).await.err())
            .await;
    assert_eq!(refused.code(), Code::Unavailable, "{refused:?}");
}
