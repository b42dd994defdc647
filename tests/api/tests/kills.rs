//! `kill -9` at any moment of small writes, flushes, bulk puts and compaction: every
//! acknowledged write is there afterwards, none twice, and pages are the scan.
//! `QUARRY_KILLS` says how many kills; a few unless it does.
#![allow(clippy::print_stdout, reason = "a figure that is read")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]
#![allow(clippy::disallowed_methods, reason = "the number of kills is the tester's to choose")]

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use catalog_api::v1::value::Kind;
use catalog_api::v1::{CreateNamespaceRequest, Value};
use futures::stream;
use harness::{Database, Platform, Put, Session, Setup, Topology, data};
use items_api::v1::{
    BatchDeleteItemsRequest, CountItemsRequest, CreateItemRequest, ListItemsRequest,
    PatchItemRequest,
};

const KILLS_DEFAULT: u64 = 4;
const NAMESPACE: &str = "kills";
const WRITERS: i64 = 3;

fn kills() -> u64 {
    std::env::var("QUARRY_KILLS").ok().and_then(|n| n.parse().ok()).unwrap_or(KILLS_DEFAULT)
}

async fn platform(topology: Topology, database: Database) -> Platform {
    Setup::new(topology, database)
        .variable("QUARRY_CATALOG__UPLOAD_LEASE_SECONDS", "3")
        .variable("QUARRY_ITEMS__SWEEP_SECONDS", "1")
        .variable("QUARRY_ITEMS__DELTA__FLUSH_ROWS", "5")
        .variable("QUARRY_ITEMS__DELTA__FLUSH_SECONDS", "1")
        .variable("QUARRY_ITEMS__DELTA__FENCE_LEASE_SECONDS", "1")
        .variable("QUARRY_ITEMS__COMPACTION__SECONDS", "1")
        .start()
        .await
}

fn int(n: i64) -> Value {
    Value { kind: Some(Kind::IntValue(n)) }
}

/// What a writer knows of a key: its width, or that it is deleted; both while an
/// answer is missing.
#[derive(Clone, Debug, PartialEq)]
struct Known {
    now: Option<i64>,
    asked: Option<Option<i64>>,
}

/// One writer's own keys, written until the server is gone.
async fn write(
    session: Session,
    writer: i64,
    round: i64,
    mut known: BTreeMap<i64, Known>,
) -> BTreeMap<i64, Known> {
    let mut edits = session.edits();
    for step in 0.. {
        let id = writer * 1_000_000 + (round * 7 + step) % 40;
        let width = round * 1_000 + step;
        let before = known.get(&id).cloned().unwrap_or(Known { now: None, asked: None });
        // An answer was lost here: the key is left alone until it is looked at.
        if before.asked.is_some() {
            continue;
        }
        let aim = match (before.now, step % 5) {
            (Some(_), 4) => None,
            _ => Some(width),
        };
        known.insert(id, Known { now: before.now, asked: Some(aim) });
        let done = match (before.now, aim) {
            (Some(_), None) => {
                let request = BatchDeleteItemsRequest {
                    namespace: NAMESPACE.into(),
                    dataset: "rows".into(),
                    keys: vec![id.to_string()],
                    ..Default::default()
                };
                edits.batch_delete_items(request).await.map(drop)
            }
            (Some(_), Some(width)) => {
                let request = PatchItemRequest {
                    namespace: NAMESPACE.into(),
                    dataset: "rows".into(),
                    key: id.to_string(),
                    cells: HashMap::from([("width".to_owned(), int(width))]),
                    ..Default::default()
                };
                edits.patch_item(request).await.map(drop)
            }
            (None, _) => {
                let favorite = Value { kind: Some(Kind::BoolValue(false)) };
                let section = Value { kind: Some(Kind::StringValue("w".into())) };
                let cells = [
                    ("id".to_owned(), int(id)),
                    ("width".to_owned(), int(width)),
                    ("section".to_owned(), section),
                    ("is_favorite".to_owned(), favorite),
                ];
                let request = CreateItemRequest {
                    namespace: NAMESPACE.into(),
                    dataset: "rows".into(),
                    cells: HashMap::from(cells),
                    ..Default::default()
                };
                edits.create_item(request).await.map(drop)
            }
        };
        match done {
            Ok(()) => {
                known.insert(id, Known { now: aim, asked: None });
            }
            Err(_) => return known,
        }
    }
    known
}

