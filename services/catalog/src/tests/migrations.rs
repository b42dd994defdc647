//! The schema goes up, down and up again.

use super::*;

#[tokio::test]
async fn migrations_run_up_down_and_up() {
    let dir = tempfile::tempdir().unwrap();
    for sql in sql_store::testing::databases(dir.path()).await.unwrap() {
        let store = Store::open(&sql).await.unwrap();
        assert!(store.migration_status().await.unwrap().iter().all(|migration| !migration.applied));
        crate::migrate(&sql).await.unwrap();
        crate::migrate(&sql).await.unwrap();
        assert!(
            crate::migration_status(&sql).await.unwrap().iter().all(|migration| migration.applied)
        );
        store.revert(None).await.unwrap();
        assert!(store.migration_status().await.unwrap().iter().all(|migration| !migration.applied));
        store.migrate().await.unwrap();
        store.ping().await.unwrap();
    }
}

#[tokio::test]
async fn four_catalogs_started_at_once_all_come_up() {
    let dir = tempfile::tempdir().unwrap();
    for sql in sql_store::testing::databases(dir.path()).await.unwrap() {
        let started = futures::future::join_all((0..4).map(|_| crate::migrate(&sql))).await;
        assert!(started.iter().all(Result::is_ok), "{started:?}");
    }
}
