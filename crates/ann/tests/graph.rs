//! Searches by codes and graph against the exact answers: every space, filters of every
//! selectivity, deletions, many neighbours, thresholds, and searches while parts are swapped.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod worlds;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use ann::{
    Answer, BuildOptions, Control, Element, Error, Index, Metric, Query, SegmentBuilder, Settings,
    Strategy, Task, Upkeep,
};
use roaring::RoaringBitmap;
use worlds::{Made, World, every_space};

const ROWS: usize = 6_000;

/// An index of one segment, and its world.
fn built(at: usize) -> (tempfile::TempDir, World, Index) {
    let settings = every_space()[at];
    let folder = tempfile::tempdir().expect("a folder");
    let world = World::new(settings, ROWS);
    let segment = Arc::new(world.segment(folder.path(), 2));
    let index = Index::open(settings, vec![segment], &RoaringBitmap::new()).expect("opened");
    (folder, world, index)
}

fn ask<'a>(made: &'a Made, k: usize, allowed: Option<&'a RoaringBitmap>) -> Query<'a> {
    Query { allowed, ..Query::new(made.as_vector(), k) }
}

/// The share of the exact answer's distances that the search reached: ties are equally right.
fn recall(index: &Index, query: &Query<'_>) -> (f64, Answer) {
    let exact = index.search(&Query { exact: true, ..*query }).expect("exact");
    let answer = index.search(query).expect("an answer");
    assert_eq!(answer.hits.len(), exact.hits.len(), "no short answer: {:?}", answer.parts);
    assert_eq!(answer.matching, exact.matching);
    let Some(last) = exact.hits.last() else { return (1.0, answer) };
    let reached = answer.hits.iter().filter(|hit| hit.distance <= last.distance).count();
    (reached as f64 / exact.hits.len() as f64, answer)
}

fn mean_recall(world: &World, index: &Index, k: usize, allowed: Option<&RoaringBitmap>) -> f64 {
    let queries = world.queries();
    let sum: f64 = queries.iter().map(|made| recall(index, &ask(made, k, allowed)).0).sum();
    sum / queries.len() as f64
}

#[test]
fn every_space_is_found_by_its_graph() {
    for at in 0..every_space().len() {
        let (_folder, world, index) = built(at);
        let (_, answer) = recall(&index, &ask(&world.queries()[0], 10, None));
        assert_eq!(answer.strategy, Strategy::Graph);
        assert!(!answer.exact && answer.scanned < ROWS as u64 / 2, "{:?}", answer.parts);
        let recall = mean_recall(&world, &index, 10, None);
        assert!(recall >= 0.95, "{:?}: {recall}", world.settings);
    }
}

#[test]
fn a_filter_of_any_size_finds_what_it_allows() {
    let (_folder, world, index) = built(0);
    let every = |share: u32| (0..ROWS as u32).filter(move |number| number % 1_000 < share);
    for (share, strategy) in [
        (750, Strategy::FilteredGraph),
        (70, Strategy::CodeScan),
        (20, Strategy::CodeScan),
        (4, Strategy::ExactScan),
    ] {
        let allowed: RoaringBitmap = every(share).collect();
        let made = &world.queries()[0];
        let (_, answer) = recall(&index, &ask(made, 10, Some(&allowed)));
        assert_eq!(answer.strategy, strategy, "{share} of 1,000: {:?}", answer.parts);
        assert_eq!(answer.matching, allowed.len());
        assert!(answer.hits.iter().all(|hit| allowed.contains(hit.number)));
        let recall = mean_recall(&world, &index, 10, Some(&allowed));
        assert!(recall >= 0.97, "{share} of 1,000: {recall}");
    }
    let nothing = RoaringBitmap::from([999_999]);
    let answer = index.search(&ask(&world.queries()[0], 10, Some(&nothing))).expect("an answer");
    assert_eq!((answer.strategy, answer.hits.len(), answer.exact), (Strategy::Nothing, 0, true));
}

