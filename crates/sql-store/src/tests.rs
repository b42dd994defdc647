//! The same behaviour on every database that this machine offers.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::future::Future;
use std::os::unix::fs::PermissionsExt;

use futures::future::{join_all, try_join_all};
use sea_orm::sea_query::{ColumnDef, Table};
use sea_orm::{ConnectionTrait, Statement};
use sea_orm_migration::MigratorTrait;
use sea_orm_migration::prelude::{
    DbErr, MigrationName, MigrationTrait, SchemaManager, async_trait,
};
use service_error::{Code, ServiceError};

use crate::{
    SqlSettings, SqlStore, current_number, db_error, is_unique_violation, migration, next_number,
    testing,
};

struct First;
struct Second;
struct Broken;

impl MigrationName for First {
    fn name(&self) -> &str {
        "m0001_first"
    }
}
impl MigrationName for Second {
    fn name(&self) -> &str {
        "m0002_second"
    }
}
impl MigrationName for Broken {
    fn name(&self) -> &str {
        "m0002_broken"
    }
}

#[async_trait::async_trait]
impl MigrationTrait for First {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.create_table(migration::create_counter_table()).await
    }
    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.drop_table(migration::drop_counter_table()).await
    }
}

#[async_trait::async_trait]
impl MigrationTrait for Second {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let table = Table::create()
            .table("thing")
            .col(ColumnDef::new("id").big_integer().not_null().primary_key())
            .col(ColumnDef::new("name").text().not_null().unique_key())
            .to_owned();
        manager.create_table(table).await
    }
    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.drop_table(Table::drop().table("thing").to_owned()).await
    }
}

#[async_trait::async_trait]
impl MigrationTrait for Broken {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.get_connection().execute_unprepared("CREATE TABLE half (id BIGINT)").await?;
        Err(DbErr::Custom("broken on purpose".to_owned()))
    }
}

struct Sample;
impl MigratorTrait for Sample {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        vec![Box::new(First), Box::new(Second)]
    }
}

struct Older;
impl MigratorTrait for Older {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        vec![Box::new(First)]
    }
}

struct Failing;
impl MigratorTrait for Failing {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        vec![Box::new(First), Box::new(Broken)]
    }
}

async fn on_each<F: Future<Output = ()>>(case: impl Fn(SqlSettings) -> F) {
    let dir = tempfile::tempdir().unwrap();
    for settings in testing::databases(dir.path()).await.unwrap() {
        case(settings).await;
    }
}

async fn migrated(settings: &SqlSettings) -> SqlStore {
    let store = SqlStore::open(settings, "sample").await.unwrap();
    store.migrate::<Sample>().await.unwrap();
    store
}

async fn add(tx: &impl ConnectionTrait, id: i64, name: &str) -> Result<(), ServiceError> {
    let insert = Statement::from_sql_and_values(
        tx.get_database_backend(),
        "INSERT INTO thing (id, name) VALUES ($1, $2)",
        [id.into(), name.into()],
    );
    tx.execute_raw(insert).await.map(drop).map_err(db_error)
}

async fn count(store: &SqlStore) -> i64 {
    let count = Statement::from_string(store.backend(), "SELECT COUNT(*) AS n FROM thing");
    store.read().query_one_raw(count).await.unwrap().unwrap().try_get("", "n").unwrap()
}

#[tokio::test]
async fn four_servers_started_at_once_all_migrate() {
    on_each(|settings| async move {
        let starts = (0..4).map(|_| async {
            let store = SqlStore::open(&settings, "sample").await?;
            store.migrate::<Sample>().await?;
            Ok::<_, ServiceError>(store)
        });
        let stores = try_join_all(starts).await.unwrap();
        let status = stores[3].migration_status::<Sample>().await.unwrap();
        assert!(
            status.len() == 2 && status.iter().all(|migration| migration.applied),
            "{status:?}"
        );
    })
    .await;
}

#[tokio::test]
async fn the_list_runs_up_down_up() {
    on_each(|settings| async move {
        let store = migrated(&settings).await;
        store.revert::<Sample>(Some(1)).await.unwrap();
        let applied: Vec<bool> =
            store.migration_status::<Sample>().await.unwrap().iter().map(|m| m.applied).collect();
        assert_eq!(applied, [true, false]);
        store.revert::<Sample>(None).await.unwrap();
        store.migrate::<Sample>().await.unwrap();
        store.migrate::<Sample>().await.unwrap();
        assert_eq!(count(&store).await, 0);
    })
    .await;
}

#[tokio::test]
async fn a_failed_list_leaves_nothing_behind() {
    on_each(|settings| async move {
        let store = SqlStore::open(&settings, "sample").await.unwrap();
        store.migrate::<Failing>().await.unwrap_err();
        assert!(store.read().execute_unprepared("SELECT * FROM half").await.is_err());
        assert!(store.migration_status::<Failing>().await.unwrap().iter().all(|m| !m.applied));
    })
    .await;
}

