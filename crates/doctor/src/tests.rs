//! Each finding with something that is really broken.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use chrono::{DateTime, TimeDelta, Utc};
use sea_orm_migration::{MigrationTrait, MigratorTrait};
use service_channel::{DoorSettings, from_router, serve};
use sql_store::{SqlSettings, SqlStore, SystemMetrics, testing};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::*;

fn find<'a>(findings: &'a [Finding], check: &str) -> &'a Finding {
    let found = findings.iter().find(|finding| finding.check == check);
    found.unwrap_or_else(|| panic!("no {check} in {findings:?}"))
}

fn problem<'a>(findings: &'a [Finding], check: &str, words: &str) -> &'a Finding {
    let found = find(findings, check);
    assert_eq!(found.verdict, Verdict::Problem, "{found:?}");
    assert!(found.message.contains(words), "{found:?} does not say {words:?}");
    assert!(!found.remedy.is_empty(), "{found:?} does not say what to do");
    found
}

fn well(findings: &[Finding]) {
    assert!(findings.iter().all(|finding| finding.verdict == Verdict::Ok), "{findings:?}");
    assert!(!findings.is_empty());
}

#[test]
fn the_data_dir_must_be_private_and_writable() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("data");
    assert_eq!(find(&place::data_dir(&path), "data_dir").verdict, Verdict::Warning);
    fs::create_dir(&path).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    problem(&place::data_dir(&path), "data_dir.mode", "0755");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).unwrap();
    assert_eq!(find(&place::data_dir(&path), "data_dir").verdict, Verdict::Ok);
    assert_eq!(find(&place::data_dir(&path), "data_dir.write").verdict, Verdict::Ok);
    assert_eq!(fs::read_dir(&path).unwrap().count(), 0, "the probe is gone");
    let file = dir.path().join("file");
    fs::write(&file, "").unwrap();
    problem(&place::data_dir(&file), "data_dir", "no directory");
    // Nobody makes files there, root neither.
    problem(
        &place::data_dir(Path::new("/proc/self/task")),
        "data_dir.write",
        "no file can be made",
    );
}

#[test]
fn little_room_is_said() {
    assert_eq!(place::judge_room(100 << 30).verdict, Verdict::Ok);
    assert_eq!(place::judge_room(1 << 30).verdict, Verdict::Warning);
    assert_eq!(place::judge_room(1 << 20).verdict, Verdict::Problem);
}

#[test]
fn locks_are_held_or_left_over() {
    let dir = tempfile::tempdir().unwrap();
    let file = fs::File::create(dir.path().join("catalog.lock")).unwrap();
    file.try_lock().unwrap();
    let held = place::locks(dir.path(), &["catalog", "gateway"], "server.json");
    assert!(find(&held, "locks").message.contains("runs here: catalog"), "{held:?}");
    drop(file);
    let free = place::locks(dir.path(), &["catalog"], "server.json");
    assert!(find(&free, "locks").message.contains("no server"), "{free:?}");
    // A process that has ended.
    let mut child = std::process::Command::new("true").spawn().unwrap();
    let pid = child.id();
    child.wait().unwrap();
    fs::write(dir.path().join("server.json"), format!("{{\"pid\": {pid}}}")).unwrap();
    let gone = place::locks(dir.path(), &["catalog"], "server.json");
    let record = find(&gone, "locks.record");
    assert!(record.verdict == Verdict::Warning && record.message.contains(&pid.to_string()));
}

#[test]
fn secrets_are_there_long_and_private() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("token");
    problem(&[place::secret("token", &path)], "token", "cannot be read");
    fs::write(&path, "short\n").unwrap();
    problem(&[place::secret("token", &path)], "token", "5 characters");
    fs::write(&path, "0123456789abcdef0123456789abcdef\n").unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    assert_eq!(place::secret("token", &path).verdict, Verdict::Warning);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    assert_eq!(place::secret("token", &path).verdict, Verdict::Ok);
}

struct One;
impl MigratorTrait for One {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        vec![Box::new(SystemMetrics)]
    }
}

fn expected(migrations: &[&str]) -> Vec<database::Expected> {
    let migrations = migrations.iter().map(|name| (*name).to_owned()).collect();
    vec![database::Expected { schema: "sample", migrations }]
}

const MIGRATION: &str = "system_metrics_0001";