/// Bulk puts of keys of their own, until the server is gone; answers the last
/// part that was acknowledged, and whether another was under way.
async fn put(session: Session, from: i64) -> i64 {
    for part in from.. {
        let rows = vec![data::rows(part * 10, part * 10 + 10)];
        let put = Put::to(NAMESPACE, "rows", data::schema()).option("mode", "upsert");
        if put.send(&session, stream::iter(rows)).await.is_err() {
            return part;
        }
    }
    from
}

/// Every row: key and width, by pages.
async fn rows(session: &Session) -> Vec<(i64, i64)> {
    let (mut all, mut page_token) = (Vec::new(), String::new());
    loop {
        let request = ListItemsRequest {
            namespace: NAMESPACE.into(),
            dataset: "rows".into(),
            page_size: 97,
            page_token,
            ..Default::default()
        };
        let page = session.items().list_items(request).await.expect("a page").into_inner();
        let number = |value: &Value| match value.kind {
            Some(Kind::IntValue(n)) => n,
            ref other => panic!("no number: {other:?}"),
        };
        all.extend(page.items.iter().map(|row| (number(&row.values[0]), number(&row.values[1]))));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return all;
        }
    }
}

/// Compares what is there with what was acknowledged.
fn check(found: &[(i64, i64)], known: &mut BTreeMap<i64, Known>, parts: i64) {
    let there: BTreeMap<i64, i64> = found.iter().copied().collect();
    assert_eq!(there.len(), found.len(), "a row is there twice");
    for (id, known) in known.iter_mut() {
        let now = there.get(id).copied();
        let may = [Some(known.now), known.asked];
        assert!(may.contains(&Some(now)), "row {id} is {now:?} and was acknowledged as {known:?}");
        *known = Known { now, asked: None };
    }
    for id in 0..parts * 10 {
        assert_eq!(there.get(&id).copied(), Some(data::width(id)), "row {id} of a put");
    }
}

async fn survives(topology: Topology, database: Database) {
    let mut platform = platform(topology, database).await;
    let request = CreateNamespaceRequest { name: NAMESPACE.into(), ..Default::default() };
    platform.admin().namespaces().create_namespace(request).await.unwrap();
    harness::put(&platform.admin(), NAMESPACE, "rows", vec![data::rows(0, 10)]).await.unwrap();
    let mut known: Vec<BTreeMap<i64, Known>> = vec![BTreeMap::new(); WRITERS as usize];
    let mut parts = 1;
    let (mut acknowledged, begun) = (0, std::time::Instant::now());
    for round in 0..kills() {
        let writers: Vec<_> = (1..=WRITERS)
            .zip(std::mem::take(&mut known))
            .map(|(writer, known)| {
                tokio::spawn(write(platform.admin().apart(), writer, round as i64, known))
            })
            .collect();
        let putting = tokio::spawn(put(platform.admin().apart(), parts));
        // Each round dies at another moment.
        let moment = Duration::from_millis(200 + (round * 389) % 1_700);
        tokio::time::timeout(moment, std::future::pending::<()>()).await.unwrap_err();
        platform.kill9();
        for writer in writers {
            known.push(writer.await.unwrap());
        }
        parts = putting.await.unwrap();
        platform.restart().await;
        let session = platform.admin();
        let found = rows(&session).await;
        for known in &mut known {
            acknowledged += known.len();
            check(&found, known, parts);
        }
        let count = CountItemsRequest {
            namespace: NAMESPACE.into(),
            dataset: "rows".into(),
            ..Default::default()
        };
        let count = session.items().count_items(count).await.unwrap().into_inner().count;
        assert_eq!(count, i64::try_from(found.len()).unwrap(), "the count and the pages");
    }
    println!("{} kills, {acknowledged} keys compared, {:?}", kills(), begun.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn one_process_on_sqlite() {
    survives(Topology::OneProcess, Database::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn split_on_postgres() {
    survives(Topology::Split, Database::Postgres).await;
}
