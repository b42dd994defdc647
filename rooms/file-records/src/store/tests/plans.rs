//! How the databases go about the questions of a scan, before they have seen any
//! statistics: what is looked up must not become a pass over all.

use sea_orm::DbBackend;

use super::{Place, file, on_each};
use crate::store::contents::to_hash_sql;
use crate::store::dir_moves::dirs_of_inodes;
use crate::store::usage::totals_in;
use crate::store::{GroupKey, Store, Which, below, bulk, get};

async fn plan(store: &Store, sql: &str, values: Vec<sea_orm::Value>) -> String {
    let (explain, column) = match store.backend() {
        DbBackend::Postgres => ("EXPLAIN", "QUERY PLAN"),
        _ => ("EXPLAIN QUERY PLAN", "detail"),
    };
    let rows = store.rows(&format!("{explain} {sql}"), values).await.unwrap();
    let lines: Vec<String> = rows.iter().map(|row| get(row, column).unwrap()).collect();
    lines.join("\n")
}

#[tokio::test]
async fn many_paths_are_joined_and_not_compared_with_each_row() {
    on_each(async |store| {
        let backend = store.backend();
        let place = Place::new(&store, "/made").await;
        let files: Vec<_> = (0..500).map(|n| file(&format!("d{n}/f"), n, 1, 1)).collect();
        place.scan(&files).await;
        for (table, column, list) in [
            ("dir", "path", bulk::texts(backend, ["a", "b", "c"])),
            ("entry", "id", bulk::numbers(backend, &[1, 2, 3])),
        ] {
            let within = match table {
                "dir" => format!("location_id = $2 AND {}", bulk::in_texts(backend, column, 1)),
                _ => format!("{} AND dir_id <> $2", bulk::in_numbers(backend, column, 1)),
            };
            let sql = format!("SELECT id FROM {table} WHERE {within}");
            let plan = plan(&store, &sql, vec![list, place.location.into()]).await;
            let is_wrong = match backend {
                DbBackend::Postgres => plan.contains("ANY"),
                _ => !plan.contains(&format!("SEARCH {table}")),
            };
            assert!(!is_wrong, "{plan}");
        }
    })
    .await;
}

#[tokio::test]
async fn paths_are_found_by_an_index() {
    on_each(async |store| {
        let place = Place::new(&store, "/made").await;
        let files: Vec<_> = (0..900).map(|n| file(&format!("d{n}/f"), n, 1, 1)).collect();
        place.scan(&files).await;
        let (from, to) = below("d7");
        let range = [place.location.into(), "d7".into(), from.into(), to.into()];
        let totals = totals_in(store.backend(), "files, bytes", "{PATH} >= $2 AND {PATH} < $3");
        for (sql, values, index) in [
            ("SELECT id FROM dir WHERE location_id = $1 AND path = $2", &range[..2], "dir_path"),
            (
                "SELECT id FROM dir WHERE location_id = $1
                 AND (path >= $2 AND path < $4 AND (path = $2 OR path >= $3))",
                &range[..],
                // SQLite has the paths in the index of totals as well.
                if store.backend() == DbBackend::Postgres { "dir_path" } else { "dir_totals" },
            ),
            (&totals, &range[..3], "dir_totals"),
        ] {
            let plan = plan(&store, sql, values.to_vec()).await;
            assert!(plan.contains(index), "{sql}: {plan}");
        }
    })
    .await;
}

#[tokio::test]
async fn inodes_are_found_by_an_index() {
    on_each(async |store| {
        let place = Place::new(&store, "/made").await;
        let files: Vec<_> = (0..900).map(|n| file(&format!("d{n}/f"), n, 1, 1)).collect();
        place.scan(&files).await;
        let backend = store.backend();
        let inodes: Vec<i64> = (0..900).collect();
        let values = vec![place.location.into(), bulk::numbers(backend, &inodes)];
        let plan = plan(&store, &dirs_of_inodes(backend), values).await;
        assert!(plan.contains("dir_inode") && !plan.contains("Filter: (ino"), "{plan}");
    })
    .await;
}

#[tokio::test]
async fn groups_of_one_location_are_read_in_the_order_of_an_index() {
    on_each(async |store| {
        if store.backend() == DbBackend::Postgres {
            // With few rows it sorts them.
            return;
        }
        let (sql, values, _) = store.grouped(GroupKey::Content, &[1], 1);
        let sql = format!("{sql} ORDER BY rank, k, size LIMIT 100");
        let plan = plan(&store, &sql, values).await;
        assert!(plan.contains("holding_rank") && !plan.contains("TEMP B-TREE"), "{plan}");
    })
    .await;
}

#[tokio::test]
async fn files_to_hash_are_read_directory_by_directory() {
    on_each(async |store| {
        let place = Place::new(&store, "/made").await;
        let files: Vec<_> = (0..900).map(|n| file(&format!("d{}/f{n}", n / 3), n, 1, 1)).collect();
        let (scan, _) = place.scan(&files).await;
        let whichs = [Which::Unhashed, Which::UnhashedOrUnseen, Which::Hashed];
        for (which, is_whole) in
            whichs.into_iter().flat_map(|which| [(which, true), (which, false)])
        {
            let sql = to_hash_sql(store.backend(), which, is_whole);
            let count = if is_whole { 4 } else { 5 };
            let values = [place.location, 1, 0, 10, 5].map(sea_orm::Value::from)[..count].to_vec();
            let plan = plan(&store, &sql, values).await;
            let is_wrong = match store.backend() {
                // With few rows it reads them all.
                DbBackend::Postgres => false,
                _ => {
                    !plan.contains("SEARCH d USING INTEGER PRIMARY KEY")
                        || plan.contains("USE TEMP B-TREE FOR ORDER BY") == is_whole
                }
            };
            assert!(!is_wrong, "{which:?}: {plan}");
        }
        // Pages of any size are all of them, in order.
        for limit in [2, 40, 900, 2_000] {
            let (mut after, mut found) = ((0, 0), Vec::new());
            loop {
                let page =
                    store.to_hash(place.location, Which::Unhashed, after, limit).await.unwrap();
                let Some(last) = page.last() else { break };
                assert!(page.len() <= limit as usize);
                after = (last.dir, last.id);
                found.extend(page.into_iter().map(|file| file.path));
            }
            assert_eq!(found.len(), 900, "{limit}");
            let unique: std::collections::HashSet<_> = found.into_iter().collect();
            assert_eq!(unique.len(), 900, "{limit}");
        }
        // Where nearly all are hashed the few others are found among them.
        let few = [3, 450, 899];
        let hashed = files.iter().enumerate().filter(|(at, _)| !few.contains(at));
        let hashed: Vec<_> = hashed.map(|(_, file)| file.clone()).collect();
        place.hash(scan, &hashed).await;
        let page = store.to_hash(place.location, Which::Unhashed, (0, 0), 2).await.unwrap();
        let rest = page.last().map(|last| (last.dir, last.id)).unwrap();
        let last = store.to_hash(place.location, Which::Unhashed, rest, 2).await.unwrap();
        assert_eq!((page.len(), last.len()), (2, 1));
    })
    .await;
}
