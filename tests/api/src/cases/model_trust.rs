//! What is known of a model before it is loaded, over HTTP and the command line: a hostile
//! pickle, a bomb, headers, signatures, and a stage that demands them.

use std::fs;
use std::time::Duration;

use serde_json::{Value as Json, json};

use crate::stage::{Stage, unique};

const PATIENCE: Duration = Duration::from_secs(30);
/// Of a pickle that takes seconds to look through.
const LONG_BYTES: usize = 24 << 20;
/// Runs `id` when it is loaded.
const HOSTILE: &[u8] = b"\x80\x02cos\nsystem\nX\x02\0\0\0id\x85R.";
/// What PyPI's `model-signing` made of the files below.
const SIGNATURE: &str = include_str!("../../../../crates/model-signatures/fixtures/p256.sig");
const KEY: &str = include_str!("../../../../crates/model-signatures/fixtures/p256.pub");
/// What it made with Sigstore's public service, of files that hold their own names.
const KEYLESS: &str =
    include_str!("../../../../crates/model-signatures/fixtures/sigstore/v1.0.0.sig");
const SIGSTORE: &str =
    include_str!("../../../../crates/model-signatures/fixtures/sigstore/trusted_root.json");

/// Writes a folder of files; answers its path.
fn folder(stage: &Stage, files: &[(&str, &[u8])]) -> String {
    let folder = stage.platform.scratch().join(unique("model"));
    for (path, bytes) in files {
        let path = folder.join(path);
        fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        fs::write(path, bytes).expect("a file");
    }
    folder.to_str().expect("a path").to_owned()
}

fn signed() -> [(&'static str, &'static [u8]); 3] {
    [("weights.bin", b"weights\n"), ("sub/config.json", b"config\n"), ("sub.txt", b"x")]
}

async fn cli(stage: &Stage, args: &[&str]) -> Json {
    stage.platform.cli(&[&["models"], args, &["-o", "json"]].concat()).await.json()
}

/// A hostile pickle is found by the job that its registration queues, told by its global,
/// once for its bytes; a stage keeps it out.
pub async fn scans(stage: &Stage) {
    let (admin, ns) = (&stage.admin, stage.namespace().await);
    let model = format!("{ns}/net");
    let bad = folder(stage, &[("model.pkl", HOSTILE), ("README.md", b"It is fine.")]);
    cli(stage, &["register", &model, &bad]).await;
    let base = format!("/v1/namespaces/{ns}/models/net/versions/1");
    // Its registration queued a job for it.
    harness::eventually("the version is scanned", PATIENCE, async || {
        let version = admin.get(&base).await.json();
        (version["version"]["scan"] == "SCAN_VERDICT_DANGEROUS").then_some(())
    })
    .await;
    let title = format!("{ns}/net/1");
    let job = harness::eventually("its job ends", PATIENCE, async || {
        let jobs = admin.get("/v1/jobs?page_size=100").await.json();
        let jobs = jobs["jobs"].as_array().cloned().unwrap_or_default();
        jobs.into_iter().find(|job| job["title"] == title && job["state"] == "JOB_STATE_COMPLETED")
    })
    .await;
    assert_eq!((&job["kind"], &job["result"]["files"]), (&json!("scan"), &json!("2")), "{job}");
    assert!(job["name"].as_str().is_some_and(|name| name.starts_with("model-registry/")), "{job}");
    let first = cli(stage, &["scan", &format!("{model}@1"), "--known"]).await;
    let mut files = first["files"].as_array().into_iter().flatten();
    let worst = files.find(|file| file["path"] == "model.pkl").expect("the file");
    assert_eq!(worst["findings"][0]["global"], "os.system", "{first}");
    let page = cli(stage, &["scan", &format!("{model}@1"), "--known", "--limit", "1"]).await;
    let (files, token) = (page["files"].as_array(), page["next_page_token"].as_str());
    assert!(files.is_some_and(|files| files.len() == 1), "{page}");
    assert!(token.is_some_and(|token| !token.is_empty()), "{page}");
    let again = cli(stage, &["scan", &format!("{model}@1")]).await;
    assert_eq!(
        (&again["scanned_count"], &again["unclean_count"]),
        (&json!(0), &json!(1)),
        "{again}"
    );
    let known = admin.get(&format!("{base}/scan")).await;
    assert_eq!((known.status, &known.json()["verdict"]), (200, &json!("SCAN_VERDICT_DANGEROUS")));
    let shown = admin.get(&base).await.json();
    assert_eq!(shown["version"]["scan"], "SCAN_VERDICT_DANGEROUS", "{shown}");
    let stages = json!({ "stages": [{ "name": "prod", "require_scan": true }] });
    let path = format!("/v1/namespaces/{ns}/model-stages");
    let set = admin.http(http::Method::PUT, &path, Some(stages.to_string())).await;
    assert_eq!(set.status, 200, "{set:?}");
    let moved = admin.post(&format!("{base}:transition"), &json!({ "stage": "prod" })).await;
    assert_eq!(moved.status, 400, "{moved:?}");
    assert!(moved.text.contains("STAGE_GATE") && moved.text.contains("dangerous"), "{moved:?}");
    let viewer = stage.user(options_api::v1::Role::Viewer).await.1;
    assert_eq!(viewer.get(&format!("{base}/scan")).await.status, 404);
}

