//! Operating a platform: history, backups while writers run, what the doctor finds, and a start
//! that waits.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use api::cases::count;
use catalog_api::v1::{CreateNamespaceRequest, ListNamespacesRequest};
use harness::{
    CliOutput, Database, Launch, Platform, Postgres, Process, Role, Session, Setup, Topology, data,
    eventually, put,
};
use ops_api::v1::GetMetricsHistoryRequest;
use serde_json::Value;
use tempfile::TempDir;

const SOON: Duration = Duration::from_secs(60);

fn launch(dir: &Path, name: &str, args: &[&str], variables: &[(&str, &str)]) -> Launch {
    let variables = variables.iter().map(|(name, value)| ((*name).into(), (*value).into()));
    Launch {
        name: name.to_owned(),
        args: args.iter().map(|arg| (*arg).to_owned()).collect(),
        variables: variables.collect::<BTreeMap<String, String>>(),
        dir: dir.to_owned(),
    }
}

fn quarry(dir: &Path, args: &[&str]) -> CliOutput {
    Process::run(&launch(dir, "cli", args, &[]))
}

fn free_address() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().to_string()
}

async fn history(database: Database) {
    let setup = Setup::new(Topology::Split, database);
    let platform = setup.variable("QUARRY_TELEMETRY__HISTORY_SECONDS", "1").start().await;
    let admin = platform.admin();
    let wanted = ["rpc.requests", "process.resident_bytes", "database.bytes", "rpc.seconds_p99"];
    let components = ["catalog", "identity"];
    eventually("a history of calls", SOON, async || {
        admin.namespaces().list_namespaces(ListNamespacesRequest::default()).await.unwrap();
        let asked = GetMetricsHistoryRequest { hours: 1, ..Default::default() };
        let said = admin.ops().get_metrics_history(asked).await.unwrap().into_inner();
        let there = |component: &str, metric: &str| {
            said.series.iter().any(|series| {
                series.component == component
                    && series.metric == metric
                    && series.points.iter().any(|point| point.max > 0.0 && point.sample_count > 0)
            })
        };
        components
            .iter()
            .all(|component| wanted.iter().all(|metric| there(component, metric)))
            .then_some(())
    })
    .await;
    let asked = GetMetricsHistoryRequest {
        hours: 1,
        component: "catalog".into(),
        metrics: vec!["rpc.requests".into()],
        ..Default::default()
    };
    let said = admin.ops().get_metrics_history(asked).await.unwrap().into_inner();
    let [series] = said.series.as_slice() else { panic!("{said:?}") };
    assert_eq!((series.component.as_str(), series.metric.as_str()), ("catalog", "rpc.requests"));
    let table = platform.cli(&["ops", "metrics", "--component", "catalog", "--hours", "1"]).await;
    assert!(table.code == 0 && table.stdout.contains("rpc.requests"), "{table:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn each_role_keeps_its_history_on_sqlite() {
    history(Database::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_role_keeps_its_history_on_postgres() {
    history(Database::Postgres).await;
}

/// A platform whose objects are in one place, with writers on it, backed up and put elsewhere.
async fn backup(database: Database) {
    let mut platform = Setup::new(Topology::OneProcess, database).start().await;
    let admin = platform.admin();
    let request = CreateNamespaceRequest { name: "safe".into(), ..Default::default() };
    admin.namespaces().create_namespace(request).await.unwrap();
    let (written, stop) = (AtomicUsize::new(0), AtomicBool::new(false));
    put(&admin, "safe", "rows", vec![data::rows(0, 1_000)]).await.unwrap();
    written.store(1_000, Ordering::SeqCst);
    let writer = async {
        while !stop.load(Ordering::SeqCst) {
            let from = i64::try_from(written.load(Ordering::SeqCst)).unwrap();
            put(&admin, "safe", "rows", vec![data::rows(from, from + 100)]).await.unwrap();
            written.fetch_add(100, Ordering::SeqCst);
        }
    };
    let url = platform.postgres().map(|_| ()).map(|()| database_url(&platform));
    let place = platform.scratch().join("backup");
    let taken = async {
        // Writers are under way.
        let begin = written.load(Ordering::SeqCst);
        eventually("a write", SOON, async || {
            (written.load(Ordering::SeqCst) > begin).then_some(())
        })
        .await;
        let before = written.load(Ordering::SeqCst);
        let directory = place.display().to_string();
        let data_dir = platform.data_dir(Role::Catalog).display().to_string();
        let mut args = vec!["db", "backup", &directory, "--data-dir", &data_dir, "-o", "json"];
        if let Some(url) = &url {
            args.extend(["--database-url", url]);
        }
        let taken = platform.cli(&args).await.json();
        stop.store(true, Ordering::SeqCst);
        (before, taken)
    };
    let ((before, taken), ()) = tokio::join!(taken, writer);
    assert!(taken["objects"].as_u64().unwrap() >= 1, "{taken}");
    let token = platform.admin_token().to_owned();
    restored(&place, url.is_some(), before, &token).await;
}

fn database_url(platform: &Platform) -> String {
    let settings =
        std::fs::read_to_string(format!("/proc/{}/environ", platform.process(Role::Catalog).pid()));
    let settings = settings.unwrap();
    let found = settings.split('\0').find_map(|one| one.strip_prefix("QUARRY_DATABASE_URL="));
    found.unwrap().to_owned()
}

/// Restores a backup into a new place and compares what is served there.
async fn restored(place: &Path, on_postgres: bool, before: usize, token: &str) {
    let dir = TempDir::new().unwrap();
    let data_dir = dir.path().join("data").display().to_string();
    let postgres = on_postgres.then(Postgres::start);
    let url = postgres.as_ref().map(Postgres::create_database);
    let from = place.display().to_string();
    let mut restore = vec!["db", "restore", &from, "--data-dir", &data_dir, "-o", "json"];
    let mut verify = vec!["db", "verify", "--blocks", "--data-dir", &data_dir];
    if let Some(url) = &url {
        restore.extend(["--database-url", url]);
        verify.extend(["--database-url", url]);
    }
    // A byte less is no backup, and nothing of it is written.
    let cut = place.join("objects.jsonl");
    let whole = std::fs::read(&cut).unwrap();
    std::fs::write(&cut, &whole[..whole.len() - 1]).unwrap();
    let refused = quarry(dir.path(), &restore);
    assert!(refused.code != 0 && refused.stderr.contains("damaged or was cut"), "{refused:?}");
    assert!(!Path::new(&data_dir).join("catalog.sqlite").exists());
    std::fs::write(&cut, &whole).unwrap();
    quarry(dir.path(), &restore).json();
    let again = quarry(dir.path(), &restore);
    assert!(again.code != 0 && again.stderr.contains("is there"), "{again:?}");
    let verified = quarry(dir.path(), &verify);
    assert!(verified.code == 0 && verified.stdout.contains("0 damaged"), "{verified:?}");

    let mut args = vec!["serve", "--data-dir", &data_dir, "--listen", "127.0.0.1:0"];
    args.extend(["--ops-listen", "127.0.0.1:0"]);
    if let Some(url) = &url {
        args.extend(["--database-url", url]);
    }
    let mut server = Process::spawn(launch(dir.path(), "restored", &args, &[]));
    server.ready().await;
    // Whoever had a token has it still, unless the account is nobody's yet.
    let file = std::fs::read_to_string(Path::new(&data_dir).join("admin-token"));
    let token = file.unwrap_or_else(|_| token.to_owned());
    let admin = Session::new(server.listen(), Some(token.trim()));
    let rows = count(&admin, "safe", "rows").await;
    assert!(usize::try_from(rows).unwrap() >= before, "{rows} rows, {before} were acknowledged");
    assert_eq!(rows % 100, 0, "puts are whole");
    put(&admin, "safe", "rows", vec![data::rows(rows, rows + 10)]).await.unwrap();
    assert_eq!(count(&admin, "safe", "rows").await, rows + 10);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_of_files_while_writers_run() {
    backup(Database::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_of_postgres_while_writers_run() {
    backup(Database::Postgres).await;
}

fn finding<'a>(said: &'a Value, check: &str) -> &'a Value {
    let findings = said["findings"].as_array().unwrap();
    let found = findings.iter().find(|one| one["check"] == check);
    found.unwrap_or_else(|| panic!("no {check} in {said:#}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_doctor_finds_what_is_broken() {
    let platform = Platform::start(Topology::OneProcess, Database::Sqlite).await;
    let data_dir = platform.data_dir(Role::Catalog).display().to_string();
    let operations = platform.process(Role::Catalog).operations().to_string();
    let well =
        ["doctor", "--data-dir", &data_dir, "--ops-listen", &operations, "--running", "-o", "json"];
    let said = platform.cli(&well).await.json();
    assert_eq!(said["problems"], 0, "{said:#}");
    for check in
        ["settings", "data_dir.write", "locks", "database.schema.catalog", "objects", "roles"]
    {
        assert_eq!(finding(&said, check)["verdict"], "ok", "{said:#}");
    }
    let dir = TempDir::new().unwrap();
    let empty = dir.path().join("empty").display().to_string();
    let token = dir.path().join("token");
    std::fs::write(&token, "short").unwrap();
    let nobody = format!("http://{}", free_address());
    let broken = launch(
        dir.path(),
        "broken",
        &[
            "doctor",
            "--data-dir",
            &empty,
            "--ops-listen",
            &free_address(),
            "--running",
            "--roles",
            "catalog",
            "--database-url",
            "postgres://q:hunter2secret@127.0.0.1:1/q",
            "-o",
            "json",
        ],
        &[
            ("QUARRY_NEIGHBOURS__IDENTITY", &nobody),
            ("QUARRY_SERVICE_TOKEN_FILE", &token.display().to_string()),
        ],
    );
    let output = Process::run(&broken);
    assert_eq!(output.code, 1, "{output:?}");
    let said: Value = serde_json::from_str(&output.stdout).unwrap();
    for check in ["database", "service_token_file", "roles", "neighbours.identity"] {
        let found = finding(&said, check);
        assert_eq!(found["verdict"], "problem", "{said:#}");
        assert!(!found["remedy"].as_str().unwrap().is_empty(), "{found}");
    }
    assert!(!output.stdout.contains("hunter2secret"));
    std::fs::write(dir.path().join("quarry.toml"), "[gateway]\nlistn = 1\n").unwrap();
    let output = quarry(dir.path(), &["doctor", "-o", "json"]);
    let said: Value = serde_json::from_str(&output.stdout).unwrap();
    let found = finding(&said, "settings");
    assert!(found["message"].as_str().unwrap().contains("gateway.listn"), "{said:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_waits_for_its_database_and_says_so() {
    let dir = TempDir::new().unwrap();
    let postgres = Postgres::start();
    let url = postgres.create_database();
    // Nothing is at the socket's place for a while.
    let sockets = Path::new(url.split_once("host=").unwrap().1);
    let (socket, aside) = (sockets.join(".s.PGSQL.5432"), sockets.join("aside"));
    std::fs::rename(&socket, &aside).unwrap();
    let operations = free_address();
    let data_dir = dir.path().join("data").display().to_string();
    let args = [
        "serve",
        "--data-dir",
        &data_dir,
        "--listen",
        "127.0.0.1:0",
        "--ops-listen",
        &operations,
        "--database-url",
        &url,
    ];
    let mut server = Process::spawn(launch(dir.path(), "waiting", &args, &[]));
    let door = Session::new(operations.parse().unwrap(), None);
    let at = operations.parse::<std::net::SocketAddr>().unwrap();
    eventually("the door", SOON, async || std::net::TcpStream::connect(at).ok()).await;
    eventually("what is missing", SOON, async || {
        let answer = door.get("/readyz").await;
        (answer.status == 503 && answer.text.contains("no such socket")).then_some(())
    })
    .await;
    assert_eq!(door.get("/healthz").await.status, 200, "it lives: nobody should restart it");
    assert!(server.log().contains("no such socket"), "{}", server.log());
    std::fs::rename(&aside, &socket).unwrap();
    server.ready().await;
    assert_eq!(door.get("/readyz").await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_without_its_neighbours_says_whom_it_misses() {
    let dir = TempDir::new().unwrap();
    let operations = free_address();
    let data_dir = dir.path().join("data").display().to_string();
    let secret = dir.path().join("secret");
    std::fs::write(&secret, "qsvc_0123456789abcdef0123456789abcdef").unwrap();
    let identity = format!("http://{}", free_address());
    let args = [
        "serve",
        "--roles",
        "catalog",
        "--data-dir",
        &data_dir,
        "--listen",
        "127.0.0.1:0",
        "--ops-listen",
        &operations,
    ];
    let secret = secret.display().to_string();
    let variables = [
        ("QUARRY_NEIGHBOURS__IDENTITY", identity.as_str()),
        ("QUARRY_SERVICE_TOKEN_FILE", secret.as_str()),
    ];
    let alone = Process::spawn(launch(dir.path(), "alone", &args, &variables));
    let at = operations.parse::<std::net::SocketAddr>().unwrap();
    eventually("the door", SOON, async || std::net::TcpStream::connect(at).ok()).await;
    let door = Session::new(at, None);
    eventually("what is missing", SOON, async || {
        let answer = door.get("/readyz").await;
        (answer.status == 503 && answer.text.contains("identity has not answered")).then_some(())
    })
    .await;
    eventually("the log", SOON, async || {
        alone.log().contains("identity has not answered").then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schema_of_another_program_is_named() {
    let dir = TempDir::new().unwrap();
    let postgres = Postgres::start();
    let url = postgres.create_database();
    let database = url.split(['/', '?']).nth(3).unwrap().to_owned();
    let migrate = quarry(dir.path(), &["db", "migrate", "--database-url", &url]);
    assert_eq!(migrate.code, 0, "{migrate:?}");
    // One ahead: an older program goes on, and the doctor says so.
    let note =
        "INSERT INTO catalog.seaql_migrations (version, applied_at) VALUES ('m9999_later', 0)";
    postgres.sql(&database, note);
    let data_dir = dir.path().join("data").display().to_string();
    let doctor = ["doctor", "--database-url", &url, "--data-dir", &data_dir, "-o", "json"];
    let said: Value = serde_json::from_str(&quarry(dir.path(), &doctor).stdout).unwrap();
    let ahead = finding(&said, "database.schema.catalog");
    assert!(
        ahead["verdict"] == "warning" && ahead["message"].as_str().unwrap().contains("m9999_later")
    );
    // One behind as well: neither program made it.
    let first = "DELETE FROM catalog.seaql_migrations WHERE version LIKE '%first%' OR version LIKE '%0001_catalog%'";
    postgres.sql(&database, first);
    let args = [
        "serve",
        "--data-dir",
        &data_dir,
        "--listen",
        "127.0.0.1:0",
        "--ops-listen",
        "127.0.0.1:0",
        "--database-url",
        &url,
    ];
    let at_once = [("QUARRY_START__WAIT_SECONDS", "0")];
    let mut server = Process::spawn(launch(dir.path(), "stranger", &args, &at_once));
    server.ready_or_ended().await.expect_err("it must not serve");
    assert!(
        server.log().contains("m9999_later") && server.log().contains("another version"),
        "{}",
        server.log()
    );
    // Behind alone: what has not run is named before a program brings it.
    let behind = "DELETE FROM catalog.seaql_migrations WHERE version = 'm9999_later'";
    postgres.sql(&database, behind);
    let verify =
        quarry(dir.path(), &["db", "verify", "--database-url", &url, "--data-dir", &data_dir]);
    assert!(verify.code == 5 && verify.stderr.contains("db migrate"), "{verify:?}");
}
