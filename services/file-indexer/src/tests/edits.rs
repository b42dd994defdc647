//! Trees that change between scans.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_first_scan_knows_everything_and_an_unchanged_one_touches_nothing() {
    on_each(|house| async move {
        for n in 0..300 {
            house.write(&format!("d{}/e{}/file {n}.TXT", n % 7, n % 31), format!("{n}"));
        }
        std::os::unix::fs::symlink("nowhere", house.path("link")).unwrap();
        let first = house.scanned().await;
        let dirs = result(&first, "directories");
        assert_eq!(result(&first, "unchanged_directories"), 0);
        let again = house.scanned().await;
        assert_eq!(result(&again, "unchanged_directories"), dirs);
        assert_eq!(result(&again, "added") + result(&again, "changed"), 0);
        let now = house.now().await;
        assert_eq!((now.files, now.entries), (300, result(&first, "entries")));
        assert_eq!(now.generation, 2);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn after_any_edits_the_index_is_the_tree() {
    on_each(|house| async move {
        let mut random = StdRng::seed_from_u64(7);
        for n in 0..60 {
            house.write(&format!("a{}/b{}/f{n}", n % 5, n % 3), vec![b'x'; n]);
        }
        house.scanned().await;
        for round in 0..12 {
            for _ in 0..random.random_range(1..12) {
                edit(house.tree.path(), &mut random);
            }
            let job = house.scan_as(Mode::Metadata, true).await;
            assert_eq!(job.state, State::Completed, "round {round}: {:?}", job.failure);
            house.assert_equal().await;
            assert_modes(&house).await;
        }
    })
    .await;
}

/// Modes are those of the tree, and so are links of files.
async fn assert_modes(house: &House) {
    for found in house.all(Query { with_hidden: true, ..Query::default() }).await {
        let meta = fs::symlink_metadata(house.path(&found.path())).unwrap();
        assert_eq!(found.mode.cast_unsigned(), meta.mode() & 0o7777, "{}", found.path());
        assert!(!meta.is_file() || found.links.cast_unsigned() == meta.nlink(), "{}", found.path());
    }
}

/// One random change of a tree.
fn edit(root: &Path, random: &mut StdRng) {
    let dirs: Vec<PathBuf> = all_below(root).into_iter().filter(|path| path.is_dir()).collect();
    let files: Vec<PathBuf> = all_below(root).into_iter().filter(|path| path.is_file()).collect();
    let pick = |list: &[PathBuf], random: &mut StdRng| -> Option<PathBuf> {
        (!list.is_empty()).then(|| list[random.random_range(0..list.len())].clone())
    };
    let into = pick(&dirs, random).unwrap_or_else(|| root.to_owned());
    let name = format!("n{}", random.random_range(0..40));
    match random.random_range(0..10) {
        0 => drop(fs::write(into.join(&name), vec![b'y'; random.random_range(0..50)])),
        1 => drop(fs::create_dir(into.join(&name))),
        2 => drop(pick(&files, random).map(fs::remove_file)),
        3 => drop(pick(&dirs, random).filter(|dir| dir != root).map(fs::remove_dir_all)),
        4 => drop(pick(&files, random).map(|file| fs::rename(file, into.join(&name)))),
        5 => drop(pick(&dirs, random).map(|dir| fs::rename(dir, into.join(&name)))),
        6 => drop(pick(&files, random).map(|file| fs::hard_link(file, into.join(&name)))),
        7 => {
            let path = pick(if name.as_str() < "n2" { &dirs } else { &files }, random);
            let mode = fs::Permissions::from_mode([0o700, 0o750, 0o755][random.random_range(0..3)]);
            drop(path.map(|path| fs::set_permissions(path, mode)));
        }
        // One directory in the place of another, which comes elsewhere.
        8 => {
            let Some((one, other)) = pick(&dirs, random).zip(pick(&dirs, random)) else { return };
            let is_free = !root.join("swapped").exists();
            if is_free && !one.starts_with(&other) && !other.starts_with(&one) {
                fs::rename(&one, root.join("swapped")).unwrap();
                fs::rename(&other, &one).unwrap();
                drop(fs::rename(root.join("swapped"), into.join(&name)));
            }
        }
        _ => drop(pick(&files, random).map(|file| fs::write(file, "edited"))),
    }
}

fn all_below(root: &Path) -> Vec<PathBuf> {
    tree_of(root).into_keys().map(|path| root.join(std::ffi::OsStr::from_bytes(&path))).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_moved_subtree_is_renamed_and_keeps_its_rows() {
    on_each(|house| async move {
        for n in 0..50 {
            house.write(&format!("old/deep/er/f{n}"), "x");
        }
        house.write("beside", "x");
        house.scanned().await;
        let before = house.all(Query::default()).await;
        fs::create_dir(house.path("new")).unwrap();
        fs::rename(house.path("old/deep"), house.path("new/place")).unwrap();
        let job = house.scanned().await;
        assert_eq!(result(&job, "moved"), 1, "{:?}", job.result);
        let id = |found: &[Found], path: &str| {
            found.iter().find(|found| found.path() == path).unwrap_or_else(|| panic!("{path}")).id
        };
        let after = house.all(Query::default()).await;
        for (old, new) in [("old/deep", "new/place"), ("old/deep/er/f7", "new/place/er/f7")] {
            assert_eq!(id(&before, old), id(&after, new), "{new}");
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_moved_file_is_the_same_entry_and_a_new_one_in_its_inode_is_not() {
    on_each(|house| async move {
        house.write("a/file.txt", "content");
        house.write("b/other", "other");
        house.scanned().await;
        let before = house.all(Query { text: Some("file".into()), ..Query::default() }).await;
        fs::rename(house.path("a/file.txt"), house.path("b/renamed.md")).unwrap();
        let job = house.scanned().await;
        assert_eq!(result(&job, "moved"), 1);
        let after = house.all(Query { text: Some("renamed".into()), ..Query::default() }).await;
        assert_eq!((after[0].id, after[0].ext.as_str()), (before[0].id, "md"));
        // Deleted and made anew, it may get the inode but not the birth.
        fs::remove_file(house.path("b/renamed.md")).unwrap();
        fs::write(house.path("a/another"), "content").unwrap();
        house.scanned().await;
        let other = house.all(Query { text: Some("another".into()), ..Query::default() }).await;
        assert_ne!(other[0].id, before[0].id);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_takes_a_directorys_place_takes_all_below_it_along() {
    on_each(|house| async move {
        for n in 0..8 {
            house.write(&format!("stays/{n}"), "s");
        }
        house.write("a/b/c", "c");
        house.write("moves/d/e", "e");
        house.scanned().await;
        std::fs::remove_dir_all(house.path("a")).unwrap();
        house.write("a", "now a file");
        // One that moved away is not lost with its place.
        std::fs::rename(house.path("moves"), house.path("stays/moved")).unwrap();
        std::os::unix::fs::symlink("..", house.path("moves")).unwrap();
        house.scanned().await;
        std::fs::remove_file(house.path("a")).unwrap();
        house.write("a/b", "a directory again");
        house.scanned().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edit_whose_time_was_put_back_is_seen() {
    on_each(|house| async move {
        house.write("file", "aaaa");
        house.scan_as(Mode::Content, false).await;
        let hash = |found: &[Found]| found[0].content.as_ref().map(|content| content.hash.clone());
        let all = || house.all(Query::default());
        assert_eq!(hash(&all().await).unwrap(), blake3(b"aaaa"));
        let time = fs::metadata(house.path("file")).unwrap().modified().unwrap();
        let ctime = |path: &Path| {
            let meta = fs::metadata(path).unwrap();
            (meta.ctime(), meta.ctime_nsec())
        };
        let before = ctime(&house.path("file"));
        while ctime(&house.path("file")) == before {
            fs::write(house.path("file"), "bbbb").unwrap();
            let file = fs::File::options().write(true).open(house.path("file")).unwrap();
            file.set_modified(time).unwrap();
        }
        house.scan_as(Mode::Content, false).await;
        assert_eq!(hash(&all().await).unwrap(), blake3(b"bbbb"));
    })
    .await;
}

/// By the hash's own crate, through the walk's.
fn blake3(bytes: &[u8]) -> Vec<u8> {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("f"), bytes).unwrap();
    let ino = fs::metadata(dir.path().join("f")).unwrap().ino();
    let root = Root::open(dir.path()).unwrap();
    file_scan::Hasher::default().hash(&root, b"f", ino).unwrap().hash.to_vec()
}
