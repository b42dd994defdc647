//! Walking over links towards a probe.

use ann_kernels::prefetch;

use crate::codes::{Probe, Table};
use crate::graph::END;
use crate::graph::pool::{Scratch, key};

/// Links of one level, by node.
pub(crate) trait Links {
    /// The links of a node.
    fn of(&self, node: u32) -> impl Iterator<Item = u32>;
    /// Begins to load them.
    fn prefetch(&self, node: u32);
}

/// Links in rows of one width, ended by [`END`] where not full.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Flat<'a> {
    pub(crate) links: &'a [u32],
    pub(crate) width: usize,
}

impl Flat<'_> {
    /// Whether all are below.
    pub(crate) fn are_below(&self, count: u32) -> bool {
        self.links.iter().all(|link| *link == END || *link < count)
    }

    #[inline]
    fn list(&self, node: u32) -> &[u32] {
        let begin = node as usize * self.width;
        &self.links[begin..begin + self.width]
    }
}

impl Links for Flat<'_> {
    #[inline]
    fn of(&self, node: u32) -> impl Iterator<Item = u32> {
        self.list(node).iter().copied().take_while(|link| *link != END)
    }

    #[inline]
    fn prefetch(&self, node: u32) {
        prefetch(self.list(node));
    }
}

/// The same in 24 bits each, little-endian: a quarter less memory.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Narrow<'a> {
    pub(crate) links: &'a [u8],
    /// Links of a row.
    pub(crate) width: usize,
}

impl Narrow<'_> {
    /// [`END`] in so many bits.
    const END: u32 = END >> 8;

    /// Whether all are below.
    pub(crate) fn are_below(&self, count: u32) -> bool {
        Self::each(self.links).all(|link| link == Self::END || link < count)
    }

    #[inline]
    fn list(&self, node: u32) -> &[u8] {
        let begin = node as usize * self.width * 3;
        &self.links[begin..begin + self.width * 3]
    }

    #[inline]
    fn each(links: &[u8]) -> impl Iterator<Item = u32> {
        links.as_chunks::<3>().0.iter().map(|&[a, b, c]| u32::from_le_bytes([a, b, c, 0]))
    }
}

impl Links for Narrow<'_> {
    #[inline]
    fn of(&self, node: u32) -> impl Iterator<Item = u32> {
        Self::each(self.list(node)).take_while(|link| *link != Self::END)
    }

    #[inline]
    fn prefetch(&self, node: u32) {
        prefetch(self.list(node));
    }
}

/// Links of the lowest level.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Base<'a> {
    /// Of a file of many rows, or an old one.
    Wide(Flat<'a>),
    /// Of any other.
    Narrow(Narrow<'a>),
}

/// An upper level: some of the nodes, numbered anew.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Upper<'a> {
    /// The node of each.
    pub(crate) nodes: &'a [u32],
    /// Its number on the level below.
    pub(crate) below: &'a [u32],
    pub(crate) links: Flat<'a>,
}

/// Goes down the upper levels, the highest last in `levels`, from `entry` of the highest, and
/// gives the node to begin at on the lowest.
pub(crate) fn descend(
    levels: &[Upper<'_>],
    entry: u32,
    table: &Table<'_>,
    probe: &Probe<'_>,
    scratch: &mut Scratch,
) -> u32 {
    let mut at = entry;
    for level in levels.iter().rev() {
        let Some(&node) = level.nodes.get(at as usize) else { continue };
        table.measure(probe, &[node], &mut scratch.measured);
        let mut nearest = scratch.measured.distances[0];
        // Each step is nearer than the last, so there are no more than nodes.
        for _ in 0..level.nodes.len() {
            let links = level.links.of(at);
            scratch.nodes.clear();
            scratch.nodes.extend(links.filter_map(|link| level.nodes.get(link as usize)));
            table.measure(probe, &scratch.nodes, &mut scratch.measured);
            let mut best = None;
            let distances = scratch.measured.distances.iter();
            for (&distance, link) in distances.zip(level.links.of(at)) {
                if distance < nearest {
                    (nearest, best) = (distance, Some(link));
                }
            }
            match best {
                Some(link) => at = link,
                None => break,
            }
        }
        at = level.below.get(at as usize).copied().unwrap_or_default();
    }
    at
}

/// Walks one level from `entries` until the pool's `ef` nearest are all expanded. The pool is
/// the answer.
pub(crate) fn walk<L: Links>(
    links: &L,
    table: &Table<'_>,
    probe: &Probe<'_>,
    entries: &[u32],
    ef: usize,
    scratch: &mut Scratch,
) {
    let Scratch { pool, visited, nodes, measured, .. } = scratch;
    pool.clear(ef);
    nodes.clear();
    nodes.extend(entries.iter().filter(|node| visited.meet(**node)));
    table.measure(probe, nodes, measured);
    for (&node, &distance) in nodes.iter().zip(&measured.distances) {
        pool.offer(key(distance), node);
    }
    while let Some((_, node)) = pool.next() {
        nodes.clear();
        nodes.extend(links.of(node).filter(|link| visited.meet(*link)));
        if let Some(next) = pool.peek() {
            links.prefetch(next);
        }
        table.measure(probe, nodes, measured);
        for (&node, &distance) in nodes.iter().zip(&measured.distances) {
            pool.offer(key(distance), node);
        }
    }
}

/// Walks past what is not allowed until the `ef` nearest allowed nodes can't be bettered;
/// `found` is the answer. Gives up, with false, after meeting `met_max` nodes or where fewer than
/// `least` allowed ones are linked together.
pub(crate) fn walk_filtered<L: Links>(
    links: &L,
    table: &Table<'_>,
    probe: &Probe<'_>,
    entry: u32,
    (ef, least, met_max): (usize, usize, usize),
    is_allowed: impl Fn(u32) -> bool,
    scratch: &mut Scratch,
) -> bool {
    let Scratch { pool, found, visited, nodes, allowed, measured, .. } = scratch;
    pool.clear(usize::MAX);
    found.clear(ef);
    nodes.clear();
    nodes.push(entry);
    visited.meet(entry);
    loop {
        // All at once: what each reads lies anywhere, and the processor waits for many together.
        allowed.clear();
        allowed.extend(nodes.iter().map(|node| is_allowed(*node)));
        table.measure(probe, nodes, measured);
        let answers = measured.distances.iter().zip(&*allowed);
        for (&node, (&distance, &is_allowed)) in nodes.iter().zip(answers) {
            let key = key(distance);
            if key < found.limit() {
                pool.offer(key, node);
                if is_allowed {
                    found.offer(key, node);
                }
            }
        }
        let Some((nearest, node)) = pool.next() else { return found.len() >= least };
        if found.is_full() && nearest > found.limit() {
            return true;
        }
        if visited.count() > met_max {
            return false;
        }
        nodes.clear();
        nodes.extend(links.of(node).filter(|link| visited.meet(*link)));
        if let Some(next) = pool.peek() {
            links.prefetch(next);
        }
    }
}
