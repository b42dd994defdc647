//! Nearest neighbours of vectors: immutable segments in files and a head in memory, searched
//! exactly or by a graph, with filters whose size is known. See the README for the tour.

mod codes;
mod control;
mod error;
mod graph;
mod head;
mod index;
mod nearest;
mod query;
mod segment;
mod settings;
mod upkeep;
mod vector;

pub use control::{Control, Phase, Progress};
pub use error::{Error, Result};
pub use head::Head;
pub use index::{Index, Memory};
pub use query::{Answer, EF_MAX, Hit, Part, Query, Room, Strategy};
pub use segment::{BuildOptions, Segment, SegmentBuilder};
pub use settings::{BITS_MAX, DIMENSION_MAX, Element, Graph, K_MAX, Metric, Settings};
pub use upkeep::{Installed, Task, Upkeep, Work};
pub use vector::{Stored, Vector};
