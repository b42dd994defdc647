//! Vectors of very different lengths, and a few that outweigh all others: the default search finds what is nearest.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::sync::Arc;

use ann::{
    BuildOptions, Control, Element, Index, Metric, Query, SegmentBuilder, Settings, Strategy,
    Vector,
};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use roaring::RoaringBitmap;

const ROWS: usize = 8_000;
const DIMENSION: usize = 48;
const CENTRES: usize = 40;

/// As good as normal: of mean 0 and deviation 1.
fn normal(random: &mut StdRng) -> f32 {
    (0..12).map(|_| random.random_range(-0.5_f32..0.5)).sum()
}

/// Vectors in clusters, whose directions differ more than real ones' do within one.
fn clustered() -> Vec<Vec<f32>> {
    let mut random = StdRng::seed_from_u64(11);
    let mut centre = || (0..DIMENSION).map(|_| normal(&mut random)).collect::<Vec<f32>>();
    let centres: Vec<Vec<f32>> = (0..CENTRES).map(|_| centre()).collect();
    let mut random = StdRng::seed_from_u64(12);
    (0..ROWS)
        .map(|_| {
            let centre = &centres[random.random_range(0..CENTRES)];
            centre.iter().map(|value| value + 0.7 * normal(&mut random)).collect()
        })
        .collect()
}

fn times(vector: &mut [f32], factor: f32) {
    vector.iter_mut().for_each(|value| *value *= factor);
}

/// Lengths whose logarithms are normal.
fn of_lengths(deviation: f32) -> Vec<Vec<f32>> {
    let (mut random, mut rows) = (StdRng::seed_from_u64(13), clustered());
    rows.iter_mut().for_each(|row| times(row, (deviation * normal(&mut random)).exp()));
    rows
}

fn with_outliers(outliers: &[(usize, f32)]) -> Vec<Vec<f32>> {
    let mut rows = clustered();
    outliers.iter().for_each(|(row, factor)| times(&mut rows[*row], *factor));
    rows
}

struct Made {
    _folder: tempfile::TempDir,
    rows: Vec<Vec<f32>>,
    index: Index,
}

impl Made {
    fn new(metric: Metric, element: Element, rows: Vec<Vec<f32>>) -> Self {
        let settings = Settings::new(metric, element, DIMENSION as u32).expect("a space");
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("lengths.segment");
        let options = BuildOptions { threads: 2, ..BuildOptions::default() };
        let mut builder = SegmentBuilder::create(settings, &path, options).expect("a builder");
        for (number, row) in (0..).zip(&rows) {
            let stored = settings.store(Vector::Floats(row)).expect("stored");
            builder.add(number, &stored).expect("added");
        }
        let segment = Arc::new(builder.finish(&Control::new()).expect("built"));
        let index = Index::open(settings, vec![segment], &RoaringBitmap::new()).expect("opened");
        Self { _folder: folder, rows, index }
    }

    /// The mean share of the nearest that is found, of some rows as queries.
    fn recall(&self, k: usize, allowed: Option<&RoaringBitmap>) -> f64 {
        let queries: Vec<usize> = (0..ROWS).step_by(ROWS / 40).collect();
        let found = queries.iter().map(|query| {
            let asked = Query { allowed, ..Query::new(Vector::Floats(&self.rows[*query]), k) };
            let exact = self.index.search(&Query { exact: true, ..asked }).expect("exact");
            let answer = self.index.search(&asked).expect("an answer");
            let is_walked = allowed.is_none() && k <= 100;
            assert!(!is_walked || answer.strategy == Strategy::Graph, "{:?}", answer.parts);
            let last = exact.hits[k - 1].distance;
            answer.hits.iter().filter(|hit| hit.distance <= last).count() as f64 / k as f64
        });
        found.sum::<f64>() / queries.len() as f64
    }

    fn bytes_a_row(&self) -> f64 {
        self.index.memory().resident_bytes as f64 / ROWS as f64
    }
}