#[test]
fn wide_vectors_are_scanned_by_sketches() {
    // Numbers one after another, and with gaps.
    for (metric, element, step) in [
        (Metric::Cosine, Element::F32, 1),
        (Metric::L2, Element::F32, 2),
        (Metric::InnerProduct, Element::F16, 1),
        (Metric::L1, Element::I8, 2),
    ] {
        let settings = Settings::new(metric, element, 200).expect("a space");
        let folder = tempfile::tempdir().expect("a folder");
        let world = World::new(settings, ROWS);
        let path = folder.path().join("wide.segment");
        let mut builder =
            SegmentBuilder::create(settings, &path, BuildOptions::default()).expect("a builder");
        for number in 0..ROWS {
            let stored = settings.store(world.vector(number)).expect("stored");
            builder.add((number * step) as u32, &stored).expect("added");
        }
        let segment = Arc::new(builder.finish(&Control::new()).expect("built"));
        let before = segment.resident_bytes();
        let index = Index::open(settings, vec![segment.clone()], &RoaringBitmap::new());
        let index = index.expect("opened");
        let allowed: RoaringBitmap = (0..(ROWS * step) as u32).step_by(step * 4).collect();
        let gone: RoaringBitmap = (0..(ROWS * step) as u32).step_by(step * 12).collect();
        for gone in [RoaringBitmap::new(), gone] {
            index.delete(&gone);
            let (_, answer) = recall(&index, &ask(&world.queries()[0], 10, Some(&allowed)));
            assert_eq!(answer.strategy, Strategy::SketchScan, "{settings:?}: {:?}", answer.parts);
            assert!(!answer.exact && answer.scanned == answer.matching);
            for k in [1, 10, 100, 2_000] {
                let recall = mean_recall(&world, &index, k, Some(&allowed));
                assert!(recall >= 0.97, "{settings:?}, k {k}: {recall}");
            }
        }
        assert!(segment.resident_bytes() >= before + (ROWS * 4 * 8) as u64, "they are counted");
    }
}

/// Bytes that are left, and that are taken.
#[derive(Debug)]
struct Room {
    left: u64,
    taken: AtomicU64,
}

impl ann::Room for Room {
    fn take(&self, bytes: u64) -> bool {
        let fits = |taken: u64| (taken + bytes <= self.left).then_some(taken + bytes);
        self.taken.fetch_update(Ordering::SeqCst, Ordering::SeqCst, fits).is_ok()
    }

    fn give_back(&self, bytes: u64) {
        assert!(self.taken.fetch_sub(bytes, Ordering::SeqCst) >= bytes);
    }
}

#[test]
fn sketches_are_counted_before_they_are_made() {
    let settings = Settings::new(Metric::Cosine, Element::F32, 200).expect("a space");
    let folder = tempfile::tempdir().expect("a folder");
    let world = World::new(settings, ROWS);
    let segment = Arc::new(world.segment(folder.path(), 2));
    let index = Index::open(settings, vec![segment.clone()], &RoaringBitmap::new());
    let index = index.expect("opened");
    let allowed: RoaringBitmap = (0..ROWS as u32).step_by(4).collect();
    let (before, sketches) = (segment.resident_bytes(), (ROWS * 4 * 8) as u64);
    // For one and not for all at once; what is made stays, whatever room there is.
    for (left, strategy) in [
        (sketches - 1, Some(Strategy::CodeScan)),
        (sketches, None),
        (0, Some(Strategy::SketchScan)),
    ] {
        let room = Room { left, taken: AtomicU64::new(0) };
        std::thread::scope(|scope| {
            for made in &world.queries()[..4] {
                let query = Query { room: Some(&room), ..ask(made, 10, Some(&allowed)) };
                let index = &index;
                scope.spawn(move || {
                    let (recall, answer) = recall(index, &query);
                    assert!(strategy.is_none_or(|wanted| wanted == answer.strategy), "{answer:?}");
                    assert!(recall > 0.8, "{recall}");
                });
            }
        });
        assert_eq!(room.taken.into_inner(), 0, "nobody keeps it");
        let more = if strategy == Some(Strategy::CodeScan) { 0 } else { sketches };
        assert_eq!(segment.resident_bytes(), before + more);
    }
}

#[test]
fn a_scan_without_room_for_sketches_costs_what_it_does() {
    let settings = Settings::new(Metric::Cosine, Element::F32, 200).expect("a space");
    let folder = tempfile::tempdir().expect("a folder");
    let world = World::new(settings, ROWS);
    let segment = Arc::new(world.segment(folder.path(), 2));
    let index = Index::open(settings, vec![segment], &RoaringBitmap::new()).expect("opened");
    // By codes a scan of so many costs more than a walk, by sketches less.
    let allowed: RoaringBitmap = (0..ROWS as u32).filter(|number| number % 3 > 0).collect();
    for (left, strategy) in [(0, Strategy::FilteredGraph), (1 << 20, Strategy::SketchScan)] {
        let room = Room { left, taken: AtomicU64::new(0) };
        let query = Query { room: Some(&room), ..ask(&world.queries()[0], 10, Some(&allowed)) };
        let (recall, answer) = recall(&index, &query);
        assert_eq!(answer.strategy, strategy, "{:?}", answer.parts);
        assert!(recall > 0.8, "{recall}");
    }
}

