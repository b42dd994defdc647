//! Files: a location, its scan as a job, what is found, and who may see it.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use files_api::v1 as wire;
use harness::{Session, eventually, is_going};
use ops_api::v1::{JobState, JobsGetRequest, JobsListRequest, JobsWatchRequest};
use options_api::v1::{Level, ResourceKind, Role};
use tonic::Code;

use crate::stage::{Stage, unique};

/// A tree of its own below the platform's scratch directory.
fn tree(stage: &Stage) -> PathBuf {
    let tree = stage.platform.scratch().join(unique("tree"));
    for (path, bytes) in [
        ("a/report.pdf", "%PDF-1.4 one"),
        ("a/copy of report.pdf", "%PDF-1.4 one"),
        ("a/b/notes.txt", "notes"),
        ("other.txt", "another"),
    ] {
        let path = tree.join(path);
        std::fs::create_dir_all(path.parent().expect("a parent")).expect("a directory");
        std::fs::write(path, bytes).expect("a file");
    }
    tree
}

async fn location(session: &Session, path: &Path) -> Result<wire::Location, tonic::Status> {
    let request = wire::CreateLocationRequest {
        path: path.display().to_string(),
        mode: wire::ScanMode::Content.into(),
        ..Default::default()
    };
    let answer = session.locations().create_location(request).await?;
    Ok(answer.into_inner().location.expect("a location"))
}

/// Scans and waits for the job, over its stream.
async fn scan(session: &Session, location: &wire::Location) -> ops_api::v1::Job {
    let request = wire::ScanLocationRequest { id: location.id.clone(), ..Default::default() };
    let name = session.locations().scan_location(request).await.expect("a job").into_inner().job;
    let job = loop {
        match ended(session, &name).await {
            Err(status) if is_going(&status) => {}
            job => break job.expect("a job"),
        }
    };
    assert_eq!(job.state(), JobState::Completed, "{job:?}");
    job
}

/// Follows a job to its end.
async fn ended(session: &Session, name: &str) -> Result<ops_api::v1::Job, tonic::Status> {
    let request = JobsWatchRequest { name: name.to_owned() };
    let mut changes = session.jobs().watch(request).await?.into_inner();
    let mut last = None;
    while let Some(change) = changes.message().await? {
        last = change.job;
    }
    Ok(last.expect("a job"))
}

async fn search(session: &Session, query: wire::FileQuery) -> BTreeSet<String> {
    let request = wire::SearchFilesRequest { query: Some(query), ..Default::default() };
    let answer = session.files().search_files(request).await.expect("a page").into_inner();
    answer.entries.into_iter().map(|entry| entry.path).collect()
}

/// From a directory to what is found in it.
pub async fn lifecycle(stage: &Stage) {
    let tree = tree(stage);
    let made = location(&stage.admin, &tree).await.expect("a location");
    let job = scan(&stage.admin, &made).await;
    assert_eq!((job.result["added"], job.result["hashed"]), (6, 4), "{job:?}");
    let text = |text: &str| wire::FileQuery {
        text: text.to_owned(),
        location_id: made.id.clone(),
        ..Default::default()
    };
    let absolute = |relative: &str| tree.join(relative).display().to_string();
    let found = search(&stage.admin, text("REPORT")).await;
    assert_eq!(found, [absolute("a/report.pdf"), absolute("a/copy of report.pdf")].into());
    let request = wire::ListDuplicatesRequest {
        location_id: made.id.clone(),
        verify: true,
        ..Default::default()
    };
    let answer = stage.admin.files().list_duplicates(request).await.expect("groups").into_inner();
    assert_eq!((answer.group_count, answer.wasted_bytes, answer.unhashed_count), (1, 12, 0));
    assert!(answer.groups[0].verified && answer.groups[0].entries.len() == 2);
    let request = wire::GetUsageRequest { path: absolute("a"), ..Default::default() };
    let usage = stage.admin.files().get_usage(request).await.expect("usage").into_inner();
    assert_eq!(usage.total.map(|total| (total.byte_count, total.file_count)), Some((29, 3)));
    let tag = unique("tag");
    let request = wire::TagFilesRequest {
        tag: tag.clone(),
        paths: vec![absolute("other.txt")],
        ..Default::default()
    };
    stage.admin.marks().tag_files(request).await.expect("a tag");
    let query = wire::FileQuery { tags: vec![tag], ..Default::default() };
    assert_eq!(search(&stage.admin, query).await, [absolute("other.txt")].into());
    std::fs::remove_file(tree.join("other.txt")).expect("removed");
    let job = scan(&stage.admin, &made).await;
    assert_eq!((job.result["removed"], job.result["unchanged_directories"]), (1, 2), "{job:?}");
    assert!(search(&stage.admin, text("other")).await.is_empty());
    let request = wire::DeleteLocationRequest { id: made.id.clone() };
    stage.admin.locations().delete_location(request).await.expect("deleted");
    assert!(tree.join("a/report.pdf").exists());
}

