//! Models: numbers, aliases, files, who may, over gRPC, HTTP and the command line.

use std::collections::BTreeSet;
use std::fs;
use std::time::Duration;

use futures::StreamExt;
use harness::{Session, eventually};
use models_api::v1 as api;
use options_api::v1::{Level, ResourceKind, Role};
use serde_json::json;
use sha2::{Digest, Sha256};
use tonic::{Code, Status};

use crate::refusal::refused;
use crate::stage::{Stage, unique};

/// A version that makes its model.
fn new(ns: &str, model: &str) -> api::CreateVersionRequest {
    api::CreateVersionRequest {
        namespace: ns.to_owned(),
        model: model.to_owned(),
        create_model: true,
        ..Default::default()
    }
}

async fn register(session: &Session, request: api::CreateVersionRequest) -> api::ModelVersion {
    let made = session.model_versions().create_version(request).await.expect("a version");
    made.into_inner().version.expect("a version")
}

fn get_version(ns: &str, model: &str, version: &str) -> api::GetVersionRequest {
    api::GetVersionRequest {
        namespace: ns.to_owned(),
        model: model.to_owned(),
        version: version.to_owned(),
        as_of: None,
    }
}

/// A model from its making to its end, as JSON; every refusal has its code.
pub async fn lifecycle(stage: &Stage) {
    let (admin, ns) = (&stage.admin, stage.namespace().await);
    let models = format!("/v1/namespaces/{ns}/models");
    let made = admin.post(&models, &json!({ "name": "resnet" })).await;
    assert_eq!(made.status, 200, "{made:?}");
    assert_eq!(admin.post(&models, &json!({ "name": "resnet" })).await.status, 409);
    assert_eq!(admin.post(&models, &json!({ "name": "a/b" })).await.status, 400);
    let version = json!({
        "source": "s3://bucket/m", "label": "1.0.0",
        "metrics": [{ "key": "acc", "value": 0.9 }], "params": { "lr": "0.1" },
    });
    let made = admin.post(&format!("{models}/resnet/versions"), &version).await;
    assert_eq!((made.status, made.json()["version"]["number"].as_str()), (200, Some("1")));
    let again = admin.post(&format!("{models}/resnet/versions"), &version).await;
    assert_eq!(
        (again.status, again.json()["error"]["status"].as_str()),
        (409, Some("ALREADY_EXISTS"))
    );
    let alias = format!("{models}/resnet/aliases/prod");
    let body = Some(json!({ "version": "1" }).to_string());
    let set = admin.http(http::Method::PUT, &alias, body).await;
    assert_eq!(set.status, 200, "{set:?}");
    let filter = "metrics.acc%20%3E%200.5%20AND%20alias%20%3D%20%22prod%22";
    let found = admin.get(&format!("/v1/model-versions?namespace={ns}&filter={filter}")).await;
    assert_eq!(found.json()["versions"][0]["number"], "1", "{found:?}");
    let wrong = admin.get("/v1/model-versions?filter=acc%20%3E").await;
    assert_eq!(wrong.status, 400, "{wrong:?}");
    let named = admin.get(&format!("{models}/resnet/versions/@prod")).await;
    assert_eq!(named.json()["version"]["label"], "1.0.0", "{named:?}");
    let counted = admin.get(&format!("{models}:statistics")).await.json();
    assert_eq!(counted["model_count"], "1", "{counted}");
    assert_eq!(counted["version_count"], "1", "{counted}");
    assert_eq!(counted["deployment_count"], "0", "{counted}");
    assert_eq!(admin.delete(&format!("{models}/resnet")).await.status, 200);
    let gone = get_version(&ns, "resnet", "1");
    refused(admin.model_versions().get_version(gone).await, Code::NotFound);
}

/// A hundred registered at once have a hundred numbers, without a gap; of two who move an
/// alias from the same version one is refused.
pub async fn at_once(stage: &Stage) {
    let (admin, ns) = (&stage.admin, stage.namespace().await);
    register(admin, new(&ns, "m")).await;
    let numbers: Vec<i64> = futures::stream::iter(1..100)
        .map(|_| register(admin, new(&ns, "m")))
        .buffer_unordered(32)
        .map(|version| version.number)
        .collect()
        .await;
    let distinct: BTreeSet<i64> = numbers.into_iter().collect();
    assert_eq!(distinct, (2..=100).collect());
    let latest = admin.model_versions().get_version(get_version(&ns, "m", "latest")).await;
    assert_eq!(latest.unwrap().into_inner().version.unwrap().number, 100);

    let set = |version: &str, expected: i64| api::SetAliasRequest {
        namespace: ns.clone(),
        model: "m".into(),
        alias: "prod".into(),
        version: version.into(),
        protected: None,
        expected_version: Some(expected),
    };
    admin.model_lifecycle().set_alias(set("1", 0)).await.expect("the alias is new");
    let (mut one, mut other) = (admin.model_lifecycle(), admin.apart().model_lifecycle());
    let (first, second) = futures::join!(one.set_alias(set("2", 1)), other.set_alias(set("3", 1)));
    let lost = match (first, second) {
        (Ok(_), Err(lost)) | (Err(lost), Ok(_)) => lost,
        both => panic!("one of them wins: {both:?}"),
    };
    assert_eq!(lost.code(), Code::Aborted, "{lost:?}");
    crate::refusal::well_formed(&lost);
}

