//! Models at their other doors: signed addresses, imports, namespaces that hold them, and
//! what MLflow's surface refuses.

use std::fs;
use std::time::Duration;

use futures::StreamExt;
use harness::{Session, eventually, fetch};
use http::Method;
use models_api::v1 as api;
use options_api::v1::{Level, ResourceKind, Role};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tonic::Code;

use crate::refusal::refused;
use crate::stage::{Stage, unique};

const MLFLOW: &str = "/api/2.0/mlflow";

/// An open upload of one file.
async fn begun(session: &Session, ns: &str, path: &str, bytes: &[u8]) -> api::BeginUploadResponse {
    let file = api::UploadFile {
        path: path.to_owned(),
        digest: hex::encode(Sha256::digest(bytes)),
        byte_count: i64::try_from(bytes.len()).expect("a size"),
    };
    let request =
        api::BeginUploadRequest { namespace: ns.to_owned(), files: vec![file], resume: false };
    session.model_files().begin_upload(request).await.expect("an upload").into_inner()
}

/// A version with one file, whose parts went to signed addresses.
async fn with_file(session: &Session, ns: &str, path: &str, text: &str) {
    let upload_id = begun(session, ns, path, text.as_bytes()).await.upload_id;
    let asked = |parts: Vec<i32>, seconds| api::SignPartsRequest {
        upload_id: upload_id.clone(),
        file: 0,
        parts,
        seconds,
    };
    refused(session.model_files().sign_parts(asked(vec![1], 0)).await, Code::InvalidArgument);
    refused(session.model_files().sign_parts(asked(vec![0], 43_201)).await, Code::InvalidArgument);
    let signed = session.model_files().sign_parts(asked(vec![0], 60)).await.expect("an address");
    let url = signed.into_inner().parts[0].url.clone();
    let cut = fetch(Method::PUT, &url, None, Some(text[1..].to_owned())).await;
    assert_eq!(cut.status, 400, "another size: {cut:?}");
    let sent = fetch(Method::PUT, &url, None, Some(text.to_owned())).await;
    assert_eq!(sent.status, 200, "{sent:?}");
    let commit = api::CommitUploadRequest { upload_id: upload_id.clone() };
    session.model_files().commit_upload(commit).await.expect("whole");
    let late = fetch(Method::PUT, &url, None, Some(text.to_owned())).await;
    assert_eq!(late.status, 400, "the upload ended: {late:?}");
    let request = api::CreateVersionRequest {
        namespace: ns.to_owned(),
        model: "m".into(),
        create_model: true,
        upload_id,
        ..Default::default()
    };
    session.model_versions().create_version(request).await.expect("a version");
}

/// A signed address works without a token, by ranges, for its file alone, and only while its
/// signer may read.
pub async fn signed(stage: &Stage) {
    let namespace = stage.namespace_of(&stage.admin).await;
    let ns = &namespace.name;
    with_file(&stage.admin, ns, "data/w ü.txt", "0123456789").await;
    let (user, session) = stage.user(Role::User).await;
    let asked = api::SignDownloadRequest {
        namespace: ns.clone(),
        model: "m".into(),
        version: "latest".into(),
        path: "data/w ü.txt".into(),
        seconds: 0,
    };
    refused(session.model_files().sign_download(asked.clone()).await, Code::NotFound);
    let grant = stage.grant(&user, ResourceKind::Namespace, &namespace.id, Level::Read).await;
    let signed = eventually("the grant", Duration::from_secs(5), async || {
        session.model_files().sign_download(asked.clone()).await.ok()
    })
    .await
    .into_inner();
    assert!(!signed.direct && signed.url.starts_with(&stage.platform.url()), "{signed:?}");
    assert_eq!((signed.byte_count, signed.digest.len()), (10, 64));
    let whole = fetch(Method::GET, &signed.url, None, None).await;
    assert_eq!((whole.status, whole.text.as_str()), (200, "0123456789"));
    let range = fetch(Method::GET, &signed.url, Some("bytes=3-5"), None).await;
    assert_eq!((range.status, range.text.as_str()), (206, "345"));
    let outside = fetch(Method::GET, &signed.url, Some("bytes=10-"), None).await;
    assert_eq!(outside.status, 416, "{outside:?}");
    let written = fetch(Method::PUT, &signed.url, None, Some("x".into())).await;
    assert_eq!(written.status, 403, "it only reads: {written:?}");
    let mut other = signed.url.clone();
    let last = other.pop().expect("a letter");
    other.push(if last == 'A' { 'B' } else { 'A' });
    assert_eq!(fetch(Method::GET, &other, None, None).await.status, 403);
    for (path, seconds) in
        [("../x", 0), ("none", 0), ("data/w ü.txt", -1), ("data/w ü.txt", 50_000)]
    {
        let wrong = api::SignDownloadRequest { path: path.into(), seconds, ..asked.clone() };
        let answer = session.model_files().sign_download(wrong).await;
        let code = if path == "none" { Code::NotFound } else { Code::InvalidArgument };
        refused(answer, code);
    }
    // As JSON too.
    let path = format!("/v1/namespaces/{ns}/models/m/versions/1:signDownload");
    let answer = session.post(&path, &json!({ "path": "data/w ü.txt" })).await;
    let url = answer.json()["url"].as_str().expect("an address").to_owned();
    assert_eq!(fetch(Method::GET, &url, None, None).await.text, "0123456789");
    let taken = identity_api::v1::RemoveGrantRequest { id: grant.id };
    stage.admin.grants().remove_grant(taken).await.expect("taken");
    eventually("the address to end with the grant", Duration::from_secs(5), async || {
        (fetch(Method::GET, &signed.url, None, None).await.status == 404).then_some(())
    })
    .await;
}

