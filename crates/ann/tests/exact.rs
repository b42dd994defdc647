//! Exact answers against a plain sort, for every metric and element, through insertion, sealing,
//! deletion, merging and opening again.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod worlds;

use std::sync::Arc;

use ann::{BuildOptions, Control, Index, Query, Segment, Task, Upkeep};
use roaring::RoaringBitmap;
use worlds::{World, every_space};

fn exact(world: &World, index: &Index, k: usize, allowed: Option<&RoaringBitmap>) {
    for query in &world.queries()[..5] {
        let asked = Query { exact: true, allowed, ..Query::new(query.as_vector(), k) };
        let answer = index.search(&asked).expect("an answer");
        assert!(answer.exact, "{:?}", answer.parts);
        let meant = world.nearest(query, k, allowed, &index.alive());
        let got: Vec<(u32, u32)> =
            answer.hits.iter().map(|hit| (hit.number, hit.distance.to_bits())).collect();
        assert_eq!(got, meant, "{:?}", world.settings);
    }
}

#[test]
fn head_and_segments_answer_alike() {
    for settings in every_space() {
        let folder = tempfile::tempdir().expect("a folder");
        let world = World::new(settings, 300);
        let index = Index::new(settings);
        world.insert(&index, 0..200);
        exact(&world, &index, 7, None);

        let work = index.begin(&Task::seal()).expect("begun");
        world.insert(&index, 200..250);
        let path = folder.path().join("a.segment");
        let built = work.build(&path, BuildOptions::default(), &Control::new()).expect("built");
        index.install(work, built.map(Arc::new)).expect("installed");
        exact(&world, &index, 7, None);

        let gone: RoaringBitmap = (0..300).step_by(3).collect();
        assert_eq!(index.delete(&gone), 84);
        assert_eq!(index.delete(&gone), 0, "deleted already");
        world.insert(&index, 250..300);
        exact(&world, &index, 7, None);
        let allowed: RoaringBitmap = (0..300).step_by(2).collect();
        exact(&world, &index, 20, Some(&allowed));
        exact(&world, &index, 300, None);

        let segments = index.segments();
        let again = Index::open(settings, segments, &index.deleted()).expect("opened");
        exact(&world, &again, 7, None);
        assert_eq!(again.len(), 133);
    }
}

#[test]
fn what_is_due_is_done_until_nothing_is() {
    let settings = every_space()[0];
    let folder = tempfile::tempdir().expect("a folder");
    let world = World::new(settings, 900);
    let index = Index::new(settings);
    let upkeep = Upkeep { head_rows_max: 100, ..Upkeep::default() };
    let mut files = 0;
    for begin in (0..900).step_by(100) {
        world.insert(&index, begin..begin + 100);
        while let Some(task) = index.due(&upkeep) {
            let work = index.begin(&task).expect("begun");
            files += 1;
            let path = folder.path().join(format!("{files}.segment"));
            let built = work.build(&path, BuildOptions::default(), &Control::new());
            let installed =
                index.install(work, built.expect("built").map(Arc::new)).expect("installed");
            for path in installed.replaced {
                std::fs::remove_file(path).expect("removed");
            }
        }
        exact(&world, &index, 5, None);
    }
    assert!(index.segments().len() < 9, "they were merged");
    // A fifth and one more: rebuilt without them.
    let gone: RoaringBitmap = (0..900).filter(|number| number % 4 == 0).collect();
    index.delete(&gone);
    let before: u32 = index.segments().iter().map(|segment| segment.rows()).sum();
    let task = index.due(&upkeep).expect("a rebuild");
    assert!(!task.heads && task.segments.len() == 1, "{task:?}");
    let work = index.begin(&task).expect("begun");
    let more: RoaringBitmap = [1_u32, 5, 9].into_iter().collect();
    assert_eq!(index.delete(&more), 3, "while it builds");
    let path = folder.path().join("rebuilt.segment");
    let built = work.build(&path, BuildOptions::default(), &Control::new()).expect("built");
    index.install(work, built.map(Arc::new)).expect("installed");
    let after: u32 = index.segments().iter().map(|segment| segment.rows()).sum();
    assert!(after < before);
    assert!(index.alive().is_disjoint(&(gone | more)), "what is deleted never comes back");
    exact(&world, &index, 5, None);
}

#[test]
fn a_change_applied_twice_changes_nothing() {
    let settings = every_space()[0];
    let world = World::new(settings, 10);
    let index = Index::new(settings);
    world.insert(&index, 0..10);
    assert!(!index.insert(3, world.vector(3)).expect("known"));
    index.delete(&[3].into_iter().collect());
    assert!(!index.insert(3, world.vector(3)).expect("deleted, and known"));
    assert_eq!(index.len(), 9);
    assert_eq!(index.vector(3).expect("read"), None);
    assert!(index.vector(4).expect("read").is_some());
}

#[test]
fn an_unknown_source_is_stale() {
    let index = Index::new(every_space()[0]);
    let task = Task { segments: vec!["nowhere.segment".into()], ..Task::seal() };
    assert!(matches!(index.begin(&task), Err(ann::Error::Stale(_))));
}

#[test]
fn cancelled_work_leaves_no_file_and_all_vectors() {
    let settings = every_space()[0];
    let folder = tempfile::tempdir().expect("a folder");
    let world = World::new(settings, 50);
    let index = Index::new(settings);
    world.insert(&index, 0..50);
    let work = index.begin(&Task::seal()).expect("begun");
    let control = Control::new();
    control.cancel();
    let path = folder.path().join("a.segment");
    let built = work.build(&path, BuildOptions::default(), &control);
    assert!(matches!(built, Err(ann::Error::Cancelled)));
    drop(work);
    assert_eq!(std::fs::read_dir(folder.path()).expect("listed").count(), 0);
    exact(&world, &index, 5, None);
    let work = index.begin(&Task::seal()).expect("begun again");
    let built = work.build(&path, BuildOptions::default(), &Control::new()).expect("built");
    index.install(work, built.map(Arc::new)).expect("installed");
    assert_eq!(Segment::open(&path).expect("opened").rows(), 50);
    exact(&world, &index, 5, None);
}
