//! Hashing, kinds and image facts.

use std::fs::{self, File};
use std::io::{self, Cursor, Read};
use std::os::unix::fs::MetadataExt;

use super::*;
use crate::{
    ContentKind, HashError, Hasher, MediaLimits, Stop, media_facts, same_bytes, similarity, sniff,
};

fn ino(path: &Path) -> u64 {
    fs::metadata(path).unwrap().ino()
}

#[test]
fn a_hash_is_that_of_all_bytes() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("a")).unwrap();
    let root = Root::open(dir.path()).unwrap();
    let mut hasher = Hasher::default();
    for size in [0, 1, 65_536, 262_144, 524_288, 524_289, 1_000_001, 5_000_003] {
        let path = dir.path().join("a/file");
        let bytes: Vec<u8> = (0..size).map(|at| (at / 1_021 % 251) as u8).collect();
        fs::write(&path, &bytes).unwrap();
        let content = hasher.hash(&root, b"a/file", ino(&path)).unwrap();
        assert_eq!(content.hash, *blake3::hash(&bytes).as_bytes(), "{size}");
        assert_eq!(content.size, i64::try_from(size).unwrap());
        assert_eq!(hasher.head(), &bytes[..size.min(65_536)]);
    }
}

#[test]
fn a_large_file_that_is_shorter_than_it_was_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file");
    let bytes: Vec<u8> = (0..700_000).map(|at| (at / 1_021 % 251) as u8).collect();
    fs::write(&path, &bytes).unwrap();
    let mut hasher = Hasher::default();
    for expected in [700_000, 3_000_000, 30_000_000] {
        let (hash, size) = hasher.hash_file(&mut File::open(&path).unwrap(), expected).unwrap();
        assert_eq!((hash, size), (blake3::hash(&bytes).into(), 700_000), "{expected}");
        assert_eq!(hasher.head(), &bytes[..65_536]);
    }
}

/// Bytes that count how often they are read.
struct Counted<'a>(&'a [u8], usize);

impl Read for Counted<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.1 += 1;
        self.0.read(into)
    }
}

#[test]
fn a_file_of_known_size_takes_one_read_and_a_longer_one_is_found_out() {
    let bytes = vec![7_u8; 100_000];
    let mut hasher = Hasher::default();
    let mut reader = Counted(&bytes, 0);
    let (hash, size) = hasher.hash_up_to(&mut reader, bytes.len()).unwrap();
    assert_eq!((hash, size, reader.1), (blake3::hash(&bytes).into(), 100_000, 1));
    assert_eq!(hasher.head(), &bytes[..65_536]);
    for (expected, size) in [(0, 1), (99_999, 100_000), (100_001, 100_000)] {
        assert_eq!(hasher.hash_up_to(&mut &*bytes, expected).unwrap().1, size, "{expected}");
    }
    let (_, size) = hasher.hash_up_to(&mut &b""[..], 0).unwrap();
    assert_eq!((size, hasher.head().len()), (0, 0));
    // The system says that it holds nothing.
    let proc = Root::open(Path::new("/proc/self")).unwrap();
    let ino = ino(Path::new("/proc/self/status"));
    assert!(matches!(hasher.hash(&proc, b"status", ino), Err(HashError::Changed)));
}

#[test]
fn what_is_gone_replaced_or_no_file_has_no_hash() {
    let dir = tempfile::tempdir().unwrap();
    let root = Root::open(dir.path()).unwrap();
    let path = dir.path().join("file");
    fs::write(&path, "x").unwrap();
    let mut hasher = Hasher::default();
    let was = ino(&path);
    assert!(matches!(hasher.hash(&root, b"nothing", was), Err(HashError::Gone)));
    assert!(matches!(hasher.hash(&root, b"file", was + 1), Err(HashError::Replaced)));
    fs::remove_file(&path).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", &path).unwrap();
    assert!(matches!(hasher.hash(&root, b"file", was), Err(HashError::Replaced)));
    fs::remove_file(&path).unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &path,
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::from_raw_mode(0o600),
        0,
    )
    .unwrap();
    // It answers at once: nobody writes into the pipe.
    assert!(matches!(hasher.hash(&root, b"file", ino(&path)), Err(HashError::Replaced)));
}

#[test]
fn reading_stops_amid_a_file() {
    let dir = tempfile::tempdir().unwrap();
    let root = Root::open(dir.path()).unwrap();
    // Mapped, read, and in one read.
    for (name, head, bytes) in [
        ("mapped", &b"\0"[..], 1_u64 << 33),
        ("read", b"\0\0\0\x08ftyp", 1 << 33),
        ("small", b"x", 9),
    ] {
        let path = dir.path().join(name);
        fs::write(&path, head).unwrap();
        File::options().write(true).open(&path).unwrap().set_len(bytes).unwrap();
        let asked = std::sync::atomic::AtomicU32::new(0);
        let after = if bytes > 9 { 3 } else { 0 };
        let stop =
            Stop::new(move || asked.fetch_add(1, std::sync::atomic::Ordering::Relaxed) >= after);
        let begun = std::time::Instant::now();
        let stopped = Hasher::default().until(stop).hash(&root, name.as_bytes(), ino(&path));
        assert!(matches!(stopped, Err(HashError::Stopped)), "{name}: {stopped:?}");
        assert!(begun.elapsed().as_secs() < 5, "{name}");
        let never = Stop::new(|| false);
        if bytes == 9 {
            let read = Hasher::default().until(never).hash(&root, name.as_bytes(), ino(&path));
            assert_eq!(read.unwrap().size, 9);
        }
    }
}

