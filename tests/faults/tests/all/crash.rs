//! `kill -9` at any moment of a put: afterwards the version is there whole or not at all,
//! and what nobody committed is swept.

use std::path::Path;
use std::time::Duration;

use api::cases::count;
use futures::{StreamExt, stream};
use harness::{Database, Platform, Put, Role, Setup, Topology, data, eventually};
use tonic::Code;

const BATCHES: i64 = 24;
const BATCH_ROWS: i64 = 500;
const ALL_ROWS: i64 = BATCHES * BATCH_ROWS;

/// Uploads expire at once for a test, so that the sweeper has work soon.
async fn platform(topology: Topology, database: Database) -> Platform {
    Setup::new(topology, database)
        .variable("QUARRY_CATALOG__UPLOAD_LEASE_SECONDS", "2")
        .variable("QUARRY_ITEMS__SWEEP_SECONDS", "1")
        .start()
        .await
}

/// Puts a dataset and kills everything once `kill_after` batches have been taken.
async fn killed(platform: &mut Platform, dataset: &str, kill_after: i64) {
    let session = platform.admin().apart();
    let (taken, mut taken_by_server) = tokio::sync::mpsc::channel(1);
    let batches = stream::iter(0..BATCHES).then(move |batch| {
        let taken = taken.clone();
        async move {
            taken.send(batch).await.ok();
            data::noisy_rows(batch * BATCH_ROWS, (batch + 1) * BATCH_ROWS)
        }
    });
    let schema = data::noisy_rows(0, 1).schema();
    let put = Put::to("crash", dataset, schema).option("rows", ALL_ROWS);
    let call = tokio::spawn(async move { put.send(&session, batches).await });
    while let Some(batch) = taken_by_server.recv().await {
        if batch >= kill_after {
            break;
        }
    }
    platform.kill9();
    // From here on the stream may end as it likes.
    drop(taken_by_server);
    drop(call.await);
}

async fn whole_or_absent(platform: &Platform, dataset: &str) {
    let request = items_api::v1::CountItemsRequest {
        namespace: "crash".into(),
        dataset: dataset.into(),
        ..Default::default()
    };
    match platform.admin().items().count_items(request).await {
        Ok(answer) => assert_eq!(answer.into_inner().count, ALL_ROWS, "{dataset} is half there"),
        Err(status) => assert_eq!(status.code(), Code::NotFound, "{dataset}: {status:?}"),
    }
}

fn parquet_files(dir: &Path) -> usize {
    let Ok(entries) = std::fs::read_dir(dir) else {
        return 0;
    };
    let paths = entries.map_while(Result::ok).map(|entry| entry.path());
    paths
        .map(|path| match path.is_dir() {
            true => parquet_files(&path),
            false => usize::from(path.extension().is_some_and(|ext| ext == "parquet")),
        })
        .sum()
}

/// Kills in the middle of several puts, then counts rows and files.
async fn survives(topology: Topology, database: Database) {
    let mut platform = platform(topology, database).await;
    let request =
        catalog_api::v1::CreateNamespaceRequest { name: "crash".into(), ..Default::default() };
    platform.admin().namespaces().create_namespace(request).await.unwrap();
    let whole =
        (0..BATCHES).map(|b| data::noisy_rows(b * BATCH_ROWS, (b + 1) * BATCH_ROWS)).collect();
    harness::put(&platform.admin(), "crash", "whole", whole).await.unwrap();
    let objects = platform.data_dir(Role::ItemStore).join("objects");
    let committed = parquet_files(&objects);
    assert!(committed > 0, "no Parquet file below {}", objects.display());
    for (at, kill_after) in [0, 5, BATCHES - 1].into_iter().enumerate() {
        let dataset = format!("cut-{at}");
        killed(&mut platform, &dataset, kill_after).await;
        platform.restart().await;
        whole_or_absent(&platform, &dataset).await;
        assert_eq!(count(&platform.admin(), "crash", "whole").await, ALL_ROWS);
    }
    let mut expected = committed;
    for at in 0..3 {
        let request = catalog_api::v1::ListVersionsRequest {
            namespace: "crash".into(),
            dataset: format!("cut-{at}"),
            ..Default::default()
        };
        if let Ok(versions) = platform.admin().datasets().list_versions(request).await {
            let versions = versions.into_inner().versions;
            expected += usize::try_from(versions[0].block_count).unwrap();
        }
    }
    eventually("orphan blocks swept", Duration::from_secs(60), async || {
        (parquet_files(&objects) == expected).then_some(())
    })
    .await;
    harness::put(&platform.admin(), "crash", "after", vec![data::noisy_rows(0, 10)]).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn one_process_on_sqlite() {
    survives(Topology::OneProcess, Database::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn split_on_postgres() {
    survives(Topology::Split, Database::Postgres).await;
}