fn file(path: &str, bytes: &[u8]) -> api::UploadFile {
    api::UploadFile {
        path: path.to_owned(),
        digest: hex::encode(Sha256::digest(bytes)),
        byte_count: i64::try_from(bytes.len()).expect("a size"),
    }
}

/// Sends one part whole; answers whether it was acknowledged.
async fn send(
    session: &Session,
    upload: &str,
    (file, part): (i32, i32),
    bytes: &[u8],
    is_whole: bool,
) -> Result<bool, Status> {
    let pieces: Vec<&[u8]> = bytes.chunks(2 << 20).collect();
    let count = pieces.len();
    let pieces = pieces.into_iter().enumerate().map(|(at, data)| api::UploadPartsRequest {
        upload_id: upload.to_owned(),
        file,
        part,
        data: data.to_vec(),
        last: is_whole && at + 1 == count,
        crc32: None,
    });
    let pieces: Vec<_> = pieces.collect();
    let mut acks =
        session.model_files().upload_parts(futures::stream::iter(pieces)).await?.into_inner();
    Ok(acks.message().await?.is_some())
}

/// What was sent before a break need not be sent again; bytes come back as they were.
pub async fn files(stage: &Stage) {
    let (admin, ns) = (&stage.admin, stage.namespace().await);
    let begin = async |named| {
        let request =
            api::BeginUploadRequest { namespace: ns.clone(), files: named, resume: false };
        admin.model_files().begin_upload(request).await
    };
    let probe = begin(vec![file("w", b"x")]).await.unwrap().into_inner();
    let part = usize::try_from(probe.part_bytes).expect("a size");
    let bytes: Vec<u8> = (0..part + 100).map(|at| (at % 251) as u8).collect();
    let id = begin(vec![file("data/w.bin", &bytes)]).await.unwrap().into_inner().upload_id;
    assert!(send(admin, &id, (0, 1), &bytes[part..], true).await.unwrap());
    assert!(!send(admin, &id, (0, 0), &bytes[..10], false).await.unwrap(), "it was cut");
    let commit = api::CommitUploadRequest { upload_id: id.clone() };
    let early = admin.model_files().commit_upload(commit.clone()).await;
    refused(early, Code::FailedPrecondition);
    let status = api::GetUploadStatusRequest { upload_id: id.clone() };
    let status = admin.apart().model_files().get_upload_status(status).await.unwrap().into_inner();
    assert_eq!(status.files[0].parts, [1], "{status:?}");
    assert!(send(admin, &id, (0, 0), &bytes[..part], true).await.unwrap());
    admin.model_files().commit_upload(commit).await.expect("whole");
    let version = register(admin, api::CreateVersionRequest { upload_id: id, ..new(&ns, "m") });
    assert_eq!(version.await.byte_count, i64::try_from(bytes.len()).unwrap());
    let base = format!("/v1/namespaces/{ns}/models/m/versions/1/files");
    let body = admin
        .http(http::Method::GET, &format!("{base}/data/w.bin?offset=7&byte_count=3"), None)
        .await;
    assert_eq!((body.status, body.text.as_bytes()), (200, &bytes[7..10]));

    for path in ["../x", "/etc/passwd", "a/../../x", "%2e%2e%2fx", "C:\\x", "a\0b", ""] {
        refused(begin(vec![file(path, b"x")]).await, Code::InvalidArgument);
    }
    for path in ["..%2f..%2fetc%2fpasswd", "%2e%2e/x", "data/%2e%2e/%2e%2e/x"] {
        let answer = admin.get(&format!("{base}/{path}")).await;
        assert!([400, 404].contains(&answer.status), "{path}: {answer:?}");
    }
    let wrong = begin(vec![file("w", b"right")]).await.unwrap().into_inner().upload_id;
    assert!(send(admin, &wrong, (0, 0), b"wrong", true).await.unwrap());
    let commit = api::CommitUploadRequest { upload_id: wrong };
    assert!(admin.model_files().commit_upload(commit).await.is_err(), "other bytes");
}

/// Who may not see a model finds none; a grant to read lets one read.
pub async fn permissions(stage: &Stage) {
    let namespace = stage.namespace_of(&stage.admin).await;
    register(&stage.admin, new(&namespace.name, "m")).await;
    let (user, session) = stage.user(Role::User).await;
    let get = get_version(&namespace.name, "m", "1");
    refused(session.model_versions().get_version(get.clone()).await, Code::NotFound);
    refused(
        session.model_versions().create_version(new(&namespace.name, "m")).await,
        Code::NotFound,
    );
    stage.grant(&user, ResourceKind::Namespace, &namespace.id, Level::Read).await;
    eventually("the grant", Duration::from_secs(5), async || {
        session.model_versions().get_version(get.clone()).await.ok()
    })
    .await;
    refused(
        session.model_versions().create_version(new(&namespace.name, "m")).await,
        Code::PermissionDenied,
    );
}

