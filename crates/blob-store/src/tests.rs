//! One behaviour suite, run against memory and local files; what is special to
//! either follows.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use futures::stream;
use proptest::prelude::*;
use service_error::Code;

use super::*;

async fn stores(dir: &tempfile::TempDir) -> Vec<BlobStore> {
    vec![
        BlobStore::open("memory://", "items").await.unwrap(),
        BlobStore::open(&file_url(dir.path()).unwrap(), "items").await.unwrap(),
    ]
}

async fn keys(store: &BlobStore, prefix: &str) -> Vec<String> {
    let mut keys: Vec<_> = store.list(prefix).map_ok(|meta| meta.key).try_collect().await.unwrap();
    keys.sort();
    keys
}

#[tokio::test]
async fn objects_come_back_whole_in_ranges_and_in_pieces() {
    let dir = tempfile::tempdir().unwrap();
    for store in stores(&dir).await {
        store.put("a/b", "0123456789").await.unwrap();
        assert_eq!(store.get("a/b").await.unwrap(), "0123456789");
        assert_eq!(store.get_range("a/b", 2..5).await.unwrap(), "234");
        assert_eq!(store.head("a/b").await.unwrap().bytes, 10);
        let pieces: Vec<Bytes> =
            store.get_stream("a/b").await.unwrap().try_collect().await.unwrap();
        assert_eq!(pieces.concat(), b"0123456789");
        store.put("a/b", "new").await.unwrap();
        assert_eq!(store.get("a/b").await.unwrap(), "new");
    }
}

#[tokio::test]
async fn a_directory_that_vanished_is_away_and_not_made_anew() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("objects");
    let store = BlobStore::open(&file_url(&root).unwrap(), "items").await.unwrap();
    store.put("a/b", "x").await.unwrap();
    std::fs::rename(&root, dir.path().join("elsewhere")).unwrap();
    for answer in [
        store.put("a/c", "y").await,
        store.writer("a/d").await.map(drop),
        store.get("a/b").await.map(drop),
        store.get_range("a/b", 0..1).await.map(drop),
        store.ping().await,
    ] {
        let error = answer.unwrap_err();
        assert_eq!(error.code(), Code::Unavailable, "{error}");
        assert!(error.message().contains("is gone"), "{error}");
    }
    assert!(!root.exists());
    std::fs::rename(dir.path().join("elsewhere"), &root).unwrap();
    assert_eq!(store.get("a/b").await.unwrap(), "x");
}

#[tokio::test]
async fn a_missing_object_is_not_found_and_deletes_quietly() {
    let dir = tempfile::tempdir().unwrap();
    for store in stores(&dir).await {
        assert_eq!(store.get("none").await.unwrap_err().code(), Code::NotFound);
        store.delete("none").await.unwrap();
        assert_eq!(store.delete_prefix("none").await.unwrap(), 0);
        store.ping().await.unwrap();
    }
}

#[tokio::test]
async fn a_directory_that_is_made_is_its_owners_alone() {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("new/objects");
    BlobStore::open(&file_url(&root).unwrap(), "items").await.unwrap();
    assert_eq!(std::fs::metadata(&root).unwrap().permissions().mode() & 0o777, 0o700);
}

#[tokio::test]
async fn a_streamed_object_is_there_whole_with_its_hash() {
    let dir = tempfile::tempdir().unwrap();
    let piece = Bytes::from(vec![7u8; 3 << 20]);
    for store in stores(&dir).await {
        let pieces = stream::iter((0..7).map(|_| Ok(piece.clone())));
        let written = store.put_stream("big", pieces).await.unwrap();
        let back = store.get("big").await.unwrap();
        assert_eq!(written.bytes, 21 << 20);
        assert_eq!(back.len() as u64, written.bytes);
        assert_eq!(*blake3::hash(&back).as_bytes(), written.blake3);
    }
}

#[tokio::test]
async fn a_broken_stream_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    for store in stores(&dir).await {
        let pieces = stream::iter([Ok(Bytes::from("half")), Err(ServiceError::unavailable("cut"))]);
        assert_eq!(store.put_stream("cut", pieces).await.unwrap_err().message(), "cut");
        assert!(keys(&store, "").await.is_empty());
    }
    let files: Vec<_> = std::fs::read_dir(dir.path().join("items")).unwrap().collect();
    assert!(files.is_empty(), "{files:?}");
}

