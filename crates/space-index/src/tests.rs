//! Changes, snapshots, damage, death.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::fs;
use std::path::Path;
use std::sync::Arc;

use ann::{BuildOptions, Control, Element, Metric, Room, Settings, Strategy, Task, Vector};
use filter::Filter;
use payload_index::{Payload, Value};
use uuid::Uuid;

use super::*;

fn settings() -> SpaceSettings {
    let vectors = Settings::new(Metric::L2, Element::F32, 2).unwrap();
    SpaceSettings { space: Uuid::from_u128(7), epoch: 1, vectors }
}

fn point(number: u32, x: f32) -> Point {
    let stored = settings().vectors.store(Vector::Floats(&[x, 0.0])).unwrap();
    let payload = Payload::new(vec![("odd".into(), Value::Bool(number % 2 == 1))]).unwrap();
    let vector = stored.bytes().to_vec();
    Point { number, item_id: format!("i{number}"), vector, payload }
}

fn put(seq: i64, number: u32) -> Change {
    Change { seq, removed: None, point: Some(point(number, number as f32)) }
}

fn nearest(index: &SpaceIndex, x: f32, k: usize) -> Vec<u32> {
    let vector = [x, 0.0];
    let search =
        Search { vector: Vector::Floats(&vector), k, ef: None, exact: false, distance_max: None };
    index.search(&search, None).unwrap().hits.iter().map(|hit| hit.number).collect()
}

fn keep_up(index: &SpaceIndex, task: &Task) -> Manifest {
    index.keep_up(task, BuildOptions::default(), &Control::new()).unwrap()
}

fn filled(dir: &Path) -> SpaceIndex {
    let index = SpaceIndex::empty(settings(), dir);
    let changes: Vec<Change> = (1..=100_u32).map(|n| put(i64::from(n), n)).collect();
    index.apply(&changes).unwrap();
    index
}

#[test]
fn changes_are_applied_once_and_deleted_points_stay_away() {
    let dir = tempfile::tempdir().unwrap();
    let index = filled(dir.path());
    assert_eq!((index.cursor(), index.len()), (100, 100));
    let deletion = Change { seq: 101, removed: Some(50), point: None };
    index.apply(std::slice::from_ref(&deletion)).unwrap();
    index.apply(&[put(50, 50), deletion]).unwrap();
    assert_eq!(index.len(), 99);
    assert_eq!(nearest(&index, 50.2, 1), [51]);
    let odd = Filter::parse("odd = true", &index.payload().schema()).unwrap();
    assert_eq!(index.passing(&odd).unwrap().len(), 50);
    let replaced = Change { seq: 102, removed: Some(51), point: Some(point(101, 50.0)) };
    index.apply(&[replaced]).unwrap();
    assert_eq!(nearest(&index, 50.1, 1), [101]);
    assert_eq!(index.passing(&odd).unwrap().len(), 50, "51 went and 101 came");
}

#[test]
fn a_snapshot_and_the_changes_after_it_are_the_index() {
    let dir = tempfile::tempdir().unwrap();
    let index = filled(dir.path());
    let manifest = keep_up(&index, &Task::seal());
    assert_eq!((manifest.seq, index.snapshot_seq()), (100, 100));
    let later = [Change { seq: 101, removed: Some(3), point: None }, put(102, 200)];
    index.apply(&later).unwrap();
    let opened = SpaceIndex::open(settings(), dir.path()).unwrap().unwrap();
    assert_eq!((opened.cursor(), opened.len()), (100, 100));
    opened.apply(&later).unwrap();
    for x in [0.0, 3.1, 77.0, 199.0] {
        assert_eq!(nearest(&opened, x, 5), nearest(&index, x, 5));
    }
    // A merge without the heads keeps the payload of the snapshot before.
    keep_up(&index, &index.whole().unwrap());
    assert!(index.whole().is_none());
    let again = SpaceIndex::open(settings(), dir.path()).unwrap().unwrap();
    assert_eq!((again.cursor(), again.len()), (102, 100));
    let files = fs::read_dir(dir.path()).unwrap().count();
    assert_eq!(files, 3, "a manifest, a segment, a payload");
}

#[test]
fn rows_become_one_segment() {
    let dir = tempfile::tempdir().unwrap();
    let mut builder = Builder::create(settings(), dir.path(), BuildOptions::default()).unwrap();
    let points: Vec<Point> = (1..=300).map(|n| point(n, n as f32)).collect();
    builder.add(&points).unwrap();
    let index = builder.finish(300, &Control::new()).unwrap();
    assert_eq!((index.cursor(), index.len(), index.summary().segments), (300, 300, 1));
    let opened = SpaceIndex::open(settings(), dir.path()).unwrap().unwrap();
    assert_eq!(nearest(&opened, 150.2, 3), nearest(&index, 150.2, 3));
    assert_eq!(opened.payload().item_id(150).as_deref(), Some("i150"));
}

