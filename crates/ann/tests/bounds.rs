//! What is refused, and with which words.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod worlds;

use ann::{Element, Error, Graph, Index, Metric, Query, Settings, Vector};

fn refused<T: std::fmt::Debug>(result: Result<T, Error>, words: &str) {
    let error = result.expect_err("it should be refused").to_string();
    assert!(error.contains(words), "{error}");
}

#[test]
fn spaces_that_cannot_be() {
    refused(Settings::new(Metric::L2, Element::F32, 0), "dimension: 0 is not within 1 and 16384");
    refused(Settings::new(Metric::L2, Element::F32, 16_385), "16385");
    refused(Settings::new(Metric::L2, Element::Bit, 8), "L2 does not measure Bit");
    refused(Settings::new(Metric::Jaccard, Element::F16, 8), "Jaccard does not measure F16");
    let settings = Settings::new(Metric::L2, Element::F32, 8).expect("a space");
    refused(settings.with_graph(Graph { links: 3, build_ef: 100 }), "links");
    refused(settings.with_graph(Graph { links: 16, build_ef: 1 }), "build_ef");
}

#[test]
fn vectors_that_do_not_fit() {
    let of =
        |metric, element, dimension| Settings::new(metric, element, dimension).expect("a space");
    let floats = of(Metric::L2, Element::F32, 2);
    refused(floats.store(Vector::Floats(&[1.0])), "vector: dimension 1; the space has 2");
    refused(floats.store(Vector::Floats(&[1.0, f32::NAN])), "coordinate 1 is NaN");
    refused(floats.store(Vector::Floats(&[f32::INFINITY, 1.0])), "coordinate 0 is inf");
    refused(floats.store(Vector::Bits(&[1])), "bits given; the space holds F32");
    let halves = of(Metric::L2, Element::F16, 1);
    refused(halves.store(Vector::Floats(&[65_520.0])), "beyond half precision's 65504");
    let bytes = of(Metric::L2, Element::I8, 1);
    refused(bytes.store(Vector::Floats(&[0.5])), "no whole number of -128 to 127");
    refused(bytes.store(Vector::Floats(&[128.0])), "no whole number of -128 to 127");
    assert_eq!(
        bytes.store(Vector::Floats(&[-128.0])).expect("whole"),
        bytes.store(Vector::Bytes(&[-128])).expect("bytes")
    );
    let bits = of(Metric::Hamming, Element::Bit, 9);
    refused(bits.store(Vector::Bits(&[1])), "dimension 1 bytes; the space has 2 bytes");
    refused(bits.store(Vector::Bits(&[1, 2])), "bits are set after the last of 9");
    let angles = of(Metric::Cosine, Element::F32, 2);
    refused(angles.store(Vector::Floats(&[0.0, 0.0])), "needs a direction");
    refused(angles.store(Vector::Floats(&[1e-30, 0.0])), "needs a direction");
    for metric in [Metric::Cosine, Metric::L2, Metric::InnerProduct, Metric::L1] {
        let space = of(metric, Element::F32, 2);
        refused(space.store(Vector::Floats(&[1e19, 0.0])), "its length is beyond 9e18");
        refused(space.store(Vector::Floats(&[f32::MAX, -f32::MAX])), "its length is beyond");
        let (far, other) = (Vector::Floats(&[9e18, 0.0]), Vector::Floats(&[-9e18, 0.0]));
        assert!(space.distance(far, other).expect("a distance").is_finite());
    }
}

#[test]
fn queries_out_of_bounds() {
    let index = Index::new(Settings::new(Metric::L2, Element::F32, 1).expect("a space"));
    let query = Query::new(Vector::Floats(&[1.0]), 1);
    assert!(index.search(&query).expect("an answer").hits.is_empty());
    refused(index.search(&Query { k: 0, ..query }), "k: 0 is not within 1 and 10000");
    refused(index.search(&Query { k: 10_001, ..query }), "k: 10001");
    refused(index.search(&Query { ef: Some(0), ..query }), "ef");
    refused(index.search(&Query { distance_max: Some(f32::NAN), ..query }), "threshold");
}

#[test]
fn scores_and_distances_are_each_other_s() {
    for (metric, distance) in [
        (Metric::Cosine, 0.25),
        (Metric::L2, 3.0),
        (Metric::InnerProduct, -7.5),
        (Metric::L1, 0.5),
        (Metric::Hamming, 12.0),
        (Metric::Jaccard, 0.75),
    ] {
        let score = metric.score(distance, 64);
        assert!((metric.distance_of_score(score, 64) - distance).abs() < 1e-5, "{metric:?}");
        assert!(metric.score(distance + 0.1, 64) < score, "{metric:?}: farther is less alike");
    }
}

/// A threshold that is written in decimals meets the score of exactly so many equal bits.
#[test]
fn a_share_of_equal_bits_is_rounded_once() {
    for dimension in [3_u16, 7, 10, 64, 100, 1_000] {
        for equal in 0..=dimension {
            let differ = f32::from(dimension - equal);
            let score = Metric::Hamming.score(differ, u32::from(dimension));
            assert_eq!(score, f32::from(equal) / f32::from(dimension), "{equal} of {dimension}");
        }
    }
}