#[tokio::test]
async fn deleting_a_prefix_takes_what_is_below_it_and_nothing_beside() {
    let dir = tempfile::tempdir().unwrap();
    for store in stores(&dir).await {
        for key in ["d/u1/x", "d/u1/y/z", "d/u10/x"] {
            store.put(key, "1").await.unwrap();
        }
        assert_eq!(store.delete_prefix("d/u1").await.unwrap(), 2);
        assert_eq!(keys(&store, "").await, ["d/u10/x"]);
        assert_eq!(store.delete_prefix("").await.unwrap_err().code(), Code::InvalidArgument);
    }
    assert!(!dir.path().join("items/d/u1").exists(), "empty directories are removed");
}

#[tokio::test]
async fn what_a_killed_writer_left_goes_with_its_prefix() {
    let dir = tempfile::tempdir().unwrap();
    for store in stores(&dir).await {
        store.put("d/u2/x", "1").await.unwrap();
        let upload = dir.path().join("items/d/u2");
        if upload.exists() {
            std::fs::write(upload.join("block.parquet#1"), "half").unwrap();
        }
        assert_eq!(store.delete_prefix("d/u2").await.unwrap(), 1);
        assert!(!upload.exists(), "the staged file is gone");
    }
}

#[tokio::test]
async fn a_key_can_not_leave_the_prefix() {
    let dir = tempfile::tempdir().unwrap();
    for store in stores(&dir).await {
        for key in ["../escape", "a/../../b", "", "a//b"] {
            assert_eq!(
                store.put(key, "x").await.unwrap_err().code(),
                Code::InvalidArgument,
                "{key}"
            );
        }
    }
}

#[tokio::test]
async fn create_only_puts_refuse_an_existing_name_and_leave_no_staged_file() {
    let dir = tempfile::tempdir().unwrap();
    for store in stores(&dir).await {
        let path = Path::from("once");
        let opts = object_store::PutOptions::from(object_store::PutMode::Create);
        store.inner().put_opts(&path, "1".into(), opts.clone()).await.unwrap();
        let error = store.inner().put_opts(&path, "2".into(), opts).await.unwrap_err();
        assert!(matches!(error, object_store::Error::AlreadyExists { .. }), "{error}");
        assert_eq!(store.get("once").await.unwrap(), "1");
    }
    assert_eq!(std::fs::read_dir(dir.path().join("items")).unwrap().count(), 1);
}

#[tokio::test]
async fn writers_of_one_directory_do_not_disturb_each_other() {
    let dir = tempfile::tempdir().unwrap();
    let store = BlobStore::open(&file_url(dir.path()).unwrap(), "items").await.unwrap();
    let puts = (0..64).map(|n| {
        let store = store.clone();
        async move { store.put(&format!("d{}/deep/{n}", n % 4), "x").await }
    });
    stream::iter(puts).buffer_unordered(16).try_collect::<Vec<()>>().await.unwrap();
    assert_eq!(keys(&store, "").await.len(), 64);
}

#[test]
fn urls_are_read_or_refused_with_what_is_accepted() {
    use crate::location::{Place, parse};
    let here = std::env::current_dir().unwrap();
    assert_eq!(parse("file:///srv/objects").unwrap(), Place::Directory("/srv/objects".into()));
    assert_eq!(parse("file://localhost/srv").unwrap(), Place::Directory("/srv".into()));
    for relative in ["file:data/objects", "file:./data/objects", "file://./data/objects"] {
        assert_eq!(
            parse(relative).unwrap(),
            Place::Directory(here.join("data/objects")),
            "{relative}"
        );
    }
    assert_eq!(parse("memory://").unwrap(), Place::Memory);
    assert!(
        matches!(parse("s3://bucket/a/b/").unwrap(), Place::Bucket { prefix, .. } if prefix == "a/b")
    );
    for wrong in
        ["ftp://host/x", "/srv/objects", "file://", "file://data/objects", "s3://", "s3:bucket", ""]
    {
        let error = parse(wrong).unwrap_err();
        assert_eq!(error.code(), Code::InvalidArgument, "{wrong}");
        assert!(error.message().contains("Accepted: file:///absolute/path"), "{error}");
    }
}

