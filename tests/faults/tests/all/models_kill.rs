//! `kill -9` in the middle of an upload of a model: what was acknowledged is there, what was
//! not is sent again, nothing that was cut is ever a version.

use catalog_api::v1::CreateNamespaceRequest;
use harness::{Database, Platform, Session, Topology};
use models_api::v1 as api;
use sha2::{Digest, Sha256};

const NAMESPACE: &str = "kills";
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(60);

async fn begun(session: &Session, bytes: &[u8]) -> api::BeginUploadResponse {
    let file = api::UploadFile {
        path: "data/w.bin".into(),
        digest: hex::encode(Sha256::digest(bytes)),
        byte_count: bytes.len().try_into().unwrap(),
    };
    let request =
        api::BeginUploadRequest { namespace: NAMESPACE.into(), files: vec![file], resume: true };
    session.model_files().begin_upload(request).await.unwrap().into_inner()
}

/// Sends one part; answers whether it was acknowledged.
async fn sent(session: &Session, upload: &str, part: i32, bytes: &[u8]) -> bool {
    let pieces: Vec<_> = bytes.chunks(2 << 20).collect();
    let count = pieces.len();
    let pieces = pieces.into_iter().enumerate().map(|(at, data)| api::UploadPartsRequest {
        upload_id: upload.to_owned(),
        file: 0,
        part,
        data: data.to_vec(),
        last: at + 1 == count,
        crc32: None,
    });
    let pieces: Vec<_> = pieces.collect();
    match session.model_files().upload_parts(futures::stream::iter(pieces)).await {
        Ok(acks) => matches!(acks.into_inner().message().await, Ok(Some(_))),
        Err(_) => false,
    }
}

async fn goes_on(database: Database) {
    let mut platform = Platform::start(Topology::OneProcess, database).await;
    let request = CreateNamespaceRequest { name: NAMESPACE.into(), ..Default::default() };
    platform.admin().namespaces().create_namespace(request).await.unwrap();
    let part = usize::try_from(begun(&platform.admin(), b"x").await.part_bytes).unwrap();
    let bytes: Vec<u8> = (0..2 * part + 100).map(|at| (at % 251) as u8).collect();
    let first = begun(&platform.admin(), &bytes).await;
    assert!(!first.resumed);
    assert!(sent(&platform.admin(), &first.upload_id, 2, &bytes[2 * part..]).await);
    let session = platform.admin();
    let upload_id = first.upload_id.clone();
    let middle = bytes[part..2 * part].to_vec();
    let cut = tokio::spawn(async move { sent(&session, &upload_id, 1, &middle).await });
    tokio::task::yield_now().await;
    platform.kill9();
    let arrived = cut.await.unwrap();
    platform.restart().await;

    let admin = platform.admin();
    let again = begun(&admin, &bytes).await;
    assert!(again.resumed && again.upload_id == first.upload_id, "{again:?}");
    let status = api::GetUploadStatusRequest { upload_id: first.upload_id.clone() };
    let status = admin.model_files().get_upload_status(status).await.unwrap().into_inner();
    let there = &status.files[0].parts;
    assert!(there.contains(&2), "it was acknowledged: {there:?}");
    assert!(there.contains(&1) || !arrived, "it was acknowledged: {there:?}");
    let commit = api::CommitUploadRequest { upload_id: first.upload_id.clone() };
    assert!(admin.model_files().commit_upload(commit.clone()).await.is_err(), "a part is missing");
    for at in [0, 1] {
        if !there.contains(&at) {
            let begin = usize::try_from(at).unwrap() * part;
            assert!(sent(&admin, &first.upload_id, at, &bytes[begin..begin + part]).await);
        }
    }
    admin.model_files().commit_upload(commit).await.unwrap();
    let request = api::CreateVersionRequest {
        namespace: NAMESPACE.into(),
        model: "m".into(),
        create_model: true,
        upload_id: first.upload_id,
        ..Default::default()
    };
    admin.model_versions().create_version(request).await.unwrap();
    let download = api::DownloadFileRequest {
        namespace: NAMESPACE.into(),
        model: "m".into(),
        version: "1".into(),
        path: "data/w.bin".into(),
        offset: 0,
        byte_count: 0,
    };
    let mut body = admin.model_files().download_file(download).await.unwrap().into_inner();
    let mut come = Sha256::new();
    while let Some(piece) = body.message().await.unwrap() {
        come.update(&piece.data);
    }
    assert_eq!(come.finalize(), Sha256::digest(&bytes));
}

/// Files that each run `id`, and are each another one.
fn hostile(folder: &std::path::Path, count: u32) {
    std::fs::create_dir_all(folder).unwrap();
    for at in 0..count {
        let pickle = format!("cos\nsystem\n(S'id {at}'\ntR.");
        std::fs::write(folder.join(format!("{at}.pkl")), pickle).unwrap();
    }
}

async fn scan_goes_on(database: Database) {
    const FILES: u32 = 40;
    let mut platform = Platform::start(Topology::OneProcess, database).await;
    let request = CreateNamespaceRequest { name: NAMESPACE.into(), ..Default::default() };
    platform.admin().namespaces().create_namespace(request).await.unwrap();
    let folder = platform.scratch().join("hostile");
    hostile(&folder, FILES);
    let model = format!("{NAMESPACE}/m");
    let register = ["models", "register", &model, folder.to_str().unwrap()];
    assert_eq!(platform.cli(&register).await.code, 0);
    platform.kill9();
    platform.restart().await;

    let admin = platform.admin();
    let scan = async || {
        let job = admin.get("/v1/jobs").await.json()["jobs"][0].clone();
        (job["state"] == "JOB_STATE_COMPLETED").then_some(job)
    };
    let job = harness::eventually("the scan ends", PATIENCE, scan).await;
    let number = |name: &str| job["result"][name].as_str().unwrap().parse::<u32>().unwrap();
    assert_eq!(number("files"), FILES, "{job}");
    assert!(number("scanned") <= FILES, "{job}");
    let version = api::GetVersionRequest {
        namespace: NAMESPACE.into(),
        model: "m".into(),
        version: "1".into(),
        as_of: None,
    };
    let version = admin.model_versions().get_version(version).await.unwrap().into_inner();
    assert_eq!(version.version.unwrap().scan(), api::ScanVerdict::Dangerous);
    // Of what has a verdict nothing is scanned again.
    let again = platform.cli(&["models", "scan", &model, "-o", "json"]).await.json();
    assert_eq!((&again["file_count"], &again["scanned_count"]), (&FILES.into(), &0.into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scan_goes_on_after_kill_9() {
    scan_goes_on(Database::Sqlite).await;
    scan_goes_on(Database::Postgres).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_goes_on_after_kill_9_on_sqlite() {
    goes_on(Database::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_goes_on_after_kill_9_on_postgres() {
    goes_on(Database::Postgres).await;
}
