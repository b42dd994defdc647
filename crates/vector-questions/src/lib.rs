//! What is asked of a space and what is answered.

mod answer;
mod fusion;
mod question;
mod stop;
mod vector;

pub use answer::{Part, Plan, allowed, answer, filter_error};
pub use fusion::{FusionMethod, fuse};
pub use question::{
    Ask, Consistency, DEPTH_MAX, Diversity, Explain, Found, Grouping, K_DEFAULT, Match,
    PREFETCH_MAX, PREFETCHED_MAX, Prefetch, Question, RECOMMENDED_MAX, Recommend, SEARCHES_MAX,
    SearchResult,
};
pub use stop::{Stop, Waiting};
pub use vector::{IndexFailure, OwnedVector, bad_index, bad_vector};