#[tokio::test]
async fn a_place_that_is_no_directory_is_refused_with_its_path() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    std::fs::write(&file, "x").unwrap();
    let error =
        BlobStore::open(&file_url(&file.join("below")).unwrap(), "items").await.unwrap_err();
    assert_eq!(error.code(), Code::FailedPrecondition);
    assert!(error.message().contains("file/below"), "{error}");
}

#[tokio::test]
async fn a_bulk_object_is_the_same_however_it_came() {
    let dir = tempfile::tempdir().unwrap();
    let whole: Vec<u8> =
        (0..(21_u32 << 20) + 77).map(|at| at.to_le_bytes()[0] ^ at.to_le_bytes()[1]).collect();
    for store in stores(&dir).await {
        for (bytes, piece) in
            [(0, 1), (5, 2), (8 << 20, 1 << 20), ((8 << 20) + 1, 100_003), (whole.len(), 11 << 20)]
        {
            let key = format!("bulk/{bytes}");
            let mut writer = store.bulk_writer(&key).await.unwrap();
            for piece in whole[..bytes].chunks(piece) {
                writer.write(piece).await.unwrap();
            }
            writer.finish().await.unwrap();
            assert!(
                store.get(&key).await.unwrap() == whole[..bytes],
                "{bytes} in pieces of {piece}"
            );
        }
        let mut given_up = store.bulk_writer("bulk/none").await.unwrap();
        given_up.write(&whole).await.unwrap();
        given_up.abort().await;
        assert_eq!(keys(&store, "bulk").await.len(), 5);
    }
    let left = std::fs::read_dir(dir.path().join("items/bulk")).unwrap().count();
    assert_eq!(left, 5, "nothing of what was given up");
}

/// Has the cache of files forget a directory's, where it lets go of them.
fn forget(dir: &FsPath) {
    for file in std::fs::read_dir(dir).unwrap() {
        let file = std::fs::File::open(file.unwrap().path()).unwrap();
        #[cfg(target_os = "linux")]
        rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed).unwrap();
    }
}

/// Bounds of a range: anywhere, or beside a multiple of what disks and parts are cut at.
fn bound() -> impl Strategy<Value = u64> {
    let beside = (0..6_u64, 0..3_u64, prop::sample::select(vec![4_096, 1 << 20, 8 << 20]));
    prop_oneof![
        0..(21_u64 << 20),
        beside.prop_map(|(times, off, unit)| (times * unit + off).saturating_sub(1)),
    ]
}

#[test]
fn a_bulk_range_is_the_same_whether_the_cache_holds_it_or_not() {
    const SIZES: [usize; 4] = [(8 << 20) - 1, 8 << 20, (8 << 20) + 4_097, (20 << 20) + 77];
    let whole: Vec<u8> =
        (0..21_u32 << 20).map(|at| at.to_le_bytes()[0] ^ at.to_le_bytes()[2]).collect();
    let dir = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let store = runtime.block_on(async {
        let store = BlobStore::open(&file_url(dir.path()).unwrap(), "items").await.unwrap();
        for size in SIZES {
            let mut writer = store.bulk_writer(&format!("bulk/{size}")).await.unwrap();
            writer.write(&whole[..size]).await.unwrap();
            writer.finish().await.unwrap();
        }
        store
    });
    let ranges = (prop::sample::select(SIZES.to_vec()), bound(), bound());
    proptest!(ProptestConfig::with_cases(100), |((size, one, other) in ranges)| {
        let (from, to) = (one.min(other), (one.max(other) + 1).min(size as u64));
        prop_assume!(from < to);
        forget(&dir.path().join("items/bulk"));
        for time in ["first", "second", "third"] {
            let read = runtime.block_on(store.get_bulk_range(&format!("bulk/{size}"), from..to));
            let expected = &whole[from as usize..to as usize];
            prop_assert!(read.unwrap() == expected, "{} time", time);
        }
    });
}

#[test]
fn the_memory_of_a_part_is_aligned_and_stays_so_when_it_is_used_again() {
    let mut room = bulk::aligned(writer::PART_BYTES);
    for _ in 0..3 {
        room.extend_from_slice(&vec![1; bulk::ALIGNED_BYTES]);
        let part = room.freeze();
        assert_eq!(part.as_ptr().align_offset(bulk::ALIGNED_BYTES), 0);
        room = part.try_into_mut().unwrap();
        room.clear();
        assert!(room.capacity() >= writer::PART_BYTES);
    }
}