#[tokio::test]
async fn an_older_binary_runs_on_a_newer_schema_and_a_stranger_does_not() {
    on_each(|settings| async move {
        let store = migrated(&settings).await;
        store.migrate::<Older>().await.unwrap();
        assert_eq!(count(&store).await, 0);
        let error = store.migrate::<Failing>().await.unwrap_err();
        assert_eq!(error.code(), Code::FailedPrecondition);
        assert!(error.message().contains("m0002_second"), "{error}");
    })
    .await;
}

#[tokio::test]
async fn four_hundred_concurrent_read_then_write_transactions_all_succeed() {
    on_each(|settings| async move {
        let store = migrated(&settings).await;
        let tasks: Vec<_> = (0..400)
            .map(|task| {
                let store = store.clone();
                tokio::spawn(async move {
                    store
                        .write(async |tx| {
                            let look = Statement::from_string(
                                tx.get_database_backend(),
                                "SELECT COUNT(*) AS n FROM thing",
                            );
                            tx.query_one_raw(look).await.map_err(db_error)?;
                            let id = next_number(tx, "things").await?;
                            add(tx, id, &format!("thing {task}")).await
                        })
                        .await
                })
            })
            .collect();
        for result in join_all(tasks).await {
            result.unwrap().unwrap();
        }
        assert_eq!(count(&store).await, 400);
        assert_eq!(current_number(store.read(), "things").await.unwrap(), 400);
    })
    .await;
}

#[tokio::test]
async fn a_number_is_never_visible_before_a_smaller_one() {
    on_each(|settings| async move {
        let store = migrated(&settings).await;
        let slow = store.begin().await.unwrap();
        let first = next_number(&slow, "feed").await.unwrap();
        let other = store.clone();
        let second =
            tokio::spawn(
                async move { other.write(async |tx| next_number(tx, "feed").await).await },
            );
        // The second writer waits for the row, so nothing of it can be seen.
        assert_eq!(current_number(store.read(), "feed").await.unwrap(), 0);
        slow.commit().await.unwrap();
        assert_eq!((first, second.await.unwrap().unwrap()), (1, 2));
    })
    .await;
}

#[tokio::test]
async fn an_error_and_a_dropped_transaction_roll_back() {
    on_each(|settings| async move {
        let store = migrated(&settings).await;
        let error: ServiceError = store
            .write(async |tx| {
                add(tx, 1, "one").await?;
                Err::<(), _>(ServiceError::precondition("changed my mind"))
            })
            .await
            .unwrap_err();
        assert_eq!(error.code(), Code::FailedPrecondition);
        let dropped = store.begin().await.unwrap();
        add(&dropped, 2, "two").await.unwrap();
        drop(dropped);
        assert_eq!(count(&store).await, 0);
        store.write(async |tx| add(tx, 3, "three").await).await.unwrap();
        assert_eq!(count(&store).await, 1);
    })
    .await;
}

#[tokio::test]
async fn what_is_acknowledged_after_a_full_disk_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    let settings = SqlSettings::sqlite(dir.path());
    let store = migrated(&settings).await;
    let long = "x".repeat(1 << 20);
    for begins_with_script in [false, true] {
        // No room for another page: SQLite ends the transaction by itself.
        store.writer().execute_unprepared("PRAGMA max_page_count = 1").await.unwrap();
        let error = if begins_with_script {
            let script = "INSERT INTO thing (id, name) VALUES ($1, $2)";
            store.run_script(script, vec![1_000.into(), long.clone().into()]).await.unwrap_err()
        } else {
            store.write(async |tx| add(tx, 1_000, &long).await).await.unwrap_err()
        };
        assert_eq!(error.reason_text(), "DATABASE_FULL", "{error}");
        store.writer().execute_unprepared("PRAGMA max_page_count = 4294967294").await.unwrap();
        // What is rolled back now must not leave a transaction open around what comes next.
        let next = count(&store).await;
        let put = async |id: i64, name: &str| {
            store.write(async |tx| add(tx, id, &format!("{name} {next}")).await).await
        };
        put(next, "one").await.unwrap();
        put(next, "two").await.unwrap_err();
        put(next + 1, "three").await.unwrap();
        assert_eq!(count(&store).await, next + 2, "readers see what was acknowledged");
    }
    drop(store);
    assert_eq!(count(&migrated(&settings).await).await, 4, "and it is there after a restart");
}

#[tokio::test]
async fn a_script_is_kept_whole_or_not_at_all() {
    let dir = tempfile::tempdir().unwrap();
    let store = migrated(&SqlSettings::sqlite(dir.path())).await;
    let both = "INSERT INTO thing (id, name) VALUES ($1, $2); \
                INSERT INTO thing (id, name) VALUES ($3, $2 || '!')";
    let values =
        |first: i64, name: &str, second: i64| vec![first.into(), name.into(), second.into()];
    store.run_script(both, values(1, "one", 2)).await.unwrap();
    let error = store.run_script(both, values(3, "three", 2)).await.unwrap_err();
    assert_eq!((error.code(), error.reason_text()), (Code::Conflict, "UNIQUE_VIOLATION"));
    assert_eq!(count(&store).await, 2);
    // Whoever comes next finds no transaction begun: scripts and others, many at once.
    let tasks = (10..50).map(|id| {
        let (store, values) = (store.clone(), values(id * 2, &format!("thing {id}"), id * 2 + 1));
        async move {
            if id % 5 == 0 {
                store.run_script(both, vec![1.into(), "one".into(), 2.into()]).await.unwrap_err();
            }
            match id % 2 {
                0 => store.run_script(both, values).await,
                _ => store.write(async |tx| add(tx, id * 2, &format!("other {id}")).await).await,
            }
        }
    });
    try_join_all(tasks).await.unwrap();
    assert_eq!(count(&store).await, 2 + 20 * 2 + 20);
}

