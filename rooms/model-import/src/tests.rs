//! Sources as they are read: made by hand here, by their own programs in
//! `tests/compatibility`.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::path::{Path, PathBuf};

use sea_orm::sqlx::sqlite::{SqliteConnectOptions, SqlitePoolOptions};
use sea_orm::{ConnectionTrait, SqlxSqliteConnector};

use crate::place::{Roots, local};
use crate::source::{Files, Opening, Source, SourceVersion};

const SMALL: &str = "
    CREATE TABLE mr_models (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, description TEXT,
      created_at TEXT NOT NULL, updated_at TEXT NOT NULL);
    CREATE TABLE mr_model_versions (id INTEGER PRIMARY KEY, model_id INTEGER NOT NULL, version TEXT NOT NULL,
      description TEXT, storage_path TEXT NOT NULL, file_size_bytes INTEGER DEFAULT 0, created_at TEXT NOT NULL,
      UNIQUE(model_id, version));
    CREATE TABLE mr_model_tags (id INTEGER PRIMARY KEY, model_version_id INTEGER NOT NULL, tag_key TEXT NOT NULL,
      tag_value TEXT);
    INSERT INTO mr_models VALUES (1, 'b', 'second', 't0', 't1'), (2, 'a', NULL, 't0', 't1');
    INSERT INTO mr_model_versions VALUES
      (1, 1, '10', 'ten', 'b/v10/model.pkl', 4, '2024-01-01T00:00:00'),
      (2, 1, '1.2.0', NULL, 'b/v1/model.pkl', 0, '2024-01-02T00:00:00'),
      (3, 1, '2', NULL, '/etc/passwd', NULL, '2024-01-03T00:00:00');
    INSERT INTO mr_model_tags VALUES (1, 1, 'type', 'regression'), (2, 1, 'empty', NULL);";

async fn made(path: &Path, sql: &str) {
    let options = SqliteConnectOptions::new().filename(path).create_if_missing(true);
    let pool = SqlitePoolOptions::new().max_connections(1).connect_with(options).await.unwrap();
    let connection = SqlxSqliteConnector::from_sqlx_sqlite_pool(pool);
    connection.execute_unprepared(sql).await.unwrap();
    connection.close().await.unwrap();
}

async fn open(path: &Path) -> Result<Source, String> {
    let opened = Source::open(path.to_str().unwrap(), Opening::default()).await;
    opened.map_err(|failure| failure.to_string())
}

async fn versions(source: &Source, model: &str) -> Vec<SourceVersion> {
    let (mut all, mut token) = (Vec::new(), String::new());
    loop {
        let page = source.versions(model, &token).await.unwrap();
        all.extend(page.rows);
        token = page.next;
        if token.is_empty() {
            return all;
        }
    }
}

#[tokio::test]
async fn the_small_registry_is_read_in_the_order_of_its_numbers() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("registry.db");
    made(&path, SMALL).await;
    std::fs::create_dir_all(place.path().join("b/v10")).unwrap();
    std::fs::write(place.path().join("b/v10/model.pkl"), "four").unwrap();
    let before = std::fs::read(&path).unwrap();
    let source = open(&path).await.unwrap();
    assert_eq!(source.kind(), "sqlite-registry");
    let models = source.models("").await.unwrap().rows;
    let names: Vec<_> =
        models.iter().map(|it| (it.name.as_str(), it.description.as_str())).collect();
    assert_eq!(names, [("a", ""), ("b", "second")]);
    assert!(versions(&source, "a").await.is_empty());
    let found = versions(&source, "b").await;
    let shown: Vec<_> = found.iter().map(|it| (it.version.as_str(), it.number())).collect();
    assert_eq!(shown, [("2", Some(2)), ("10", Some(10)), ("1.2.0", None)]);
    assert_eq!(found[1].tags["type"], "regression");
    assert_eq!((found[1].tags["empty"].as_str(), found[1].bytes), ("", Some(4)));
    let resolve = |at: usize| match &found[at].files {
        Files::Local(location) => source.roots().resolve(location),
        other => panic!("{other:?}"),
    };
    assert!(resolve(0).unwrap_err().contains("outside"), "a row cannot name any file");
    assert!(resolve(1).unwrap().ends_with("b/v10/model.pkl"));
    assert!(resolve(2).unwrap_err().contains("not there"));
    assert_eq!(std::fs::read(&path).unwrap(), before, "it was only read");
}

