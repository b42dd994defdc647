//! Vectors out of FAISS' index files and into them, without FAISS. See the README.

mod codec;
mod file;
mod structure;
mod take;
mod write;

pub use file::{File, Vectors};
pub use structure::Summary;
pub use write::{Writer, write};

/// How FAISS numbers its metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Metric {
    /// Larger inner products are nearer; of normalised vectors, cosine.
    InnerProduct,
    /// Squared Euclidean distance.
    L2,
    /// The sum of the absolute differences.
    L1,
    /// Another one, by FAISS' number.
    Other(i32),
}

impl Metric {
    const fn of(code: i32) -> Self {
        match code {
            0 => Self::InnerProduct,
            1 => Self::L2,
            2 => Self::L1,
            other => Self::Other(other),
        }
    }

    const fn code(self) -> i32 {
        match self {
            Self::InnerProduct => 0,
            Self::L2 => 1,
            Self::L1 => 2,
            Self::Other(code) => code,
        }
    }
}

/// What a file may ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// The most coordinates of a vector.
    pub dimension_max: u32,
    /// The most vectors.
    pub vectors_max: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { dimension_max: 16_384, vectors_max: 1_000_000_000 }
    }
}

/// Why a file is not read or written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A kind of index whose vectors can't be had back.
    #[error("{what} is not supported: {why}")]
    Unsupported {
        /// The kind, by FAISS' name where known.
        what: String,
        /// Why not, and what would work.
        why: &'static str,
    },
    /// The file contradicts itself, or ends too early.
    #[error("at byte {at}: {what}")]
    Malformed {
        /// Where.
        at: u64,
        /// What is wrong.
        what: String,
    },
    /// More than [`Limits`] allow.
    #[error("{what} is {value}; at most {max} is allowed")]
    TooLarge {
        /// The field.
        what: &'static str,
        /// What the file says.
        value: u64,
        /// What is allowed.
        max: u64,
    },
    /// The file system's.
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

/// The result of everything here.
pub type Result<T, E = Error> = std::result::Result<T, E>;
