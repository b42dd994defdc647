//! How the databases go about the questions of a scan, before they have seen any
//! statistics: what is looked up must not become a pass over all.

use sea_orm::DbBackend;

use super::{Place, file, on_each};
use crate::store::{Store, bulk, get};

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
async fn groups_of_one_location_are_read_in_the_order_of_an_index() {
    on_each(async |store| {
        if store.backend() == DbBackend::Postgres {
            // With few rows it sorts them.
            return;
        }
        let sql =
            "SELECT content_id AS k, size, files AS n, (1 - copies) * size AS rank FROM holding
            WHERE location_id = $1 AND files > 1 AND size >= $2 ORDER BY rank, k, size LIMIT 100";
        let plan = plan(&store, sql, vec![1.into(), 1.into()]).await;
        assert!(plan.contains("holding_rank") && !plan.contains("TEMP B-TREE"), "{plan}");
    })
    .await;
}