#[test]
fn sketches_tell_apart_what_a_filter_keeps_together() {
    let settings = Settings::new(Metric::Cosine, Element::F32, 200).expect("a space");
    let folder = tempfile::tempdir().expect("a folder");
    let world = World::new(settings, ROWS);
    let segment = Arc::new(world.segment(folder.path(), 2));
    let index = Index::open(settings, vec![segment], &RoaringBitmap::new()).expect("opened");
    for made in &world.queries()[..4] {
        // What is nearest to one query, asked for by all.
        let near = Query { exact: true, ..ask(made, ROWS / 4, None) };
        let near = index.search(&near).expect("exact").hits;
        let allowed: RoaringBitmap = near.iter().map(|hit| hit.number).collect();
        let (_, answer) = recall(&index, &ask(made, 10, Some(&allowed)));
        assert_eq!(answer.strategy, Strategy::SketchScan, "{:?}", answer.parts);
        let recall = mean_recall(&world, &index, 10, Some(&allowed));
        assert!(recall >= 0.97, "{recall}");
    }
}

#[test]
fn a_filter_that_shuns_the_query_is_scanned_in_the_end() {
    let (_folder, world, index) = built(0);
    for made in world.queries() {
        // The farther three quarters: nothing near the query is allowed.
        let far = index.search(&Query { exact: true, ..ask(made, 1_500, None) }).expect("exact");
        let near: RoaringBitmap = far.hits.iter().map(|hit| hit.number).collect();
        let allowed = index.alive() - near;
        let query = ask(made, 10, Some(&allowed));
        let exact = index.search(&Query { exact: true, ..query }).expect("exact");
        let answer = index.search(&query).expect("an answer");
        assert!(answer.hits.iter().all(|hit| allowed.contains(hit.number)));
        assert!(answer.scanned <= 2 * ROWS as u64, "{:?}", answer.parts);
        // There they stand close: codes can't tell all apart, but none is far off.
        let (got, meant) = (answer.hits[9].distance, exact.hits[9].distance);
        assert!(got - meant < 0.005, "{got} {meant} {:?}", answer.parts);
    }
}

#[test]
fn deleted_vectors_are_walked_past() {
    let (_folder, world, index) = built(1);
    let gone: RoaringBitmap = (0..ROWS as u32).filter(|number| number % 3 == 0).collect();
    assert_eq!(index.delete(&gone), gone.len());
    let made = &world.queries()[0];
    let (_, answer) = recall(&index, &ask(made, 10, None));
    assert_eq!(answer.strategy, Strategy::FilteredGraph);
    assert!(answer.hits.iter().all(|hit| !gone.contains(hit.number)));
    let recall = mean_recall(&world, &index, 10, None);
    assert!(recall >= 0.97, "{recall}");
    assert_eq!(index.due(&Upkeep::default()).expect("a rebuild").rows, ROWS as u64 - gone.len());
}

#[test]
fn many_neighbours_and_thresholds() {
    let (_folder, world, index) = built(0);
    for k in [1, 100, 1_000, ROWS, 10_000] {
        let recall = mean_recall(&world, &index, k, None);
        assert!(recall >= 0.95, "k {k}: {recall}");
    }
    let made = &world.queries()[0];
    let all = index.search(&Query { exact: true, ..ask(made, 100, None) }).expect("exact");
    let limit = all.hits[40].distance;
    let query = Query { distance_max: Some(limit), ..ask(made, 100, None) };
    let answer = index.search(&query).expect("an answer");
    assert!(answer.hits.len() >= 39, "{}", answer.hits.len());
    assert!(answer.hits.iter().all(|hit| hit.distance <= limit));
}

