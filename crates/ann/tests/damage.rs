//! Files that are cut, flipped or forged: a typed error, never a panic or a wrong answer.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod worlds;

use std::fs;
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Barrier};

use ann::{BuildOptions, Control, Error, Index, Query, Segment, Strategy, Task};
use proptest::prelude::*;
use roaring::RoaringBitmap;
use worlds::{World, every_space};

const HEADER_BYTES: usize = 4_096;

struct File {
    folder: tempfile::TempDir,
    world: World,
    bytes: Vec<u8>,
}

impl File {
    fn new(space: usize, rows: usize) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let world = World::new(every_space()[space], rows);
        let path = world.segment(folder.path(), 2).path().to_owned();
        let bytes = fs::read(path).expect("read");
        Self { folder, world, bytes }
    }

    fn with(&self, change: impl FnOnce(&mut Vec<u8>)) -> PathBuf {
        let mut bytes = self.bytes.clone();
        change(&mut bytes);
        let path = self.folder.path().join("changed.segment");
        fs::write(&path, bytes).expect("written");
        path
    }

    /// Opens and searches every way; whether damage was told.
    fn is_refused(&self, path: &Path) -> bool {
        let segment = match Segment::open(path) {
            Ok(segment) => Arc::new(segment),
            Err(Error::Damaged { path: named, .. }) => return named == path,
            Err(other) => panic!("{other}"),
        };
        let index = Index::open(*segment.settings(), vec![segment.clone()], &RoaringBitmap::new());
        let index = index.expect("opened");
        let mut told = segment.verify().is_err();
        for made in &self.world.queries()[..3] {
            for exact in [false, true] {
                match index.search(&Query { exact, ..Query::new(made.as_vector(), 10) }) {
                    Ok(_) => {}
                    Err(Error::Damaged { .. }) => told = true,
                    Err(other) => panic!("{other}"),
                }
            }
        }
        told
    }
}

/// Makes the header's own checksum right again, as a forger would.
fn signed(bytes: &mut [u8]) {
    let crc = crc32fast::hash(&bytes[16..HEADER_BYTES]);
    bytes[12..16].copy_from_slice(&crc.to_le_bytes());
}

#[test]
fn any_cut_is_told() {
    let file = File::new(0, 1_500);
    for keep in (0..file.bytes.len()).step_by(4_999).chain([8, 16, HEADER_BYTES, HEADER_BYTES + 1])
    {
        let path = file.with(|bytes| bytes.truncate(keep));
        assert!(file.is_refused(&path), "cut to {keep}");
    }
    let path = file.with(|bytes| bytes.truncate(bytes.len() - 1));
    assert!(file.is_refused(&path), "the last byte");
    assert!(!file.is_refused(&file.with(|_| {})), "the whole file is whole");
}

#[test]
fn another_version_or_space_is_told() {
    let file = File::new(0, 10);
    let path = file.with(|bytes| {
        bytes[8] = 9;
        signed(bytes);
    });
    let error = Segment::open(&path).expect_err("another version").to_string();
    assert!(error.contains("format 9") && error.contains("rebuild"), "{error}");
    let segment = Arc::new(Segment::open(&file.with(|_| {})).expect("opened"));
    let other = every_space()[1];
    let refused = Index::open(other, vec![segment.clone()], &RoaringBitmap::new());
    assert!(matches!(refused, Err(Error::Damaged { .. })));
    let settings = *segment.settings();
    let twice = Index::open(settings, vec![segment.clone(), segment], &RoaringBitmap::new());
    assert!(matches!(twice, Err(Error::Damaged { .. })));
}

fn number(bytes: &[u8]) -> usize {
    bytes.iter().rev().fold(0, |number, byte| number << 8 | usize::from(*byte))
}

