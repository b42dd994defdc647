//! The change log: numbered without gaps, and enough to follow a tree by.

use std::collections::BTreeMap;
use std::fs;

use super::*;
use crate::store::{ChangeKind, Log};

/// Paths by replaying the log over what was read before.
struct Follower {
    seq: i64,
    paths: BTreeMap<String, i64>,
    resets: usize,
}

impl Follower {
    async fn begin(house: &House) -> Self {
        let mut follower = Self { seq: 0, paths: BTreeMap::new(), resets: 0 };
        follower.read(house).await;
        follower
    }

    async fn read(&mut self, house: &House) {
        self.seq = house.now().await.change_seq;
        let all = house.all(Query { with_hidden: true, ..Query::default() }).await;
        self.paths = all.iter().map(|found| (found.path(), found.id)).collect();
    }

    async fn follow(&mut self, house: &House) {
        loop {
            match house.store.changes(house.location.id, self.seq, 7).await.unwrap() {
                Log::Reset(_) => {
                    self.resets += 1;
                    return self.read(house).await;
                }
                Log::Changes(changes, newest) => {
                    if changes.is_empty() {
                        assert_eq!(self.seq, newest);
                        return;
                    }
                    for change in changes {
                        assert_eq!(change.seq, self.seq + 1, "no gaps");
                        self.seq = change.seq;
                        self.apply(change);
                    }
                }
            }
        }
    }

    fn apply(&mut self, change: crate::store::Change) {
        let below = |path: &str, of: &str| path == of || path.starts_with(&format!("{of}/"));
        if change.kind == ChangeKind::Added as i16 {
            self.paths.insert(change.path, change.entry);
        } else if change.kind == ChangeKind::Removed as i16 {
            self.paths.retain(|path, _| !below(path, &change.path));
        } else if change.kind == ChangeKind::Moved as i16 {
            let old = change.old_path.unwrap();
            // What stood there was the same, seen before it was known to be.
            self.paths.retain(|path, _| !below(path, &change.path));
            let moved = std::mem::take(&mut self.paths);
            for (path, id) in moved {
                let path = match below(&path, &old) {
                    true => format!("{}{}", change.path, &path[old.len()..]),
                    false => path,
                };
                self.paths.insert(path, id);
            }
        } else {
            assert!(self.paths.contains_key(&change.path), "{change:?}");
        }
    }

    async fn assert_current(&self, house: &House) {
        let all = house.all(Query { with_hidden: true, ..Query::default() }).await;
        let now: BTreeMap<String, i64> = all.iter().map(|found| (found.path(), found.id)).collect();
        assert_eq!(self.paths, now);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_follows_the_log_has_the_tree() {
    on_each(|house| async move {
        for n in 0..30 {
            house.write(&format!("d{}/f{n}", n % 5), n.to_string());
        }
        house.scan_as(Mode::Content, false).await;
        let mut follower = Follower::begin(&house).await;
        let mv = |old: &str, new: &str| fs::rename(house.path(old), house.path(new)).unwrap();
        let edits: [(&str, &dyn Fn()); 9] = [
            ("a new file", &|| house.write("d1/new", "new")),
            ("another size", &|| house.write("d2/f2", "longer than before")),
            ("a file moves", &|| fs::rename(house.path("d3/f3"), house.path("d4/moved")).unwrap()),
            ("a directory moves", &|| {
                fs::rename(house.path("d0"), house.path("d4/below")).unwrap()
            }),
            ("a file goes", &|| fs::remove_file(house.path("d1/f1")).unwrap()),
            ("a directory goes", &|| fs::remove_dir_all(house.path("d2")).unwrap()),
            ("two directories change places", &|| {
                mv("d1", "d5");
                mv("d3", "d1");
                mv("d5", "d3");
            }),
            ("one takes the place of another that goes", &|| {
                fs::remove_dir_all(house.path("d1")).unwrap();
                mv("d4/below", "d1");
            }),
            ("one moves into what has its place", &|| {
                mv("d4", "d5");
                house.write("d4/n", "n");
                mv("d5", "d4/f4");
            }),
        ];
        for (what, edit) in edits {
            edit();
            // A file that is as fresh as its file system's clock is hashed again by the next scan.
            tokio::time::sleep(Duration::from_millis(30)).await;
            let job = house.scan_as(Mode::Content, false).await;
            assert_eq!(job.state, State::Completed, "{what}");
            let before = follower.seq;
            follower.follow(&house).await;
            assert!(follower.seq > before, "{what}");
            follower.assert_current(&house).await;
        }
        assert_eq!(follower.resets, 0);
        // Nothing changed: nothing is said.
        house.scan_as(Mode::Content, false).await;
        assert_eq!(house.now().await.change_seq, follower.seq);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_first_scan_is_a_reset_and_numbers_from_elsewhere_too() {
    on_each(|house| async move {
        house.write("a", "1");
        let mut follower = Follower::begin(&house).await;
        assert!(follower.paths.is_empty());
        house.scanned().await;
        follower.follow(&house).await;
        assert_eq!(follower.resets, 1);
        follower.assert_current(&house).await;
        let far = house.now().await.change_seq + 100;
        assert!(matches!(
            house.store.changes(house.location.id, far, 1).await.unwrap(),
            Log::Reset(_)
        ));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_moved_before_a_scan_was_killed_is_still_known_to_have_moved() {
    on_each(|house| async move {
        house.write("a/kept", "some bytes");
        house.write("b/other", "x");
        house.scanned().await;
        let before = house.all(Query { text: Some("kept".into()), ..Query::default() }).await[0].id;
        fs::rename(house.path("a/kept"), house.path("b/kept")).unwrap();
        // A scan that got as far as the rows and no further.
        let scan = house.store.begin_scan(house.location.id, Mode::Metadata).await.unwrap();
        let root = Root::open(house.tree.path()).unwrap();
        let listed = std::sync::Mutex::new(Vec::new());
        file_scan::walk(&root, &file_scan::WalkOptions::default(), |listing| {
            listed.lock().unwrap().push(listing.into());
            true
        });
        let batch = crate::store::Batch { listed: listed.into_inner().unwrap() };
        let merged = house.store.merge(scan, batch, |_| None).await.unwrap();
        assert_eq!((merged.added, merged.missing), (1, 1));
        let job = house.scanned().await;
        assert_eq!((result(&job, "moved"), result(&job, "removed")), (1, 0));
        let after = house.all(Query { text: Some("kept".into()), ..Query::default() }).await;
        assert_eq!(after[0].id, before);
    })
    .await;
}