#[tokio::test]
async fn many_versions_come_in_pages_once_each() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("registry.db");
    let more = "WITH RECURSIVE n(i) AS (SELECT 100 UNION ALL SELECT i + 1 FROM n WHERE i < 1699)
        INSERT INTO mr_model_versions SELECT i, 2, CASE i % 3 WHEN 0 THEN 'r' || i ELSE CAST(i AS TEXT) END,
        NULL, 'x', 0, 't' FROM n;";
    made(&path, &format!("{SMALL}{more}")).await;
    let found = versions(&open(&path).await.unwrap(), "a").await;
    let distinct: std::collections::BTreeSet<_> = found.iter().map(|it| &it.version).collect();
    assert_eq!((found.len(), distinct.len()), (1_600, 1_600));
    let numbers: Vec<i64> = found.iter().filter_map(SourceVersion::number).collect();
    assert!(
        numbers.is_sorted()
            && found.iter().rposition(|it| it.number().is_some()) == Some(numbers.len() - 1)
    );
}

#[tokio::test]
async fn the_json_file_is_the_same_registry() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("registry.json");
    let text = r#"{"net": [
        {"name": "net", "version": "2", "tags": {"n": 1}, "created_at": "t", "storage_path": "net/v2/m", "file_size": 7},
        {"name": "net", "version": "1", "description": "first", "storage_path": "net/v1/m", "file_size": 0}]}"#;
    std::fs::write(&path, text).unwrap();
    let source = open(&path).await.unwrap();
    let found = versions(&source, "net").await;
    assert_eq!((found[0].version.as_str(), found[0].description.as_str()), ("1", "first"));
    assert_eq!((found[1].tags["n"].as_str(), found[1].bytes, found[0].bytes), ("1", Some(7), None));
    std::fs::write(&path, r#"{"net": [{"version": "1"}]}"#).unwrap();
    let wrong = open(&path).await.unwrap_err();
    assert!(wrong.contains("net") && wrong.contains("storage_path"), "{wrong}");
    std::fs::write(&path, &text[..40]).unwrap();
    assert!(open(&path).await.unwrap_err().contains("damaged"));
}

const MLFLOW: &str = "
    CREATE TABLE alembic_version (version_num VARCHAR(32));
    INSERT INTO alembic_version VALUES ('abc123');
    CREATE TABLE registered_models (name TEXT PRIMARY KEY, creation_time BIGINT, description TEXT);
    CREATE TABLE model_versions (name TEXT, version INTEGER, creation_time BIGINT, description TEXT,
      current_stage TEXT, source TEXT, run_id TEXT);
    CREATE TABLE registered_model_tags (key TEXT, value TEXT, name TEXT);
    CREATE TABLE model_version_tags (key TEXT, value TEXT, name TEXT, version INTEGER);
    CREATE TABLE runs (run_uuid TEXT, artifact_uri TEXT);
    CREATE TABLE params (key TEXT, value TEXT, run_uuid TEXT);
    CREATE TABLE latest_metrics (key TEXT, value FLOAT, timestamp BIGINT, step BIGINT, is_nan BOOLEAN, run_uuid TEXT);
    INSERT INTO registered_models VALUES ('m', 1, 'd');
    INSERT INTO model_versions VALUES ('m', 1, 11, NULL, 'Production', 'runs:/r1/model', 'r1'),
      ('m', 2, 12, NULL, 'Deleted_Internal', 'x', NULL), ('m', 3, 13, 'third', 'None', 's3://bucket/x', NULL),
      ('m', 4, 14, NULL, 'None', 'models:/m/1', NULL);
    INSERT INTO runs VALUES ('r1', 'mlflow-artifacts:/0/r1/artifacts');
    INSERT INTO params VALUES ('lr', '0.1', 'r1');
    INSERT INTO latest_metrics VALUES ('acc', 0.5, 5, 2, 0, 'r1'), ('bad', 0, 5, 2, 1, 'r1');";

