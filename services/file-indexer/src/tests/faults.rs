//! What must not lose anything.

use std::ffi::OsStr;
use std::fs;

use file_scan::{Identity, Listing};

use super::*;
use crate::store::{Batch, ScanKey};

#[tokio::test(flavor = "multi_thread")]
async fn a_location_that_came_back_empty_asks_and_keeps_everything() {
    on_each(|house| async move {
        for n in 0..20 {
            house.write(&format!("d/f{n}"), "x");
        }
        house.write("d/e/deep", "x");
        house.write("dx", "x");
        house.scanned().await;
        let before = house.index().await;
        fs::remove_dir_all(house.path("d")).unwrap();
        let job = house.scan().await;
        assert_eq!((job.state, result(&job, "removed")), (State::Completed, 0));
        assert_eq!(house.index().await, before);
        let now = house.now().await;
        assert_eq!(now.missing, 23);
        assert!(now.problem.contains("23 of 24"), "{}", now.problem);
        // All that lies below says so, too.
        for shown in house.shown().await {
            assert_eq!(shown.found.is_missing(), shown.found.name != "dx", "{:?}", shown.found);
        }
        // It is asked again, and removed once somebody says so.
        house.scan().await;
        assert_eq!(house.index().await.len(), 24);
        let job = house.scan_as(Mode::Metadata, true).await;
        assert_eq!(result(&job, "removed"), 23);
        assert_eq!(house.index().await.len(), 1);
        assert_eq!((house.now().await.missing, house.now().await.problem), (0, String::new()));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_comes_back_before_anybody_decides_is_just_there() {
    on_each(|house| async move {
        for n in 0..10 {
            house.write(&format!("d/f{n}"), "x");
        }
        house.scanned().await;
        let before = house.all(Query::default()).await;
        fs::rename(house.path("d"), house.tree.path().with_extension("away")).unwrap();
        house.scan().await;
        fs::rename(house.tree.path().with_extension("away"), house.path("d")).unwrap();
        house.scanned().await;
        let after = house.all(Query::default()).await;
        let ids = |found: &[Found]| found.iter().map(|found| found.id).collect::<Vec<_>>();
        assert_eq!(ids(&before), ids(&after));
        assert!(after.iter().all(|found| !found.is_gone));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_root_that_is_away_fails_the_scan_and_changes_nothing() {
    on_each(|house| async move {
        house.write("a/f", "x");
        house.scanned().await;
        let before = house.index().await;
        let away = house.tree.path().with_extension("offline");
        fs::rename(house.tree.path(), &away).unwrap();
        let job = house.scan_as(Mode::Metadata, true).await;
        assert_eq!(job.state, State::Failed);
        assert_eq!(job.failure.unwrap().reason, "LOCATION_OFFLINE");
        assert_eq!(house.index().await, before);
        assert!(!house.now().await.problem.is_empty());
        // Another directory under its name is not it.
        fs::create_dir(house.tree.path()).unwrap();
        fs::write(house.path("stranger"), "x").unwrap();
        let job = house.scan().await;
        assert_eq!((job.state, result(&job, "removed")), (State::Completed, 0));
        assert!(house.now().await.problem.contains("another directory"));
        assert!(house.index().await.contains_key(&b"a/f"[..]));
        fs::remove_dir_all(house.tree.path()).unwrap();
        fs::rename(&away, house.tree.path()).unwrap();
        let job = house.scan().await;
        assert_eq!(job.state, State::Completed);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_conflict_that_does_not_pass_fails_the_scan() {
    let data = tempfile::tempdir().unwrap();
    let settings = sql_store::SqlSettings::sqlite(data.path());
    let house = House::new(Store::open(&settings).await.unwrap(), data.path()).await;
    let sql = sql_store::SqlStore::open(&settings, "files").await.unwrap();
    sql.run_script("CREATE UNIQUE INDEX odd ON entry (dir_id, size)", vec![]).await.unwrap();
    house.write("a", "x");
    house.write("b", "y");
    let job = house.scan().await;
    assert_eq!(job.state, State::Failed);
    assert_eq!(job.failure.unwrap().reason, "SCAN_CONFLICT");
    assert!(house.now().await.problem.contains("conflict 3 times"));
    sql.run_script("DROP INDEX odd", vec![]).await.unwrap();
    house.scanned().await;
    assert_eq!(house.now().await.problem, "");
    house.shutdown.cancel();
}

fn listing(path: &str, names: &[&str], error: Option<&str>) -> Listing {
    let entry = |name: &&str| file_scan::Entry {
        name: name.as_bytes().to_vec(),
        kind: file_scan::Kind::File,
        size: 1,
        times: file_scan::Times::default(),
        dev: 1,
        ino: 7,
        links: 1,
        mode: 0o644,
        uid: 0,
        gid: 0,
        target: None,
    };
    Listing {
        path: path.as_bytes().to_vec(),
        dev: 1,
        ino: 2,
        modified: 0,
        born: Some(1),
        entries: names.iter().map(entry).collect(),
        large: None,
        error: error.map(str::to_owned),
    }
}

async fn merge(house: &House, scan: ScanKey, listings: Vec<Listing>) -> crate::store::Merged {
    let listed = listings.into_iter().map(Into::into).collect();
    let nowhere = |_: &str| None::<Identity>;
    house.store.merge(scan, Batch { listed }, nowhere).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_that_was_not_read_to_its_end_loses_nothing() {
    on_each(|house| async move {
        let scan = house.store.begin_scan(house.location.id, Mode::Metadata).await.unwrap();
        merge(&house, scan, vec![listing("", &["a", "b"], None)]).await;
        let cut = merge(&house, scan, vec![listing("", &["c"], Some("EIO"))]).await;
        assert_eq!((cut.added, cut.missing), (1, 0));
        assert_eq!(house.index().await.len(), 3);
        // Read whole again it is compared, although it looks as it first did.
        let whole = merge(&house, scan, vec![listing("", &["a", "b"], None)]).await;
        assert_eq!((whole.unchanged, whole.missing), (0, 1));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scan_that_was_overtaken_writes_nothing_more() {
    on_each(|house| async move {
        let first = house.store.begin_scan(house.location.id, Mode::Metadata).await.unwrap();
        let second = house.store.begin_scan(house.location.id, Mode::Metadata).await.unwrap();
        assert_eq!((first.epoch, second.epoch), (1, 2));
        let batch = Batch { listed: vec![listing("", &["a"], None).into()] };
        let error = house.store.merge(first, batch, |_| None).await.unwrap_err();
        assert_eq!(error.reason_text(), "LEASE_LOST");
        assert!(house.store.sweep(first).await.is_ok_and(|removed| removed.is_none()));
        assert!(house.index().await.is_empty());
        merge(&house, second, vec![listing("", &["a"], None)]).await;
        assert_eq!(house.index().await.len(), 1);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn names_of_any_bytes_are_kept_apart_and_found() {
    on_each(|house| async move {
        let odd: [&[u8]; 6] = [
            b"new\nline.txt",
            b"\xff.jpg",
            b"\xfe.jpg",
            b"quo\"te\\{,}",
            b"%_percent",
            b"\xff\xff",
        ];
        for name in odd {
            fs::write(house.tree.path().join(OsStr::from_bytes(name)), "x").unwrap();
        }
        fs::create_dir(house.tree.path().join(OsStr::from_bytes(b"\xfd dir"))).unwrap();
        fs::write(house.tree.path().join(OsStr::from_bytes(b"\xfd dir/in")), "x").unwrap();
        house.scanned().await;
        house.scanned().await;
        for (text, count) in [("w\nl", 1), ("jpg", 2), ("%_per", 1), ("\"te\\", 1), ("_percent", 1)]
        {
            let query = Query { text: Some(text.to_owned()), ..Query::default() };
            assert_eq!(house.all(query).await.len(), count, "{text:?}");
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn loops_pipes_and_long_paths_are_indexed() {
    on_each(|house| async move {
        std::os::unix::fs::symlink("..", house.path("loop")).unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(house.path("socket")).unwrap();
        let mut deep = house.tree.path().to_owned();
        for _ in 0..15 {
            deep.push("n".repeat(240));
        }
        fs::create_dir_all(&deep).unwrap();
        fs::write(deep.join("leaf"), "x").unwrap();
        house.scanned().await;
        let found = house.all(Query { text: Some("leaf".into()), ..Query::default() }).await;
        assert_eq!(found[0].path().len(), 15 * 241 + 4);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_in_the_future_and_a_hard_link_are_no_trouble() {
    on_each(|house| async move {
        house.write("future", "x");
        let file = fs::File::options().write(true).open(house.path("future")).unwrap();
        file.set_modified(std::time::SystemTime::now() + Duration::from_secs(400 * 86_400))
            .unwrap();
        fs::hard_link(house.path("future"), house.path("twin")).unwrap();
        house.scan_as(Mode::Content, false).await;
        house.assert_equal().await;
        let found = house.all(Query::default()).await;
        assert!(found.iter().all(|found| found.links == 2 && found.content.is_some()));
        let again = house.scan_as(Mode::Content, false).await;
        assert_eq!(result(&again, "changed"), 0);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scan_that_is_stopped_anywhere_goes_on_to_the_same_end() {
    on_each(|house| async move {
        for n in 0..2_000 {
            house.write(&format!("d{}/f{n}", n % 97), "x");
        }
        for _ in 0..4 {
            let id = house.location.uuid.to_string();
            let scan =
                house.indexer.scan_location(&house.caller, &id, Default::default()).await.unwrap();
            house.indexer.jobs().pause(scan).await.unwrap();
            let paused = async {
                loop {
                    let job = house.indexer.jobs().find(scan).await.unwrap().unwrap();
                    if job.state != State::Queued && job.state != State::Running {
                        return job.state;
                    }
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            };
            if paused.await == State::Paused {
                house.indexer.jobs().resume(scan).await.unwrap();
            }
            assert_eq!(house.ended(scan).await.state, State::Completed);
            house.assert_equal().await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_directory_of_many_files() {
    on_each(|house| async move {
        for n in 0..6_000 {
            fs::write(house.path(&format!("{n}")), "").unwrap();
        }
        let job = house.scanned().await;
        assert_eq!(result(&job, "added"), 6_000);
        fs::write(house.path("one more"), "").unwrap();
        fs::remove_file(house.path("7")).unwrap();
        let job = house.scanned().await;
        assert_eq!((result(&job, "added"), result(&job, "removed")), (1, 1));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_of_any_size_is_written_in_parts() {
    const COUNT: usize = 20_500;
    let names: Vec<String> = (0..COUNT).map(|n| format!("{n:06}.jpg")).collect();
    let of = |names: &[String]| {
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        listing("", &names, None)
    };
    let (all, fewer) = (&of(&names), &of(&names[1..]));
    on_each(|house| async move {
        let scan = house.store.begin_scan(house.location.id, Mode::Metadata).await.unwrap();
        let merged = merge(&house, scan, vec![all.clone()]).await;
        assert_eq!(merged.added, i64::try_from(COUNT).unwrap());
        // Its fingerprint came with the last part.
        let again = merge(&house, scan, vec![all.clone()]).await;
        assert_eq!((again.unchanged, again.added, again.changed), (1, 0, 0));
        let less = merge(&house, scan, vec![fewer.clone()]).await;
        assert_eq!((less.added, less.changed, less.missing), (0, 0, 1));
        // A scan that took over in the middle: the fingerprint is not there, and the
        // directory is compared again.
        let second = house.store.begin_scan(house.location.id, Mode::Metadata).await.unwrap();
        let batch = Batch { listed: vec![all.clone().into()] };
        let error = house.store.merge(scan, batch, |_| None).await.unwrap_err();
        assert_eq!(error.reason_text(), "LEASE_LOST");
        let back = merge(&house, second, vec![all.clone()]).await;
        assert_eq!((back.unchanged, back.added, back.missing), (0, 0, 0));
        assert!(house.all(Query::default()).await.iter().all(|found| !found.is_gone));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scan_that_accepts_removals_does_not_pass_as_one_that_does_not() {
    on_each(|mut house| async move {
        // The first stays queued.
        house.without_runners().await;
        let id = house.location.uuid.to_string();
        let ask = |accept_removals| {
            let asked = ScanAsked { accept_removals, ..ScanAsked::default() };
            house.indexer.scan_location(&house.caller, &id, asked)
        };
        let queued = ask(false).await.unwrap();
        let refused = ask(true).await.unwrap_err();
        assert_eq!(refused.reason_text(), "JOB_KEY_TAKEN", "{refused:?}");
        assert_eq!(ask(false).await.unwrap(), queued);
        house.indexer.jobs().cancel(queued).await.unwrap();
        let accepting = ask(true).await.unwrap();
        assert_eq!(ask(true).await.unwrap(), accepting);
        assert_eq!(ask(false).await.unwrap(), accepting);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_without_end_is_left_when_its_job_is_cancelled() {
    on_each(|house| async move {
        // Hours of zeros.
        house.write("endless", "");
        let file = fs::File::options().write(true).open(house.path("endless")).unwrap();
        file.set_len(1 << 42).unwrap();
        let id = house.location.uuid.to_string();
        let asked = ScanAsked { mode: Some(Mode::Content), ..ScanAsked::default() };
        let job = house.indexer.scan_location(&house.caller, &id, asked).await.unwrap();
        let hashes = async || {
            let job = house.indexer.jobs().find(job).await.unwrap().unwrap();
            job.progress.phase == "hashing"
        };
        while !hashes().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let begun = std::time::Instant::now();
        house.indexer.jobs().cancel(job).await.unwrap();
        let job = house.ended(job).await;
        assert_eq!(job.state, State::Cancelled);
        assert!(begun.elapsed() < Duration::from_secs(4), "{:?}", begun.elapsed());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_verification_tells_removed_files_from_changed_ones() {
    on_each(|house| async move {
        house.write("gone", "1");
        house.write("other", "2");
        tokio::time::sleep(Duration::from_millis(50)).await;
        house.scan_as(Mode::Content, false).await;
        fs::remove_file(house.path("gone")).unwrap();
        house.write("other", "another");
        let id = house.location.uuid.to_string();
        let job = house.indexer.verify_location(&house.caller, &id).await.unwrap();
        let job = house.ended(job).await;
        assert_eq!((result(&job, "sound"), result(&job, "drifted")), (0, 2));
        let errors = house.indexer.jobs().item_errors(job.id, 10).await.unwrap();
        for (item, words) in [("gone", "removed"), ("other", "changed")] {
            let is_told =
                |error: &jobs::ItemError| error.item == item && error.message.contains(words);
            assert!(errors.iter().any(is_told), "{item}: {errors:?}");
        }
    })
    .await;
}
