//! Counts of files by content are those of a recount, whatever happened.

use super::rowids::run;
use super::{File, Place, file, listings, on_each};
use crate::model::{Mode, Query, Sort, SortBy};
use crate::store::{Batch, Facet, Group, GroupKey, ScanKey, Store, Totals, all, get};

type Row = (i64, i64, i64, i64, i64);

async fn rows(store: &Store, sql: &str) -> Vec<Row> {
    let rows = all(store.read(), sql, vec![]).await.unwrap();
    let number = |row, column| get::<i64>(row, column).unwrap();
    let each = rows.iter().map(|row| {
        let (location, content) = (number(row, "location_id"), number(row, "content_id"));
        (location, content, number(row, "size"), number(row, "files"), number(row, "copies"))
    });
    each.collect()
}

const RECOUNT: &str = "SELECT d.location_id, e.content_id, e.size, COUNT(*) AS files,
      COUNT(DISTINCT e.ino * 1000 + CASE WHEN e.links > 1 THEN 0 ELSE d.dev END) AS copies
    FROM entry e JOIN dir d ON d.id = e.dir_id
    WHERE e.content_id IS NOT NULL AND e.hashed IN (1, 2) AND e.gone IS NULL AND e.size > 0
    GROUP BY 1, 2, 3 ORDER BY 1, 2, 3";
const KEPT: &str =
    "SELECT location_id, content_id, size, files, copies FROM holding ORDER BY 1, 2, 3";

/// The kept counts are those of the entries; answers in how many contents.
async fn recounted(store: &Store, when: &str) -> usize {
    let truth = rows(store, RECOUNT).await;
    assert_eq!(rows(store, KEPT).await, truth, "{when}");
    truth.len()
}

/// All groups, a page of one at a time, and what they come to.
async fn groups(store: &Store, locations: &[i64]) -> (Vec<(i64, i64, i64)>, Totals) {
    let (mut all, mut after): (Vec<Group>, Option<Group>) = (Vec::new(), None);
    loop {
        let (page, totals) = store
            .duplicate_groups(GroupKey::Content, locations, 1, after.as_ref(), 1)
            .await
            .unwrap();
        let Some(last) = page.last() else {
            let shown = all.iter().map(|group| (group.count, group.size, group.wasted));
            return (shown.collect(), totals);
        };
        after = Some(last.clone());
        all.extend(page);
    }
}

fn tree() -> Vec<File> {
    vec![
        file("a/one", 11, 1, 100),
        file("a/two", 12, 1, 100),
        // A name of the same inode.
        file("b/two", 12, 1, 100),
        file("b/large", 13, 2, 5_000),
        file("b/large copy", 14, 2, 5_000),
        file("c/only", 15, 3, 70),
        file("c/empty", 16, 0, 0),
        file("c/also empty", 17, 0, 0),
        file("a/stays", 18, 7, 9),
    ]
}