/// What an import answered, whatever its exit code.
async fn imported(stage: &Stage, args: &[&str]) -> (i32, Value) {
    let all = [&["models", "import"], args, &["-o", "json"]].concat();
    let output = stage.platform.cli(&all).await;
    let answer =
        serde_json::from_str(&output.stdout).unwrap_or_else(|err| panic!("{err}: {output:?}"));
    (output.code, answer)
}

/// A registry is imported once, from its file and from a running server; numbers, tags,
/// aliases and bytes come along, and a second run brings nothing.
pub async fn imports(stage: &Stage) {
    let (first, second) = (stage.namespace().await, stage.namespace().await);
    let place = stage.platform.scratch().join(unique("registry"));
    fs::create_dir_all(place.join("net/v2")).expect("a folder");
    fs::write(place.join("net/v2/model.pkl"), "weights").expect("a file");
    let registry = json!({ "net": [
        { "name": "net", "version": "2", "storage_path": "net/v2/model.pkl", "file_size": 7,
          "tags": { "type": "regression" }, "created_at": "2024-01-15T10:30:00" },
        { "name": "net", "version": "1.0-rc", "storage_path": "net/v2/model.pkl" },
        { "name": "net", "version": "3", "storage_path": "net/v3/model.pkl" },
        { "name": "net", "version": "4", "storage_path": "../../../etc/passwd" },
        { "name": "net", "version": "5", "storage_path": "net/v2/model.pkl", "file_size": 8 },
    ], "a/b": [{ "name": "a/b", "version": "1", "storage_path": "net/v2/model.pkl" }] });
    let file = place.join("registry.json");
    fs::write(&file, registry.to_string()).expect("a file");
    let file = file.to_str().expect("a path");

    let (code, tried) = imported(stage, &[&first, file, "--dry-run"]).await;
    assert_eq!((code, &tried["created"], &tried["failed"]), (1, &json!(2), &json!(4)), "{tried}");
    let none = stage.admin.get(&format!("/v1/namespaces/{first}/models/net")).await;
    assert_eq!(none.status, 404, "a dry run makes nothing");
    let (code, done) = imported(stage, &[&first, file]).await;
    assert_eq!((code, &done["created"], &done["failed"]), (1, &json!(2), &json!(4)), "{done}");
    assert_eq!(done["sent_bytes"], 7, "the same bytes go once: {done}");
    let named: Vec<&str> = done["rows"]
        .as_array()
        .expect("rows")
        .iter()
        .filter_map(|row| row["version"].as_str())
        .collect();
    assert_eq!(named, ["", "3", "4", "5"], "{done}");
    let (_, again) = imported(stage, &[&first, file]).await;
    let brought = (&again["created"], &again["present"], &again["sent_bytes"]);
    assert_eq!(brought, (&json!(0), &json!(2), &json!(0)), "{again}");
    let shown =
        stage.admin.get(&format!("/v1/namespaces/{first}/models/net/versions/2")).await.json();
    assert_eq!(shown["version"]["tags"]["type"], "regression", "{shown}");
    assert_eq!(shown["version"]["file_count"], "1");

    // Our own surface is a server of MLflow's protocol.
    let alias = format!("/v1/namespaces/{first}/models/net/aliases/prod");
    let body = Some(json!({ "version": "2" }).to_string());
    assert_eq!(stage.admin.http(Method::PUT, &alias, body).await.status, 200);
    let token = place.join("token");
    fs::write(&token, stage.platform.admin_token()).expect("a file");
    let token = token.to_str().expect("a path");
    let url = stage.platform.url();
    let from =
        [second.as_str(), &url, "--workspace", &first, "--token-file", token, "--without-files"];
    let (code, done) = imported(stage, &from).await;
    assert_eq!((code, &done["created"], &done["aliases"]), (0, &json!(2), &json!(1)), "{done}");
    let (_, again) = imported(stage, &from).await;
    assert_eq!((&again["created"], &again["present"]), (&json!(0), &json!(2)), "{again}");
    let refused = imported_failing(stage, &[&second, "http://127.0.0.1:9/"]).await;
    assert_eq!(refused, 6, "a server that is away");
    let nobody = imported_failing(stage, &[&second, &url, "--workspace", &first]).await;
    assert_eq!(nobody, 4, "a server that wants a token");
}

