//! What a space of vectors is: its metric, what a coordinate is stored as, and how many.

use crate::error::{Error, Result};

/// The most dimensions of `f32`, `f16` and `i8` vectors.
pub const DIMENSION_MAX: u32 = 16_384;
/// The most dimensions of bit vectors.
pub const BITS_MAX: u32 = 65_536;
/// The most neighbours that one search returns.
pub const K_MAX: usize = 10_000;

/// How far apart two vectors are. Smaller is nearer for every one of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Metric {
    /// One minus the cosine of the angle between them.
    Cosine,
    /// Euclidean distance (not squared).
    L2,
    /// The negative inner product.
    InnerProduct,
    /// The sum of the absolute differences.
    L1,
    /// Bits that differ.
    Hamming,
    /// One minus shared bits over bits that are set in either; two empty ones are at 0.
    Jaccard,
}

impl Metric {
    /// The similarity that belongs to a distance: larger is nearer. Cosine and Jaccard
    /// similarity, the inner product itself, `1 / (1 + distance)` for L2 and L1, and the
    /// share of equal bits for Hamming.
    #[must_use]
    pub fn score(self, distance: f32, dimension: u32) -> f32 {
        match self {
            Self::Cosine | Self::Jaccard => 1.0 - distance,
            Self::InnerProduct => -distance,
            Self::L2 | Self::L1 => 1.0 / (1.0 + distance),
            // One rounding, so that a score that is written in decimals is met.
            Self::Hamming => (dimension as f32 - distance) / dimension as f32,
        }
    }

    /// The distance at which [`Metric::score`] is `score`: what a score threshold means.
    #[must_use]
    pub fn distance_of_score(self, score: f32, dimension: u32) -> f32 {
        match self {
            Self::Cosine | Self::Jaccard => 1.0 - score,
            Self::InnerProduct => -score,
            Self::L2 | Self::L1 if score > 0.0 => 1.0 / score - 1.0,
            Self::L2 | Self::L1 => f32::INFINITY,
            Self::Hamming => (1.0 - score) * dimension as f32,
        }
    }

    pub(crate) const fn code(self) -> u8 {
        match self {
            Self::Cosine => 1,
            Self::L2 => 2,
            Self::InnerProduct => 3,
            Self::L1 => 4,
            Self::Hamming => 5,
            Self::Jaccard => 6,
        }
    }

    pub(crate) const fn of_code(code: u8) -> Option<Self> {
        Some(match code {
            1 => Self::Cosine,
            2 => Self::L2,
            3 => Self::InnerProduct,
            4 => Self::L1,
            5 => Self::Hamming,
            6 => Self::Jaccard,
            _ => return None,
        })
    }

    const fn is_of_bits(self) -> bool {
        matches!(self, Self::Hamming | Self::Jaccard)
    }
}

/// What one coordinate of a stored vector is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Element {
    /// Four bytes.
    F32,
    /// Two bytes: half precision.
    F16,
    /// One byte: a whole number of −128 to 127.
    I8,
    /// One bit; eight coordinates to a byte, the first in the lowest bit.
    Bit,
}

impl Element {
    pub(crate) const fn code(self) -> u8 {
        match self {
            Self::F32 => 1,
            Self::F16 => 2,
            Self::I8 => 3,
            Self::Bit => 4,
        }
    }

    pub(crate) const fn of_code(code: u8) -> Option<Self> {
        Some(match code {
            1 => Self::F32,
            2 => Self::F16,
            3 => Self::I8,
            4 => Self::Bit,
            _ => return None,
        })
    }
}

/// How the graph of a segment is made. The defaults are measured (see the README).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Graph {
    /// Links of a node on the upper levels; twice as many on the lowest.
    pub links: u16,
    /// Candidates that are looked at for a new node's links.
    pub build_ef: u16,
}

impl Default for Graph {
    fn default() -> Self {
        Self { links: 16, build_ef: 128 }
    }
}

/// What is true of every vector of an index.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Settings {
    metric: Metric,
    element: Element,
    dimension: u32,
    graph: Graph,
}

impl Settings {
    /// Vectors of `dimension` coordinates under `metric`.
    ///
    /// # Errors
    /// A dimension of 0 or above the limit; bits with a metric of numbers, or the reverse.
    pub fn new(metric: Metric, element: Element, dimension: u32) -> Result<Self> {
        if metric.is_of_bits() != (element == Element::Bit) {
            return Err(Error::invalid(
                "metric",
                format!(
                    "{metric:?} does not measure {element:?}; bits go with Hamming and Jaccard, numbers with the others"
                ),
            ));
        }
        let max = if element == Element::Bit { BITS_MAX } else { DIMENSION_MAX };
        if dimension == 0 || dimension > max {
            return Err(Error::invalid(
                "dimension",
                format!("{dimension} is not within 1 and {max}"),
            ));
        }
        Ok(Self { metric, element, dimension, graph: Graph::default() })
    }

    /// The same with another graph.
    ///
    /// # Errors
    /// Links outside 4..=64, or a `build_ef` outside 8..=2000.
    pub fn with_graph(self, graph: Graph) -> Result<Self> {
        if !(4..=64).contains(&graph.links) {
            return Err(Error::invalid("links", format!("{} is not within 4 and 64", graph.links)));
        }
        if !(8..=2_000).contains(&graph.build_ef) {
            let message = format!("{} is not within 8 and 2000", graph.build_ef);
            return Err(Error::invalid("build_ef", message));
        }
        Ok(Self { graph, ..self })
    }

    /// The metric.
    #[must_use]
    pub const fn metric(&self) -> Metric {
        self.metric
    }

    /// What a coordinate is stored as.
    #[must_use]
    pub const fn element(&self) -> Element {
        self.element
    }

    /// Coordinates of a vector.
    #[must_use]
    pub const fn dimension(&self) -> u32 {
        self.dimension
    }

    /// How graphs are made.
    #[must_use]
    pub const fn graph(&self) -> Graph {
        self.graph
    }

    /// Bytes of one stored vector: of bits, whole words of eight bytes.
    #[must_use]
    pub const fn row_bytes(&self) -> usize {
        let dimension = self.dimension as usize;
        match self.element {
            Element::F32 => dimension * 4,
            Element::F16 => dimension * 2,
            Element::I8 => dimension,
            Element::Bit => dimension.div_ceil(64) * 8,
        }
    }

    /// Whether both speak of the same vectors, whatever their graphs.
    #[must_use]
    pub fn same_space(&self, other: &Self) -> bool {
        (self.metric, self.element, self.dimension)
            == (other.metric, other.element, other.dimension)
    }
}
