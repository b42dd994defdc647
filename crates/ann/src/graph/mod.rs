//! The graph of a segment: each vector is linked to near ones in several directions, and a
//! walk over the links comes close to any vector in few steps (HNSW).

mod build;
mod order;
mod pool;
mod reach;
mod walk;

pub(crate) use build::{Linked, link, peak_bytes_per_row};
pub(crate) use order::by_locality;
pub(crate) use pool::{Scratch, key};
pub(crate) use walk::{Base, Flat, Links, Narrow, Upper, descend, walk, walk_filtered};

/// Ends a list of links that is not full.
pub(crate) const END: u32 = u32::MAX;

/// Links of a node on the lowest level.
pub(crate) const fn base_links(links: u16) -> usize {
    links as usize * 2
}
