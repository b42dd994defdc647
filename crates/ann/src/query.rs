//! What is asked and what is answered.

use roaring::RoaringBitmap;

use crate::control::Control;
use crate::error::{Error, Result};
use crate::settings::K_MAX;
use crate::vector::Vector;

/// The memory that is left for what a search would make: sketches.
pub trait Room: std::fmt::Debug + Send + Sync {
    /// Counts so many bytes as taken, if they are left.
    fn take(&self, bytes: u64) -> bool;
    /// They are counted by [`crate::Segment::resident_bytes`] from now on, or not needed.
    fn give_back(&self, bytes: u64);
}

/// One search.
#[derive(Debug, Clone, Copy)]
pub struct Query<'a> {
    /// What to search near.
    pub vector: Vector<'a>,
    /// How many are wanted: 1 to [`K_MAX`].
    pub k: usize,
    /// Candidates that a graph walk keeps: more is slower and finds more. None is a measured
    /// choice for `k`; it never falls below `k`.
    pub ef: Option<usize>,
    /// The numbers that may be found; none is all.
    pub allowed: Option<&'a RoaringBitmap>,
    /// Measure every allowed vector by its exact values.
    pub exact: bool,
    /// Nothing farther is found: a threshold, or with a large `k` a range.
    pub distance_max: Option<f32>,
    /// Stops the search early when cancelled.
    pub control: Option<&'a Control>,
    /// Asked before memory is taken that stays; none: there is enough.
    pub room: Option<&'a dyn Room>,
}

impl<'a> Query<'a> {
    /// The `k` nearest of all.
    #[must_use]
    pub const fn new(vector: Vector<'a>, k: usize) -> Self {
        Self {
            vector,
            k,
            ef: None,
            allowed: None,
            exact: false,
            distance_max: None,
            control: None,
            room: None,
        }
    }

    pub(crate) fn check(&self) -> Result<()> {
        if self.k == 0 || self.k > K_MAX {
            return Err(Error::invalid("k", format!("{} is not within 1 and {K_MAX}", self.k)));
        }
        if self.ef.is_some_and(|ef| ef == 0 || ef > EF_MAX) {
            return Err(Error::invalid("ef", format!("not within 1 and {EF_MAX}")));
        }
        if self.distance_max.is_some_and(f32::is_nan) {
            return Err(Error::invalid("threshold", "not a number"));
        }
        Ok(())
    }
}

/// The most candidates that one walk keeps.
pub const EF_MAX: usize = 50_000;

/// One vector that was found.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Hit {
    /// Its number.
    pub number: u32,
    /// Its exact distance, from the stored values.
    pub distance: f32,
}

/// How one part of the index was searched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Strategy {
    /// Nothing there is both alive and allowed.
    Nothing,
    /// Every allowed vector was measured by its exact values.
    ExactScan,
    /// Every allowed vector was measured by its code, and the nearest by their exact values.
    CodeScan,
    /// Every allowed vector was measured by a sketch of its code, the nearest of them by their
    /// codes, and the nearest of those by their exact values.
    SketchScan,
    /// The graph was walked, and the nearest measured by their exact values.
    Graph,
    /// The graph was walked past what is not allowed.
    FilteredGraph,
}

impl Strategy {
    /// The name that `explain` shows.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Nothing => "nothing",
            Self::ExactScan => "exact_scan",
            Self::CodeScan => "code_scan",
            Self::SketchScan => "sketch_scan",
            Self::Graph => "graph",
            Self::FilteredGraph => "filtered_graph",
        }
    }
}

/// How one part of the index, a segment or a head, was searched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part {
    /// How.
    pub strategy: Strategy,
    /// Vectors there that are alive.
    pub alive: u64,
    /// Of those, how many the filter allows: exactly.
    pub matching: u64,
    /// Vectors that were measured.
    pub scanned: u64,
}

/// What a search found.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// The nearest first; of equal distances the smaller number.
    pub hits: Vec<Hit>,
    /// How the largest part was searched.
    pub strategy: Strategy,
    /// Vectors that are alive and allowed: exactly. Fewer hits than this and `k` mean that
    /// `distance_max` left them out.
    pub matching: u64,
    /// Vectors that were measured.
    pub scanned: u64,
    /// Whether these are certainly the nearest: no graph and no code came between.
    pub exact: bool,
    /// Each part.
    pub parts: Vec<Part>,
}

impl Answer {
    pub(crate) fn of(hits: Vec<Hit>, parts: Vec<Part>) -> Self {
        let largest = parts.iter().max_by_key(|part| (part.matching, part.strategy));
        let exact = |part: &Part| matches!(part.strategy, Strategy::Nothing | Strategy::ExactScan);
        Self {
            hits,
            strategy: largest.map_or(Strategy::Nothing, |part| part.strategy),
            matching: parts.iter().map(|part| part.matching).sum(),
            scanned: parts.iter().map(|part| part.scanned).sum(),
            exact: parts.iter().all(exact),
            parts,
        }
    }
}
