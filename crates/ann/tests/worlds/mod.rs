//! Small worlds of vectors, and the textbook's answer to compare with.
#![allow(dead_code, clippy::expect_used, reason = "each test uses its part")]

use std::ops::Range;

use ann::{
    BuildOptions, Control, Element, Index, Metric, Segment, SegmentBuilder, Settings, Vector,
};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use roaring::RoaringBitmap;

/// Queries of a world.
const QUERIES: usize = 20;

/// Every metric with every element that it goes with, at a width that fills no register.
pub fn every_space() -> Vec<Settings> {
    let mut spaces = Vec::new();
    for element in [Element::F32, Element::F16, Element::I8] {
        for metric in [Metric::Cosine, Metric::L2, Metric::InnerProduct, Metric::L1] {
            spaces.push(Settings::new(metric, element, 19).expect("a space"));
        }
    }
    for metric in [Metric::Hamming, Metric::Jaccard] {
        spaces.push(Settings::new(metric, Element::Bit, 83).expect("a space"));
    }
    spaces
}

/// A vector that a test made.
#[derive(Debug, Clone)]
pub enum Made {
    Floats(Vec<f32>),
    Bits(Vec<u8>),
}

impl Made {
    pub fn as_vector(&self) -> Vector<'_> {
        match self {
            Self::Floats(values) => Vector::Floats(values),
            Self::Bits(values) => Vector::Bits(values),
        }
    }
}

pub struct World {
    pub settings: Settings,
    vectors: Vec<Made>,
    queries: Vec<Made>,
}

impl World {
    /// Vectors in clusters, as real ones are, numbered from 0.
    pub fn new(settings: Settings, count: usize) -> Self {
        let mut random = StdRng::seed_from_u64(7);
        let centres: Vec<Vec<f32>> =
            (0..12).map(|_| normal(&mut random, settings.dimension() as usize)).collect();
        let mut vectors: Vec<Made> =
            (0..count + QUERIES).map(|_| made(&mut random, settings, &centres)).collect();
        let queries = vectors.split_off(count);
        Self { settings, vectors, queries }
    }

    /// A segment of all, under `folder`.
    pub fn segment(&self, folder: &std::path::Path, threads: usize) -> Segment {
        let options = BuildOptions { threads, ..BuildOptions::default() };
        let path = folder.join("world.segment");
        let mut builder = SegmentBuilder::create(self.settings, &path, options).expect("a builder");
        for (number, vector) in (0..).zip(&self.vectors) {
            let stored = self.settings.store(vector.as_vector()).expect("a vector");
            builder.add(number, &stored).expect("added");
        }
        builder.finish(&Control::new()).expect("built")
    }

    pub fn queries(&self) -> &[Made] {
        &self.queries
    }

    pub fn vector(&self, number: usize) -> Vector<'_> {
        self.vectors[number].as_vector()
    }

    pub fn insert(&self, index: &Index, numbers: Range<usize>) {
        for number in numbers {
            assert!(index.insert(number as u32, self.vector(number)).expect("inserted"));
        }
    }

    /// Number and the distance's bits of the nearest, by a sort of all.
    pub fn nearest(
        &self,
        query: &Made,
        k: usize,
        allowed: Option<&RoaringBitmap>,
        alive: &RoaringBitmap,
    ) -> Vec<(u32, u32)> {
        let mut all: Vec<(f32, u32)> = alive
            .iter()
            .filter(|number| allowed.is_none_or(|allowed| allowed.contains(*number)))
            .map(|number| {
                let vector = self.vector(number as usize);
                (self.settings.distance(query.as_vector(), vector).expect("a distance"), number)
            })
            .collect();
        all.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        all.into_iter().take(k).map(|(distance, number)| (number, distance.to_bits())).collect()
    }
}

fn normal(random: &mut StdRng, dimension: usize) -> Vec<f32> {
    (0..dimension)
        .map(|_| (0..6).map(|_| random.random_range(-1.0_f32..1.0)).sum::<f32>() / 2.0)
        .collect()
}

fn made(random: &mut StdRng, settings: Settings, centres: &[Vec<f32>]) -> Made {
    let centre = &centres[random.random_range(0..centres.len())];
    let spread = normal(random, centre.len());
    let values = centre.iter().zip(spread).map(|(centre, spread)| centre + 0.4 * spread);
    match settings.element() {
        Element::F32 | Element::F16 => Made::Floats(values.collect()),
        Element::I8 => {
            Made::Floats(values.map(|v| (v * 60.0).round().clamp(-128.0, 127.0)).collect())
        }
        Element::Bit => {
            let mut bytes = vec![0_u8; centre.len().div_ceil(8)];
            for (at, value) in values.enumerate() {
                bytes[at / 8] |= u8::from(value > 0.0) << (at % 8);
            }
            Made::Bits(bytes)
        }
    }
}
