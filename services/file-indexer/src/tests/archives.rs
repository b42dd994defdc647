//! Archives as directories.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::process::Command;

use super::*;

/// Another program's archives of a directory.
fn pack(house: &House, archive: &str, members: &[&str]) {
    let from = house.path("");
    let run = |program: &str, args: &[&str]| {
        let status = Command::new(program).current_dir(&from).args(args).args(members).status();
        assert!(status.unwrap().success(), "{program} {args:?}");
    };
    if archive.ends_with(".zip") {
        run("python3", &["-m", "zipfile", "-c", archive]);
    } else if archive.ends_with(".gz") {
        run("tar", &["czf", archive]);
    } else {
        run("tar", &["cf", archive]);
    }
}

async fn with_archives(house: &mut House) {
    house.store.set_archives(house.location.id, true).await.unwrap();
    house.location.archives = true;
}

async fn completed(house: &House, mode: Mode) -> Job {
    let job = house.scan_as(mode, false).await;
    assert_eq!(job.state, State::Completed, "{:?}", job.failure);
    job
}

async fn paths(house: &House) -> BTreeSet<String> {
    house.all(Query::default()).await.iter().map(Found::path).collect()
}

async fn errors(house: &House, job: &Job) -> Vec<(String, String)> {
    let errors = house.indexer.jobs().item_errors(job.id, 1_000).await.unwrap();
    errors.into_iter().map(|error| (error.item, error.message)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn members_are_files_below_their_archive() {
    on_each(|mut house| async move {
        house.write("plain/same.txt", "the same bytes");
        house.write("in/same.txt", "the same bytes");
        house.write("in/deep/other.txt", "others");
        pack(&house, "in.zip", &["in"]);
        pack(&house, "in.tar", &["in"]);
        pack(&house, "in.tar.gz", &["in"]);
        std::fs::remove_dir_all(house.path("in")).unwrap();
        // Times that are as fresh as the scan are looked at again.
        tokio::time::sleep(Duration::from_millis(50)).await;
        completed(&house, Mode::Content).await;
        assert_eq!(paths(&house).await.len(), 5, "off unless it is asked for");
        with_archives(&mut house).await;
        let job = completed(&house, Mode::Content).await;
        assert_eq!((result(&job, "archives_read"), result(&job, "hashed")), (3, 6), "{job:?}");
        let found = paths(&house).await;
        for archive in ["in.zip", "in.tar", "in.tar.gz"] {
            for member in ["in", "in/same.txt", "in/deep", "in/deep/other.txt"] {
                assert!(
                    found.contains(&format!("{archive}/{member}")),
                    "{archive}/{member} in {found:?}"
                );
            }
        }
        let ids = [house.location.id];
        let groups =
            house.store.duplicate_groups(crate::store::GroupKey::Content, &ids, 0, None, 10);
        let (groups, totals) = groups.await.unwrap();
        let groups: BTreeMap<i64, i64> =
            groups.into_iter().map(|group| (group.size, group.count)).collect();
        assert_eq!(groups, [(14, 4), (6, 3)].into(), "with plain files");
        // In the archives every member is an inode of its own.
        assert_eq!((totals.groups, totals.files), (2, 7));
        let mode = crate::app::DuplicateMode::Content;
        let id = house.location.uuid.to_string();
        let page = house.indexer.duplicates(&house.caller, &id, mode, 0, true, None, 10).await;
        let verified: Vec<usize> =
            page.unwrap().groups.iter().map(|group| group.files.len()).collect();
        assert_eq!(verified, [4, 3], "their bytes compared");
        // Totals are the disk's; within an archive they are its members'.
        let now = house.now().await;
        assert_eq!((now.files, now.members), (4, 6));
        let usage =
            async |path: &str| house.store.usage(house.location.id, path).await.unwrap().unwrap();
        assert_eq!(usage("").await.files, 4);
        assert_eq!((usage("in.zip").await.files, usage("in.zip").await.bytes), (2, 20));
        assert_eq!(usage("in.tar/in/deep").await.bytes, 6);
        // Unchanged, none is opened again.
        let job = completed(&house, Mode::Content).await;
        assert_eq!((result(&job, "archives"), result(&job, "archives_read")), (3, 0));
        assert_eq!(result(&job, "hashed"), 0);
        // Looked into no more, they are files.
        house.store.set_archives(house.location.id, false).await.unwrap();
        completed(&house, Mode::Content).await;
        assert_eq!(paths(&house).await.len(), 5);
        assert_eq!(house.now().await.members, 0);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_archive_that_changes_moves_or_goes_takes_its_members_along() {
    on_each(|mut house| async move {
        with_archives(&mut house).await;
        house.write("a/x.txt", "x");
        house.write("a/y.txt", "y");
        house.write("kept.txt", "k");
        house.write("other/file", "o");
        pack(&house, "a.zip", &["a"]);
        completed(&house, Mode::Content).await;
        let x = house.all(Query { prefix: Some("x.txt".into()), ..Query::default() }).await;
        let x = x.iter().find(|found| found.path() == "a.zip/a/x.txt").unwrap().id;
        house.write("a/z.txt", "z");
        std::fs::remove_file(house.path("a/y.txt")).unwrap();
        std::fs::remove_file(house.path("a.zip")).unwrap();
        pack(&house, "a.zip", &["a"]);
        completed(&house, Mode::Content).await;
        let inner = |found: &BTreeSet<String>, archive: &str| -> Vec<String> {
            let below = format!("{archive}/a/");
            found.iter().filter_map(|path| path.strip_prefix(&below)).map(str::to_owned).collect()
        };
        assert_eq!(inner(&paths(&house).await, "a.zip"), ["x.txt", "z.txt"]);
        // Renamed, and then its directory: a member stays the entry that it was.
        std::fs::create_dir(house.path("sub")).unwrap();
        std::fs::rename(house.path("a.zip"), house.path("sub/b.zip")).unwrap();
        completed(&house, Mode::Content).await;
        let found = paths(&house).await;
        assert_eq!(inner(&found, "sub/b.zip"), ["x.txt", "z.txt"], "{found:?}");
        assert!(inner(&found, "a.zip").is_empty());
        tokio::time::sleep(Duration::from_millis(50)).await;
        completed(&house, Mode::Content).await;
        std::fs::rename(house.path("sub"), house.path("moved")).unwrap();
        let job = completed(&house, Mode::Content).await;
        assert_eq!(result(&job, "archives_read"), 0, "a directory's move changes no archive");
        let now = house.all(Query { prefix: Some("x.txt".into()), ..Query::default() }).await;
        let now = now.iter().find(|found| found.path() == "moved/b.zip/a/x.txt").unwrap();
        assert_eq!(now.id, x);
        // A directory takes its name, and then it goes.
        std::fs::remove_file(house.path("moved/b.zip")).unwrap();
        house.write("moved/b.zip/plain", "p");
        completed(&house, Mode::Content).await;
        let found = paths(&house).await;
        assert!(
            inner(&found, "moved/b.zip").is_empty() && found.contains("moved/b.zip/plain"),
            "{found:?}"
        );
        std::fs::remove_dir_all(house.path("moved/b.zip")).unwrap();
        house.write("moved/b.zip", "no zip");
        let job = completed(&house, Mode::Content).await;
        let told = errors(&house, &job).await;
        assert!(
            told.iter().any(|(item, why)| item == "moved/b.zip" && why.contains("no zip")),
            "{told:?}"
        );
        std::fs::remove_file(house.path("moved/b.zip")).unwrap();
        completed(&house, Mode::Content).await;
        house.assert_equal().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_archive_is_told_and_loses_nothing() {
    on_each(|mut house| async move {
        with_archives(&mut house).await;
        house.write("a/x.txt", "x".repeat(50_000));
        house.write("a/y.txt", "y".repeat(50_000));
        pack(&house, "a.tar", &["a"]);
        pack(&house, "fine.zip", &["a"]);
        completed(&house, Mode::Content).await;
        let before = paths(&house).await;
        let whole = std::fs::read(house.path("a.tar")).unwrap();
        std::fs::write(house.path("a.tar"), &whole[..60_000]).unwrap();
        tokio::time::sleep(Duration::from_millis(50)).await;
        let job = completed(&house, Mode::Content).await;
        let cut = |told: &[(String, String)]| {
            told.iter().any(|(item, why)| item.starts_with("a.tar") && why.contains("ends within"))
        };
        assert!(cut(&errors(&house, &job).await));
        assert_eq!(paths(&house).await, before, "what may still be there is kept");
        // Told again, without being opened again.
        let job = completed(&house, Mode::Content).await;
        assert_eq!(result(&job, "archives_read"), 0);
        assert!(cut(&errors(&house, &job).await));
        std::fs::write(house.path("a.tar"), &whole).unwrap();
        let job = completed(&house, Mode::Content).await;
        assert!(errors(&house, &job).await.is_empty());
        assert_eq!(paths(&house).await, before);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn verification_reads_members_too() {
    on_each(|mut house| async move {
        with_archives(&mut house).await;
        house.write("a/x.txt", "x".repeat(1_000));
        pack(&house, "a.tar", &["a"]);
        tokio::time::sleep(Duration::from_millis(50)).await;
        completed(&house, Mode::Content).await;
        let id = house.location.uuid.to_string();
        let job = house.indexer.verify_location(&house.caller, &id).await.unwrap();
        let job = house.ended(job).await;
        assert_eq!((result(&job, "sound"), result(&job, "rotten")), (3, 0), "{job:?}");
        rot(&house.path("a.tar"));
        let job = house.indexer.verify_location(&house.caller, &id).await.unwrap();
        let job = house.ended(job).await;
        let told = errors(&house, &job).await;
        // The file's own time of change tells that it was written to.
        assert!(told.iter().any(|(item, _)| item == "a.tar"), "{told:?}");
    })
    .await;
}

/// Flips a byte of the first member and puts the time of the change back.
fn rot(path: &Path) {
    use std::os::unix::fs::FileExt;
    let file = std::fs::File::options().write(true).open(path).unwrap();
    let modified = file.metadata().unwrap().modified().unwrap();
    file.write_at(b"y", 1_100).unwrap();
    file.set_modified(modified).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn names_of_any_bytes_and_lying_members_come_through() {
    on_each(|mut house| async move {
        with_archives(&mut house).await;
        let mut tar = Vec::new();
        for (name, kind, bytes) in [
            (&b"\xff.txt"[..], b'0', &b"one"[..]),
            (b"../out", b'0', b"two"),
            (b"twice", b'0', b"old"),
            (b"twice", b'0', b"newer"),
            (b"place", b'0', b"file"),
            (b"place/below", b'0', b"three"),
            (b"empty/", b'5', b""),
            (b"link", b'2', b""),
        ] {
            member(&mut tar, name, kind, bytes);
        }
        tar.extend([0; 1_024]);
        std::fs::write(house.path("odd.tar"), tar).unwrap();
        std::fs::File::create(house.path("empty.zip")).unwrap().write_all(b"").unwrap();
        let job = completed(&house, Mode::Content).await;
        let found: BTreeMap<Vec<u8>, (i16, i64)> = house.index().await;
        let expected: BTreeMap<Vec<u8>, (i16, i64)> = [
            (&b"empty.zip"[..], (1, 0)),
            (
                b"odd.tar",
                (
                    1,
                    i64::try_from(std::fs::metadata(house.path("odd.tar")).unwrap().len()).unwrap(),
                ),
            ),
            (b"odd.tar/\xff.txt", (1, 3)),
            (b"odd.tar/twice", (1, 5)),
            (b"odd.tar/place", (2, 0)),
            (b"odd.tar/place/below", (1, 5)),
            (b"odd.tar/empty", (2, 0)),
        ]
        .into_iter()
        .map(|(path, is)| (path.to_vec(), is))
        .collect();
        assert_eq!(found, expected);
        let told = errors(&house, &job).await;
        for why in ["refused", "several members", "directory of the archive", "no zip"] {
            assert!(told.iter().any(|(_, said)| said.contains(why)), "{why}: {told:?}");
        }
    })
    .await;
}

/// A member by hand: a header that other programs would not write.
fn member(tar: &mut Vec<u8>, name: &[u8], kind: u8, bytes: &[u8]) {
    let mut header = [0_u8; 512];
    header[..name.len()].copy_from_slice(name);
    header[100..107].copy_from_slice(b"0000644");
    header[124..135].copy_from_slice(format!("{:011o}", bytes.len()).as_bytes());
    header[136..147].copy_from_slice(b"14000000000");
    header[156] = kind;
    header[148..156].fill(b' ');
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
    tar.extend(header);
    tar.extend(bytes);
    tar.resize(tar.len().next_multiple_of(512), 0);
}