#[tokio::test]
async fn counts_follow_adds_changes_moves_and_removals() {
    on_each(async |store| {
        let place = Place::new(&store, "/made").await;
        let mut files = tree();
        let (scan, _) = place.scan(&files).await;
        assert_eq!(recounted(&store, "nothing is hashed").await, 0);
        place.hash(scan, &files).await;
        assert_eq!(recounted(&store, "hashed").await, 4);
        let wanted =
            (vec![(2, 5_000, 5_000), (3, 100, 100)], Totals { groups: 2, files: 5, wasted: 5_100 });
        assert_eq!(groups(&store, &[place.location]).await, wanted);
        place.hash(scan, &files).await;
        assert_eq!(recounted(&store, "hashed again").await, 4);

        files[3].changed += 1;
        place.scan(&files).await;
        recounted(&store, "one of two was written to").await;
        assert_eq!(groups(&store, &[place.location]).await.1.groups, 1);
        files[3].byte = 1;
        files[3].size = 100;
        let (scan, _) = place.scan(&files).await;
        place.hash(scan, &files).await;
        recounted(&store, "it is one of another group now").await;
        assert_eq!(groups(&store, &[place.location]).await.0, [(4, 100, 200)]);

        // The other name of its inode stays.
        files.retain(|file| file.path != "a/two");
        place.scan(&files).await;
        recounted(&store, "a name of an inode went").await;
        assert_eq!(groups(&store, &[place.location]).await.0, [(3, 100, 200)]);
        // A file elsewhere, and a whole directory.
        files[0].path = "c/one".to_owned();
        files.iter_mut().filter(|file| file.path.starts_with("b/")).for_each(|file| {
            file.path = format!("c/{}", file.path);
        });
        let (_, merged) = place.scan(&files).await;
        assert!(merged.moved >= 2, "{merged:?}");
        recounted(&store, "moved").await;
        assert_eq!(groups(&store, &[place.location]).await.0, [(3, 100, 200)]);
        files.retain(|file| !file.path.starts_with("c/b/"));
        place.scan(&files).await;
        recounted(&store, "a directory was swept").await;
        assert_eq!(groups(&store, &[place.location]).await.1, Totals::default());
        place.forget().await;
        assert_eq!(recounted(&store, "the location went").await, 0);
    })
    .await;
}

#[tokio::test]
async fn counts_of_several_locations_are_added_up_by_inode() {
    on_each(async |store| {
        let (here, there) = (Place::new(&store, "/here").await, Place::new(&store, "/there").await);
        let mut files = tree();
        let (scan, _) = here.scan(&files).await;
        here.hash(scan, &files).await;
        // The same inodes, but for one file; and one more.
        files[5].ino = 99;
        files.push(file("more", 100, 9, 1));
        let (scan, _) = there.scan(&files).await;
        there.hash(scan, &files).await;
        recounted(&store, "two locations").await;
        let both = [here.location, there.location];
        let wanted = vec![(4, 5_000, 5_000), (6, 100, 100), (2, 70, 70), (2, 9, 0)];
        let (found, totals) = groups(&store, &both).await;
        assert_eq!((found, totals), (wanted, Totals { groups: 4, files: 14, wasted: 5_170 }));
        assert_eq!(groups(&store, &[here.location]).await.1.groups, 2);

        // Rotten files are no one's duplicates; those that were drifted are still.
        let large = here.entry("b", "large").await.unwrap();
        let (scan, _) = here.scan(&tree()).await;
        store.mark_unlike(scan, &[large], false).await.unwrap();
        recounted(&store, "drifted").await;
        assert_eq!(groups(&store, &[here.location]).await.1.groups, 2);
        assert_eq!(store.unhashed_count(&both).await.unwrap(), 0);
        store.set_unhashed(scan, false).await.unwrap();
        store.mark_unlike(scan, &[large], true).await.unwrap();
        recounted(&store, "rotten").await;
        assert_eq!(groups(&store, &[here.location]).await.1.groups, 1);
        assert_eq!(store.unhashed_count(&both).await.unwrap(), 1);

        there.forget().await;
        recounted(&store, "one location went").await;
        assert_eq!(groups(&store, &both).await.1.groups, 1);
    })
    .await;
}

#[tokio::test]
async fn a_later_name_of_an_inode_is_no_copy() {
    on_each(async |store| {
        let place = Place::new(&store, "/made").await;
        let mut files = tree();
        let (scan, _) = place.scan(&files).await;
        place.hash(scan, &files).await;
        let later = [
            file("d/two", 12, 1, 100),
            file("d/three", 21, 1, 100),
            file("d/three too", 21, 1, 100),
            file("d/fresh", 22, 8, 50),
        ];
        files.extend(later.clone());
        let (scan, _) = place.scan(&files).await;
        place.hash(scan, &later).await;
        recounted(&store, "names came later").await;
        let wanted = [(2, 5_000, 5_000), (6, 100, 200)];
        assert_eq!(groups(&store, &[place.location]).await.0, wanted);
        // Some that have their content already, and some that lost it.
        files.iter_mut().take(5).for_each(|file| file.changed += 1);
        let (scan, _) = place.scan(&files).await;
        place.hash(scan, &files).await;
        recounted(&store, "some again").await;
        assert_eq!(groups(&store, &[place.location]).await.0, wanted);
    })
    .await;
}

