//! What a space, a point and a question are, and the rules that need no database.

mod address;
mod fusion;
mod generation;
mod question;
mod space;
mod vector;

pub use address::Address;
pub use fusion::{FusionMethod, fuse};
pub use generation::{CachedModel, Example, Generation, Image, RagStatistics, assemble};
pub use question::{
    Ask, Consistency, DEPTH_MAX, Diversity, Explain, Found, Grouping, K_DEFAULT, Match,
    PREFETCH_MAX, Prefetch, Question, Recommend, SearchResult,
};
pub use space::{NewSpace, Owner, Space, element_code, metric_code, settings_of_codes};
pub use vector::{IndexFailure, OwnedVector};

/// The most points of one write.
pub const BATCH_POINTS_MAX: usize = 1_000;
/// The most items of one deletion.
pub const DELETE_ITEMS_MAX: usize = 10_000;
/// The longest item id, in bytes.
pub const ITEM_ID_BYTES_MAX: usize = 512;