/// A file as version 1 has it, without some sections: every link takes 32 bits.
fn of_version_1(new: &[u8], without: &[usize]) -> Vec<u8> {
    const LINKS: usize = 9;
    let mut old = new[..HEADER_BYTES].to_vec();
    old[8] = 1;
    old[64..].fill(0);
    let mut sums = Vec::new();
    let all = (64..).step_by(24).take(number(&new[60..64]));
    let kept: Vec<usize> = all.filter(|at| !without.contains(&number(&new[*at..at + 4]))).collect();
    old[60] = kept.len() as u8;
    for (at, to) in kept.into_iter().zip((64..).step_by(24)) {
        let (begin, length) = (number(&new[at + 8..at + 16]), number(&new[at + 16..at + 24]));
        let mut section = new[begin..begin + length].to_vec();
        if number(&new[at..at + 4]) == LINKS {
            let links = section.chunks_exact(3);
            let wide = links.flat_map(|link| {
                let end = link.iter().all(|byte| *byte == 0xff);
                [link[0], link[1], link[2], if end { 0xff } else { 0 }]
            });
            section = wide.collect();
        }
        old.resize(old.len().next_multiple_of(64), 0);
        let places = [old.len(), section.len()].map(|place| (place as u64).to_le_bytes());
        old[to..to + 4].copy_from_slice(&new[at..at + 4]);
        old[to + 4..to + 8].copy_from_slice(&(sums.len() as u32 / 4).to_le_bytes());
        old[to + 8..to + 24].copy_from_slice(places.as_flattened());
        old.extend_from_slice(&section);
        for block in section.chunks(64 * 1_024) {
            sums.extend_from_slice(&crc32fast::hash(block).to_le_bytes());
        }
    }
    old.resize(old.len().next_multiple_of(64), 0);
    let places = [old.len(), sums.len()].map(|place| (place as u64).to_le_bytes());
    old[40..56].copy_from_slice(places.as_flattened());
    old[56..60].copy_from_slice(&crc32fast::hash(&sums).to_le_bytes());
    old.extend_from_slice(&sums);
    signed(&mut old);
    old
}

#[test]
fn a_file_of_the_version_before_is_read() {
    for space in [0, 1, 13] {
        let file = File::new(space, 6_000);
        let old = file.with(|bytes| *bytes = of_version_1(bytes, &[]));
        let whole = Arc::new(Segment::open(&file.folder.path().join("world.segment")).unwrap());
        let segment = Arc::new(Segment::open(&old).expect("opened"));
        let links = 6_000 * u64::from(segment.settings().graph().links) * 2;
        assert_eq!(segment.resident_bytes(), whole.resident_bytes() + links, "a byte each");
        let of = |segment: &Arc<Segment>| {
            let segments = vec![segment.clone()];
            Index::open(*segment.settings(), segments, &RoaringBitmap::new()).expect("opened")
        };
        let (before, after) = (of(&segment), of(&whole));
        let allowed: RoaringBitmap = (0..6_000).filter(|number| number % 4 > 0).collect();
        for made in file.world.queries() {
            for allowed in [None, Some(&allowed)] {
                let query = Query { allowed, ..Query::new(made.as_vector(), 10) };
                let before = before.search(&query).expect("an answer");
                assert_eq!(before, after.search(&query).expect("an answer"));
                assert!(matches!(before.strategy, Strategy::Graph | Strategy::FilteredGraph));
            }
        }
        // What the old file is merged into is a new one.
        let work = before.begin(&Task { segments: vec![old], ..Task::seal() }).expect("begun");
        let path = file.folder.path().join("merged.segment");
        let built = work.build(&path, BuildOptions::default(), &Control::new()).expect("built");
        assert_eq!(built.expect("rows").resident_bytes(), whole.resident_bytes());
        assert!(file.is_refused(&file.with(|bytes| bytes[8] = 1)), "new links are no old ones");
    }
}

