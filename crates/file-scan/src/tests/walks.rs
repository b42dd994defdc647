//! Walking.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::sync::atomic::{AtomicBool, Ordering};

use super::*;
use crate::{Kind, Rules, names as texts};

#[test]
fn everything_is_listed_once_parents_first() {
    let dir = tempfile::tempdir().unwrap();
    for n in 0..40 {
        fs::create_dir_all(dir.path().join(format!("a{n}/b/c"))).unwrap();
        fs::write(dir.path().join(format!("a{n}/b/c/file")), "x").unwrap();
    }
    for threads in [1, 4] {
        let options = WalkOptions { threads, ..WalkOptions::default() };
        let (found, summary) = listed(dir.path(), &options);
        assert_eq!((found.len(), summary.dirs, summary.entries), (121, 121, 160));
        assert!(found.values().all(Listing::is_complete));
        assert_eq!(found[&b"a7/b/c"[..].to_vec()].totals(), (1, 1));
    }
}

#[test]
fn loops_pipes_and_sockets_are_seen_and_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    symlink(".", dir.path().join("loop")).unwrap();
    symlink("/", dir.path().join("root")).unwrap();
    symlink("nowhere", dir.path().join("dangling")).unwrap();
    let _socket = UnixListener::bind(dir.path().join("socket")).unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        dir.path().join("pipe"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::from_raw_mode(0o600),
        0,
    )
    .unwrap();
    let (found, summary) = listed(dir.path(), &WalkOptions::default());
    assert_eq!(summary.dirs, 1);
    let root = &found[&Vec::new()];
    let kinds: Vec<_> = root.entries.iter().map(|entry| entry.kind).collect();
    assert_eq!(names(root), ["dangling", "loop", "pipe", "root", "socket"]);
    assert_eq!(kinds, [Kind::Symlink, Kind::Symlink, Kind::Fifo, Kind::Symlink, Kind::Socket]);
    assert_eq!(root.entries[3].target.as_deref(), Some(&b"/"[..]));
}

#[test]
fn names_of_any_bytes_come_through_and_back() {
    let dir = tempfile::tempdir().unwrap();
    let odd: [&[u8]; 5] =
        [b"new\nline", b"\xff.jpg", b"\xfe.jpg", "\u{10ffaa}".as_bytes(), b"plain"];
    for name in odd {
        fs::write(dir.path().join(OsStr::from_bytes(name)), "x").unwrap();
    }
    let (found, _) = listed(dir.path(), &WalkOptions::default());
    let root = &found[&Vec::new()];
    let mut unique: Vec<String> = names(root);
    for (text, entry) in unique.iter().zip(&root.entries) {
        assert_eq!(texts::bytes(text), entry.name);
    }
    unique.sort();
    unique.dedup();
    assert_eq!(unique.len(), 5);
    assert_eq!(texts::shown(&texts::text(b"\xff.jpg")), "\u{fffd}.jpg");
    assert!(!texts::is_plain(&texts::text(b"\xff.jpg")) && texts::is_plain("ü\n"));
}

#[test]
fn a_path_of_more_than_four_thousand_bytes_is_walked() {
    let dir = tempfile::tempdir().unwrap();
    let mut fd = rustix::fs::open(
        dir.path(),
        rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::DIRECTORY,
        rustix::fs::Mode::empty(),
    )
    .unwrap();
    let name = "n".repeat(250);
    for _ in 0..20 {
        rustix::fs::mkdirat(&fd, &name, rustix::fs::Mode::from_raw_mode(0o755)).unwrap();
        fd = rustix::fs::openat(
            &fd,
            &name,
            rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::DIRECTORY,
            rustix::fs::Mode::empty(),
        )
        .unwrap();
    }
    let (found, summary) = listed(dir.path(), &WalkOptions::default());
    assert_eq!((summary.dirs, summary.errors), (21, 0));
    assert_eq!(found.keys().map(Vec::len).max(), Some(20 * 251 - 1));
}

