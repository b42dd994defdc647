//! What is stored comes back as it was.

use std::collections::BTreeMap;

use super::{Place, file, listings, on_each};
use crate::model::Mode;
use crate::store::{Batch, Store, all, get};

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