/// Every command, with the shape of its JSON; files come back from the disk as they went.
pub async fn command_line(stage: &Stage) {
    let platform = &stage.platform;
    let ns = stage.namespace().await;
    let folder = platform.scratch().join(unique("model"));
    fs::create_dir_all(folder.join("data")).expect("a folder");
    fs::write(folder.join("MLmodel"), "flavors: {}\n").expect("a file");
    fs::write(folder.join("data/w.bin"), [7_u8; 3_000]).expect("a file");
    let out = platform.scratch().join(unique("out"));
    let (folder, out) = (folder.to_str().expect("a path"), out.to_str().expect("a path"));
    let (model, first, second) =
        (format!("{ns}/net"), format!("{ns}/net@1"), format!("{ns}/net@2"));
    let cli = async |args: &[&str]| {
        platform.cli(&[&["models"], args, &["-o", "json"]].concat()).await.json()
    };
    let made = cli(&["register", &model, folder, "--metric", "acc=0.9", "--param", "lr=0.1"]).await;
    assert_eq!(
        (&made["version"]["number"], &made["version"]["file_count"]),
        (&json!(1), &json!(2))
    );
    let made = cli(&["register", &model, "--source", "s3://b/m", "--metric", "acc=0.5"]).await;
    assert_eq!(made["version"]["number"], 2, "{made}");
    assert_eq!(cli(&["alias", &first, "prod"]).await["alias"]["version"], 1);
    cli(&["tag", &first, "team=vision"]).await;
    cli(&["tag", &model, "owner=ana"]).await;
    let moved = cli(&["stage", &first, "Staging"]).await;
    assert_eq!(moved["version"]["stage"], "Staging", "{moved}");
    let shown = cli(&["show", &model]).await;
    assert_eq!(shown["model"]["tags"]["owner"], "ana", "{shown}");
    let listed = cli(&["list", &ns]).await;
    assert_eq!(listed["models"][0]["version_count"], 2, "{listed}");
    let versions = cli(&["versions", &model]).await;
    assert_eq!(versions["versions"][0]["number"], 2, "newest first: {versions}");
    let found = cli(&["search", &format!("metrics.acc > 0.7 AND namespace = \"{ns}\"")]).await;
    assert_eq!(found["versions"].as_array().map(Vec::len), Some(1), "{found}");
    let compared = cli(&["compare", &first, &second]).await;
    assert!(compared["fields"].as_array().is_some_and(|fields| !fields.is_empty()), "{compared}");
    let facets = cli(&["facets", &model, "--by", "stage,params.lr"]).await;
    let lr = &facets["facets"][1];
    assert_eq!((&lr["field"], &lr["values"][0]["value"]), (&json!("params.lr"), &json!("0.1")));
    cli(&["alias", &second, "prod"]).await;
    let steps = cli(&["history", &model, "prod"]).await;
    assert_eq!(steps["steps"].as_array().map(Vec::len), Some(2), "{steps}");
    assert_eq!(cli(&["rollback", &model, "prod"]).await["alias"]["version"], 1);
    let done = cli(&["download", &format!("{ns}/net@prod"), out]).await;
    assert_eq!((&done["files"], &done["bytes"]), (&json!(2), &json!(3_012)), "{done}");
    let bytes = fs::read(format!("{out}/data/w.bin")).expect("the file");
    assert_eq!(bytes, [7_u8; 3_000]);
    let counted = cli(&["stats", &ns]).await;
    assert_eq!((&counted["version_count"], &counted["deployment_count"]), (&json!(2), &json!(0)));
    cli(&["delete", &second]).await;
    let gone = platform.cli(&["models", "delete", &second]).await;
    assert_eq!(gone.code, 3, "{gone:?}");
    assert_eq!(cli(&["restore", &second]).await["version"]["number"], 2);
    let id = cli(&["delete", &model]).await["id"].as_str().expect("an id").to_owned();
    let trash = cli(&["list", &ns, "--deleted"]).await;
    assert_eq!(trash["models"][0]["id"], id.as_str(), "{trash}");
    assert_eq!(cli(&["restore", &id]).await["model"]["version_count"], 2);
    assert!(cli(&["gc", "--dry-run"]).await["blobs"].is_number());
    let job = cli(&["gc", "--background"]).await["job"].as_str().expect("a job").to_owned();
    assert!(job.starts_with("model-registry/"), "{job}");
    let missing = platform.cli(&["models", "show", &format!("{ns}/none")]).await;
    assert_eq!(missing.code, 3, "{missing:?}");
    let unnamed = platform.cli(&["models", "show", "none"]).await;
    assert_eq!(unnamed.code, 2, "{unnamed:?}");
}