#[test]
fn an_unreadable_directory_says_so_and_the_rest_goes_on() {
    if rustix::process::geteuid().is_root() {
        // Root reads everything: what can't be opened is shown by a directory that is gone.
        return gone_in_between();
    }
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir_all(dir.path().join("closed/in")).unwrap();
    fs::create_dir_all(dir.path().join("open")).unwrap();
    fs::set_permissions(dir.path().join("closed"), fs::Permissions::from_mode(0o000)).unwrap();
    let (found, summary) = listed(dir.path(), &WalkOptions::default());
    fs::set_permissions(dir.path().join("closed"), fs::Permissions::from_mode(0o755)).unwrap();
    assert_eq!(summary.errors, 1);
    assert!(found[&b"closed"[..].to_vec()].error.as_ref().unwrap().contains("opened"));
    assert!(found[&b"open"[..].to_vec()].is_complete());
}

fn gone_in_between() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir_all(dir.path().join("a/b")).unwrap();
    let root = Root::open(dir.path()).unwrap();
    let (removed, failed) = (AtomicBool::new(false), AtomicBool::new(false));
    walk(&root, &WalkOptions { threads: 1, ..WalkOptions::default() }, |listing| {
        if !removed.swap(true, Ordering::SeqCst) {
            fs::remove_dir_all(dir.path().join("a")).unwrap();
        } else {
            failed.store(!listing.is_complete(), Ordering::SeqCst);
        }
        true
    });
    assert!(failed.into_inner());
}

#[test]
fn a_directory_that_was_swapped_is_not_read() {
    let dir = tempfile::tempdir().unwrap();
    let other = tempfile::tempdir().unwrap();
    fs::write(other.path().join("secret"), "x").unwrap();
    fs::create_dir(dir.path().join("a")).unwrap();
    fs::create_dir(dir.path().join("b")).unwrap();
    let root = Root::open(dir.path()).unwrap();
    let swapped = AtomicBool::new(false);
    let listings = Mutex::new(Vec::new());
    walk(&root, &WalkOptions { threads: 1, ..WalkOptions::default() }, |listing| {
        if !swapped.swap(true, Ordering::SeqCst) {
            // One becomes a symlink out of the tree, the other another directory.
            fs::remove_dir(dir.path().join("a")).unwrap();
            symlink(other.path(), dir.path().join("a")).unwrap();
            fs::rename(dir.path().join("b"), dir.path().join("kept")).unwrap();
            fs::create_dir(dir.path().join("b")).unwrap();
            fs::write(dir.path().join("b/new"), "x").unwrap();
        }
        listings.lock().unwrap().push(listing);
        true
    });
    let listings = listings.into_inner().unwrap();
    assert_eq!(listings.len(), 3);
    for listing in &listings[1..] {
        assert!(!listing.is_complete() && listing.entries.is_empty(), "{listing:?}");
    }
}

#[test]
fn rules_leave_out_and_take_back() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir_all(dir.path().join("node_modules/x")).unwrap();
    fs::create_dir_all(dir.path().join("src")).unwrap();
    for name in ["a.tmp", "keep.tmp", "src/b.tmp", "src/c.rs"] {
        fs::write(dir.path().join(name), "x").unwrap();
    }
    let rules = Rules::new(&["node_modules/", "*.tmp", "!keep.tmp"]).unwrap();
    let options = WalkOptions { rules, ..WalkOptions::default() };
    let (found, _) = listed(dir.path(), &options);
    assert_eq!(names(&found[&Vec::new()]), ["keep.tmp", "src"]);
    assert_eq!(names(&found[&b"src"[..].to_vec()]), ["c.rs"]);
    assert!(Rules::new(&["a{b"]).is_err() || Rules::new(&["[z-a]"]).is_err());
}

#[test]
fn the_sink_ends_the_walk() {
    let dir = tempfile::tempdir().unwrap();
    for n in 0..100 {
        fs::create_dir(dir.path().join(n.to_string())).unwrap();
    }
    let root = Root::open(dir.path()).unwrap();
    let summary = walk(&root, &WalkOptions::default(), |_| false);
    assert!(summary.stopped && summary.dirs < 10);
}

