//! Files of a location as items of a dataset, again and again.

use std::path::{Path, PathBuf};

use catalog_api::v1::GetDatasetRequest;
use files_api::v1 as wire;
use harness::is_going;
use options_api::v1::{Level, ResourceKind, Role};
use serde_json::Value;
use tonic::Code;

use crate::stage::{Stage, unique};

/// An image of one colour, with a lighter half so that two shades look alike
/// and a turned one does not.
fn bmp(width: u32, height: u32, shade: u8, is_turned: bool) -> Vec<u8> {
    let row = (width * 3).div_ceil(4) * 4;
    let size = 54 + row * height;
    let mut bytes = b"BM".to_vec();
    for number in [size, 0, 54, 40, width, height] {
        bytes.extend(number.to_le_bytes());
    }
    bytes.extend([1, 0, 24, 0]);
    bytes.extend([0; 24]);
    for _ in 0..height {
        for x in 0..width {
            let is_light = (x * 2 < width) != is_turned;
            bytes.extend([shade, shade, if is_light { 255 } else { 10 }]);
        }
        bytes.extend(vec![0; (row - width * 3) as usize]);
    }
    bytes
}

fn write(tree: &Path, path: &str, bytes: impl AsRef<[u8]>) {
    let path = tree.join(path);
    std::fs::create_dir_all(path.parent().expect("a parent")).expect("a directory");
    std::fs::write(path, bytes).expect("a file");
}

fn tree(stage: &Stage) -> PathBuf {
    let tree = stage.platform.scratch().join(unique("set"));
    write(&tree, "train/cat/1.bmp", bmp(40, 30, 1, false));
    write(&tree, "train/dog/2.bmp", bmp(40, 30, 2, true));
    write(&tree, "test/cat/3.bmp", bmp(20, 30, 200, true));
    write(&tree, "test/cat/same as 1.bmp", bmp(40, 30, 1, false));
    write(&tree, "test/dog/broken.bmp", "BM no image");
    tree
}

async fn import(stage: &Stage, tree: &Path, dataset: &str, more: &[&str]) -> Value {
    let path = tree.display().to_string();
    let args = ["files", "import", &path, dataset, "--wait", "-o", "json"];
    let args: Vec<&str> = args.iter().chain(more).copied().collect();
    let answer = stage.platform.cli(&args).await;
    answer.json()["job"].clone()
}

async fn items(stage: &Stage, dataset: &str) -> Vec<(String, String)> {
    let list = ["items", "list", dataset, "--limit", "100", "-o", "json"];
    let answer = stage.platform.cli(&list).await.json();
    let text = |item: &Value, name: &str| item[name].as_str().unwrap_or_default().to_owned();
    let items = answer["items"].as_array().expect("items");
    let mut items: Vec<(String, String)> =
        items.iter().map(|item| (text(item, "file_path"), text(item, "split"))).collect();
    items.sort();
    items
}

/// From a tree to a dataset, and from a changed tree to its next version.
pub async fn folders(stage: &Stage) {
    let tree = tree(stage);
    let path = tree.display().to_string();
    let dataset = format!("{}/{}", stage.namespace().await, unique("images"));
    stage.platform.cli(&["files", "location", "add", &path, "-o", "json"]).await.json();
    let job = import(stage, &tree, &dataset, &[]).await;
    let count = |job: &Value, name: &str| job["result"][name].as_i64().unwrap_or(-1);
    assert_eq!((count(&job, "samples"), count(&job, "added")), (4, 4), "{job}");
    assert_eq!((count(&job, "broken"), count(&job, "leaked")), (1, 1), "{job}");
    assert_eq!(count(&job, "near_leaked"), 1, "2 and 3 look alike: {job}");
    let found = items(stage, &dataset).await;
    assert_eq!(found.len(), 4, "{found:?}");
    assert!(found[0].0.contains("test/cat/3.bmp") && found[0].1.contains("test"), "{found:?}");
    // Its bytes came along.
    let exported = stage.platform.scratch().join(unique("out"));
    let out = exported.display().to_string();
    let export = ["export", &dataset, &out, "--format", "images"];
    assert_eq!(stage.platform.cli(&export).await.code, 0);
    // Nothing changed: nothing is done.
    let job = import(stage, &tree, &dataset, &[]).await;
    assert_eq!((count(&job, "unchanged"), count(&job, "version")), (1, 1), "{job}");
    std::fs::remove_file(tree.join("test/cat/same as 1.bmp")).expect("removed");
    write(&tree, "train/dog/2.bmp", bmp(44, 30, 9, true));
    write(&tree, "train/bird/new.bmp", bmp(10, 10, 77, false));
    let job = import(stage, &tree, &dataset, &[]).await;
    let done = ["samples", "added", "updated", "removed"].map(|name| count(&job, name));
    assert_eq!(done, [4, 1, 1, 1], "{job}");
    let found = items(stage, &dataset).await;
    assert!(found.iter().any(|(path, _)| path.contains("train/bird/new.bmp")), "{found:?}");
    assert_eq!(found.len(), 4, "{found:?}");
}