#[tokio::test]
async fn a_script_goes_on_without_its_caller() {
    let dir = tempfile::tempdir().unwrap();
    let store = migrated(&SqlSettings::sqlite(dir.path())).await;
    let open = store.begin().await.unwrap();
    let script = "INSERT INTO thing (id, name) VALUES ($1, $2)";
    let waits = tokio::spawn({
        let store = store.clone();
        async move { store.run_script(script, vec![1.into(), "one".into()]).await }
    });
    tokio::task::yield_now().await;
    waits.abort();
    open.commit().await.unwrap();
    // The writing connection is handed on in the order in which it was asked for.
    store.write(async |tx| add(tx, 2, "two").await).await.unwrap();
    assert_eq!(count(&store).await, 2);
}

#[tokio::test]
async fn a_taken_unique_value_is_a_conflict() {
    on_each(|settings| async move {
        let store = migrated(&settings).await;
        store.write(async |tx| add(tx, 1, "same").await).await.unwrap();
        let error = store.write(async |tx| add(tx, 2, "same").await).await.unwrap_err();
        assert_eq!((error.code(), error.reason_text()), (Code::Conflict, "UNIQUE_VIOLATION"));
        let raw = store
            .write(async |tx| {
                Ok::<_, ServiceError>(
                    tx.execute_unprepared("INSERT INTO thing (id, name) VALUES (1, 'x')").await,
                )
            })
            .await;
        assert!(raw.is_err() || is_unique_violation(&raw.unwrap().unwrap_err()));
    })
    .await;
}

#[tokio::test]
async fn readers_see_the_last_commit_while_a_writer_is_open_and_cannot_write() {
    let dir = tempfile::tempdir().unwrap();
    let store = migrated(&SqlSettings::sqlite(dir.path())).await;
    let open = store.begin().await.unwrap();
    add(&open, 1, "one").await.unwrap();
    assert_eq!(count(&store).await, 0);
    open.commit().await.unwrap();
    assert_eq!(count(&store).await, 1);
    let error = add(store.read(), 2, "two").await.unwrap_err();
    assert_eq!(error.reason_text(), "DATABASE_READ_ONLY");
}

#[tokio::test]
async fn a_transaction_that_somebody_stopped_in_lets_go_of_its_rows() {
    on_each(async |settings: SqlSettings| {
        if settings.database_url.is_none() {
            return;
        }
        let store = migrated(&settings).await;
        let show = "SHOW idle_in_transaction_session_timeout";
        let row = store.read().query_one_raw(Statement::from_string(store.backend(), show));
        let shown: String = row.await.unwrap().unwrap().try_get_by_index(0).unwrap();
        assert_eq!(shown, "1min");
        store.write(async |tx| add(tx, 1, "one").await).await.unwrap();
        let stopped = store.begin().await.unwrap();
        add(&stopped, 2, "two").await.unwrap();
        let soon = "SET LOCAL idle_in_transaction_session_timeout = '50ms'";
        stopped.execute_unprepared(soon).await.unwrap();
        // The other's insert waits for the lock on the same unique value.
        store.write(async |tx| add(tx, 2, "two").await).await.unwrap();
        let error = add(&stopped, 3, "three").await.unwrap_err();
        assert_eq!(error.reason_text(), "DATABASE_AWAY");
        assert_eq!(count(&store).await, 2);
    })
    .await;
}

#[tokio::test]
async fn the_file_is_its_owners_alone_and_a_bad_place_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let place = dir.path().join("made/by/us");
    let store = migrated(&SqlSettings::sqlite(&place)).await;
    store.ping().await.unwrap();
    let mode =
        |path: &str| std::fs::metadata(place.join(path)).unwrap().permissions().mode() & 0o777;
    assert_eq!(
        (mode("."), mode("sample.sqlite"), mode("sample.sqlite-wal")),
        (0o700, 0o600, 0o600)
    );
    store.close().await.unwrap();
    std::fs::write(dir.path().join("file"), "x").unwrap();
    let error =
        SqlStore::open(&SqlSettings::sqlite(dir.path().join("file")), "sample").await.unwrap_err();
    assert_eq!(error.code(), Code::FailedPrecondition);
    assert!(error.message().contains("sample.sqlite"), "{error}");
}

#[test]
fn settings_never_print_the_url() {
    let settings = SqlSettings {
        database_url: Some("postgres://q:hunter2@h/d".to_owned()),
        ..SqlSettings::sqlite("/tmp")
    };
    assert!(!format!("{settings:?}").contains("hunter2"));
}
