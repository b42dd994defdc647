//! Equal files, found on the disk alone.

use std::fs;

use super::*;
use crate::{Equal, equal_files};

fn found(path: &Path, size_min: i64) -> Equal {
    equal_files(&Root::open(path).unwrap(), &WalkOptions::default(), size_min)
}

/// Size, copies and names of each group.
fn shown(equal: &Equal) -> Vec<(i64, usize, Vec<String>)> {
    let groups = equal.groups.iter().map(|group| {
        let paths = group.paths.iter().map(|path| crate::names::text(path)).collect();
        (group.size, group.copies, paths)
    });
    groups.collect()
}

#[test]
fn equal_files_are_those_of_an_oracle() {
    let dir = tempfile::tempdir().unwrap();
    let mut truth: BTreeMap<Vec<u8>, Vec<String>> = BTreeMap::new();
    for n in 0..600_usize {
        // Short and long ones; many of one size that differ at the begin, amid, or at the end.
        let size = [0, 1, 20, 5_000, 65_536, 65_537, 200_000][n % 7];
        let mut bytes = vec![1_u8; size];
        for at in [0, size / 2, size.saturating_sub(1)] {
            if let Some(byte) = bytes.get_mut(at) {
                *byte = u8::try_from(n * (at + 1) % 3).unwrap();
            }
        }
        let path = format!("d{}/e{}/f{n}", n % 5, n % 3);
        fs::create_dir_all(dir.path().join(&path).parent().unwrap()).unwrap();
        fs::write(dir.path().join(&path), &bytes).unwrap();
        if size > 0 {
            truth.entry(bytes).or_default().push(path);
        }
    }
    let found = found(dir.path(), 0);
    assert!(found.problems.is_empty(), "{:?}", found.problems);
    let mut mine: Vec<Vec<String>> = shown(&found).into_iter().map(|(_, _, paths)| paths).collect();
    let mut wanted: Vec<Vec<String>> =
        truth.values().filter(|paths| paths.len() > 1).cloned().collect();
    wanted.iter_mut().for_each(|paths| paths.sort());
    mine.sort();
    wanted.sort();
    assert_eq!(mine, wanted);
    assert!(found.groups.is_sorted_by(|a, b| a.wasted() >= b.wasted()));
    for group in &found.groups {
        let path = crate::names::text(&group.paths[0]);
        let bytes = fs::read(dir.path().join(path)).unwrap();
        assert_eq!(group.hash, *blake3::hash(&bytes).as_bytes());
    }
}

#[test]
fn names_of_one_inode_are_one_copy_and_no_link_is_followed() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    fs::write(at("a"), "same").unwrap();
    fs::hard_link(at("a"), at("b")).unwrap();
    std::os::unix::fs::symlink("a", at("c")).unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        at("pipe"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::from_raw_mode(0o600),
        0,
    )
    .unwrap();
    assert!(found(dir.path(), 0).groups.is_empty());
    fs::write(at("d"), "same").unwrap();
    fs::write(at("e"), "other").unwrap();
    let equal = found(dir.path(), 0);
    assert_eq!(shown(&equal), [(4, 2, ["a", "b", "d"].map(str::to_owned).to_vec())]);
    assert_eq!(equal.groups[0].wasted(), 4);
    assert!(found(dir.path(), 5).groups.is_empty());
}
