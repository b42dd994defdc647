//! Paths of 4,000 bytes and more that can't be made shorter.

use super::{File, Place, file, on_each};
use crate::model::{Query, Sort, SortBy};
use crate::store::{Found, Store};

/// Names that nothing compresses, of up to 4 bytes a character.
fn name(seed: u64, chars: usize) -> String {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let plane = if seed.is_multiple_of(2) { 0x2_0000 } else { 0x4e00 };
    let made = (0..chars).map(|_| char::from_u32(plane + u32::try_from(next() % 0x5000).unwrap()));
    made.collect::<Option<String>>().unwrap()
}

async fn paths(store: &Store, location: i64, within: &str) -> Vec<String> {
    let query = Query {
        within: Some((location, within.to_owned())),
        kinds: vec![1],
        locations: vec![location].into(),
        ..Query::default()
    };
    let sort = Sort { by: SortBy::Number, descending: false };
    let found = store.search(&query, sort, None, 1_000).await.unwrap();
    let mut paths: Vec<String> = found.iter().map(Found::path).collect();
    paths.sort();
    paths
}

fn sorted(files: &[File]) -> Vec<String> {
    let mut paths: Vec<String> = files.iter().map(|file| file.path.clone()).collect();
    paths.sort();
    paths
}

#[tokio::test]
async fn paths_of_any_length_are_found_moved_and_removed() {
    on_each(async |store| {
        let place = Place::new(&store, "/made").await;
        let location = place.location;
        // 20 directories of 60 characters and two beside each other at the end, 6 KiB deep.
        let mut dirs: Vec<String> = vec![name(1, 60)];
        for depth in 2..=20 {
            let above = dirs.last().unwrap().clone();
            dirs.push(format!("{above}/{}", name(depth, 60)));
        }
        let deepest = dirs.last().unwrap().clone();
        assert!(deepest.len() > 4_096, "{}", deepest.len());
        dirs.extend([format!("{deepest}/a"), format!("{deepest}/ab"), "near".to_owned()]);
        let mut files: Vec<File> =
            dirs.iter().zip(100..).map(|(dir, n)| file(&format!("{dir}/f{n}"), n, 1, 10)).collect();
        place.scan(&files).await;
        assert_eq!(paths(&store, location, "").await, sorted(&files));
        let (_, again) = place.scan(&files).await;
        assert_eq!((again.added, again.changed, again.missing, again.moved), (0, 0, 0, 0));
        assert!(store.has_dirs(location, &dirs).await.unwrap());

        // What lies below a directory, wherever it is.
        for (dir, count) in [(&dirs[0], 22), (&dirs[7], 15), (&deepest, 3), (&dirs[20], 1)] {
            assert_eq!(paths(&store, location, dir).await.len(), count);
            let usage = store.usage(location, dir).await.unwrap().unwrap();
            let count = i64::try_from(count).unwrap();
            assert_eq!((usage.files, usage.bytes, usage.dirs), (count, 10 * count, count));
        }
        let within = store.usage_within(location, &deepest, 9).await.unwrap();
        let within: Vec<_> = within.iter().map(|row| row.path.as_str()).collect();
        assert_eq!(within, [&dirs[20], &dirs[21]]);
        let total = store.location(location).await.unwrap().unwrap();
        assert_eq!((total.files, total.bytes), (23, 230));

        // A directory amid it gets another name, and all below goes along.
        let (from, to) = (dirs[3].clone(), format!("{}/moved here", dirs[1]));
        for file in &mut files {
            if let Some(rest) = file.path.strip_prefix(from.as_str()) {
                file.path = format!("{to}{rest}");
            }
        }
        place.scan(&files).await;
        assert_eq!(paths(&store, location, "").await, sorted(&files));
        assert_eq!(paths(&store, location, &to).await.len(), 19);

        // The deepest go, and something else still comes.
        files.retain(|file| file.path.len() < 3_000);
        files.push(file("near/new", 500, 1, 10));
        place.scan(&files).await;
        assert_eq!(paths(&store, location, "").await, sorted(&files));
        place.forget().await;
    })
    .await;
}

#[tokio::test]
async fn locations_of_long_paths_are_told_apart() {
    on_each(async |store| {
        let root = format!("/{}", name(3, 1_200));
        assert!(root.len() > 3_000);
        Place::new(&store, &root).await;
        let other = Place::new(&store, &format!("{root}a")).await;
        let again = store.relocate(other.location, &root).await.unwrap_err();
        assert_eq!(again.code(), service_error::Code::Conflict, "{again}");
    })
    .await;
}