/// A scan is cancelled by its job, within a file; it is made when it is asked for again.
pub async fn cancelled(stage: &Stage) {
    let (admin, ns) = (&stage.admin, stage.namespace().await);
    // Long enough to be met at work: None is pushed and popped again.
    let mut long = b"\x80\x02".to_vec();
    long.resize(LONG_BYTES, b'N');
    long.iter_mut().skip(3).step_by(2).for_each(|byte| *byte = b'0');
    long.extend(b"N.");
    let model = format!("{ns}/net");
    cli(stage, &["register", &model, &folder(stage, &[("long.pkl", &long)])]).await;
    let title = format!("{ns}/net/1");
    let of_version = async || {
        let jobs = admin.get("/v1/jobs?page_size=100").await.json();
        let jobs = jobs["jobs"].as_array().cloned().unwrap_or_default();
        jobs.into_iter().find(|job| job["title"] == title).expect("the job of the registration")
    };
    let name = of_version().await["name"].as_str().expect("a name").to_owned();
    let cancelled = admin.post(&format!("/v1/jobs/{name}:cancel"), &json!({})).await;
    assert_eq!(cancelled.status, 200, "{cancelled:?}");
    harness::eventually("the job ends", PATIENCE, async || {
        (of_version().await["state"] == "JOB_STATE_CANCELLED").then_some(())
    })
    .await;
    let base = format!("/v1/namespaces/{ns}/models/net/versions/1");
    let shown = admin.get(&base).await.json();
    assert_eq!(shown["version"]["scan"], "SCAN_VERDICT_NONE", "{shown}");
    let again = cli(stage, &["scan", &format!("{model}@1")]).await;
    assert_eq!(again["scanned_count"], 1, "nothing was kept of half a file: {again}");
    assert_eq!(admin.get(&base).await.json()["version"]["scan"], "SCAN_VERDICT_CLEAN");
}

/// A file's tensors by pages; what is no header is a typed error.
pub async fn inspects(stage: &Stage) {
    let (admin, ns) = (&stage.admin, stage.namespace().await);
    let json = br#"{"a":{"dtype":"BF16","shape":[2,3],"data_offsets":[0,12]},"b":{"dtype":"U8","shape":[4],"data_offsets":[12,16]}}"#;
    let mut file = (json.len() as u64).to_le_bytes().to_vec();
    file.extend(json);
    file.extend([0; 16]);
    let place = folder(stage, &[("m.safetensors", &file), ("x.safetensors", &[0xff; 64])]);
    let model = format!("{ns}/net");
    cli(stage, &["register", &model, &place]).await;
    let told = cli(stage, &["inspect", &model, "m.safetensors"]).await;
    assert_eq!(
        (&told["parameter_count"], &told["tensor_count"]),
        (&json!(10), &json!(2)),
        "{told}"
    );
    assert_eq!(told["tensors"][0]["shape"], json!([2, 3]), "{told}");
    let base = format!("/v1/namespaces/{ns}/models/net/versions/latest/inspect");
    let page = admin.get(&format!("{base}/m.safetensors?page_size=1")).await.json();
    assert_eq!(page["tensors"].as_array().map(Vec::len), Some(1), "{page}");
    let token = page["next_page_token"].as_str().expect("a token").to_owned();
    let rest = admin.get(&format!("{base}/m.safetensors?page_size=1&page_token={token}")).await;
    assert_eq!(rest.json()["tensors"][0]["name"], "b", "{rest:?}");
    let bad = admin.get(&format!("{base}/x.safetensors")).await;
    assert_eq!(bad.status, 400, "{bad:?}");
    assert!(bad.text.contains("HEADER_UNREADABLE"), "{bad:?}");
    assert_eq!(admin.get(&format!("{base}/none.safetensors")).await.status, 404);
}

