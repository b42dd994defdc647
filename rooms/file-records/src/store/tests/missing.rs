//! What a guard counts and answers tell, and what a sweep takes.

use super::{Place, file, listings, on_each};
use crate::model::{Mode, Query, Sort, SortBy};
use crate::store::Batch;

#[tokio::test]
async fn all_below_directories_that_were_replaced_is_missing_and_goes() {
    on_each(async |store| {
        // More than a chunk.
        const DIRS: u64 = 25;
        let place = Place::new(&store, "/made").await;
        let of = |n| [format!("d{n}/f"), format!("d{n}/in/f")].map(|path| file(&path, n, 1, 10));
        place.scan(&(0..DIRS).flat_map(of).collect::<Vec<_>>()).await;
        let scan = store.begin_scan(place.location, Mode::Metadata).await.unwrap();
        let files: Vec<_> = (0..DIRS).map(|n| file(&format!("d{n}"), 100 + n, 1, 10)).collect();
        let batch = Batch { listed: listings(&files) };
        store.merge(scan, batch, |_| None).await.unwrap();
        let missing = 3 * DIRS as i64;
        assert_eq!(store.missing(place.location).await.unwrap(), (4 * DIRS as i64, missing));
        store.end_scan(scan, (1, 2), missing, "").await.unwrap();
        let query = Query { locations: vec![place.location].into(), ..Query::default() };
        let sort = Sort { by: SortBy::Number, descending: false };
        let mut page = store.search_page(&query, sort, None, 999).await.unwrap();
        store.tell_missing(&mut page).await.unwrap();
        for found in &page.found {
            assert_eq!(found.is_missing(), !found.dir.is_empty(), "{found:?}");
        }
        let mut removed = 0;
        while let Some(gone) = store.sweep(scan).await.unwrap() {
            removed += gone;
        }
        assert_eq!(removed, missing);
        assert_eq!(store.search(&query, sort, None, 999).await.unwrap().len(), DIRS as usize);
    })
    .await;
}

#[tokio::test]
async fn what_lies_in_a_missing_directory_counts_once() {
    on_each(async |store| {
        let place = Place::new(&store, "/made").await;
        let all = ["a/b/x", "a/b/y", "a/z", "k"].map(|path| file(path, path.len() as u64, 1, 10));
        place.scan(&all).await;
        for (from, missing) in [(2, 3), (3, 5)] {
            let scan = store.begin_scan(place.location, Mode::Metadata).await.unwrap();
            let batch = Batch { listed: listings(&all[from..]) };
            store.merge(scan, batch, |_| None).await.unwrap();
            assert_eq!(store.missing(place.location).await.unwrap(), (6, missing));
            store.end_scan(scan, (1, 2), missing, "").await.unwrap();
        }
    })
    .await;
}
