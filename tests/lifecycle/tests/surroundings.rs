//! Surroundings that are wrong: the process lives, its door and its log say what is wrong, and it
//! goes on by itself once that is mended.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use harness::{Answer, Launch, Postgres, Process, Session, eventually, s3_variables};
use tempfile::TempDir;

const SOON: Duration = Duration::from_secs(60);

/// An S3 server whose policy denies a method until it is told otherwise.
struct Denying {
    endpoint: String,
    denies: Arc<AtomicBool>,
}

impl Denying {
    /// Denies requests that `is_denied` names by their first line.
    fn start(is_denied: fn(&str) -> bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let denies = Arc::new(AtomicBool::new(true));
        let deny = Arc::clone(&denies);
        std::thread::spawn(move || {
            for socket in listener.incoming().map_while(Result::ok) {
                let deny = Arc::clone(&deny);
                std::thread::spawn(move || {
                    answer(socket, |line| is_denied(line) && deny.load(Ordering::SeqCst))
                });
            }
        });
        Self { endpoint, denies }
    }
}

/// One request of a connection, answered as S3 does.
fn answer(mut socket: TcpStream, denies: impl Fn(&str) -> bool) {
    let mut read = Vec::new();
    let mut piece = [0; 4 << 10];
    let (line, length, head) = loop {
        let bytes = socket.read(&mut piece).unwrap_or(0);
        if bytes == 0 {
            return;
        }
        read.extend_from_slice(&piece[..bytes]);
        let text = String::from_utf8_lossy(&read).into_owned();
        let Some(head) = text.find("\r\n\r\n") else { continue };
        let mut lengths = text[..head].lines().filter_map(|line| {
            line.to_ascii_lowercase().strip_prefix("content-length:")?.trim().parse().ok()
        });
        let length: usize = lengths.next().unwrap_or(0);
        break (text.lines().next().unwrap_or_default().to_owned(), length, head + 4);
    };
    while read.len() < head + length {
        let bytes = socket.read(&mut piece).unwrap_or(0);
        if bytes == 0 {
            return;
        }
        read.extend_from_slice(&piece[..bytes]);
    }
    let (status, body) = if denies(&line) {
        let xml = "<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>";
        ("403 Forbidden", xml)
    } else if line.starts_with("GET") {
        let xml = "<ListBucketResult><Name>quarry</Name><KeyCount>0</KeyCount>\
             <IsTruncated>false</IsTruncated></ListBucketResult>";
        ("200 OK", xml)
    } else if line.starts_with("POST") {
        ("200 OK", "<DeleteResult><Deleted><Key>one</Key></Deleted></DeleteResult>")
    } else if line.starts_with("HEAD") {
        ("404 Not Found", "")
    } else {
        ("200 OK", "")
    };
    let length = body.len();
    let answer = format!(
        "HTTP/1.1 {status}\r\nETag: \"0\"\r\nContent-Length: {length}\r\n\
         Content-Type: application/xml\r\nConnection: close\r\n\r\n{body}"
    );
    drop(socket.write_all(answer.as_bytes()));
}

/// A server with all roles, its doors on free ports.
struct Server {
    process: Process,
    door: Session,
}

impl Server {
    fn start(dir: &Path, more: &[&str], variables: &[(&str, String)]) -> Self {
        let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let data_dir = dir.join("data").display().to_string();
        let operations = free.to_string();
        let mut args = vec!["serve", "--data-dir", &data_dir, "--listen", "127.0.0.1:0"];
        args.extend(["--ops-listen", &operations]);
        args.extend(more);
        let variables = variables.iter().map(|(name, value)| ((*name).to_owned(), value.clone()));
        let process = Process::spawn(Launch {
            name: "server".to_owned(),
            args: args.into_iter().map(str::to_owned).collect(),
            variables: variables.collect::<BTreeMap<_, _>>(),
            dir: dir.to_owned(),
        });
        Self { process, door: Session::new(free, None) }
    }

    /// The readiness door's answer, once it has all of these words.
    async fn says(&self, status: u16, words: &[&str]) -> Answer {
        let what = format!("{status} with {words:?}");
        let at = self.door.clone();
        eventually(&what, SOON, async || {
            let answer = at.try_get("/readyz").await?;
            let all = words.iter().all(|word| answer.text.contains(word));
            (answer.status == status && all).then_some(answer)
        })
        .await
    }
}