/// A signature counts while its key is trusted, for the files that were signed.
pub async fn signatures(stage: &Stage) {
    let ns = stage.namespace().await;
    let model = format!("{ns}/net");
    cli(stage, &["register", &model, &folder(stage, &signed())]).await;
    let mut other = signed();
    other[0].1 = b"weightS\n";
    cli(stage, &["register", &model, &folder(stage, &other)]).await;
    let kept = folder(stage, &[("model.sig", SIGNATURE.as_bytes()), ("key.pem", KEY.as_bytes())]);
    let (bundle, key) = (format!("{kept}/model.sig"), format!("{kept}/key.pem"));
    let (first, second) = (format!("{model}@1"), format!("{model}@2"));
    let added = cli(stage, &["signature", "add", &first, &bundle]).await;
    assert_eq!(added["signature"]["verified"], false, "nobody trusts its key yet: {added}");
    let platform = &stage.platform;
    let verify = ["models", "signature", "verify", first.as_str(), "-o", "json"];
    assert_eq!(platform.cli(&verify).await.code, 5, "none holds");
    let trusted = cli(stage, &["signing-keys", "add", &ns, &key, "--name", "release"]).await;
    let fingerprint = trusted["key"]["fingerprint"].as_str().expect("a fingerprint").to_owned();
    let verified = platform.cli(&verify).await.json();
    assert_eq!(verified["signatures"][0]["key_fingerprint"], fingerprint, "{verified}");
    let refused = platform.cli(&["models", "signature", "add", &second, &bundle]).await;
    assert_eq!(refused.code, 5, "{refused:?}");
    let shown = stage.admin.get(&format!("/v1/namespaces/{ns}/models/net/versions/1")).await;
    assert_eq!(shown.json()["version"]["signed"], true, "{shown:?}");
    let gone = cli(stage, &["signing-keys", "remove", &ns, &fingerprint]).await;
    assert_eq!(gone["signature_count"], 1, "{gone}");
    assert_eq!(platform.cli(&verify).await.code, 5);
}

/// Who signed in somewhere and signed without a key of their own opens a stage while a
/// namespace trusts them; nobody else does.
pub async fn keyless(stage: &Stage) {
    let (admin, ns) = (&stage.admin, stage.namespace().await);
    let model = format!("{ns}/net");
    let files: [(&str, &[u8]); 2] = [("signme-1", b"signme-1"), ("signme-2", b"signme-2")];
    cli(stage, &["register", &model, &folder(stage, &files)]).await;
    let kept = [("model.sig", KEYLESS.as_bytes()), ("root.json", SIGSTORE.as_bytes())];
    let kept = folder(stage, &kept);
    let (bundle, root) = (format!("{kept}/model.sig"), format!("{kept}/root.json"));
    let stages = json!({"stages": [{"name": "prod", "require_signature": true}]});
    let path = format!("/v1/namespaces/{ns}/model-stages");
    let set = admin.http(http::Method::PUT, &path, Some(stages.to_string())).await;
    assert_eq!(set.status, 200, "{set:?}");
    let base = format!("/v1/namespaces/{ns}/models/net/versions/1");
    let go = async || admin.post(&format!("{base}:transition"), &json!({"stage": "prod"})).await;
    let trust = ["signing-keys", "add", ns.as_str(), "--sigstore-root", root.as_str()];
    let provider = ["--identity-provider", "https://sigstore.verify.ibm.com/oauth2"];
    let trusts =
        async |who: &str| cli(stage, &[&trust[..], &["--identity", who], &provider].concat()).await;
    trusts("other@example.com").await;
    let added = cli(stage, &["signature", "add", &model, &bundle]).await;
    assert_eq!(added["signature"]["verified"], false, "another's: {added}");
    assert!(go().await.text.contains("STAGE_GATE"));
    let trusted = trusts("stefanb@us.ibm.com").await;
    assert_eq!(trusted["key"]["kind"], "SIGNING_KEY_KIND_SIGSTORE", "{trusted}");
    let verified = cli(stage, &["signature", "verify", &model]).await;
    let signature = &verified["signatures"][0];
    assert_eq!(signature["key_fingerprint"], trusted["key"]["fingerprint"], "{verified}");
    let said = signature["message"].as_str().expect("a message");
    assert!(said.starts_with("stefanb@us.ibm.com (issuer https://"), "{said}");
    let moved = go().await;
    assert_eq!(moved.status, 200, "{moved:?}");
    let usage = stage.platform.cli(&[&["models"], &trust[..]].concat()).await;
    assert_eq!(usage.code, 2, "an identity is wanted: {usage:?}");
}
