//! What is stored comes back as it was.

use std::collections::BTreeMap;

use super::{Place, file, listings, on_each};
use crate::model::{Mode, Query, Sort, SortBy};
use crate::store::{Batch, SortValue, Store, all, get};

type Times = (i64, i64, Option<i64>);

async fn times(store: &Store) -> BTreeMap<String, Times> {
    let sql = "SELECT name, modified, changed, born FROM entry WHERE kind = 1";
    let rows = all(store.read(), sql, vec![]).await.unwrap();
    let each = rows.iter().map(|row| {
        let times = (get(row, "modified").unwrap(), get(row, "changed").unwrap());
        (get(row, "name").unwrap(), (times.0, times.1, get(row, "born").unwrap()))
    });
    each.collect()
}

#[tokio::test]
async fn the_birth_stays_when_the_last_change_moves() {
    on_each(async |store| {
        let place = Place::new(&store, "/made").await;
        let mut files = vec![file("one", 11, 1, 10), file("two", 12, 2, 20)];
        place.scan(&files).await;
        files[0].path = "d/moved".to_owned();
        files[0].changed = 9_999;
        files[1].changed = i64::MIN;
        place.scan(&files).await;
        let found = times(&store).await;
        assert_eq!(found["moved"], (5_000, 9_999, Some(4_000)));
        // On SQLite a birth that is too far from the change is not known.
        let two = found["two"];
        assert_eq!((two.0, two.1), (5_000, i64::MIN));
        assert!(two.2.is_none_or(|born| born == 4_000), "{two:?}");
    })
    .await;
}

#[tokio::test]
async fn what_returns_is_hashed_if_it_never_was() {
    on_each(async |store| {
        let place = Place::new(&store, "/made").await;
        let files = vec![file("d/one", 11, 1, 10), file("d/two", 12, 2, 20)];
        place.scan(&files).await;
        // It is away while the others are hashed, and the scan does not end.
        let away = store.begin_scan(place.location, Mode::Content).await.unwrap();
        let batch = Batch { listed: listings(&files[..1]) };
        store.merge(away, batch, |_| None).await.unwrap();
        place.hash(away, &files[..1]).await;
        assert_eq!(store.unhashed_count(&[place.location]).await.unwrap(), 0);
        place.scan(&files).await;
        let now = store.location(place.location).await.unwrap().unwrap();
        assert!(now.unhashed, "the second file has no hash");
        assert_eq!(store.unhashed_count(&[place.location]).await.unwrap(), 1);
    })
    .await;
}

#[tokio::test]
async fn a_page_holds_what_its_rows_hold() {
    on_each(async |store| {
        let place = Place::new(&store, "/made").await;
        let name = |n: u64| match n % 4 {
            0 => format!("d{n}/a \"quoted\" \\ name\n{n}"),
            1 => format!("ä,b]/[{n}],\u{1f600}\u{7f}\u{1}"),
            _ => format!("plain {n}"),
        };
        let files: Vec<_> =
            (0..24).map(|n| file(&name(n), 100 + n, n.to_le_bytes()[0], 9)).collect();
        let (scan, _) = place.scan(&files).await;
        place.hash(scan, &files[..9]).await;
        for text in [None, Some("name"), Some("n")] {
            for is_indexed in [false, true] {
                while is_indexed && store.index_names().await.unwrap() {}
                for by in [SortBy::Number, SortBy::Name, SortBy::Size, SortBy::Modified] {
                    for descending in [false, true] {
                        let sort = Sort { by, descending };
                        same_by_rows(&place, text, sort).await;
                    }
                }
            }
        }
    })
    .await;
}

/// A page that is a row of SQLite's is what a longer one is by its rows, and so is the rest of
/// it after any of them.
async fn same_by_rows(place: &Place<'_>, text: Option<&str>, sort: Sort) {
    let query = Query {
        text: text.map(str::to_owned),
        locations: vec![place.location].into(),
        ..Query::default()
    };
    let rows = place.store.search(&query, sort, None, 5_000).await.unwrap();
    assert!(rows.len() >= 6);
    let whole = place.store.search(&query, sort, None, 500).await.unwrap();
    assert_eq!(format!("{whole:?}"), format!("{rows:?}"), "{text:?} {sort:?}");
    let hashed = whole.iter().filter_map(|found| found.content.as_ref());
    assert!(hashed.clone().count() >= 2 && hashed.clone().all(|content| content.hash.len() == 32));
    let last = &rows[2];
    let key = match sort.by {
        SortBy::Name => SortValue::Text(last.name.clone()),
        SortBy::Modified => SortValue::Number(last.modified),
        SortBy::Number | SortBy::Size => SortValue::Number(last.size),
    };
    let after = place.store.search(&query, sort, Some((key, last.id)), 3).await.unwrap();
    assert_eq!(format!("{after:?}"), format!("{:?}", &rows[3..6]), "{text:?} {sort:?}");
}
