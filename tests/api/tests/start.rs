//! Starting: what cannot work says so at once, and four at once come up.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::path::Path;

use catalog_api::v1::ListNamespacesRequest;
use harness::{Launch, Postgres, Process, Session};
use tempfile::TempDir;

const DOOR: &str = "127.0.0.1:0";

fn launch(dir: &Path, name: &str, args: &[&str]) -> Launch {
    let mut all = vec!["serve".to_owned()];
    let mut option = |name: &str, value: &str| {
        if !args.contains(&name) {
            all.extend([name.to_owned(), value.to_owned()]);
        }
    };
    option("--data-dir", &dir.join(name).display().to_string());
    option("--listen", DOOR);
    option("--ops-listen", DOOR);
    all.extend(args.iter().map(|arg| (*arg).to_owned()));
    // What is away stays away here.
    let variables = BTreeMap::from([("QUARRY_START__WAIT_SECONDS".to_owned(), "0".to_owned())]);
    Launch { name: name.to_owned(), args: all, variables, dir: dir.to_owned() }
}

/// It ends by itself, not with a panic, and says each of these words.
async fn refuses(launch: Launch, words: &[&str]) {
    let shown = launch.args.join(" ");
    let mut process = Process::spawn(launch);
    let status = process.ready_or_ended().await.expect_err("it must not serve");
    let log = process.log();
    assert!(status.code().is_some_and(|code| code != 0 && code != 101), "{shown}: {status} {log}");
    assert!(!log.contains("panicked"), "{shown}: {log}");
    for word in words {
        assert!(log.contains(word), "{shown} does not say {word:?}:\n{log}");
    }
}

#[tokio::test]
async fn what_cannot_work_says_what_to_do() {
    let dir = TempDir::new().unwrap();
    let dir = dir.path();
    let taken = TcpListener::bind(DOOR).unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    let file = dir.join("file");
    std::fs::write(&file, "").unwrap();
    let below_file = file.join("data").display().to_string();
    let away = "postgres://postgres:hunter2secret@127.0.0.1:1/quarry";
    let cases: [(&[&str], &[&str]); 9] = [
        (&["--object-store-url", "ftp://host/x"], &["ftp", "s3://"]),
        (&["--database-url", "mysql://host/x"], &["mysql", "postgres://"]),
        (&["--database-url", away], &["nothing listens there", "start.wait_seconds"]),
        (&["--data-dir", &below_file], &["--data-dir"]),
        (&["--listen", &taken], &["--listen", &taken]),
        (&["--ops-listen", &taken], &["--ops-listen"]),
        (&["--listen", "0.0.0.0:0"], &["QUARRY_ADMIN_TOKEN_FILE"]),
        (&["--listen", "nonsense"], &["nonsense"]),
        (&["--roles", "kitchen"], &["kitchen", "item-store"]),
    ];
    for (at, (args, words)) in cases.into_iter().enumerate() {
        refuses(launch(dir, &format!("case-{at}"), args), words).await;
    }
    let mut process = Process::spawn(launch(dir, "secret", &["--database-url", away]));
    process.ready_or_ended().await.unwrap_err();
    assert!(!process.log().contains("hunter2secret"), "a password in the log: {}", process.log());
}

#[tokio::test]
async fn settings_name_the_key_that_is_wrong() {
    let dir = TempDir::new().unwrap();
    std::fs::write(dir.path().join("quarry.toml"), "[gateway]\nlisten_to_the_wind = 1\n").unwrap();
    refuses(launch(dir.path(), "file", &[]), &["listen_to_the_wind", "quarry.toml"]).await;
    std::fs::remove_file(dir.path().join("quarry.toml")).unwrap();
    let mut variable = launch(dir.path(), "variable", &[]);
    variable.variables.insert("QUARRY_DRAIN__GRACE_SECONDS".into(), "soon".into());
    refuses(variable, &["GRACE_SECONDS"]).await;
}

#[tokio::test]
async fn one_data_directory_has_one_server() {
    let dir = TempDir::new().unwrap();
    let mut first = Process::spawn(launch(dir.path(), "first", &[]));
    first.ready().await;
    let data_dir = dir.path().join("first").display().to_string();
    refuses(launch(dir.path(), "second", &["--data-dir", &data_dir]), &["another process"]).await;
    first.terminate();
    assert!(first.ended().await.success(), "{}", first.log());
    let mut third = Process::spawn(launch(dir.path(), "third", &["--data-dir", &data_dir]));
    third.ready().await;
}

#[tokio::test]
async fn four_at_once_on_one_empty_postgres() {
    let dir = TempDir::new().unwrap();
    let postgres = Postgres::start();
    let database = postgres.create_database();
    let objects = format!("file://{}", dir.path().join("objects").display());
    let args = ["--database-url", &database, "--object-store-url", &objects];
    let names = ["a", "b", "c", "d"];
    let mut servers = names.map(|name| Process::spawn(launch(dir.path(), name, &args)));
    for server in &mut servers {
        server.ready().await;
    }
    // All share one identity; the admin token that counts is in one of the directories.
    let tokens =
        names.map(|name| std::fs::read_to_string(dir.path().join(name).join("admin-token")));
    let tokens: Vec<String> = tokens.into_iter().filter_map(Result::ok).collect();
    for server in &servers {
        let mut works = 0;
        for token in &tokens {
            let session = Session::new(server.listen(), Some(token.trim()));
            let list = session.namespaces().list_namespaces(ListNamespacesRequest::default()).await;
            works += usize::from(list.is_ok());
        }
        assert!(works >= 1, "no admin token works at a server:\n{}", server.log());
    }
}