#[test]
fn bytes_are_compared_to_the_end() {
    let dir = tempfile::tempdir().unwrap();
    let root = Root::open(dir.path()).unwrap();
    let mut bytes = vec![1_u8; 700_000];
    for (name, last) in [("a", 1), ("b", 1), ("c", 2)] {
        *bytes.last_mut().unwrap() = last;
        fs::write(dir.path().join(name), &bytes).unwrap();
    }
    fs::write(dir.path().join("d"), &bytes[..699_999]).unwrap();
    let of = |name: &str| {
        let ino = ino(&dir.path().join(name));
        Hasher::default().open(&root, name.as_bytes(), ino).unwrap().0
    };
    assert!(same_bytes(&mut of("a"), &mut of("b")).unwrap());
    assert!(!same_bytes(&mut of("a"), &mut of("c")).unwrap());
    assert!(!same_bytes(&mut of("c"), &mut of("d")).unwrap());
}

#[test]
fn kinds_come_from_bytes_and_only_then_from_names() {
    let png = b"\x89PNG\r\n\x1a\n0000";
    for (head, name, kind) in [
        (&png[..], &b"notes.txt"[..], ContentKind::Image),
        (b"", b"empty.png", ContentKind::Empty),
        (b"PK\x03\x04....", b"x", ContentKind::Archive),
        (b"\x7fELF........", b"x", ContentKind::Executable),
        (b"PAR1....", b"x", ContentKind::Data),
        (b"a,b\n1,2\n", b"rows.CSV", ContentKind::Data),
        (b"fn main() {}", b"main.rs", ContentKind::Code),
        (b"hello", b"README", ContentKind::Text),
        (b"a\0b", b"x.rs", ContentKind::Unknown),
    ] {
        assert_eq!(sniff(head, name), kind, "{name:?}");
    }
    for kind in ContentKind::ALL {
        assert_eq!(ContentKind::named(kind.word()), Some(kind));
        assert_eq!(ContentKind::of(kind as i64), kind);
    }
}

fn png(width: u32, height: u32, bright: impl Fn(u32, u32) -> u8) -> Vec<u8> {
    let image = image::GrayImage::from_fn(width, height, |x, y| image::Luma([bright(x, y)]));
    let mut bytes = Vec::new();
    image.write_to(&mut Cursor::new(&mut bytes), image::ImageFormat::Png).unwrap();
    bytes
}

#[test]
fn headers_that_are_none_are_broken_and_those_that_go_on_are_not() {
    let good = png(40, 30, |x, _| x as u8);
    let mut other = good.clone();
    other[12..16].copy_from_slice(b"XXXX");
    let app1 = |bytes: usize| {
        let length = u16::try_from(bytes + 2).unwrap().to_be_bytes();
        [&b"\xff\xd8\xff\xe1"[..], &length, &vec![7; bytes]].concat()
    };
    let heic = |rest: &[u8]| [&b"\0\0\0\x18ftypheic\0\0\0\0mif1heic"[..], rest, &[0; 40]].concat();
    let large = 10_000_000;
    for (what, head, size, broken) in [
        ("a PNG", good.clone(), 0, Some(false)),
        ("a PNG without a header", other.clone(), 0, Some(true)),
        ("a large PNG without a header", other, large, Some(true)),
        ("a PNG whose pixels begin later", good[..33].to_vec(), large, None),
        ("a PNG that is cut", good[..30].to_vec(), 0, Some(true)),
        ("a JPEG that is cut", app1(60_000), 0, Some(true)),
        ("a JPEG whose size stands later", app1(60_000), large, None),
        ("a JPEG of anything", [&app1(9)[..], &[9; 20]].concat(), large, Some(true)),
        ("HEIC", heic(b"\0\0\0\x28meta"), 0, None),
        ("HEIC whose box has no end", heic(b"\xff\xff\xff\xffmeta"), 0, Some(true)),
        ("HEIC without what it shows", heic(b"\0\0\0\x30free"), 0, Some(true)),
        ("no image", b"words".to_vec(), 0, None),
    ] {
        let size = if size == 0 { head.len() as i64 } else { size };
        assert_eq!(
            crate::media::head_facts(&head, size).map(|facts| facts.broken),
            broken,
            "{what}"
        );
    }
}

#[test]
fn images_that_look_alike_are_close_and_broken_ones_are_told() {
    let dir = tempfile::tempdir().unwrap();
    let wave = |x: u32, y: u32| ((x * 7 + y * 3) % 256) as u8;
    let large = png(320, 240, |x, y| wave(x / 4, y / 4));
    let small = png(160, 120, |x, y| wave(x / 2, y / 2));
    let other = png(160, 120, |x, y| wave(160 - x, y * 5));
    let facts = |bytes: &[u8]| {
        let path = dir.path().join("image");
        fs::write(&path, bytes).unwrap();
        similarity(&mut File::open(&path).unwrap(), &MediaLimits::default()).unwrap().unwrap()
    };
    let (a, b, c) = (facts(&large), facts(&small), facts(&other));
    assert_eq!((a.width, a.height, a.shown_size()), (320, 240, (320, 240)));
    let far = |a: &crate::MediaFacts, b: &crate::MediaFacts| {
        (a.likeness.unwrap() ^ b.likeness.unwrap()).count_ones()
    };
    assert!(far(&a, &b) <= 6, "{}", far(&a, &b));
    assert!(far(&a, &c) > 10, "{}", far(&a, &c));
    assert_eq!(media_facts(&large).map(|facts| facts.width), Some(320));
    let cut = facts(&large[..large.len() / 2]);
    assert!(cut.broken && cut.likeness.is_none());
    assert!(media_facts(b"no image").is_none());
}
