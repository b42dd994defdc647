//! What columns hold, in one pass, in bounded memory, mergeable.

mod counter;
mod facets;
mod histogram;
mod hll;
mod numbers;
mod summary;
mod values;

pub use facets::{Facet, Facets, Measure, groups};
pub use histogram::{Histogram, bins_of};
pub use summary::{Frequent, Summary};
