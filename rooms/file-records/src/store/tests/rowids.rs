//! An index that the former migrations made and filled is the same after the
//! later ones, and after going back.

use file_schema::Migrator;
use sea_orm::ConnectionTrait;
use sql_store::testing;

use super::{Place, file, on_each};
use crate::model::{Query, Sort, SortBy};
use crate::store::{GroupKey, Store, get};

/// Migrations since the schema that the rows below are of.
const LATER: u32 = 9;

async fn found(store: &Store, location: i64, text: Option<&str>) -> Vec<String> {
    let query = Query {
        text: text.map(str::to_owned),
        locations: vec![location].into(),
        with_hidden: true,
        ..Query::default()
    };
    let sort = Sort { by: SortBy::Number, descending: false };
    let found = store.search(&query, sort, None, 100).await.unwrap();
    found
        .iter()
        .map(|found| {
            let hash = found.content.as_ref().map(|content| content.hash[..9].to_vec());
            format!("{} {} {} {} {hash:?}", found.id, found.path(), found.size, found.ext)
        })
        .collect()
}

async fn births(store: &Store) -> Vec<(i64, i64, Option<i64>)> {
    let rows = store.rows("SELECT id, changed, born FROM entry ORDER BY id", vec![]).await.unwrap();
    let each = rows.iter().map(|row| {
        (get(row, "id").unwrap(), get(row, "changed").unwrap(), get(row, "born").unwrap())
    });
    each.collect()
}

pub(super) async fn run(store: &Store, sql: &str) {
    let tx = store.sql.begin().await.unwrap();
    tx.execute_unprepared(sql).await.unwrap();
    tx.commit().await.unwrap();
}

#[tokio::test]
async fn an_index_of_before_is_the_same_after() {
    let data = tempfile::tempdir().unwrap();
    for settings in testing::databases(data.path()).await.unwrap() {
        let store = Store::open(&settings).await.unwrap();
        let place = Place::new(&store, "/made").await;
        let mut files = vec![
            file("a/picture.png", 11, 1, 100),
            file("a/b/picture copy.png", 12, 1, 100),
            file("a/b/notes", 13, 2, 30),
        ];
        let (scan, _) = place.scan(&files).await;
        place.hash(scan, &files).await;
        store.index_names().await.unwrap();

        // As it was before, with rows that were written then.
        store.sql.revert::<Migrator>(Some(LATER)).await.unwrap();
        let older = "INSERT INTO entry (id, dir_id, name, ext, kind, size, modified, changed, born, ino, links, mode,
              uid, gid, target, content_id, hashed, gone, since)
            SELECT id + 50, dir_id, 'older ' || name, ext, kind, size, modified, changed, NULL, ino + 50, links, mode,
              uid, gid, target, content_id, hashed, gone, since FROM entry WHERE kind = 1";
        run(&store, older).await;
        let sql = "SELECT COUNT(*) AS n FROM entry WHERE born IS NULL AND since = 1";
        let row = store.row(sql, vec![]).await.unwrap().unwrap();
        assert_eq!(get::<i64>(&row, "n").unwrap(), 3);
        let (before, names) = (births(&store).await, found(&store, place.location, None).await);
        assert_eq!(before.len(), 8);

        // Others' connections: those of before know the types of before.
        let store = Store::open(&settings).await.unwrap();
        let place = Place { store: &store, location: place.location };
        assert_eq!(births(&store).await, before);
        assert_eq!(found(&store, place.location, None).await, names);
        let pictures = found(&store, place.location, Some("picture")).await;
        let wanted: Vec<_> =
            names.iter().filter(|name| name.contains("picture")).cloned().collect();
        assert_eq!((pictures.len(), pictures), (4, wanted));
        let (_, totals) = store
            .duplicate_groups(GroupKey::Content, &[place.location], 1, None, 10)
            .await
            .unwrap();
        assert_eq!((totals.groups, totals.files, totals.wasted), (2, 6, 330));

        // It goes on as ever: what it knows is unchanged, what is gone goes.
        files.pop();
        let (_, merged) = place.scan(&files).await;
        // The fingerprint of `a` is as it was, so nobody looks at its rows.
        assert_eq!((merged.added, merged.changed, merged.missing), (0, 0, 3));
        assert_eq!(found(&store, place.location, Some("picture")).await.len(), 3);
        assert!(found(&store, place.location, Some("notes")).await.is_empty());
        store.sql.revert::<Migrator>(None).await.unwrap();
    }
}

#[tokio::test]
async fn keys_are_the_rows_own_numbers() {
    on_each(async |store| {
        if store.backend() == sea_orm::DbBackend::Postgres {
            return;
        }
        let sql = "SELECT COUNT(*) AS n FROM sqlite_master WHERE type = 'index'
            AND tbl_name IN ('entry', 'dir') AND name LIKE 'sqlite_autoindex%'";
        let row = store.row(sql, vec![]).await.unwrap().unwrap();
        assert_eq!(get::<i64>(&row, "n").unwrap(), 0);
    })
    .await;
}
