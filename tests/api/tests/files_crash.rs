//! `kill -9` at any moment of a scan: the next process goes on, and in the end the index is
//! the tree.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use files_api::v1 as wire;
use harness::{Database, Platform, Setup, Topology, eventually};
use ops_api::v1::{JobState, JobsGetRequest, JobsListRequest};

/// Kills of one run; `QUARRY_TEST_KILLS` makes it a long one.
const KILLS: usize = 4;
const DIRS: usize = 60;
const FILES: usize = 30;

fn write_tree(root: &Path, round: usize) {
    for dir in 0..DIRS {
        let path = root.join(format!("d{}/e{dir}", dir % 7));
        std::fs::create_dir_all(&path).unwrap();
        for file in 0..FILES {
            // Some stay, some are edited, some are new.
            let name = if file % 3 == 0 { format!("f{file}-{round}") } else { format!("f{file}") };
            std::fs::write(path.join(name), format!("{round}-{dir}-{}", file % 5)).unwrap();
        }
    }
    std::fs::remove_dir_all(root.join(format!("d{}/e{}", round % 7, round % 7))).ok();
}

fn paths_of(root: &Path) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut left = vec![root.to_owned()];
    while let Some(dir) = left.pop() {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            found.insert(path.display().to_string());
            if path.is_dir() {
                left.push(path);
            }
        }
    }
    found
}

async fn indexed(platform: &Platform, location: &str) -> BTreeSet<String> {
    let (mut found, mut page_token) = (BTreeSet::new(), String::new());
    loop {
        let query = wire::FileQuery { location_id: location.to_owned(), ..Default::default() };
        let request = wire::SearchFilesRequest {
            query: Some(query),
            page_size: 1_000,
            page_token,
            ..Default::default()
        };
        let page = platform.admin().files().search_files(request).await.unwrap().into_inner();
        found.extend(page.entries.into_iter().map(|entry| entry.path));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return found;
        }
    }
}

async fn start_scan(platform: &Platform, location: &str) -> String {
    let request = wire::ScanLocationRequest {
        id: location.to_owned(),
        mode: wire::ScanMode::Content.into(),
        accept_removals: true,
        ..Default::default()
    };
    platform.admin().locations().scan_location(request).await.unwrap().into_inner().job
}

async fn completed(platform: &Platform, name: &str) {
    eventually("the scan's end", Duration::from_secs(60), async || {
        let request = JobsGetRequest { name: name.to_owned() };
        let job = platform.admin().jobs().get(request).await.ok()?.into_inner().job?;
        assert_ne!(job.state(), JobState::Failed, "{job:?}");
        (job.state() == JobState::Completed).then_some(())
    })
    .await;
}

#[allow(clippy::disallowed_methods, reason = "a knob of this test")]
async fn survives(database: Database) {
    let kills = std::env::var("QUARRY_TEST_KILLS").ok().and_then(|kills| kills.parse().ok());
    let kills: usize = kills.unwrap_or(KILLS);
    let mut platform = Setup::new(Topology::OneProcess, database)
        .variable("QUARRY_FILES__LEASE_SECONDS", "3")
        .start()
        .await;
    let root = platform.scratch().join("tree");
    write_tree(&root, 0);
    let request =
        wire::CreateLocationRequest { path: root.display().to_string(), ..Default::default() };
    let made = platform.admin().locations().create_location(request).await.unwrap();
    let location = made.into_inner().location.unwrap().id;
    for kill in 1..=kills {
        write_tree(&root, kill);
        start_scan(&platform, &location).await;
        // Not always at the same moment: the walk, the merge, the hashes, the names.
        let moment = Duration::from_millis(u64::try_from((kill * 37) % 211).unwrap());
        let begin = std::time::Instant::now();
        eventually("the moment", Duration::from_secs(5), async || {
            (begin.elapsed() >= moment).then_some(())
        })
        .await;
        platform.kill9();
        platform.restart().await;
    }
    // The scan that was under way at the last kill ends by itself.
    let under_way = platform.admin().jobs().list(JobsListRequest::default()).await.unwrap();
    for job in under_way.into_inner().jobs {
        completed(&platform, &job.name).await;
    }
    let name = start_scan(&platform, &location).await;
    completed(&platform, &name).await;
    assert_eq!(indexed(&platform, &location).await, paths_of(&root));
}

#[tokio::test(flavor = "multi_thread")]
async fn on_sqlite() {
    survives(Database::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn on_postgres() {
    survives(Database::Postgres).await;
}