#[test]
fn products_of_long_and_short_vectors() {
    for (deviation, element) in [(0.5, Element::F32), (1.5, Element::F32), (0.5, Element::F16)] {
        let made = Made::new(Metric::InnerProduct, element, of_lengths(deviation));
        for k in [10, 100, 1_000] {
            let recall = made.recall(k, None);
            assert!(recall >= 0.95, "{element:?}, {deviation}, k {k}: {recall}");
        }
        // None of the long ones, to which all links lead, is allowed.
        let squares = |row: &Vec<f32>| row.iter().map(|value| value * value).sum::<f32>();
        let lengths: Vec<f32> = made.rows.iter().map(squares).collect();
        let mut sorted = lengths.clone();
        let median = *sorted.select_nth_unstable_by(ROWS / 2, f32::total_cmp).1;
        let short = (0..ROWS as u32).filter(|number| lengths[*number as usize] < median);
        let recall = made.recall(10, Some(&short.collect()));
        assert!(recall >= 0.9, "{element:?}, {deviation}, short ones: {recall}");
    }
}

#[test]
fn products_beside_a_giant() {
    for outliers in [&[(5, 1e4)][..], &[(5, 1e4), (77, 1e6), (78, 3e9)]] {
        let made = Made::new(Metric::InnerProduct, Element::F32, with_outliers(outliers));
        for k in [10, 100] {
            let recall = made.recall(k, None);
            assert!(recall >= 0.95, "{outliers:?}, k {k}: {recall}");
        }
    }
}

#[test]
fn differences_beside_giants() {
    let giants = [(5, 1e5), (77, 1e6)];
    for metric in [Metric::L2, Metric::L1] {
        let plain = Made::new(metric, Element::F32, clustered());
        let made = Made::new(metric, Element::F32, with_outliers(&giants));
        let (before, recall) = (plain.recall(10, None), made.recall(10, None));
        assert!(before >= 0.95 && recall >= before - 0.02, "{metric:?}: {before}, {recall}");
    }
}

/// Under L1 no row has a scale of its own: those of the many count, and what is cut stays far.
#[test]
fn usual_ones_among_many_giants() {
    let before = Made::new(Metric::L1, Element::F32, clustered()).recall(10, None);
    for count in [ROWS / 500, ROWS / 100, ROWS / 20] {
        // None of them is a query.
        let giants: Vec<_> = (0..count).map(|at| (at * (ROWS / count) + 1, 1e3)).collect();
        let recall = Made::new(Metric::L1, Element::F32, with_outliers(&giants)).recall(10, None);
        assert!(recall >= 0.95 && recall >= before - 0.02, "{count}: {before}, {recall}");
    }
}

#[test]
fn differences_of_long_and_short_vectors() {
    for deviation in [1.5, 3.0] {
        let recall = Made::new(Metric::L2, Element::F32, of_lengths(deviation)).recall(10, None);
        assert!(recall >= 0.97, "{deviation}: {recall}");
    }
}

#[test]
fn vectors_of_like_lengths_take_no_more_memory() {
    let mut rows = clustered();
    for row in &mut rows {
        let length = row.iter().map(|value| value * value).sum::<f32>().sqrt();
        times(row, 1.0 / length);
    }
    let of = |metric| Made::new(metric, Element::F32, rows.clone()).bytes_a_row();
    let (product, difference) = (of(Metric::InnerProduct), of(Metric::L2));
    // A number beside each code, and the centre; levels are drawn alike.
    let centre = (DIMENSION * 4).next_multiple_of(64) as f64 / ROWS as f64;
    assert!(difference <= product + 4.1 + centre, "{product} {difference}");
    let uneven = Made::new(Metric::InnerProduct, Element::F32, of_lengths(1.0)).bytes_a_row();
    assert!((3.9..4.1).contains(&(uneven - product)), "{product} {uneven}");
}