#[test]
fn the_fingerprint_sees_a_restored_time_and_not_a_touched_subdirectory() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("sub")).unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "aaaa").unwrap();
    let print = || listed(dir.path(), &WalkOptions::default()).0[&Vec::new()].fingerprint();
    let first = print();
    assert_eq!(first, print());
    fs::write(dir.path().join("sub/new"), "x").unwrap();
    assert_eq!(first, print(), "the subdirectory has a listing of its own");
    let time = fs::metadata(&file).unwrap().modified().unwrap();
    // The clock of the file system moves in steps: wait until this is another one.
    while print() == first {
        fs::write(&file, "bbbb").unwrap();
        fs::File::options().write(true).open(&file).unwrap().set_modified(time).unwrap();
    }
    assert_eq!(fs::metadata(&file).unwrap().modified().unwrap(), time);
}

#[test]
fn a_root_that_is_away_is_told_from_one_that_is_none() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("file"), "x").unwrap();
    let missing = Root::open(&dir.path().join("nothing")).unwrap_err();
    assert!(matches!(missing, crate::RootError::Missing(_)), "{missing}");
    let file = Root::open(&dir.path().join("file")).unwrap_err();
    assert!(matches!(file, crate::RootError::NotADirectory(_)), "{file}");
    let root = Root::open(dir.path()).unwrap();
    for way in [&b".."[..], b"../x", b"/etc"] {
        assert!(root.dir(way).is_err(), "{way:?}");
    }
}

#[test]
fn a_large_directory_is_handed_over_in_pages_that_are_all_of_it() {
    let dir = tempfile::tempdir().unwrap();
    let large = dir.path().join("large");
    fs::create_dir(&large).unwrap();
    for n in 0..95_u32 {
        fs::write(large.join(format!("f{:02}", (n * 37) % 95)), "xy").unwrap();
    }
    // Before "é" as bytes, after it as text.
    fs::write(large.join(OsStr::from_bytes(b"\xa9")), "x").unwrap();
    fs::write(large.join("é"), "x").unwrap();
    fs::create_dir(large.join("below")).unwrap();
    fs::write(large.join("below/file"), "x").unwrap();
    let (whole, _) = listed(dir.path(), &WalkOptions::default());
    let options = WalkOptions { page: Some(10), ..WalkOptions::default() };
    let (paged, summary) = listed(dir.path(), &options);
    assert_eq!((summary.dirs, summary.entries, summary.errors), (3, 100, 0));
    assert!(paged[&b"large/below"[..].to_vec()].large.is_none());
    let (whole, paged) = (&whole[&b"large"[..].to_vec()], &paged[&b"large"[..].to_vec()]);
    let pages = paged.large.as_ref().unwrap();
    assert!(paged.is_complete() && paged.entries.is_empty());
    assert_eq!((paged.entry_count(), paged.totals()), (98, whole.totals()));

    let mut found = Vec::new();
    let seen = pages.pages(|page| {
        assert!((1..=10).contains(&page.len()));
        found.extend(page);
        true
    });
    assert_eq!((&seen, seen.print), (pages.seen(), Some(paged.fingerprint())));
    let texts: Vec<String> = found.iter().map(|entry| texts::text(&entry.name)).collect();
    assert!(texts.is_sorted(), "{texts:?}");
    found.sort_by(|a, b| a.name.cmp(&b.name));
    assert_eq!(found, whole.entries);

    // What changes meanwhile has another print; who has enough says so.
    fs::remove_file(large.join("f00")).unwrap();
    let now = pages.pages(|_| true);
    assert_ne!(now.print, seen.print);
    assert_eq!((now.entries, now.totals), (97, (96, 190)));
    let mut count = 0;
    let stopped = pages.pages(|page| {
        count += page.len();
        false
    });
    assert_eq!((count, stopped.print), (9, None));
}
