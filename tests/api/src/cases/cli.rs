//! The command line against a running platform.

use std::fmt::Write as _;
use std::fs;

use harness::data;

use crate::stage::{Stage, unique};

fn csv(from: i64, to: i64) -> String {
    (from..to).fold("id,width,section,is_favorite\n".to_owned(), |mut text, id| {
        let (width, section) = (data::width(id), data::section(id));
        writeln!(text, "{id},{width},{section},{}", data::is_favorite(id)).expect("text");
        text
    })
}

/// A CSV goes in, pages and counts come out, and the exported file is what went in.
pub async fn round_trip(stage: &Stage) {
    let platform = &stage.platform;
    let ns = unique("cli");
    let dir = platform.scratch();
    let file = dir.join(format!("{ns}.csv"));
    fs::write(&file, csv(0, 1_000)).expect("a file");
    let dataset = format!("{ns}/rows");
    let made = platform.cli(&["namespaces", "create", &ns, "-o", "json"]).await;
    made.json();
    let import = ["import", file.to_str().expect("a path"), &dataset, "-o", "json"];
    let imported = platform.cli(&import).await.json();
    assert_eq!(imported["rows"].as_i64().unwrap_or(1_000), 1_000, "{imported}");
    let count = ["items", "count", &dataset, "-o", "json"];
    assert_eq!(platform.cli(&count).await.json()["count"], 1_000);
    let filter = "width > 3000 AND is_favorite = true";
    let filtered = ["items", "count", &dataset, "--filter", filter, "-o", "json"];
    let expected =
        (0..1_000).filter(|id| data::width(*id) > 3_000 && data::is_favorite(*id)).count();
    assert_eq!(platform.cli(&filtered).await.json()["count"], expected);
    let list = ["items", "list", &dataset, "--limit", "400", "-o", "json"];
    let first = platform.cli(&list).await.json();
    assert_eq!(first["items"].as_array().expect("items").len(), 400);
    assert_eq!(first["items"][3]["id"], 3, "{}", first["items"][3]);
    assert_eq!(first["items"][3]["section"], data::section(3));
    let token = first["next_page_token"].as_str().expect("a token").to_owned();
    let rest = ["items", "list", &dataset, "--limit", "1000", "--page-token", &token, "-o", "json"];
    let rest = platform.cli(&rest).await.json();
    assert_eq!(rest["items"].as_array().expect("items").len(), 600);
    assert!(rest.get("next_page_token").is_none(), "no token on the last page");
    let out = dir.join(format!("{ns}-out.csv"));
    let export = platform.cli(&["export", &dataset, out.to_str().expect("a path")]).await;
    assert_eq!(export.code, 0, "{export:?}");
    assert_eq!(fs::read_to_string(&out).expect("the file"), csv(0, 1_000));
    let datasets = platform.cli(&["datasets", "list", "-o", "json"]).await.json();
    assert!(
        datasets["datasets"].as_array().expect("datasets").iter().any(|d| d["namespace"] == ns)
    );
}

/// A bad row is named by file, line and column, and nothing of the file stays.
pub async fn bad_rows(stage: &Stage) {
    let platform = &stage.platform;
    let ns = stage.namespace().await;
    let file = platform.scratch().join(format!("{ns}.csv"));
    let text = csv(0, 500).replace("\n250,", "\nnot-a-number,");
    fs::write(&file, text).expect("a file");
    let dataset = format!("{ns}/rows");
    let path = file.to_str().expect("a path");
    let schema = "id:int64,width:int64,section:string,is_favorite:bool";
    let failed = platform.cli(&["import", path, &dataset, "--schema", schema]).await;
    assert_ne!(failed.code, 0, "{failed:?}");
    for part in [path, "252", "id"] {
        assert!(failed.stderr.contains(part), "{part} is not in {}", failed.stderr);
    }
    let show = platform.cli(&["datasets", "show", &dataset, "-o", "json"]).await;
    assert_ne!(show.code, 0, "nothing half-imported stays: {show:?}");
    let lying = platform.scratch().join(format!("{ns}.parquet"));
    fs::write(&lying, b"PAR1 this is no Parquet at all \xff\xff\xff\x7fPAR1").expect("a file");
    let failed = platform.cli(&["import", lying.to_str().expect("a path"), &dataset]).await;
    assert_ne!(failed.code, 0, "{failed:?}");
    assert!(failed.stderr.contains(lying.to_str().expect("a path")), "{}", failed.stderr);
}

/// A cell that no memory should hold is refused when it passes the limit, not when it ends.
pub async fn huge_cell(stage: &Stage) {
    let platform = &stage.platform;
    let ns = stage.namespace().await;
    let file = platform.scratch().join(format!("{ns}.csv"));
    fs::write(&file, "id,text\n1,\"begin").expect("a file");
    // The rest is a hole: it takes no disk.
    fs::OpenOptions::new()
        .write(true)
        .open(&file)
        .expect("a file")
        .set_len(5 << 30)
        .expect("a hole");
    let path = file.to_str().expect("a path");
    let failed = platform.cli(&["import", path, &format!("{ns}/rows")]).await;
    assert!(failed.code > 0, "{failed:?}");
    assert!(failed.stderr.contains(path), "{}", failed.stderr);
    assert!(failed.stderr.len() < 10_000, "a message of pages");
    fs::remove_file(&file).expect("the file");
}

/// Usage, not found, not authenticated, not reachable: codes that a script can tell apart.
pub async fn exit_codes(stage: &Stage) {
    let platform = &stage.platform;
    let good = platform.cli(&["namespaces", "list"]).await;
    assert_eq!(good.code, 0, "{good:?}");
    let usage = platform.cli(&["namespaces", "dance"]).await;
    assert_eq!(usage.code, 2, "{usage:?}");
    let absent = platform.cli(&["datasets", "show", "no-such/thing", "-o", "json"]).await;
    let nobody = platform.cli(&["--token", "qpat_wrong", "namespaces", "list"]).await;
    let away = platform.cli(&["--server", "http://127.0.0.1:1", "namespaces", "list"]).await;
    let codes = [absent.code, nobody.code, away.code];
    assert!(codes.iter().all(|code| *code > 0), "{absent:?} {nobody:?} {away:?}");
    let distinct: std::collections::BTreeSet<i32> = codes.into_iter().collect();
    assert_eq!(distinct.len(), 3, "{absent:?} {nobody:?} {away:?}");
    for failed in [&absent, &nobody, &away] {
        assert!(!failed.stderr.is_empty() && !failed.stderr.contains("panicked"), "{failed:?}");
    }
    let bash = platform.cli(&["completions", "bash"]).await;
    assert!(bash.code == 0 && bash.stdout.contains("quarry"), "{bash:?}");
}