#[tokio::test]
async fn schemas_are_behind_ahead_or_of_another_program() {
    let dir = tempfile::tempdir().unwrap();
    for sql in testing::databases(dir.path()).await.unwrap() {
        let store = SqlStore::open(&sql, "sample").await.unwrap();
        store.migrate::<One>().await.unwrap();
        let look = async |names: &[&str]| database::database(&sql, &expected(names), 1).await;
        let check = "database.schema.sample";
        assert_eq!(find(&look(&[MIGRATION]).await, check).verdict, Verdict::Ok);
        let behind = look(&[MIGRATION, "m2"]).await;
        assert!(problem(&behind, check, "m2").remedy.contains("db migrate"), "{behind:?}");
        let ahead = look(&[]).await;
        assert_eq!(find(&ahead, check).verdict, Verdict::Warning, "{ahead:?}");
        problem(&look(&["m2"]).await, check, "of another program");
        // On Postgres everything else is looked at too, and is as it should be here.
        if sql.database_url.is_some() {
            let all = look(&[MIGRATION]).await;
            for name in [
                "database",
                "database.vector",
                "database.connections",
                "database.clock",
                "database.migration_lock",
            ] {
                assert_eq!(find(&all, name).verdict, Verdict::Ok, "{all:?}");
            }
            let many = database::database(&sql, &expected(&[MIGRATION]), 1_000).await;
            assert_eq!(find(&many, "database.connections").verdict, Verdict::Warning);
            let tx = store.begin().await.unwrap();
            sea_orm::ConnectionTrait::execute_unprepared(
                &tx,
                "SELECT pg_advisory_xact_lock(7070070)",
            )
            .await
            .unwrap();
            let held = look(&[MIGRATION]).await;
            assert!(
                find(&held, "database.migration_lock").message.contains("holds its lock"),
                "{held:?}"
            );
        }
    }
}

#[tokio::test]
async fn a_database_that_is_away_or_new_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let new =
        database::database(&SqlSettings::sqlite(dir.path()), &expected(&[MIGRATION]), 1).await;
    assert_eq!(find(&new, "database").verdict, Verdict::Warning);
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0, "looking makes no database");
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let url = format!("postgres://q:hunter2@127.0.0.1:{port}/q");
    let sql = SqlSettings { database_url: Some(url), ..SqlSettings::sqlite(dir.path()) };
    let away = database::database(&sql, &expected(&[MIGRATION]), 1).await;
    problem(&away, "database", "nothing listens");
    assert!(!format!("{away:?}").contains("hunter2"));
}

#[test]
fn pgvector_is_new_enough() {
    use database::judge_vector;
    assert_eq!(judge_vector(Some("0.8.4"), None).verdict, Verdict::Ok);
    assert_eq!(judge_vector(Some("0.10.0"), None).verdict, Verdict::Ok);
    assert_eq!(judge_vector(None, Some("0.8.5")).verdict, Verdict::Ok);
    let update = judge_vector(Some("0.8.1"), Some("0.8.5"));
    assert!(update.verdict == Verdict::Problem && update.remedy.contains("ALTER EXTENSION"));
    assert_eq!(judge_vector(Some("0.7.9"), Some("0.7.9")).verdict, Verdict::Problem);
    assert_eq!(judge_vector(None, None).verdict, Verdict::Problem);
}

#[tokio::test]
async fn a_bucket_is_tried() {
    let dir = tempfile::tempdir().unwrap();
    well(&bucket::bucket(&format!("file://{}", dir.path().display())).await);
    problem(&bucket::bucket("ftp://host/x").await, "objects", "ftp");
    let file = dir.path().join("file");
    fs::write(&file, "").unwrap();
    let below = bucket::bucket(&format!("file://{}/objects", file.display())).await;
    assert_eq!(find(&below, "objects").verdict, Verdict::Problem, "{below:?}");
}

/// A door that answers like an operations door or a role, with a clock of its own.
async fn door(router: axum::Router) -> (String, CancellationToken) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let until = CancellationToken::new();
    tokio::spawn(serve(listener, from_router(router), DoorSettings::default(), until.clone()));
    (address, until)
}