/// A sidecar that is cut off, or emptied, leaves the dataset as it was until it is whole.
pub async fn broken_sidecars(stage: &Stage) {
    let tree = stage.platform.scratch().join(unique("coco"));
    let images = (1..=4).map(|n| {
        write(&tree, &format!("images/{n}.bmp"), bmp(40, 30, n * 40, n % 2 == 0));
        format!("{{\"id\":{n},\"file_name\":\"{n}.bmp\"}}")
    });
    let whole =
        format!("{{\"images\":[{}],\"annotations\":[]}}", images.collect::<Vec<_>>().join(","));
    let sidecar = |text: &str| write(&tree, "annotations/instances.json", text);
    let path = tree.display().to_string();
    stage.platform.cli(&["files", "location", "add", &path, "-o", "json"]).await.json();
    for more in [&["--format", "coco"][..], &[]] {
        let dataset = format!("{}/{}", stage.namespace().await, unique("images"));
        sidecar(&whole);
        let job = import(stage, &tree, &dataset, more).await;
        assert_eq!(job["result"]["added"], 4, "{job}");
        let before = items(stage, &dataset).await;
        for broken in [&whole[..whole.len() / 2], "", "\u{feff}"] {
            sidecar(broken);
            let args = ["files", "import", &path, &dataset, "--wait", "-o", "json"];
            let args: Vec<&str> = args.iter().chain(more).copied().collect();
            let answer = stage.platform.cli(&args).await;
            assert!(answer.code != 0, "{broken:?}: {}", answer.stdout);
            let told = format!("{}{}", answer.stdout, answer.stderr);
            assert!(told.contains("SIDECAR_BROKEN"), "{broken:?}: {told}");
            assert_eq!(items(stage, &dataset).await, before, "{broken:?}");
        }
        sidecar(&format!("\u{feff}{whole}"));
        let job = import(stage, &tree, &dataset, more).await;
        let done = ["samples", "removed", "broken"].map(|name| job["result"][name].as_i64());
        assert_eq!(done, [Some(4), Some(0), Some(0)], "{job}");
        assert_eq!(items(stage, &dataset).await, before);
    }
}

/// Who may not read the directory, or write the dataset, imports nothing.
pub async fn refusals(stage: &Stage) {
    let tree = tree(stage);
    let path = tree.display().to_string();
    let namespace = stage.namespace().await;
    let added = stage.platform.cli(&["files", "location", "add", &path, "-o", "json"]).await.json();
    let location = added["location"]["id"].as_str().expect("an id").to_owned();
    stage.platform.cli(&["files", "scan", &path, "--mode", "content", "--wait"]).await;
    let (user, session) = stage.user(Role::User).await;
    let request = || wire::ImportFromLocationRequest {
        path: path.clone(),
        namespace: namespace.clone(),
        dataset: "stolen".to_owned(),
        ..Default::default()
    };
    let refused = session.imports().import_from_location(request()).await.expect_err("hidden");
    assert_eq!(refused.code(), Code::NotFound, "{refused:?}");
    stage.grant(&user, ResourceKind::Location, &location, Level::Read).await;
    let seen = harness::eventually("the grant", std::time::Duration::from_secs(2), async || {
        let get = wire::GetLocationRequest { id: location.clone() };
        session.locations().get_location(get).await.ok()
    });
    seen.await;
    let refused =
        session.imports().import_from_location(request()).await.expect_err("no dataset of its");
    assert!(matches!(refused.code(), Code::NotFound | Code::PermissionDenied), "{refused:?}");
    let get = GetDatasetRequest { namespace: namespace.clone(), name: "stolen".to_owned() };
    assert_eq!(
        stage.admin.datasets().get_dataset(get).await.expect_err("none").code(),
        Code::NotFound
    );
    let request = wire::ImportFromLocationRequest {
        query: Some(wire::FileQuery { path: "/x".to_owned(), ..Default::default() }),
        ..request()
    };
    let refused = stage.admin.imports().import_from_location(request).await.expect_err("a path");
    assert_eq!(refused.code(), Code::InvalidArgument, "{refused:?}");
}

/// The change log over the wire.
pub async fn changes(stage: &Stage) {
    let tree = tree(stage);
    let path = tree.display().to_string();
    let added = stage.platform.cli(&["files", "location", "add", &path, "-o", "json"]).await.json();
    let id = added["location"]["id"].as_str().expect("an id").to_owned();
    let scan =
        async || stage.platform.cli(&["files", "scan", &path, "--wait", "-o", "json"]).await.json();
    scan().await;
    let list = async |after: i64| {
        let request =
            wire::ListChangesRequest { location_id: id.clone(), after, ..Default::default() };
        stage.admin.changes().list_changes(request).await.expect("changes").into_inner()
    };
    let first = list(0).await;
    assert!(first.reset && first.next == first.newest && first.next > 0, "{first:?}");
    let request = wire::WatchChangesRequest { location_id: id.clone(), after: first.next };
    let watch = async || stage.admin.changes().watch_changes(request.clone()).await;
    let mut watched = watch().await;
    std::fs::rename(tree.join("train/dog"), tree.join("train/wolf")).expect("renamed");
    scan().await;
    let message = loop {
        let said = match watched {
            Ok(answer) => answer.into_inner().message().await,
            Err(status) => Err(status),
        };
        match said {
            // Its server was restarted: the next one has the changes.
            Err(status) if is_going(&status) => watched = watch().await,
            said => break said.expect("a message").expect("changes"),
        }
    };
    let change = &message.changes[0];
    assert_eq!(change.kind(), wire::ChangeKind::Moved, "{message:?}");
    assert_eq!(change.path, tree.join("train/wolf").display().to_string());
    assert_eq!(change.old_path, tree.join("train/dog").display().to_string());
    let listed = list(first.next).await;
    assert_eq!((listed.reset, listed.changes.first()), (false, Some(change)));
    let (_, session) = stage.user(Role::User).await;
    let request = wire::ListChangesRequest { location_id: id, ..Default::default() };
    let hidden = session.changes().list_changes(request).await.expect_err("hidden");
    assert_eq!(hidden.code(), Code::NotFound);
}