/// Whoever asks is told, and the process lives.
#[test]
#[cfg(target_os = "linux")]
fn a_file_that_is_cut_while_it_is_searched_is_told() {
    // Floats by cosine and L2, and bits; to the header, within the vectors, within a page, by one byte.
    for (space, keep) in [(0, 4_096), (1, 40_000), (1, 0), (13, 9_001), (0, usize::MAX)] {
        let file = File::new(space, 1_500);
        let path = file.with(|_| {});
        let segment = Arc::new(Segment::open(&path).expect("opened"));
        let settings = *segment.settings();
        let index = Index::open(settings, vec![segment.clone()], &RoaringBitmap::new());
        let index = index.expect("opened");
        let queries = file.world.queries();
        let exact = |made: &worlds::Made| {
            let query = Query { exact: true, ..Query::new(made.as_vector(), 10) };
            index.search(&query)
        };
        let before: Vec<_> = queries.iter().map(|made| exact(made).expect("whole")).collect();
        let begun = Barrier::new(4);
        std::thread::scope(|scope| {
            for searcher in 0..3 {
                let (before, exact, index, begun) = (&before, &exact, &index, &begun);
                scope.spawn(move || {
                    begun.wait();
                    // Until it is told; what is answered before is right.
                    for at in (0..queries.len()).cycle().skip(searcher) {
                        match exact(&queries[at]) {
                            Ok(answer) => assert_eq!(answer, before[at]),
                            Err(Error::Damaged { .. }) => break,
                            Err(other) => panic!("{other}"),
                        }
                    }
                    assert!(matches!(index.vector(700), Err(Error::Damaged { .. })));
                });
            }
            begun.wait();
            let keep = keep.min(file.bytes.len() - 1) as u64;
            let cut = fs::OpenOptions::new().write(true).open(&path).expect("opened");
            cut.set_len(keep).expect("cut");
        });
        assert!(segment.verify().is_err());
        let walk = index.search(&Query::new(queries[0].as_vector(), 10));
        assert!(matches!(walk, Err(Error::Damaged { path: named, .. }) if named == path));
        let task = Task { segments: vec![path], ..Task::seal() };
        let work = index.begin(&task).expect("begun");
        let made = file.folder.path().join("merged.segment");
        let built = work.build(&made, BuildOptions::default(), &Control::new());
        assert!(matches!(built, Err(Error::Damaged { .. })), "{built:?}");
        assert!(!made.exists());
    }
}

/// What a search has verified may be damaged since; a merge would give it checksums that hold.
#[test]
#[cfg(unix)]
fn damage_after_it_was_verified_is_not_merged() {
    // In the first row, on both sides of a block's edge (of a row that is deleted), and in the last row.
    let (width, rows) = (19 * 4, 2_000);
    for at in [0, 64 * 1_024 - 1, 64 * 1_024, rows * width - 1] {
        let file = File::new(1, rows);
        let path = file.with(|_| {});
        let segment = Arc::new(Segment::open(&path).expect("opened"));
        let settings = *segment.settings();
        let index = Index::open(settings, vec![segment.clone()], &RoaringBitmap::new());
        let index = index.expect("opened");
        let query = Query::new(file.world.queries()[0].as_vector(), 10);
        index.search(&Query { exact: true, ..query }).expect("whole");
        let merged = |gone: &RoaringBitmap, name: &str| {
            index.delete(gone);
            let work = index.begin(&Task { segments: vec![path.clone()], ..Task::seal() });
            let made = file.folder.path().join(name);
            let built = work.expect("begun").build(&made, BuildOptions::default(), &Control::new());
            (built, made)
        };
        // With gaps, and whole: what is copied is what was stored.
        let (built, _) = merged(&(5..1_500).collect(), "whole.segment");
        let built = Arc::new(built.expect("built").expect("rows"));
        built.verify().expect("sound");
        let after = Index::open(settings, vec![built], &RoaringBitmap::new()).expect("opened");
        for number in index.alive() {
            assert_eq!(after.vector(number).expect("read"), index.vector(number).expect("read"));
        }
        let mut damaged = fs::OpenOptions::new().write(true).open(&path).expect("opened");
        damaged.seek(SeekFrom::Start((HEADER_BYTES + at) as u64)).expect("there");
        damaged.write_all(&[file.bytes[HEADER_BYTES + at] ^ 1]).expect("written");
        index.search(&Query { exact: true, ..query }).expect("it was verified before");
        assert!(segment.verify().is_err(), "{at}");
        let (built, made) = merged(&RoaringBitmap::new(), "merged.segment");
        let is_told = matches!(&built, Err(Error::Damaged { path: named, .. }) if *named == path);
        assert!(is_told && !made.exists(), "{at}: {built:?}");
    }
}