#[tokio::test]
async fn an_old_database_of_mlflows_is_read_without_its_later_columns() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("mlflow.db");
    made(&path, MLFLOW).await;
    let source = open(&path).await.unwrap();
    let mut found = versions(&source, "m").await;
    let shown: Vec<_> = found.iter().map(|it| (it.version.as_str(), it.stage.as_str())).collect();
    assert_eq!(shown, [("1", "Production"), ("3", ""), ("4", "")]);
    for version in &mut found {
        source.complete("m", version).await.unwrap();
    }
    let place = |path: &str| Files::Local(PathBuf::from(path));
    assert_eq!(found[0].files, place("0/r1/artifacts/model"));
    assert_eq!(found[0].params["lr"], "0.1");
    let metrics: Vec<_> =
        found[0].metrics.iter().map(|it| (it.key.as_str(), it.value, it.step)).collect();
    assert_eq!(metrics, [("acc", 0.5, 2)], "no number, no metric");
    assert_eq!(found[1].files, Files::Elsewhere("s3://bucket/x".into()));
    assert_eq!(
        found[2].files,
        place("0/r1/artifacts/model"),
        "where the version it copies has them"
    );
}

#[tokio::test]
async fn what_is_no_registry_is_told_apart() {
    let place = tempfile::tempdir().unwrap();
    let file = |name: &str| place.path().join(name);
    made(&file("other.db"), "CREATE TABLE t (x)").await;
    let other = open(&file("other.db")).await.unwrap_err();
    assert!(other.contains("neither mr_model_versions nor model_versions"), "{other}");
    let late = MLFLOW.replace("current_stage TEXT, ", "").replace("'Production', ", "");
    let late = late.replace("'Deleted_Internal', ", "").replace("'None', ", "");
    made(&file("late.db"), &late).await;
    let late = open(&file("late.db")).await.unwrap_err();
    assert!(late.contains("current_stage") && late.contains("abc123"), "{late}");
    made(&file("cut.db"), SMALL).await;
    let whole = std::fs::read(file("cut.db")).unwrap();
    std::fs::write(file("cut.db"), &whole[..whole.len() / 2]).unwrap();
    let cut = open(&file("cut.db")).await.unwrap_err();
    assert!(cut.contains("damaged"), "{cut}");
    std::fs::write(file("noise"), [7; 100]).unwrap();
    assert!(open(&file("noise")).await.unwrap_err().contains("neither a SQLite database nor JSON"));
    assert!(open(&file("missing")).await.is_err());
    assert!(open(place.path()).await.unwrap_err().contains("no file"));
    for path in ["other.db", "late.db"] {
        assert!(!file(&format!("{path}-wal")).exists(), "{path} was only read");
    }
}

#[test]
fn locations_are_read_as_mlflow_writes_them() {
    for (location, path) in [
        ("mlflow-artifacts:/1/m/artifacts", Some("1/m/artifacts")),
        ("mlflow-artifacts://host:5000/1/m", Some("1/m")),
        ("file:///a%20b/c", Some("/a b/c")),
        ("file:/a", Some("/a")),
        ("/a/b", Some("/a/b")),
        ("./mlruns/0", Some("./mlruns/0")),
        ("s3://bucket/x", None),
        ("dbfs:/x", None),
        ("", None),
    ] {
        assert_eq!(local(location), path.map(PathBuf::from), "{location}");
    }
}

#[test]
fn no_path_leads_out_of_the_folders() {
    let place = tempfile::tempdir().unwrap();
    let inside = place.path().join("in");
    std::fs::create_dir_all(inside.join("a")).unwrap();
    std::fs::write(place.path().join("secret"), "s").unwrap();
    std::os::unix::fs::symlink("../../secret", inside.join("a/link")).unwrap();
    let roots = Roots::new(std::slice::from_ref(&inside), &[]).unwrap();
    assert!(roots.resolve(Path::new("a")).is_ok());
    for out in ["../secret", "a/../../secret", "a/link", "/etc/passwd", "..", ".", ""] {
        assert!(roots.resolve(Path::new(out)).is_err(), "{out}");
    }
    assert!(Roots::new(&[place.path().join("none")], &[]).is_err());
}
