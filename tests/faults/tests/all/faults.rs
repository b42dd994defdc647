//! A bucket that goes away and comes back, bits that flip: a typed error, a server that
//! stays up, and data as it was.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use crate::history;
use api::refusal::well_formed;
use arrow_flight::FlightDescriptor;
use catalog_api::v1::CreateNamespaceRequest;
use harness::{Database, Platform, Session, Setup, Topology, data, get_all, put};
use items_api::v1::{ListItemsRequest, PatchItemRequest};
use tonic::{Code, Status};

const NAMESPACE: &str = "faults";

async fn platform(topology: Topology, database: Database) -> Platform {
    let platform = Setup::new(topology, database).bucket().start().await;
    let request = CreateNamespaceRequest { name: NAMESPACE.into(), ..Default::default() };
    platform.admin().namespaces().create_namespace(request).await.unwrap();
    platform
}

/// The blocks of all datasets, oldest first.
fn blocks(dir: &Path) -> Vec<PathBuf> {
    fn walk(dir: &Path) -> Vec<PathBuf> {
        let Ok(entries) = std::fs::read_dir(dir) else { return Vec::new() };
        let paths = entries.map_while(Result::ok).map(|entry| entry.path());
        paths.flat_map(|path| if path.is_dir() { walk(&path) } else { vec![path] }).collect()
    }
    let mut files = walk(dir);
    files.retain(|path| path.extension().is_some_and(|ext| ext == "parquet"));
    // Uploads are numbered by time.
    files.sort();
    files
}

async fn all(session: &Session, dataset: &str) -> Result<usize, Status> {
    let path = FlightDescriptor::new_path(vec![NAMESPACE.into(), dataset.into()]);
    Ok(get_all(session, path).await?.iter().map(|batch| batch.num_rows()).sum())
}

async fn first_page(session: &Session, dataset: &str) -> Result<usize, Status> {
    let request = ListItemsRequest {
        namespace: NAMESPACE.into(),
        dataset: dataset.into(),
        page_size: 10,
        ..Default::default()
    };
    Ok(session.items().list_items(request).await?.into_inner().items.len())
}

async fn patch(session: &Session, dataset: &str, id: i64, width: i64) -> Result<(), Status> {
    let request = PatchItemRequest {
        namespace: NAMESPACE.into(),
        dataset: dataset.into(),
        key: id.to_string(),
        cells: HashMap::from([("width".to_owned(), history::int(width))]),
        ..Default::default()
    };
    session.edits().patch_item(request).await.map(drop)
}

fn is_away(status: &Status) {
    well_formed(status);
    assert_eq!(status.code(), Code::Unavailable, "{status:?}");
}

async fn bucket_away(topology: Topology, database: Database) {
    let mut platform = platform(topology, database).await;
    let admin = platform.admin();
    put(&admin, NAMESPACE, "rows", vec![data::rows(0, 1_000)]).await.unwrap();
    // Cold: nothing of it is in memory.
    platform.kill9();
    platform.restart().await;
    let admin = platform.admin();
    let (there, elsewhere) = (platform.bucket_dir(), platform.scratch().join("elsewhere"));
    std::fs::rename(&there, &elsewhere).unwrap();
    is_away(&all(&admin, "rows").await.unwrap_err());
    is_away(&first_page(&admin, "rows").await.unwrap_err());
    is_away(&put(&admin, NAMESPACE, "rows", vec![data::rows(1_000, 1_010)]).await.unwrap_err());
    is_away(&put(&admin, NAMESPACE, "other", vec![data::rows(0, 10)]).await.unwrap_err());
    // What needs no object goes on.
    assert_eq!(api::cases::count(&admin, NAMESPACE, "rows").await, 1_000);
    assert!(!there.exists(), "nobody made it anew");
    std::fs::rename(&elsewhere, &there).unwrap();
    assert_eq!(all(&admin, "rows").await.unwrap(), 1_000);
    put(&admin, NAMESPACE, "rows", vec![data::rows(1_000, 1_010)]).await.unwrap();
    patch(&admin, "rows", 3, 7).await.unwrap();
    put(&admin, NAMESPACE, "other", vec![data::rows(0, 10)]).await.unwrap();
    let found = history::rows(&admin, NAMESPACE, "rows").await;
    assert_eq!((found.len(), found.last()), (1_010, Some(&(3, 7))));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_that_goes_away_and_comes_back() {
    bucket_away(Topology::OneProcess, Database::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_that_goes_away_and_comes_back_split() {
    bucket_away(Topology::Split, Database::Postgres).await;
}

/// One bit of each eighth of a block: whoever needs it is told, nobody gets other rows.
#[tokio::test(flavor = "multi_thread")]
async fn a_flipped_bit_is_data_loss_and_nothing_else() {
    let mut platform = platform(Topology::OneProcess, Database::Sqlite).await;
    let admin = platform.admin();
    put(&admin, NAMESPACE, "hurt", vec![data::noisy_rows(0, 2_000)]).await.unwrap();
    put(&admin, NAMESPACE, "whole", vec![data::rows(0, 100)]).await.unwrap();
    let path = blocks(&platform.bucket_dir())
        .into_iter()
        .max_by_key(|path| std::fs::metadata(path).unwrap().len())
        .unwrap();
    let sound = std::fs::read(&path).unwrap();
    for eighth in 0..8 {
        let mut bytes = sound.clone();
        let at = (bytes.len() - 1) * eighth / 7;
        bytes[at] ^= 0x10;
        // Bytes that are in memory are not read again.
        platform.kill9();
        std::fs::write(&path, bytes).unwrap();
        platform.restart().await;
        let admin = platform.admin();
        let lost = all(&admin, "hurt").await.expect_err("rows of a damaged block");
        well_formed(&lost);
        assert_eq!(lost.code(), Code::DataLoss, "byte {at}: {lost:?}");
        assert_eq!(all(&admin, "whole").await.unwrap(), 100, "the server stays up");
    }
    platform.kill9();
    std::fs::write(&path, sound).unwrap();
    platform.restart().await;
    assert_eq!(all(&platform.admin(), "hurt").await.unwrap(), 2_000);
}