/// Codes of cosine were compared by their products before they had asides and a centre.
#[test]
fn a_file_of_angles_alone_is_read() {
    const ASIDES_AND_CENTRE: [usize; 2] = [5, 6];
    let file = File::new(0, 3_000);
    let old = file.with(|bytes| *bytes = of_version_1(bytes, &ASIDES_AND_CENTRE));
    let segment = Arc::new(Segment::open(&old).expect("opened"));
    segment.verify().expect("sound");
    let index = Index::open(*segment.settings(), vec![segment], &RoaringBitmap::new());
    let index = index.expect("opened");
    for made in file.world.queries() {
        let query = Query::new(made.as_vector(), 10);
        let exact = index.search(&Query { exact: true, ..query }).expect("an answer");
        let found = index.search(&query).expect("an answer");
        assert_eq!(found.strategy, Strategy::Graph);
        let same = found.hits.iter().filter(|hit| exact.hits.contains(hit)).count();
        assert!(same >= 8, "{same} of 10");
    }
}

#[test]
#[cfg(unix)]
fn a_vector_that_is_no_number_any_more_is_damage() {
    let file = File::new(0, 500);
    let path = file.with(|_| {});
    let segment = Arc::new(Segment::open(&path).expect("opened"));
    let index = Index::open(*segment.settings(), vec![segment], &RoaringBitmap::new());
    let index = index.expect("opened");
    let query = Query { exact: true, ..Query::new(file.world.queries()[0].as_vector(), 10) };
    index.search(&query).expect("whole");
    let mut damaged = fs::OpenOptions::new().write(true).open(&path).expect("opened");
    damaged.seek(SeekFrom::Start(HEADER_BYTES as u64)).expect("there");
    damaged.write_all(&f32::NAN.to_le_bytes()).expect("written");
    assert!(matches!(index.search(&query), Err(Error::Damaged { .. })));
}

/// Before version 3 graphs of inner products were others.
#[test]
fn products_of_a_version_before_are_made_anew() {
    for (space, is_read) in [(0, true), (1, true), (2, false), (3, true), (6, false)] {
        let file = File::new(space, 10);
        let old = file.with(|bytes| {
            bytes[8] = 2;
            signed(bytes);
        });
        match Segment::open(&old) {
            Ok(_) => assert!(is_read, "{space}"),
            Err(error) => assert!(!is_read && error.to_string().contains("rebuild"), "{error}"),
        }
    }
}

/// Sections are read into memory: a short file must not ask for much.
#[test]
fn sections_that_overlap_are_refused() {
    let file = File::new(0, 1_500);
    let path = file.with(|bytes| {
        let whole = (bytes.len() - HEADER_BYTES) as u64;
        for section in bytes[64..HEADER_BYTES].chunks_exact_mut(24).take_while(|it| it[0] != 0) {
            section[4..8].copy_from_slice(&0_u32.to_le_bytes());
            section[8..16].copy_from_slice(&(HEADER_BYTES as u64).to_le_bytes());
            section[16..24].copy_from_slice(&whole.to_le_bytes());
        }
        signed(bytes);
    });
    let error = Segment::open(&path).expect_err("sections over each other").to_string();
    assert!(error.contains("overlap"), "{error}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_flipped_bit_is_told(at in any::<prop::sample::Index>(), bit in 0_u32..8) {
        thread_local!(static FILE: File = File::new(0, 1_500));
        FILE.with(|file| {
            let place = at.index(file.bytes.len());
            let path = file.with(|bytes| bytes[place] ^= 1_u8 << bit);
            // Between sections stand zeros that nobody reads.
            let told = file.is_refused(&path);
            assert!(told || file.bytes[place] == 0, "byte {place}, bit {bit}");
        });
    }

    /// Header fields of any value under a right checksum: bounded, and never a panic.
    #[test]
    fn a_forged_header_never_panics(fields in prop::collection::vec((16_usize..400, any::<u8>()), 1..6)) {
        thread_local!(static FILES: [File; 3] = [File::new(0, 1_500), File::new(1, 40), File::new(13, 40)]);
        FILES.with(|files| {
            for file in files {
                let path = file.with(|bytes| {
                    for (at, value) in &fields {
                        bytes[*at] = *value;
                    }
                    signed(bytes);
                });
                if let Ok(segment) = Segment::open(&path) {
                    let settings = *segment.settings();
                    let index = Index::open(settings, vec![Arc::new(segment)], &RoaringBitmap::new());
                    let index = index.expect("opened");
                    for made in &file.world.queries()[..2] {
                        let _ = index.search(&Query::new(made.as_vector(), 10));
                    }
                }
            }
        });
    }
}
