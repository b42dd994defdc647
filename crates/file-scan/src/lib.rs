//! What the file system says: a parallel walk, hashes, equal files, kinds and image facts.

mod clip;
mod contents;
mod entry;
mod equal;
mod kinds;
mod large;
mod media;
pub mod names;
mod root;
mod rules;
mod volume;
mod walk;

pub use contents::{Content, HEAD_BYTES, HashError, Hasher, Stop, give_way, mark_of, same_bytes};
pub use entry::{Entry, Kind, Listing, Mark, Times};
pub use equal::{Equal, EqualFiles, equal_files};
pub use kinds::{ContentKind, mime_type, sniff};
pub use large::{Large, LargeChild, Paged};
pub use media::{MediaFacts, MediaLimits, media_facts, similarity, similarity_of};
pub use root::{Dir, Identity, Root, RootError};
pub use rules::Rules;
pub use volume::Volume;
pub use walk::{Lister, Task, WalkOptions, WalkSummary, walk, walk_by};

#[cfg(test)]
mod tests;
