//! Backups of a small platform on every database that this machine offers.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use blob_store::BlobStore;
use sea_orm::{ConnectionTrait, Statement};
use sea_orm_migration::prelude::{
    DbErr, MigrationName, MigrationTrait, MigratorTrait, SchemaManager, async_trait,
};
use sql_store::{SqlStore, db_error, testing};

use super::*;

struct First;

impl MigrationName for First {
    fn name(&self) -> &str {
        "m0001_first"
    }
}

/// `below` comes before `thing` in the alphabet and refers to it.
#[async_trait::async_trait]
impl MigrationTrait for First {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let db = manager.get_connection();
        for statement in [
            "CREATE TABLE thing (id bigint PRIMARY KEY, name text NOT NULL)",
            "CREATE TABLE below (id bigint PRIMARY KEY REFERENCES thing (id))",
        ] {
            db.execute_unprepared(statement).await?;
        }
        Ok(())
    }

    async fn down(&self, _: &SchemaManager) -> Result<(), DbErr> {
        Ok(())
    }
}

struct Sample;

impl MigratorTrait for Sample {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        vec![Box::new(First)]
    }
}

/// A small platform: one schema whose rows name objects `object-<id>`.
struct Platform {
    plan: Plan,
    store: SqlStore,
    blobs: BlobStore,
    dir: tempfile::TempDir,
}

const QUERY_SQLITE: &str =
    "SELECT 'object-' || id AS key, 5 AS bytes, NULL AS hash, 1 AS certain FROM below";
const QUERY_POSTGRES: &str =
    "SELECT 'object-' || id AS key, 5::bigint AS bytes, NULL::bytea AS hash,
    1::bigint AS certain FROM sample.below";

async fn platform(sql: &SqlSettings) -> Platform {
    let dir = tempfile::tempdir().unwrap();
    let sql = SqlSettings { data_dir: dir.path().join("data"), ..sql.clone() };
    let store = SqlStore::open(&sql, "sample").await.unwrap();
    store.migrate::<Sample>().await.unwrap();
    let object_store_url = format!("file://{}", dir.path().join("objects").display());
    let blobs = BlobStore::open(&object_store_url, "sample").await.unwrap();
    let part = Part {
        schema: "sample",
        migrations: vec!["m0001_first".to_owned()],
        objects: Some(Objects { prefix: "sample", sqlite: QUERY_SQLITE, postgres: QUERY_POSTGRES }),
        after_restore: &[],
    };
    let plan = Plan { sql, object_store_url, parts: vec![part], program: "0".to_owned() };
    Platform { plan, store, blobs, dir }
}

impl Platform {
    async fn add(&self, id: i64) {
        self.blobs.put(&format!("object-{id}"), format!("{id:05}").into_bytes()).await.unwrap();
        self.store
            .write(async |tx| {
                for (text, values) in [
                    (
                        "INSERT INTO thing (id, name) VALUES ($1, $2)",
                        vec![id.into(), "a\nb\t\\c".into()],
                    ),
                    ("INSERT INTO below (id) VALUES ($1)", vec![id.into()]),
                ] {
                    let row = Statement::from_sql_and_values(self.store.backend(), text, values);
                    tx.execute_raw(row).await.map_err(db_error)?;
                }
                Ok::<_, ServiceError>(())
            })
            .await
            .unwrap();
    }

    async fn count(&self, what: &str) -> i64 {
        let count = Statement::from_string(
            self.store.backend(),
            format!("SELECT COUNT(*) AS n FROM {what}"),
        );
        self.store.read().query_one_raw(count).await.unwrap().unwrap().try_get("", "n").unwrap()
    }

    fn backup(&self) -> PathBuf {
        self.dir.path().join("backup")
    }
}

/// Each database with an empty one of the same kind beside it.
async fn on_each<F: Future<Output = ()>>(case: impl Fn(SqlSettings, SqlSettings) -> F) {
    let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let databases = testing::databases(one.path()).await.unwrap();
    let empty = testing::databases(other.path()).await.unwrap();
    for (sql, target) in databases.into_iter().zip(empty) {
        case(sql, target).await;
    }
}