#[test]
fn a_snapshot_is_there_until_the_next_one_is_made() {
    let dir = tempfile::tempdir().unwrap();
    let before = keep_up(&filled(dir.path()), &Task::seal());
    let build = |points: &[Point]| {
        let mut builder = Builder::create(settings(), dir.path(), BuildOptions::default()).unwrap();
        builder.add(points).unwrap();
        builder
    };
    fs::write(dir.path().join("left.seg"), "of a build that failed").unwrap();
    drop(build(&[point(1, 1.0)]));
    let builder = build(&[point(201, 5.0)]);
    assert_eq!(Manifest::read(dir.path()).unwrap().as_ref(), Some(&before));
    assert!(before.files().all(|file| dir.path().join(&file.name).exists()));
    builder.finish(300, &Control::new()).unwrap();
    let opened = SpaceIndex::open(settings(), dir.path()).unwrap().unwrap();
    assert_eq!((opened.cursor(), nearest(&opened, 5.0, 2)), (300, vec![201]));
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 3);
    build(&[]).finish(301, &Control::new()).unwrap();
    assert!(SpaceIndex::open(settings(), dir.path()).unwrap().is_none());
}

#[test]
fn another_epoch_or_space_is_no_snapshot_of_ours() {
    let dir = tempfile::tempdir().unwrap();
    keep_up(&filled(dir.path()), &Task::seal());
    let other = SpaceSettings { epoch: 2, ..settings() };
    assert!(SpaceIndex::open(other, dir.path()).unwrap().is_none());
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0, "its files are cleared");
}

#[test]
#[cfg(unix)]
fn nobody_else_reads_an_index() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let all = |dir: &Path| {
        let mut modes = vec![mode(dir)];
        modes.extend(fs::read_dir(dir).unwrap().map(|entry| mode(&entry.unwrap().path())));
        modes
    };
    let dir = folder.path().join("vectors-index").join("space");
    keep_up(&filled(&dir), &Task::seal());
    assert_eq!(all(&dir), [0o700, 0o600, 0o600, 0o600], "manifest, segment, payload");
    assert_eq!(mode(dir.parent().unwrap()), 0o700);
    // As a version before left it.
    let open_to_all = |path: &Path, mode| {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    };
    open_to_all(&dir, 0o755);
    for entry in fs::read_dir(&dir).unwrap() {
        open_to_all(&entry.unwrap().path(), 0o644);
    }
    assert_eq!(SpaceIndex::open(settings(), &dir).unwrap().unwrap().len(), 100);
    assert_eq!(all(&dir), [0o700, 0o600, 0o600, 0o600]);
    let bulk = folder.path().join("bulk");
    let mut builder = Builder::create(settings(), &bulk, BuildOptions::default()).unwrap();
    builder.add(&[point(1, 1.0)]).unwrap();
    builder.finish(1, &Control::new()).unwrap();
    assert_eq!(all(&bulk), [0o700, 0o600, 0o600, 0o600]);
}

#[test]
#[cfg(target_os = "linux")]
fn a_segment_that_is_cut_in_use_is_damage() {
    let dir = tempfile::tempdir().unwrap();
    let index = filled(dir.path());
    let manifest = keep_up(&index, &Task::seal());
    assert_eq!(nearest(&index, 50.2, 1), [50]);
    let segment = dir.path().join(&manifest.segments[0].name);
    fs::OpenOptions::new().write(true).open(segment).unwrap().set_len(4_096).unwrap();
    let vector = [50.2, 0.0];
    let search =
        Search { vector: Vector::Floats(&vector), k: 1, ef: None, exact: true, distance_max: None };
    assert!(index.search(&search, None).unwrap_err().is_damage());
    assert!(index.vector(50).unwrap_err().is_damage());
    let task = Task { segments: vec![index.dir.join(&manifest.segments[0].name)], ..Task::seal() };
    let kept = index.keep_up(&task, BuildOptions::default(), &Control::new());
    assert!(kept.unwrap_err().is_damage());
}

