//! Vectors without neighbourhoods, and such as lie between all others: the default search finds each by itself.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::sync::Arc;

use ann::{
    BuildOptions, Control, Element, Index, Metric, Query, SegmentBuilder, Settings, Strategy,
    Vector,
};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use roaring::RoaringBitmap;

const ROWS: usize = 6_000;
const DIMENSION: usize = 40;

/// As good as normal: of mean 0 and deviation 1.
fn normal(random: &mut StdRng) -> Vec<f32> {
    let mut one = || (0..12).map(|_| random.random_range(-0.5_f32..0.5)).sum();
    (0..DIMENSION).map(|_| one()).collect()
}

/// Vectors of length one in a hundred clusters.
fn clustered() -> Vec<Vec<f32>> {
    clusters(0.3)
}

fn clusters(deviation: f32) -> Vec<Vec<f32>> {
    let mut random = StdRng::seed_from_u64(21);
    let centres: Vec<_> = (0..100).map(|_| normal(&mut random)).collect();
    let of = |centre: &Vec<f32>, spread: Vec<f32>| -> Vec<f32> {
        let values = centre.iter().zip(spread).map(|(centre, spread)| centre + deviation * spread);
        let values: Vec<f32> = values.collect();
        let length = values.iter().map(|value| value * value).sum::<f32>().sqrt();
        values.iter().map(|value| value / length).collect()
    };
    (0..ROWS).map(|_| of(&centres[random.random_range(0..100)], normal(&mut random))).collect()
}

/// Of those asked for, how many do not find themselves, and the recall of ten.
fn lost(metric: Metric, rows: &[Vec<f32>]) -> (usize, f64) {
    let settings = Settings::new(metric, Element::F32, DIMENSION as u32).expect("a space");
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("hubs.segment");
    let options = BuildOptions::default();
    let mut builder = SegmentBuilder::create(settings, &path, options).expect("a builder");
    for (number, row) in (0..).zip(rows) {
        builder.add(number, &settings.store(Vector::Floats(row)).unwrap()).expect("added");
    }
    let segment = Arc::new(builder.finish(&Control::new()).expect("built"));
    let index = Index::open(settings, vec![segment], &RoaringBitmap::new()).expect("opened");
    let asked: Vec<_> = rows.iter().step_by(ROWS / 300).collect();
    let (mut lost, mut found) = (0, 0);
    for row in &asked {
        let query = Query::new(Vector::Floats(row), 10);
        let exact = index.search(&Query { exact: true, ..query }).expect("exact").hits;
        let answer = index.search(&query).expect("an answer");
        assert_eq!(answer.strategy, Strategy::Graph);
        lost += usize::from(answer.hits[0].distance > exact[0].distance);
        found += answer.hits.iter().filter(|hit| hit.distance <= exact[9].distance).count();
    }
    (lost, found as f64 / asked.len() as f64 / 10.0)
}

#[test]
fn vectors_without_neighbourhoods_are_found() {
    let mut random = StdRng::seed_from_u64(22);
    let rows: Vec<_> = (0..ROWS).map(|_| normal(&mut random)).collect();
    let (lost, recall) = lost(Metric::L2, &rows);
    assert!(lost <= 1 && recall >= 0.93, "{lost}, {recall}");
}

#[test]
fn near_vectors_are_told_apart_by_cosine() {
    let mut random = StdRng::seed_from_u64(23);
    let far: Vec<Vec<f32>> =
        (0..ROWS).map(|_| normal(&mut random).iter().map(|value| value + 10.0).collect()).collect();
    for (rows, least) in [(clusters(0.1), 0.99), (clusters(0.03), 0.95), (far, 0.95)] {
        let (lost, recall) = lost(Metric::Cosine, &rows);
        assert!(lost <= 3 && recall >= least, "{lost}, {recall}");
    }
}

#[test]
fn vectors_around_many_zeros_are_found() {
    // Of so many that rows have their own scales, the graph is another.
    for (step, most, least) in [(1_000, 1, 0.99), (200, 1, 0.99), (100, 1, 0.99), (20, 20, 0.93)] {
        let mut rows = clustered();
        rows.iter_mut().skip(7).step_by(step).for_each(|row| row.fill(0.0));
        let (lost, recall) = lost(Metric::L2, &rows);
        assert!(lost <= most && recall >= least, "one in {step}: {lost}, {recall}");
    }
}

#[test]
fn vectors_beside_one_that_is_most_of_all_are_found() {
    let mut rows = clustered();
    let one: Vec<f32> = rows[1].iter().map(|value| value / 20.0).collect();
    for (number, row) in rows.iter_mut().enumerate() {
        if number % 5 != 0 {
            row.clone_from(&one);
        }
    }
    let (lost, recall) = lost(Metric::L2, &rows);
    assert!(lost <= 30 && recall >= 0.91, "{lost}, {recall}");
}