/// Where a backup goes: nothing is there but, on Postgres, the tables.
async fn restore(held: &Held, plan: &Plan, target: &SqlSettings) -> Platform {
    let dir = tempfile::tempdir().unwrap();
    let plan = Plan {
        sql: SqlSettings { data_dir: dir.path().join("data"), ..target.clone() },
        object_store_url: format!("file://{}", dir.path().join("objects").display()),
        ..plan.clone()
    };
    held.demand_empty_target(&plan).await.unwrap();
    if plan.sql.database_url.is_some() {
        SqlStore::open(&plan.sql, "sample").await.unwrap().migrate::<Sample>().await.unwrap();
    }
    held.restore(&plan).await.unwrap();
    assert!(
        held.demand_empty_target(&plan).await.unwrap_err().reason_is("RESTORE_TARGET_OCCUPIED")
    );
    let store = SqlStore::open(&plan.sql, "sample").await.unwrap();
    let blobs = BlobStore::open(&plan.object_store_url, "sample").await.unwrap();
    Platform { plan, store, blobs, dir }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_before_is_in_it_while_a_writer_runs() {
    on_each(|sql, target| async move {
        let source = Arc::new(platform(&sql).await);
        for id in 0..50 {
            source.add(id).await;
        }
        let (stop, acknowledged) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicI64::new(50)));
        let writer = {
            let (source, stop, acknowledged) =
                (Arc::clone(&source), Arc::clone(&stop), Arc::clone(&acknowledged));
            tokio::spawn(async move {
                while !stop.load(Ordering::SeqCst) {
                    let id = acknowledged.load(Ordering::SeqCst);
                    source.add(id).await;
                    acknowledged.store(id + 1, Ordering::SeqCst);
                }
            })
        };
        let before = acknowledged.load(Ordering::SeqCst);
        let taken = take(&source.plan, &source.backup()).await.unwrap();
        stop.store(true, Ordering::SeqCst);
        writer.await.unwrap();
        let held = Held::open(&source.backup(), &source.plan).await.unwrap();
        assert_eq!(held.manifest(), &taken);
        let restored = restore(&held, &source.plan, &target).await;
        let rows = restored.count("thing").await;
        assert!(rows >= before && rows == restored.count("below").await, "{rows} of {before}");
        assert_eq!(restored.count("thing WHERE name = 'a\nb\t\\c'").await, rows);
        for id in [0, rows - 1] {
            let bytes = restored.blobs.get(&format!("object-{id}")).await.unwrap();
            assert_eq!(bytes, format!("{id:05}").as_bytes());
        }
        assert_eq!(u64::try_from(rows).unwrap(), taken.object_count);
        // It goes on as any other.
        restored.add(1_000_000).await;
    })
    .await;
}

#[tokio::test]
async fn a_cut_or_changed_backup_is_refused() {
    on_each(|sql, _| async move {
        let source = platform(&sql).await;
        for id in 0..3 {
            source.add(id).await;
        }
        let dir = source.backup();
        let taken = take(&source.plan, &dir).await.unwrap();
        let refused = async |reason: &str| {
            let error = Held::open(&dir, &source.plan).await.unwrap_err();
            assert!(error.reason_is(reason), "{error:?}");
        };
        let mut files: Vec<PathBuf> =
            vec![dir.join("objects/sample/object-1"), dir.join(manifest::OBJECTS)];
        let rows = taken.schemas[0].files.iter().map(|file| dir.join(&file.path));
        files.extend(rows.filter(|path| std::fs::metadata(path).unwrap().len() > 0));
        for file in files {
            let whole = std::fs::read(&file).unwrap();
            std::fs::write(&file, &whole[..whole.len() - 1]).unwrap();
            refused("BACKUP_DAMAGED").await;
            let mut changed = whole.clone();
            changed[whole.len() / 2] ^= 1;
            std::fs::write(&file, &changed).unwrap();
            refused("BACKUP_DAMAGED").await;
            std::fs::remove_file(&file).unwrap();
            refused("BACKUP_DAMAGED").await;
            std::fs::write(&file, &whole).unwrap();
        }
        Held::open(&dir, &source.plan).await.unwrap();
        let path = dir.join(manifest::FILE);
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, text.replace("\"rows\": 3", "\"rows\": 4")).unwrap();
        refused("BACKUP_DAMAGED").await;
        std::fs::write(&path, &text[..text.len() / 2]).unwrap();
        refused("BACKUP_DAMAGED").await;
        std::fs::remove_file(&path).unwrap();
        refused("BACKUP_INCOMPLETE").await;
        assert!(take(&source.plan, &dir).await.unwrap_err().reason_is("BACKUP_EXISTS"));
    })
    .await;
}

#[tokio::test]
async fn rows_that_name_missing_bytes_are_no_backup() {
    on_each(|sql, _| async move {
        let source = platform(&sql).await;
        source.add(7).await;
        source.blobs.delete("object-7").await.unwrap();
        let error = take(&source.plan, &source.backup()).await.unwrap_err();
        assert!(
            error.reason_is("OBJECT_MISSING") && error.message().contains("object-7"),
            "{error}"
        );
        assert!(!source.backup().join(manifest::FILE).exists());
        source.blobs.put("object-7", &b"longer than five"[..]).await.unwrap();
        let again = source.dir.path().join("again");
        let error = take(&source.plan, &again).await.unwrap_err();
        assert!(error.reason_is("OBJECT_DAMAGED"), "{error}");
    })
    .await;
}

#[tokio::test]
async fn another_program_or_database_is_refused_with_words() {
    on_each(|sql, _| async move {
        let source = platform(&sql).await;
        take(&source.plan, &source.backup()).await.unwrap();
        let mut older = source.plan.clone();
        older.parts[0].migrations.clear();
        let error = Held::open(&source.backup(), &older).await.unwrap_err();
        assert!(
            error.reason_is("BACKUP_TOO_NEW") && error.message().contains("quarry 0"),
            "{error}"
        );
        let mut newer = source.plan.clone();
        newer.parts[0].migrations.push("m0002_second".to_owned());
        let opened = Held::open(&source.backup(), &newer).await;
        match sql.database_url {
            Some(_) => assert!(opened.unwrap_err().reason_is("BACKUP_TOO_OLD")),
            None => drop(opened.unwrap()),
        }
        let mut other = source.plan.clone();
        other.sql.database_url = match sql.database_url {
            Some(_) => None,
            None => Some("postgres://u@h/d".to_owned()),
        };
        let error = Held::open(&source.backup(), &other).await.unwrap_err();
        assert!(error.reason_is("BACKUP_OTHER_DATABASE"), "{error}");
    })
    .await;
}