async fn imported_failing(stage: &Stage, args: &[&str]) -> i32 {
    let all = [&["models", "import"], args].concat();
    stage.platform.cli(&all).await.code
}

/// A number that is brought along is above all that were given, and then the next follows it.
pub async fn numbers(stage: &Stage) {
    let (admin, ns) = (&stage.admin, stage.namespace().await);
    let create = async |number: i64| {
        let request = api::CreateVersionRequest {
            namespace: ns.clone(),
            model: "m".into(),
            create_model: true,
            number,
            ..Default::default()
        };
        let made = admin.apart().model_versions().create_version(request).await?;
        Ok::<_, tonic::Status>(made.into_inner().version.expect("a version").number)
    };
    assert_eq!(create(0).await.unwrap(), 1);
    assert_eq!(create(7).await.unwrap(), 7);
    for taken in [1, 5, 7] {
        let status = create(taken).await.unwrap_err();
        assert_eq!(status.code(), Code::AlreadyExists, "{status:?}");
    }
    for wrong in [-1, i64::from(i32::MAX) + 1] {
        assert_eq!(create(wrong).await.unwrap_err().code(), Code::InvalidArgument);
    }
    assert_eq!(create(0).await.unwrap(), 8);
    let both = futures::join!(create(20), create(20));
    assert_eq!([both.0.is_ok(), both.1.is_ok()].iter().filter(|ok| **ok).count(), 1, "{both:?}");
}

/// A namespace is not deleted while it holds a model, and is once the model is in the trash;
/// what is in the trash cannot come back to it.
pub async fn namespaces(stage: &Stage) {
    let (admin, ns) = (&stage.admin, stage.namespace().await);
    let models = format!("/v1/namespaces/{ns}/models");
    let made = admin.post(&models, &json!({ "name": "m" })).await.json();
    let id = made["model"]["id"].as_str().expect("an id").to_owned();
    let kept = admin.delete(&format!("/v1/namespaces/{ns}")).await;
    assert_eq!(kept.status, 400, "{kept:?}");
    let detail = &kept.json()["error"]["details"][0];
    assert_eq!(detail["reason"], "NAMESPACE_NOT_EMPTY", "{kept:?}");
    assert_eq!(detail["metadata"]["models"], "1", "{kept:?}");
    assert_eq!(admin.delete(&format!("{models}/m")).await.status, 200);
    let restored = admin.post(&format!("/v1/models/{id}:restore"), &json!({})).await;
    assert_eq!(restored.status, 200, "{restored:?}");
    eventually("it to be held again", Duration::from_secs(5), async || {
        (admin.delete(&format!("/v1/namespaces/{ns}")).await.status == 400).then_some(())
    })
    .await;
    assert_eq!(admin.delete(&format!("{models}/m")).await.status, 200);
    eventually("the namespace to be free", Duration::from_secs(5), async || {
        (admin.delete(&format!("/v1/namespaces/{ns}")).await.status == 200).then_some(())
    })
    .await;
    let late = admin.post(&format!("/v1/models/{id}:restore"), &json!({})).await;
    assert_eq!(late.status, 400, "{late:?}");
    assert_eq!(late.json()["error"]["details"][0]["reason"], "NAMESPACE_GONE", "{late:?}");
}