#[tokio::test]
async fn two_locations_are_hashed_at_once() {
    on_each(async |store| {
        let (here, there) = (Place::new(&store, "/here").await, Place::new(&store, "/there").await);
        let (files, mut others) = (tree(), tree());
        others.reverse();
        let ((one, _), (two, _)) = (here.scan(&files).await, there.scan(&others).await);
        tokio::join!(here.hash(one, &files), there.hash(two, &others));
        assert_eq!(recounted(&store, "at once").await, 8);
        tokio::join!(here.hash(one, &files), there.hash(two, &others));
        assert_eq!(recounted(&store, "again").await, 8);
    })
    .await;
}

/// A whole scan of a tree whose directory `b` is of another file system.
async fn scanned_on_two(place: &Place<'_>, files: &[File], devs: (u64, u64)) -> ScanKey {
    let scan = place.store.begin_scan(place.location, Mode::Content).await.unwrap();
    let mut listed = listings(files);
    for listed in &mut listed {
        listed.listing.dev = if listed.path == "b" { devs.1 } else { devs.0 };
        for entry in &mut listed.listing.entries {
            // Names of one inode say that they are several.
            entry.links = if entry.ino == 12 { 2 } else { 1 };
        }
        listed.print = Some(listed.listing.fingerprint());
    }
    place.store.merge(scan, Batch { listed }, |_| None).await.unwrap();
    while place.store.sweep(scan).await.unwrap().is_some() {}
    place.store.end_scan(scan, (devs.0.cast_signed(), 2), 0, "").await.unwrap();
    scan
}

#[tokio::test]
async fn equal_inodes_of_two_file_systems_are_two_copies() {
    on_each(async |store| {
        let place = Place::new(&store, "/made").await;
        let mut files = tree();
        // As `a/one` is on the other one.
        files.push(file("b/one", 11, 1, 100));
        let scan = scanned_on_two(&place, &files, (1, 2)).await;
        place.hash(scan, &files).await;
        recounted(&store, "hashed").await;
        let wanted = [(2, 5_000, 5_000), (4, 100, 200)];
        assert_eq!(groups(&store, &[place.location]).await.0, wanted);
        place.hash(scan, &files).await;
        recounted(&store, "again").await;

        // Mounted again both have another number; directories that are as they were too.
        let sql = "SELECT DISTINCT dev FROM dir ORDER BY dev";
        let devs = async || -> Vec<i64> {
            let rows = all(store.read(), sql, vec![]).await.unwrap();
            rows.iter().map(|row| get(row, "dev").unwrap()).collect()
        };
        assert_eq!(devs().await, [1, 2]);
        scanned_on_two(&place, &files, (7, 8)).await;
        assert_eq!(devs().await, [2, 7]);
        recounted(&store, "mounted again").await;

        // Of a directory whose place is lost, and comes back; and of all at once.
        let query = Query { locations: vec![place.location].into(), ..Query::default() };
        let sort = Sort { by: SortBy::Number, descending: false };
        let lost = "CASE path WHEN 'a' THEN -1 ELSE dev END";
        for dev in [lost, "2", "dev + 1", "CASE path WHEN 'b' THEN 2 ELSE 7 END"] {
            run(&store, &format!("UPDATE dir SET dev = {dev}")).await;
            recounted(&store, dev).await;
            for found in store.search(&query, sort, None, 99).await.unwrap() {
                assert_eq!(found.is_missing(), dev == lost && found.dir == "a", "{found:?}");
            }
        }

        // So are those of two locations; of one file system they are names of one file.
        let (there, near) = (Place::new(&store, "/there").await, Place::new(&store, "/near").await);
        let copy = [file("x/one", 11, 1, 100)];
        for (place, dev) in [(&there, 9), (&near, 7)] {
            let scan = scanned_on_two(place, &copy, (dev, dev)).await;
            place.hash(scan, &copy).await;
        }
        for (place, wasted) in [(&there, 300), (&near, 200)] {
            for key in [GroupKey::Content, GroupKey::Size] {
                let both = [files_of(&store, "/made").await, place.location];
                let (page, _) = store.duplicate_groups(key, &both, 100, None, 10).await.unwrap();
                let group = page.iter().find(|group| group.size == 100).unwrap();
                assert_eq!((group.count, group.wasted), (5, wasted), "{key:?}");
            }
        }
        files.retain(|file| file.path != "b/one");
        scanned_on_two(&place, &files, (7, 8)).await;
        recounted(&store, "one went").await;
        assert_eq!(groups(&store, &[place.location]).await.0, [(2, 5_000, 5_000), (3, 100, 100)]);
    })
    .await;
}

