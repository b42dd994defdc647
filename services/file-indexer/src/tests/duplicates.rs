//! Groups of files, page after page.

use super::*;
use crate::app::DuplicateMode;
use crate::store::{Group, Totals};

/// The groups of a page with their files, the last group, and the totals.
async fn page(
    house: &House,
    mode: DuplicateMode,
    after: Option<&Group>,
) -> (Vec<Vec<String>>, Option<Group>, Totals) {
    let id = house.location.uuid.to_string();
    let page = house.indexer.duplicates(&house.caller, &id, mode, 0, false, after, 1).await;
    let page = page.unwrap();
    let last = page.groups.last().map(|shown| shown.group.clone());
    let files = page.groups.iter().map(|shown| {
        assert_eq!(shown.group.count, i64::try_from(shown.files.len()).unwrap());
        // Two threads walk, and the rows have the order in which they came.
        let mut paths: Vec<String> = shown.files.iter().map(|file| file.found.path()).collect();
        paths.sort();
        paths
    });
    (files.collect(), last, page.totals)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_of_one_group_and_the_size_of_another_is_of_neither() {
    on_each(|house| async move {
        for (path, bytes) in
            [("a/x", "1"), ("b/x", "2"), ("a/y", "34"), ("b/y", "56"), ("c/x", "78")]
        {
            house.write(path, bytes);
        }
        house.scanned().await;
        let totals = Totals { groups: 2, files: 4, wasted: 3 };
        let (first, last, all) = page(&house, DuplicateMode::NameAndSize, None).await;
        assert_eq!((first, all), (vec![vec!["a/y".to_owned(), "b/y".to_owned()]], totals));
        let (second, last, all) = page(&house, DuplicateMode::NameAndSize, last.as_ref()).await;
        assert_eq!((second, all), (vec![vec!["a/x".to_owned(), "b/x".to_owned()]], totals));
        // Totals are of all groups, also where none is left.
        let (rest, _, all) = page(&house, DuplicateMode::NameAndSize, last.as_ref()).await;
        assert_eq!((rest, all), (Vec::new(), totals));
        let (by_size, _, all) = page(&house, DuplicateMode::Size, None).await;
        assert_eq!(by_size[0].len(), 3, "{by_size:?}");
        assert_eq!(all, Totals { groups: 2, files: 5, wasted: 5 });
    })
    .await;
}