#[test]
fn what_is_damaged_says_so_whatever_byte_it_is() {
    let dir = tempfile::tempdir().unwrap();
    keep_up(&filled(dir.path()), &Task::seal());
    let files: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().path()).collect();
    for path in files {
        let whole = fs::read(&path).unwrap();
        for at in (0..whole.len()).step_by(whole.len() / 23 + 1) {
            let mut flipped = whole.clone();
            flipped[at] ^= 0x10;
            fs::write(&path, &flipped).unwrap();
            let opened = SpaceIndex::open(settings(), dir.path());
            let found = match opened {
                Err(error) => Err(error.is_damage()),
                Ok(None) => Ok(false),
                Ok(Some(index)) => {
                    let vector = [5.0, 0.0];
                    let search = Search {
                        vector: Vector::Floats(&vector),
                        k: 100,
                        ef: None,
                        exact: true,
                        distance_max: None,
                    };
                    index.search(&search, None).map(|_| true).map_err(|error| error.is_damage())
                }
            };
            // Padding and bytes that nothing reads may change; nothing wrong is answered.
            assert_ne!(found, Err(false), "{}: byte {at}", path.display());
        }
        fs::write(&path, &whole[..whole.len() / 2]).unwrap();
        assert!(SpaceIndex::open(settings(), dir.path()).is_err(), "{} cut", path.display());
        fs::write(&path, &whole).unwrap();
    }
    assert_eq!(SpaceIndex::open(settings(), dir.path()).unwrap().unwrap().len(), 100);
}

#[test]
fn what_a_dead_process_left_is_swept() {
    let dir = tempfile::tempdir().unwrap();
    keep_up(&filled(dir.path()), &Task::seal());
    for left in ["half.seg", ".manifest.json.x", "old.payload"] {
        fs::write(dir.path().join(left), "half").unwrap();
    }
    let opened = SpaceIndex::open(settings(), dir.path()).unwrap().unwrap();
    assert_eq!(opened.len(), 100);
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 3);
    let manifest = Manifest::read(dir.path()).unwrap().unwrap();
    let stolen = String::from_utf8(manifest.to_bytes()).unwrap().replace(".payload", "/payload");
    fs::write(dir.path().join(MANIFEST), stolen).unwrap();
    assert!(SpaceIndex::open(settings(), dir.path()).unwrap_err().is_damage());
}

/// Points in clusters, as real vectors are.
fn wide(number: u32) -> Point {
    let drawn = |seed: u32| (seed.wrapping_mul(2_654_435_761) >> 16) % 1_000;
    let value = |at| (drawn(number % 20 * 128 + at) * 2 + drawn(number * 128 + at)) as f32;
    let vector = (0..128).flat_map(|at| value(at).to_le_bytes()).collect();
    Point { number, item_id: number.to_string(), vector, payload: Payload::default() }
}

/// Sketches would take an eighth of the codes.
#[test]
fn what_has_no_room_is_not_made() {
    let dir = tempfile::tempdir().unwrap();
    let vectors = Settings::new(Metric::L2, Element::F32, 128).unwrap();
    let settings = SpaceSettings { vectors, ..settings() };
    let index = SpaceIndex::empty(settings, dir.path());
    index.load(&(1..=2_000).map(wide).collect::<Vec<_>>()).unwrap();
    keep_up(&index, &index.whole().unwrap());
    let allowed = (1..=1_500).collect();
    let found = |spare: u64| {
        let index = Arc::new(SpaceIndex::open(settings, dir.path()).unwrap().unwrap());
        let used = index.summary().memory_bytes;
        let counted = Arc::clone(&index);
        let room = Arc::new(SharedRoom::new(used + spare, move || counted.memory_bytes()));
        index.keep_within(Arc::clone(&room) as _);
        let sought = vectors.floats(&wide(7).vector);
        let vector = Vector::Floats(&sought);
        let search = Search { vector, k: 5, ef: None, exact: false, distance_max: None };
        let answer = index.search(&search, Some(&allowed)).unwrap();
        assert_eq!((answer.hits[0].number, room.taken()), (7, 0));
        assert_eq!(index.memory_bytes(), index.summary().memory_bytes);
        (answer.strategy, index.memory_bytes() - used)
    };
    let sketches = 2_000 * 128 / 8;
    assert_eq!(found(sketches - 1), (Strategy::CodeScan, 0));
    assert_eq!(found(sketches), (Strategy::SketchScan, sketches));
}

#[test]
fn the_last_room_is_taken_once() {
    let room = SharedRoom::new(100, || 40);
    assert!(room.take(35) && room.taken() == 35);
    assert!(!room.take(26), "together they would be too many");
    assert!(!room.take(1), "nobody is let in for a moment");
    room.give_back(35);
    assert_eq!(room.taken(), 0);
}