async fn denied(is_denied: fn(&str) -> bool, words: &[&str]) {
    let dir = TempDir::new().unwrap();
    let store = Denying::start(is_denied);
    let variables = s3_variables(&store.endpoint);
    let mut server =
        Server::start(dir.path(), &["--roles", "identity,catalog,item-store"], &variables);
    server.says(503, words).await;
    assert_eq!(server.door.get("/healthz").await.status, 200, "nobody should restart it");
    let log = server.process.log();
    for word in words {
        assert!(log.contains(word), "the log does not say {word:?}:\n{log}");
    }
    assert!(!log.contains("secret") || !log.contains("AWS_SECRET"), "{log}");
    store.denies.store(false, Ordering::SeqCst);
    server.process.ready().await;
    server.says(200, &["item-store.objects"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_that_may_not_be_written() {
    let words = ["refused access", "s3://quarry/some/prefix", "can't be written", "policy"];
    denied(|line| line.starts_with("PUT"), &words).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_that_may_not_be_listed() {
    let words = ["s3://quarry/some/prefix", "can't be listed", "403 Forbidden", "AccessDenied"];
    denied(|line| line.starts_with("GET") && line.contains("list-type"), &words).await;
}

/// Readiness says which version the schema has and which the program wants.
#[tokio::test(flavor = "multi_thread")]
async fn a_schema_one_version_behind_or_ahead() {
    let dir = TempDir::new().unwrap();
    let postgres = Postgres::start();
    let url = postgres.create_database();
    let database = url.split(['/', '?']).nth(3).unwrap().to_owned();
    let args = ["--database-url", &url];
    let mut server = Server::start(dir.path(), &args, &[]);
    server.process.ready().await;
    let newest = "SELECT max(version) FROM catalog.seaql_migrations";
    // Its own ones are numbered; the one that roles share has a name after all of them.
    let wanted = postgres.sql(&database, &format!("{newest} WHERE version LIKE 'm%'"));
    let whole = format!("schema catalog has {wanted}\"");
    server.says(200, &[&whole]).await;
    let ahead =
        "INSERT INTO catalog.seaql_migrations (version, applied_at) VALUES ('m9999_later', 0)";
    postgres.sql(&database, ahead);
    let wants = format!("wants {wanted}");
    server.says(200, &["has m9999_later", &wants, "newer program"]).await;
    let back = "DELETE FROM catalog.seaql_migrations WHERE version = 'm9999_later'";
    postgres.sql(&database, back);
    // Behind: another program took the newest one back.
    postgres.sql(
        &database,
        &format!("DELETE FROM catalog.seaql_migrations WHERE version = '{wanted}'"),
    );
    let had = postgres.sql(&database, newest);
    let has = format!("schema catalog has {had}");
    server.says(503, &[&has, &wants, "db migrate"]).await;
    postgres.sql(
        &database,
        &format!(
            "INSERT INTO catalog.seaql_migrations (version, applied_at) VALUES ('{wanted}', 0)"
        ),
    );
    server.says(200, &[&whole]).await;
}

/// A schema that another program has taken elsewhere is waited for, and named.
#[tokio::test(flavor = "multi_thread")]
async fn a_strangers_schema_is_told_at_the_door() {
    let dir = TempDir::new().unwrap();
    let postgres = Postgres::start();
    let url = postgres.create_database();
    let database = url.split(['/', '?']).nth(3).unwrap().to_owned();
    let args = ["--database-url", &url];
    let migrated = {
        let mut first = Server::start(dir.path(), &args, &[]);
        first.process.ready().await;
        first.process.terminate();
        first.process.ended().await
    };
    assert!(migrated.success());
    let wanted = postgres.sql(&database, "SELECT max(version) FROM catalog.seaql_migrations");
    let rename = |from: &str, to: &str| {
        let rename = "UPDATE catalog.seaql_migrations SET version = ";
        postgres.sql(&database, &format!("{rename}'{to}' WHERE version = '{from}'"))
    };
    rename(&wanted, "m9999_later");
    let mut server = Server::start(dir.path(), &args, &[]);
    server.says(503, &["another version", "m9999_later", "catalog"]).await;
    assert!(server.process.log().contains("m9999_later"), "{}", server.process.log());
    rename("m9999_later", &wanted);
    server.process.ready().await;
}