/// What MLflow's surface refuses, in MLflow's shape; a 5xx is never among it.
pub async fn mlflow_refusals(stage: &Stage) {
    let admin = &stage.admin;
    let name = unique("m");
    let made =
        admin.post(&format!("{MLFLOW}/registered-models/create"), &json!({ "name": name })).await;
    assert_eq!(made.status, 200, "{made:?}");
    let version = json!({ "name": name, "source": "s3://b/m" });
    let made = admin.post(&format!("{MLFLOW}/model-versions/create"), &version).await;
    assert_eq!(made.status, 200, "{made:?}");
    let tag = |value: String| json!({ "name": name, "key": "k", "value": value });
    let alias = |alias: &str| json!({ "name": name, "alias": alias, "version": "1" });
    let hook = |url: &str| {
        json!({ "name": unique("w"), "url": url,
                "events": [{ "entity": "REGISTERED_MODEL", "action": "CREATED" }] })
    };
    let cases = [
        ("registered-models/create", json!({ "name": "a/b" })),
        ("registered-models/create", json!({ "name": "a:b" })),
        ("registered-models/create", json!({ "name": "a\u{0}b" })),
        ("registered-models/create", json!({ "name": "" })),
        ("registered-models/set-tag", tag("v".repeat(1 << 20))),
        ("registered-models/set-tag", tag("\u{0}".into())),
        ("registered-models/alias", alias("latest")),
        ("registered-models/alias", alias("v12")),
        ("registered-models/alias", alias("a b")),
        ("experiments/create", json!({ "name": "a\u{0}b" })),
        ("runs/create", json!({ "experiment_id": "0", "start_time": "soon" })),
        ("webhooks", hook("http://127.0.0.1:9/hook")),
        ("webhooks", hook("https://10.0.0.1/hook")),
        ("webhooks", hook("https://169.254.169.254/latest")),
        ("webhooks", hook("https://[::1]/hook")),
    ];
    for (path, body) in cases {
        let answer = admin.post(&format!("{MLFLOW}/{path}"), &body).await;
        let shown: String = body.to_string().chars().take(80).collect();
        assert_eq!(answer.status, 400, "{path} {shown}: {answer:?}");
        assert_eq!(
            answer.json()["error_code"],
            "INVALID_PARAMETER_VALUE",
            "{path} {shown}: {answer:?}"
        );
    }
    for path in ["logged-models/%00", "webhooks/%00", "experiments/get-by-name?experiment_name=%00"]
    {
        let answer = admin.get(&format!("{MLFLOW}/{path}")).await;
        assert_eq!(answer.status, 400, "{path}: {answer:?}");
    }
    let beyond = json!({ "experiment_id": "0", "start_time": 9_223_372_036_854_775_808_u64 });
    let answer = admin.post(&format!("{MLFLOW}/runs/create"), &beyond).await;
    // As MLflow's own server has it.
    assert_eq!(
        (answer.status, &answer.json()["run"]["info"]["start_time"]),
        (200, &json!(0)),
        "{answer:?}"
    );
    let missing = json!({ "name": unique("none"), "source": "s3://b/m" });
    let answer = admin.post(&format!("{MLFLOW}/model-versions/create"), &missing).await;
    assert_eq!(answer.status, 404, "{answer:?}");
    assert_eq!(answer.json()["error_code"], "RESOURCE_DOES_NOT_EXIST");
}

/// Versions that are created while their model is deleted are either before it, and in the
/// trash with it, or find no model.
pub async fn created_while_deleted(stage: &Stage) {
    let (admin, ns) = (&stage.admin, stage.namespace().await);
    let made = admin.post(&format!("/v1/namespaces/{ns}/models"), &json!({ "name": "m" })).await;
    let id = made.json()["model"]["id"].as_str().expect("an id").to_owned();
    let request = api::CreateVersionRequest {
        namespace: ns.clone(),
        model: "m".into(),
        ..Default::default()
    };
    let creating = futures::stream::iter(0..40).map(|_| {
        let (mut client, request) = (admin.apart().model_versions(), request.clone());
        async move { client.create_version(request).await }
    });
    let creating = creating.buffer_unordered(8).collect::<Vec<_>>();
    let deleting = admin.apart();
    let path = format!("/v1/namespaces/{ns}/models/m");
    let (created, deleted) = futures::join!(creating, deleting.delete(&path));
    assert_eq!(deleted.status, 200, "{deleted:?}");
    let mut numbers = Vec::new();
    for outcome in created {
        match outcome {
            Ok(made) => numbers.push(made.into_inner().version.expect("a version").number),
            Err(status) => assert_eq!(status.code(), Code::NotFound, "{status:?}"),
        }
    }
    let restored = admin.post(&format!("/v1/models/{id}:restore"), &json!({})).await.json();
    assert_eq!(restored["model"]["version_count"], numbers.len().to_string(), "{restored}");
    numbers.sort_unstable();
    assert_eq!(numbers, (1..=i64::try_from(numbers.len()).unwrap()).collect::<Vec<_>>());
}