/// A grant on the location decides, for lists and for names.
pub async fn permissions(stage: &Stage) {
    let tree = tree(stage);
    let made = location(&stage.admin, &tree).await.expect("a location");
    scan(&stage.admin, &made).await;
    let (user, session) = stage.user(Role::User).await;
    // No path of the server is allowed to anybody but an admin.
    let refused = location(&session, &tree).await.expect_err("not allowed");
    assert_eq!(refused.code(), Code::PermissionDenied);
    let path = tree.display().to_string();
    let query = || wire::FileQuery { text: "report".to_owned(), ..Default::default() };
    assert!(search(&session, query()).await.is_empty());
    let get = || wire::GetLocationRequest { id: made.id.clone() };
    let hidden = session.locations().get_location(get()).await.expect_err("hidden");
    assert_eq!(hidden.code(), Code::NotFound);
    let usage = wire::GetUsageRequest { path: path.clone(), ..Default::default() };
    let hidden = session.files().get_usage(usage).await.expect_err("hidden");
    assert_eq!(hidden.code(), Code::NotFound);
    let volumes = async || {
        let asked = wire::ListVolumesRequest { page_size: 1_000, ..Default::default() };
        session.locations().list_volumes(asked).await.expect("volumes").into_inner().volumes
    };
    assert!(volumes().await.is_empty(), "a volume tells of locations that are hidden");
    hidden_as_unknown(&session, &made.id, &path).await;
    let tag = unique("tag");
    let request = wire::TagFilesRequest {
        tag: tag.clone(),
        paths: vec![format!("{path}/other.txt")],
        ..Default::default()
    };
    stage.admin.marks().tag_files(request).await.expect("a tag");
    let tags = async || {
        let asked = wire::ListTagsRequest { page_size: 1_000, ..Default::default() };
        let tags = session.marks().list_tags(asked).await.expect("tags").into_inner().tags;
        tags.into_iter().map(|tag| tag.name).collect::<Vec<_>>()
    };
    let set = async |implied: &str| {
        let implies = vec![implied.to_owned()];
        session.marks().set_tag(wire::SetTagRequest { name: tag.clone(), implies }).await
    };
    assert!(!tags().await.contains(&tag), "a tag tells of files that are hidden");
    set("zz").await.expect_err("its files are hidden");
    stage.grant(&user, ResourceKind::Location, &made.id, Level::Read).await;
    let seen = eventually("the grant", std::time::Duration::from_secs(2), async || {
        session.locations().get_location(get()).await.ok()
    });
    seen.await;
    assert_eq!(search(&session, query()).await.len(), 2);
    let seen = volumes().await;
    assert_eq!((seen.len(), seen[0].location_count), (1, 1), "{seen:?}");
    assert_eq!(seen[0].locations[0].id, made.id);
    let scan = wire::ScanLocationRequest { id: made.id.clone(), ..Default::default() };
    let refused = session.locations().scan_location(scan).await.expect_err("only reads");
    assert_eq!(refused.code(), Code::PermissionDenied);
    let refused = set("zz").await.expect_err("its files are others'");
    assert_eq!(refused.code(), Code::PermissionDenied, "{refused:?}");
    assert!(tags().await.contains(&tag), "it is on a file that may be read now");
    // The admin's jobs are not the user's.
    let jobs = session.jobs().list(JobsListRequest::default()).await.expect("jobs").into_inner();
    assert!(jobs.jobs.is_empty() && jobs.unreachable.is_empty(), "{jobs:?}");
}