#[test]
fn equal_vectors_hide_nobody() {
    // A tenth of all vectors are one and the same.
    let settings = every_space()[0];
    let folder = tempfile::tempdir().expect("a folder");
    let world = World::new(settings, ROWS);
    let path = folder.path().join("equal.segment");
    let mut builder =
        SegmentBuilder::create(settings, &path, BuildOptions::default()).expect("a builder");
    for number in 0..ROWS {
        let vector = world.vector(if number % 10 == 0 { 0 } else { number });
        builder.add(number as u32, &settings.store(vector).expect("stored")).expect("added");
    }
    let segment = Arc::new(builder.finish(&Control::new()).expect("built"));
    let index = Index::open(settings, vec![segment], &RoaringBitmap::new()).expect("opened");
    let recall = mean_recall(&world, &index, 10, None);
    assert!(recall >= 0.95, "{recall}");
    let same = index.search(&Query::new(world.vector(0), 10)).expect("an answer");
    assert!(same.hits.iter().all(|hit| hit.distance < 1e-6), "{:?}", same.hits);
}

#[test]
fn memory_and_time_are_bounded() {
    let settings = every_space()[0];
    let folder = tempfile::tempdir().expect("a folder");
    let world = World::new(settings, 100);
    let options = BuildOptions { memory_bytes_max: 10_000, ..BuildOptions::default() };
    let path = folder.path().join("a.segment");
    let mut builder = SegmentBuilder::create(settings, &path, options).expect("a builder");
    let stored = settings.store(world.vector(0)).expect("stored");
    let refused = (0..100).find_map(|number| builder.add(number, &stored).err());
    assert!(matches!(refused, Some(Error::OverBudget { limit: 10_000, .. })), "{refused:?}");

    let world = World::new(settings, ROWS);
    let (control, watched) = (Control::new(), Control::new());
    let mut builder =
        SegmentBuilder::create(settings, &path, BuildOptions::default()).expect("a builder");
    for number in 0..ROWS {
        let stored = settings.store(world.vector(number)).expect("stored");
        builder.add(number as u32, &stored).expect("added");
    }
    control.cancel();
    assert!(matches!(builder.finish(&control), Err(Error::Cancelled)));
    assert_eq!(std::fs::read_dir(folder.path()).expect("listed").count(), 0);
    world.segment(folder.path(), 1);
    let query = Query { control: Some(&watched), exact: true, ..ask(&world.queries()[0], 1, None) };
    watched.cancel();
    let index = Index::new(settings);
    world.insert(&index, 0..10);
    assert!(matches!(index.search(&query), Err(Error::Cancelled)));
}

#[test]
fn searches_run_while_parts_are_swapped() {
    let settings = every_space()[0];
    let folder = tempfile::tempdir().expect("a folder");
    let world = World::new(settings, 2_400);
    let index = Index::new(settings);
    world.insert(&index, 0..1_200);
    let done = AtomicBool::new(false);
    let deleted = RoaringBitmap::from_iter((0..1_200).step_by(5));
    index.delete(&deleted);
    std::thread::scope(|scope| {
        for searcher in 0..2 {
            let (index, world, done, deleted) = (&index, &world, &done, &deleted);
            scope.spawn(move || {
                while !done.load(Ordering::Acquire) {
                    let made = &world.queries()[searcher];
                    let answer = index.search(&ask(made, 10, None)).expect("an answer");
                    assert_eq!(answer.hits.len(), 10, "{:?}", answer.parts);
                    assert!(answer.matching >= 960, "{:?}", answer.parts);
                    let back = answer.hits.iter().find(|hit| deleted.contains(hit.number));
                    assert!(back.is_none(), "a deleted one came back: {back:?}");
                }
            });
        }
        for (file, begin) in (1_200..2_400).step_by(200).enumerate() {
            world.insert(&index, begin..begin + 200);
            let segments = index.segments();
            let segments = segments.iter().map(|segment| segment.path().to_owned()).collect();
            let task = Task { segments, ..Task::seal() };
            let work = index.begin(&task).expect("begun");
            let path = folder.path().join(format!("{file}.segment"));
            let built = work.build(&path, BuildOptions::default(), &Control::new()).expect("built");
            let installed = index.install(work, built.map(Arc::new)).expect("installed");
            for path in installed.replaced {
                std::fs::remove_file(path).expect("removed");
            }
        }
        done.store(true, Ordering::Release);
    });
    assert_eq!(index.segments().len(), 1);
    assert_eq!(index.len(), 2_400 - 240);
    assert!(mean_recall(&world, &index, 10, None) >= 0.95);
}
