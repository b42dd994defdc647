//! Search, duplicates, usage, verification.

use std::collections::{BTreeSet, HashMap};
use std::fs;

use super::*;
use crate::app::{DuplicateMode, QueryText};
use crate::model::Matcher;

async fn found(house: &House, query: Query) -> BTreeSet<String> {
    house.all(query).await.iter().map(Found::path).collect()
}

fn set(paths: &[&str]) -> BTreeSet<String> {
    paths.iter().map(|path| (*path).to_owned()).collect()
}

fn text(text: &str) -> Query {
    Query { text: Some(text.to_owned()), ..Query::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_filter_filters() {
    on_each(|house| async move {
        house.write("a/NumPy.py", "x".repeat(10));
        house.write("a/numpy_test.PY", "x".repeat(20));
        house.write("a/b/report.pdf", "%PDF-1.4 xxxxxxxxxxxx");
        house.write("ab/other", "x");
        house.scanned().await;
        assert_eq!(found(&house, text("numpy")).await, set(&["a/NumPy.py", "a/numpy_test.PY"]));
        assert_eq!(found(&house, text("py")).await, set(&["a/NumPy.py", "a/numpy_test.PY"]));
        assert_eq!(found(&house, text("y_t")).await, set(&["a/numpy_test.PY"]));
        assert_eq!(found(&house, text("nothing such")).await, set(&[]));
        let query = Query { prefix: Some("num".into()), ..Query::default() };
        assert_eq!(found(&house, query).await, set(&["a/numpy_test.PY"]));
        let query = Query { extensions: vec!["py".into()], ..Query::default() };
        assert_eq!(found(&house, query).await.len(), 2);
        let query =
            Query { size_min: Some(11), size_max: Some(20), kinds: vec![1], ..Query::default() };
        assert_eq!(found(&house, query).await, set(&["a/numpy_test.PY"]));
        let within = Some((house.location.id, "a".to_owned()));
        let query = Query { within, kinds: vec![1], ..Query::default() };
        assert_eq!(found(&house, query).await.len(), 3);
        let query = Query { modified_after: Some(i64::MAX), ..Query::default() };
        assert!(found(&house, query).await.is_empty());
        house.scan_as(Mode::Content, false).await;
        let query = Query { content_kinds: vec![7], ..Query::default() };
        assert_eq!(found(&house, query).await, set(&["a/b/report.pdf"]));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn names_are_found_while_their_trigrams_are_not_yet_there() {
    on_each(|house| async move {
        house.write("first_name", "x");
        house.scanned().await;
        // A directory merged by a scan that has not come to the names.
        let scan = house.store.begin_scan(house.location.id, Mode::Metadata).await.unwrap();
        house.write("second_name", "x");
        let root = Root::open(house.tree.path()).unwrap();
        let listings = std::sync::Mutex::new(Vec::new());
        file_scan::walk(&root, &file_scan::WalkOptions::default(), |listing| {
            listings.lock().unwrap().push(listing.into());
            true
        });
        let batch = crate::store::Batch { listed: listings.into_inner().unwrap() };
        house.store.merge(scan, batch, |_| None).await.unwrap();
        assert_eq!(found(&house, text("_name")).await.len(), 2);
        while house.store.index_names().await.unwrap() {}
        assert_eq!(found(&house, text("_name")).await.len(), 2);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_are_the_whole_list_in_every_order() {
    on_each(|house| async move {
        for n in 0..57 {
            house.write(&format!("d{}/file{:02}", n % 4, (n * 37) % 57), "x".repeat(n % 5));
        }
        house.scanned().await;
        let place = || QueryText { location: house.location.uuid.to_string(), path: String::new() };
        for by in [SortBy::Number, SortBy::Name, SortBy::Size, SortBy::Modified] {
            for descending in [false, true] {
                for pattern in [None, Some("file[0-4].")] {
                    let (mut paths, mut key) = (Vec::new(), None);
                    loop {
                        let matcher = pattern.map(|pattern| Matcher::regex(pattern).unwrap());
                        let query = Query { kinds: vec![1], matcher, ..Query::default() };
                        let sort = Sort { by, descending };
                        let page = house
                            .indexer
                            .search(&house.caller, &place(), query, sort, key, 7)
                            .await
                            .unwrap();
                        paths.extend(page.files.iter().map(|shown| shown.found.clone()));
                        key = page.next;
                        if key.is_none() {
                            break;
                        }
                        assert_eq!(page.files.len(), 7);
                    }
                    let wanted = if pattern.is_some() { 50 } else { 57 };
                    assert_eq!(paths.len(), wanted, "{by:?} {descending} {pattern:?}");
                    let sizes: Vec<i64> = paths.iter().map(|found| found.size).collect();
                    if by == SortBy::Size {
                        let mut sorted = sizes.clone();
                        sorted.sort_unstable();
                        if descending {
                            sorted.reverse();
                        }
                        assert_eq!(sizes, sorted);
                    }
                }
            }
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn duplicates_are_those_of_an_oracle() {
    on_each(|house| async move {
        for n in 0..200_usize {
            let bytes = vec![u8::try_from(n % 23).unwrap(); 100 + n % 7];
            house.write(&format!("d{}/f{n}", n % 9), bytes);
        }
        house.write("empty1", "");
        house.write("empty2", "");
        let job = house.scan_as(Mode::Content, false).await;
        assert_eq!(result(&job, "hashed"), 202);
        let mut oracle: HashMap<Vec<u8>, BTreeSet<String>> = HashMap::new();
        for path in tree_of(house.tree.path()).into_keys() {
            let path = String::from_utf8(path).unwrap();
            let full = house.path(&path);
            if full.is_file() && fs::metadata(&full).unwrap().len() > 0 {
                oracle.entry(fs::read(full).unwrap()).or_default().insert(path);
            }
        }
        let oracle: BTreeSet<BTreeSet<String>> =
            oracle.into_values().filter(|group| group.len() > 1).collect();
        let (mut groups, mut after) = (BTreeSet::new(), None);
        let totals = loop {
            let page = house
                .indexer
                .duplicates(&house.caller, "", DuplicateMode::Content, 0, true, after.as_ref(), 5)
                .await
                .unwrap();
            for group in &page.groups {
                assert!(group.verified);
                groups.insert(group.files.iter().map(|shown| shown.found.path()).collect());
            }
            after = page.groups.last().map(|group| group.group.clone());
            if !page.more {
                break page.totals;
            }
        };
        assert_eq!(groups, oracle);
        let wasted: i64 = oracle
            .iter()
            .map(|group| {
                let first = group.first().unwrap();
                let size = i64::try_from(fs::metadata(house.path(first)).unwrap().len()).unwrap();
                (i64::try_from(group.len()).unwrap() - 1) * size
            })
            .sum();
        assert_eq!((totals.wasted, totals.groups), (wasted, i64::try_from(oracle.len()).unwrap()));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn other_modes_of_duplicates_and_hard_links() {
    on_each(|house| async move {
        house.write("a/same.txt", "one");
        house.write("b/same.txt", "two");
        house.write("c/else.txt", "two");
        fs::hard_link(house.path("c/else.txt"), house.path("c/linked")).unwrap();
        house.scan_as(Mode::Content, false).await;
        let groups = |mode| {
            let house = &house;
            async move {
                let page = house
                    .indexer
                    .duplicates(&house.caller, "", mode, 0, false, None, 100)
                    .await
                    .unwrap();
                let sizes: Vec<usize> = page.groups.iter().map(|group| group.files.len()).collect();
                (sizes, page.totals.wasted)
            }
        };
        // Two names of one inode are two files and waste nothing.
        assert_eq!(groups(DuplicateMode::Content).await, (vec![3], 3));
        assert_eq!(groups(DuplicateMode::NameAndSize).await.0, [2]);
        assert_eq!(groups(DuplicateMode::Size).await.0, [4]);
        assert!(groups(DuplicateMode::Near).await.0.is_empty());
        let query = Query { duplicates_only: true, ..Query::default() };
        assert_eq!(found(&house, query).await.len(), 3);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn usage_is_that_of_the_tree() {
    on_each(|house| async move {
        house.write("a/b/c/f", "x".repeat(10));
        house.write("a/b/g", "x".repeat(20));
        house.write("ab/h", "x".repeat(40));
        house.write("top", "x".repeat(80));
        house.scanned().await;
        let id = house.location.uuid.to_string();
        let root = house.location.path.clone();
        let usage = async |path: String| {
            let usage = house.indexer.usage(&house.caller, &id, &path, 10).await.unwrap();
            (usage.1, usage.2)
        };
        let (total, within) = usage(root.clone()).await;
        assert_eq!((total.bytes, total.files, total.dirs), (150, 4, 5));
        let rows: Vec<_> = within.iter().map(|row| (row.path.as_str(), row.bytes)).collect();
        assert_eq!(rows, [("ab", 40), ("a", 30)]);
        let (total, within) = usage(format!("{root}/a")).await;
        assert_eq!((total.bytes, within[0].path.as_str(), within[0].bytes), (30, "a/b", 30));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn verification_tells_rot_from_drift() {
    on_each(|house| async move {
        for name in ["sound", "rotten", "drifted"] {
            house.write(name, name);
        }
        // Old enough that no later change bears the same time.
        tokio::time::sleep(Duration::from_millis(40)).await;
        house.scan_as(Mode::Content, false).await;
        house.write("drifted", "another");
        // A disk that flips a bit changes no time: here the stored hash is changed instead.
        let scan = house.store.begin_scan(house.location.id, Mode::Content).await.unwrap();
        let rotten = house.all(text("rotten")).await.remove(0);
        let content = file_scan::Content {
            hash: [7; 32],
            size: rotten.size,
            kind: file_scan::ContentKind::Text,
            mark: file_scan::Mark {
                size: rotten.size,
                modified: rotten.modified,
                changed: 0,
                ino: rotten.ino.cast_unsigned(),
            },
        };
        let wrong = crate::store::Hashed {
            entry: rotten.id,
            path: rotten.path(),
            content,
            media: None,
            is_fresh: false,
        };
        let by = crate::store::HashedBy::Server;
        house.store.put_contents(scan, vec![wrong], by).await.unwrap();
        let id = house.location.uuid.to_string();
        let job = house.indexer.verify_location(&house.caller, &id).await.unwrap();
        let job = house.ended(job).await;
        let of = |name: &str| result(&job, name);
        assert_eq!((of("sound"), of("rotten"), of("drifted")), (1, 1, 1), "{:?}", job.result);
        let errors = house.indexer.jobs().item_errors(job.id, 10).await.unwrap();
        assert!(errors.iter().any(|e| e.item == "rotten" && e.message.contains("bit rot")));
        // A scan looks at the drifted one anew and leaves the rotten one marked.
        house.scan_as(Mode::Content, false).await;
        let job = house.indexer.verify_location(&house.caller, &id).await.unwrap();
        let job = house.ended(job).await;
        assert_eq!((result(&job, "rotten"), result(&job, "drifted")), (1, 0));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_closer_look_saw_stays_when_others_look_less_closely() {
    on_each(|house| async move {
        house.write("a.png", "1");
        house.write("b.png", "2");
        house.scanned().await;
        let scan = house.store.begin_scan(house.location.id, Mode::Deep).await.unwrap();
        for (name, likeness) in [("a.png", Some(5)), ("b.png", None)] {
            let found = house.all(text(name)).await.remove(0);
            let mark = file_scan::Mark {
                size: 1,
                modified: found.modified,
                changed: 0,
                ino: found.ino.cast_unsigned(),
            };
            let kind = file_scan::ContentKind::Image;
            let content = file_scan::Content { hash: [9; 32], size: 1, kind, mark };
            let media = file_scan::MediaFacts {
                width: 4,
                height: 3,
                likeness,
                ..file_scan::MediaFacts::default()
            };
            let hashed = crate::store::Hashed {
                entry: found.id,
                path: found.path(),
                content,
                media: Some(media),
                is_fresh: false,
            };
            let by = crate::store::HashedBy::Server;
            house.store.put_contents(scan, vec![hashed], by).await.unwrap();
        }
        let files =
            house.store.files_below(house.location.id, "", (0, 0), 10, false).await.unwrap();
        let seen: Vec<Option<i64>> = files.iter().map(|file| file.likeness).collect();
        assert_eq!(seen, [Some(5), Some(5)]);
    })
    .await;
}