#[tokio::test]
async fn roles_that_are_not_ready_are_named() {
    let answer = |json: serde_json::Value, ready: bool| {
        let status = if ready { 200 } else { 503 };
        let status = http::StatusCode::from_u16(status).unwrap();
        axum::Router::new()
            .route("/readyz", axum::routing::get(move || async move { (status, axum::Json(json)) }))
    };
    let checks = serde_json::json!({"ready": false, "draining": false, "checks": [
        {"name": "catalog.database", "ok": false, "error": "the database is away"},
        {"name": "grants", "ok": true},
    ]});
    let (address, _until) = door(answer(checks, false)).await;
    let found = doors::readiness(address.parse().unwrap(), true).await;
    assert_eq!(found.len(), 1);
    problem(&found, "roles.catalog.database", "away");
    let (address, _until) =
        door(answer(serde_json::json!({"ready": true, "checks": [{}]}), true)).await;
    well(&doors::readiness(address.parse().unwrap(), true).await);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let nobody = listener.local_addr().unwrap();
    drop(listener);
    well(&doors::readiness(nobody, false).await);
    problem(&doors::readiness(nobody, true).await, "roles", "says nothing");
}

#[tokio::test]
async fn neighbours_are_reached_and_have_our_time() {
    let with_date = |seconds: i64| {
        let date = Utc::now() + TimeDelta::seconds(seconds);
        let date = date.format("%a, %d %b %Y %H:%M:%S GMT").to_string();
        axum::Router::new().fallback(move || async move { [(http::header::DATE, date)] })
    };
    let (address, _until) = door(with_date(0)).await;
    well(&doors::neighbour("catalog", &format!("http://{address}")).await);
    let (address, _until) = door(with_date(-60)).await;
    let late = doors::neighbour("catalog", &format!("http://{address}")).await;
    problem(&late, "neighbours.catalog.clock", "behind");
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let nobody = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let found = doors::neighbour("item-store", &nobody).await;
    let found = problem(&found, "neighbours.item-store", "not reached");
    assert!(found.remedy.contains("QUARRY_NEIGHBOURS__ITEM_STORE"), "{found:?}");
    let found = doors::neighbour("catalog", "https://host").await;
    problem(&found, "neighbours.catalog", "http://");
}

/// Ends at 2026-11-27 03:11:11 UTC.
const CERTIFICATE: &str = "-----BEGIN CERTIFICATE-----
MIIBNjCB6aADAgECAhRj27MEO47BIVheTzi36lpOfrimJTAFBgMrZXAwETEPMA0G
A1UEAwwGcXVhcnJ5MB4XDTI2MTEyNjAzMTExMVoXDTI2MTEyNzAzMTExMVowETEP
MA0GA1UEAwwGcXVhcnJ5MCowBQYDK2VwAyEApPoQznKyR/DiAFuK3iNmDvDk/6IH
lvugF93G5sfYAZujUzBRMB0GA1UdDgQWBBQzHlnIfB2RXXOMMY0A8wJpMKtkPDAf
BgNVHSMEGDAWgBQzHlnIfB2RXXOMMY0A8wJpMKtkPDAPBgNVHRMBAf8EBTADAQH/
MAUGAytlcANBAAmbnqaxpyKVvRy4j1WNiYfUj08DgFrsaAl5OYEETM4lYfpXItO3
F9rttd+zO5rK0Hl7uz1r98JeU9YYHQu2sg4=
-----END CERTIFICATE-----
";

#[test]
fn certificates_end() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ca.pem");
    fs::write(&path, CERTIFICATE).unwrap();
    let at = |text: &str| DateTime::parse_from_rfc3339(text).unwrap().to_utc();
    let url = format!("postgres://u:p@h/d?sslrootcert={}&sslmode=verify-full", path.display());
    let look = |now: &str| certificates::of_database_at(&url, at(now));
    assert_eq!(look("2026-01-01T00:00:00Z")[0].verdict, Verdict::Ok);
    assert_eq!(look("2026-11-20T00:00:00Z")[0].verdict, Verdict::Warning);
    problem(&look("2026-11-27T03:11:12Z"), "certificates.sslrootcert", "ended at 2026-11-27 03:11");
    for broken in
        ["", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----", &CERTIFICATE[..200]]
    {
        fs::write(&path, broken).unwrap();
        problem(&look("2026-01-01T00:00:00Z"), "certificates.sslrootcert", "no certificate");
    }
    fs::remove_file(&path).unwrap();
    problem(&look("2026-01-01T00:00:00Z"), "certificates.sslrootcert", "cannot be read");
    assert!(certificates::of_database_at("postgres://h/d", at("2026-01-01T00:00:00Z")).is_empty());
}
