//! Scans of several locations at once, and what removes beside them.

use std::time::Duration;

use sea_orm::DbBackend;
use tokio::time::timeout;

use super::{File, Place, file, hashed, on_each};
use crate::model::{Mode, Query, Sort, SortBy};
use crate::store::given::Given;
use crate::store::{HashedBy, get};

#[tokio::test]
async fn a_content_that_a_hashing_has_found_is_not_removed_before_it_is_used() {
    on_each(async |store| {
        let place = Place::new(&store, "/made").await;
        let (old, new) = (file("d/old", 100, 1, 7), file("d/new", 101, 1, 7));
        let (scan, _) = place.scan(&[old.clone(), new.clone()]).await;
        place.hash(scan, std::slice::from_ref(&old)).await;
        // Its only file goes: nothing has the content any more.
        place.scan(std::slice::from_ref(&new)).await;
        let scan = store.begin_scan(place.location, Mode::Content).await.unwrap();
        let found = vec![hashed(place.entry("d", "new").await.unwrap(), &new)];

        let tx = store.sql.begin().await.unwrap();
        store.hold(&tx, scan).await.unwrap();
        let made = store.content_ids(&tx, scan, &found, HashedBy::Server);
        let (content, newest) = made.await.unwrap();
        assert!(content[0] < newest, "it is known");
        let forgetting = tokio::spawn({
            let store = store.clone();
            async move { store.forget_contents().await }
        });
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert!(!forgetting.is_finished(), "it waits");
        let mut given = Given::new(newest);
        given.push(found[0].entry, content[0], 1);
        store.give_contents(&tx, scan, given).await.unwrap();
        tx.commit().await.unwrap();
        forgetting.await.unwrap().unwrap();
        let row = store.row("SELECT COUNT(*) AS n FROM content", vec![]).await.unwrap().unwrap();
        assert_eq!(get::<i64>(&row, "n").unwrap(), 1);

        // Once no file has it, it goes.
        place.scan(&[]).await;
        store.forget_contents().await.unwrap();
        let row = store.row("SELECT COUNT(*) AS n FROM content", vec![]).await.unwrap().unwrap();
        assert_eq!(get::<i64>(&row, "n").unwrap(), 0);
    })
    .await;
}

/// Two locations whose entries share the pages of the index of names.
async fn shared<'a>(one: &Place<'a>, two: &Place<'a>, count: u64) -> [Vec<File>; 2] {
    let mut made = [Vec::new(), Vec::new()];
    for n in 0..count {
        for (at, place) in [one, two].into_iter().enumerate() {
            let at_once = u64::try_from(at).unwrap();
            made[at].push(file(&format!("d/before {n:03}"), 1_000 * (at_once + 1) + n, 1, 7));
            if n % 3 == 0 {
                place.scan(&made[at]).await;
            }
        }
    }
    one.scan(&made[0]).await;
    two.scan(&made[1]).await;
    made
}

#[tokio::test]
async fn locations_that_rename_at_once_wait_for_each_other() {
    on_each(async |store| {
        if store.backend() != DbBackend::Postgres {
            // One writes at a time.
            return;
        }
        let one = Place::new(&store, "/one").await;
        let two = Place::new(&store, "/two").await;
        let mut files = shared(&one, &two, 60).await;
        while store.index_names().await.unwrap() {}
        for round in 0..6 {
            for (at, files) in files.iter_mut().enumerate() {
                // One from the first to the last, the other back: they are new in this order.
                let turned = (round + at) % 2 == 0;
                let last = files.len() - 1;
                for (n, file) in files.iter_mut().enumerate() {
                    let n = if turned { last - n } else { n };
                    file.path = format!("d/round {round} {n:03}");
                }
            }
            let both = async { tokio::join!(one.scan(&files[0]), two.scan(&files[1])) };
            let ((_, first), (_, second)) =
                timeout(Duration::from_secs(60), both).await.expect("they end");
            assert_eq!((first.moved, second.moved), (60, 60));
            let query = Query {
                text: Some(format!("round {round}")),
                locations: vec![one.location, two.location].into(),
                ..Query::default()
            };
            let sort = Sort { by: SortBy::Number, descending: false };
            assert_eq!(store.are_all_named().await.unwrap(), store.has_trigrams);
            let found = store.search(&query, sort, None, 500).await.unwrap();
            assert_eq!(found.len(), 120, "{round}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_name_that_is_indexed_while_it_changes_is_found_by_the_new_one() {
    on_each(async |store| {
        if !store.indexes_beside() {
            // One writes at a time, or the server has no trigrams.
            assert!(!store.has_trigrams || store.backend() == DbBackend::Sqlite);
            return;
        }
        let place = Place::new(&store, "/made").await;
        place.scan(&[file("d/before", 100, 1, 7)]).await;
        let entry = place.entry("d", "before").await.unwrap();
        let row = "SELECT dir_id FROM entry WHERE id = $1";
        let row = store.row(row, vec![entry.into()]).await.unwrap().unwrap();
        let dir: i64 = get(&row, "dir_id").unwrap();
        let tx = store.sql.begin().await.unwrap();
        store.hold_names(&tx).await.unwrap();
        store.place_entry(&tx, entry, dir, "afterwards").await.unwrap();
        store.learn_names(&tx, &[entry]).await.unwrap();
        let indexing = tokio::spawn({
            let store = store.clone();
            async move { while store.index_names().await.unwrap() {} }
        });
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert!(!indexing.is_finished(), "it waits");
        tx.commit().await.unwrap();
        indexing.await.unwrap();
        let query = Query {
            text: Some("afterward".to_owned()),
            locations: vec![place.location].into(),
            ..Query::default()
        };
        let sort = Sort { by: SortBy::Number, descending: false };
        assert!(store.are_all_named().await.unwrap());
        assert_eq!(store.search(&query, sort, None, 5).await.unwrap().len(), 1);
    })
    .await;
}