/// What may not be seen is answered as what is not there: the same to the byte, but for the
/// caller's own words.
async fn hidden_as_unknown(session: &Session, id: &str, path: &str) {
    let said = async |id: &str, path: &str| {
        let query = |location_id: &str, path: &str| wire::SearchFilesRequest {
            query: Some(wire::FileQuery {
                location_id: location_id.to_owned(),
                path: path.to_owned(),
                ..Default::default()
            }),
            ..Default::default()
        };
        let usage = |location_id: &str, path: &str| wire::GetUsageRequest {
            location_id: location_id.to_owned(),
            path: path.to_owned(),
            limit: 0,
        };
        let file = |id: String, path: &str| wire::GetFileRequest { id, path: path.to_owned() };
        let get = |id: &str| wire::GetLocationRequest { id: id.to_owned() };
        let scan = wire::ScanLocationRequest { id: id.to_owned(), ..Default::default() };
        let delete = wire::DeleteLocationRequest { id: id.to_owned() };
        let tag = wire::TagFilesRequest {
            tag: "mine".to_owned(),
            paths: vec![format!("{path}/other.txt")],
            personal: true,
            ..Default::default()
        };
        let same = wire::ListDuplicatesRequest { location_id: id.to_owned(), ..Default::default() };
        let (mut places, mut files) = (session.locations(), session.files());
        let answers = [
            places.get_location(get(id)).await.map(drop),
            places.get_location(get(path)).await.map(drop),
            places.scan_location(scan).await.map(drop),
            places.delete_location(delete).await.map(drop),
            files.search_files(query(id, "")).await.map(drop),
            files.search_files(query("", path)).await.map(drop),
            files.get_usage(usage(id, "")).await.map(drop),
            files.get_usage(usage("", path)).await.map(drop),
            files.get_file(file(format!("{id}.1"), "")).await.map(drop),
            files.get_file(file(String::new(), &format!("{path}/other.txt"))).await.map(drop),
            files.list_duplicates(same).await.map(drop),
            session.marks().tag_files(tag).await.map(drop),
        ];
        answers.map(|answer| {
            let status = answer.expect_err("hidden, or not there");
            let details = String::from_utf8_lossy(status.details()).into_owned();
            let texts = [status.message().to_owned(), details];
            (status.code(), texts.map(|text| text.replace(id, "ID").replace(path, "PATH")))
        })
    };
    let nowhere = format!("{}~", &path[..path.len() - 1]);
    let unknown = said("0190b0a0-0000-7000-8000-000000000000", &nowhere).await;
    assert_eq!(said(id, path).await, unknown);
}

/// Names of jobs that lead nowhere, and the list over HTTP.
pub async fn jobs(stage: &Stage) {
    let made = location(&stage.admin, &tree(stage)).await.expect("a location");
    let job = scan(&stage.admin, &made).await;
    for (name, code) in [
        ("file-indexer/0190b0a0-0000-7000-8000-000000000000", Code::NotFound),
        ("nothing/0190b0a0-0000-7000-8000-000000000000", Code::NotFound),
        ("", Code::InvalidArgument),
    ] {
        let request = JobsGetRequest { name: name.to_owned() };
        let status = stage.admin.jobs().get(request).await.expect_err(name);
        assert_eq!(status.code(), code, "{name:?}: {status:?}");
    }
    let answer = stage.admin.get(&format!("/v1/jobs/{}", job.name)).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.json()["job"]["state"], "JOB_STATE_COMPLETED");
    let answer = stage.admin.get("/v1/jobs?service=file-indexer").await;
    let names: Vec<_> = answer.json()["jobs"]
        .as_array()
        .expect("jobs")
        .iter()
        .map(|job| job["name"].as_str().unwrap_or_default().to_owned())
        .collect();
    assert!(names.contains(&job.name), "{names:?}");
}