async fn files_of(store: &Store, path: &str) -> i64 {
    let row = store.row("SELECT id FROM location WHERE path = $1", vec![path.into()]).await;
    get(&row.unwrap().unwrap(), "id").unwrap()
}

#[tokio::test]
async fn sums_end_at_what_a_number_holds() {
    on_each(async |store| {
        const HUGE: i64 = 7 << 60;
        let place = Place::new(&store, "/made").await;
        let mut files: Vec<File> = ["a", "b", "c"]
            .iter()
            .zip(1..)
            .map(|(dir, n)| file(&format!("{dir}/x"), n, 1, HUGE))
            .collect();
        files.extend([file("d/y", 8, 2, 40), file("d/z", 9, 2, 40)]);
        let (scan, _) = place.scan(&files).await;
        place.hash(scan, &files).await;
        let query = |within| Query {
            within: Some((place.location, within)),
            locations: vec![place.location].into(),
            ..Query::default()
        };
        for facet in [Facet::All, Facet::Directory, Facet::Extension] {
            let rows = store.facet(&query(String::new()), facet, 9).await.unwrap();
            let wanted = if facet == Facet::Directory { HUGE } else { i64::MAX };
            assert_eq!(rows[0].bytes, wanted, "{facet:?}");
        }
        let few = store.facet(&query("d".to_owned()), Facet::All, 9).await.unwrap();
        assert_eq!((few[0].count, few[0].bytes), (2, 80));
        assert_eq!(store.usage(place.location, "").await.unwrap().unwrap().bytes, i64::MAX);
        let within = store.usage_within(place.location, "", 9).await.unwrap();
        assert_eq!(within.iter().map(|row| row.bytes).collect::<Vec<_>>(), [HUGE, HUGE, HUGE, 80]);
        assert_eq!(store.location(place.location).await.unwrap().unwrap().bytes, i64::MAX);
        for key in [GroupKey::Content, GroupKey::NameAndSize, GroupKey::Size] {
            let (first, totals) =
                store.duplicate_groups(key, &[place.location], 1, None, 1).await.unwrap();
            assert_eq!((first[0].count, first[0].wasted), (3, i64::MAX), "{key:?}");
            assert_eq!(totals.wasted, i64::MAX);
            let (rest, _) =
                store.duplicate_groups(key, &[place.location], 1, first.last(), 9).await.unwrap();
            let rest: Vec<_> = rest.iter().map(|group| group.wasted).collect();
            let wanted: &[i64] = if key == GroupKey::NameAndSize { &[] } else { &[40] };
            assert_eq!(rest, wanted, "{key:?}");
        }
    })
    .await;
}