/// A watched root that was away is watched again soon after it is back.
pub async fn watched_root(stage: &Stage) {
    let tree = tree(stage);
    let request = wire::CreateLocationRequest {
        path: tree.display().to_string(),
        watched: true,
        ..Default::default()
    };
    let made = stage.admin.locations().create_location(request).await.expect("a location");
    let made = made.into_inner().location.expect("a location");
    let is_seen = async |name: &str| {
        let query = wire::FileQuery {
            text: name.to_owned(),
            location_id: made.id.clone(),
            ..Default::default()
        };
        eventually(name, std::time::Duration::from_secs(45), async || {
            let found = search(&stage.admin, query.clone()).await;
            (!found.is_empty()).then_some(())
        })
        .await;
    };
    is_seen("notes").await;
    let away = tree.with_extension("away");
    std::fs::rename(&tree, &away).expect("renamed");
    eventually("that it is away", std::time::Duration::from_secs(45), async || {
        let get = wire::GetLocationRequest { id: made.id.clone() };
        let answer = stage.admin.locations().get_location(get).await.ok()?;
        answer.into_inner().location.filter(|now| !now.problem.is_empty())
    })
    .await;
    std::fs::rename(&away, &tree).expect("renamed back");
    // The first is found by the scan that begins the watch, the second by the watch.
    for name in ["after", "later"] {
        std::fs::write(tree.join(name), name).expect("a file");
        is_seen(name).await;
    }
    let delete = wire::DeleteLocationRequest { id: made.id.clone() };
    stage.admin.locations().delete_location(delete).await.expect("deleted");
}

/// The command line's own shapes.
pub async fn command_line(stage: &Stage) {
    let tree = tree(stage);
    let path = tree.display().to_string();
    let run = async |args: &[&str]| stage.platform.cli(args).await.json();
    run(&["files", "location", "add", &path, "-o", "json"]).await;
    run(&["files", "scan", &path, "--mode", "content", "--wait", "-o", "json"]).await;
    let found =
        run(&["files", "search", "report", "--path", &path, "--ext", "pdf", "-o", "json"]).await;
    assert_eq!(found["entries"].as_array().map(Vec::len), Some(2), "{found}");
    assert_eq!(found["entries"][0]["size"], 12);
    assert_eq!(found["next_page_token"], "", "there on the last page too: {found}");
    let groups = run(&["files", "duplicates", "--location", &path, "-o", "json"]).await;
    assert_eq!(groups["wasted_bytes"], 12, "{groups}");
    let group = &groups["groups"][0];
    assert_eq!(group["content"].as_str().map(str::len), Some(64));
    assert_eq!(
        (group["size"].as_i64(), group["entries"].as_array().map(Vec::len)),
        (Some(12), Some(2))
    );
    // What is no location, no path and no number is a wrong argument, and names its field.
    let below = tree.join("a").display().to_string();
    for (args, field) in [
        (&["duplicates", "--location", &below][..], "location: "),
        (&["scan", &below], "path: "),
        (&["verify", &below], "path: "),
        (&["location", "add", "/nope"], "path: "),
        (&["search", "--size-min=-1"], "query.size_min: "),
        (&["duplicates", "--size-min=-1"], "size_min: "),
    ] {
        let args: Vec<&str> = ["files"].iter().chain(args).copied().collect();
        let refused = stage.platform.cli(&args).await;
        assert_eq!(refused.code, 7, "{args:?}: {}", refused.stderr);
        assert!(refused.stderr.contains(field), "{args:?}: {}", refused.stderr);
    }
    let query = wire::FileQuery { kinds: vec![99], ..Default::default() };
    let request = wire::SearchFilesRequest { query: Some(query), ..Default::default() };
    let refused = stage.admin.files().search_files(request).await.expect_err("no kind");
    assert_eq!(refused.code(), Code::InvalidArgument, "{refused:?}");
    let usage = run(&["files", "du", &path, "-o", "json"]).await;
    assert_eq!(usage["total"]["file_count"], 4);
    let volumes = run(&["files", "volumes", "--limit", "1000", "-o", "json"]).await;
    let holds = |volume: &&serde_json::Value| {
        let locations = volume["locations"].as_array();
        locations.is_some_and(|all| all.iter().any(|location| location["path"] == path))
    };
    let on: Vec<_> = volumes["volumes"].as_array().into_iter().flatten().filter(holds).collect();
    let [volume] = on.as_slice() else { panic!("on one volume: {volumes}") };
    assert!(volume["is_there"] == true && volume["device"] == "", "{volume}");
    assert!(volume["byte_count"].as_i64() >= volume["free_byte_count"].as_i64(), "{volume}");
    let mount = volume["mount_point"].as_str().unwrap_or("none");
    assert!(Path::new(&path).starts_with(mount), "{volume}");
    run(&["files", "location", "remove", &path, "-o", "json"]).await;
}
