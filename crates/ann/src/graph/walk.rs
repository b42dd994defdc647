//! Walking over links towards a probe.

use ann_kernels::prefetch;

use crate::codes::{Probe, Table};
use crate::graph::END;
use crate::graph::pool::{Scratch, key};

/// Links of one level, by node.
pub(crate) trait Links {
    /// The links of a node; `room` is memory to put them into where they can't be lent.
    fn of<'b>(&'b self, node: u32, room: &'b mut Vec<u32>) -> &'b [u32];
    /// Begins to load them.
    fn prefetch(&self, node: u32);
}

/// Links in rows of one width, ended by [`END`] where not full.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Flat<'a> {
    pub(crate) links: &'a [u32],
    pub(crate) width: usize,
}

impl Links for Flat<'_> {
    #[inline]
    fn of<'b>(&'b self, node: u32, _: &'b mut Vec<u32>) -> &'b [u32] {
        let begin = node as usize * self.width;
        &self.links[begin..begin + self.width]
    }

    #[inline]
    fn prefetch(&self, node: u32) {
        let begin = node as usize * self.width;
        prefetch(&self.links[begin..begin + self.width]);
    }
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
            let links = level.links.of(at, &mut scratch.links);
            let links = links.iter().take_while(|link| **link != END);
            scratch.nodes.clear();
            scratch.nodes.extend(links.filter_map(|link| level.nodes.get(*link as usize)));
            table.measure(probe, &scratch.nodes, &mut scratch.measured);
            let links = level.links.of(at, &mut scratch.links);
            let mut best = None;
            for (&distance, &link) in scratch.measured.distances.iter().zip(links) {
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
    let Scratch { pool, visited, nodes, links: room, measured, .. } = scratch;
    pool.clear(ef);
    nodes.clear();
    nodes.extend(entries.iter().filter(|node| visited.meet(**node)));
    table.measure(probe, nodes, measured);
    for (&node, &distance) in nodes.iter().zip(&measured.distances) {
        pool.offer(key(distance), node);
    }
    while let Some((_, node)) = pool.next() {
        nodes.clear();
        for &link in links.of(node, room) {
            if link == END {
                break;
            }
            if visited.meet(link) {
                nodes.push(link);
            }
        }
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
    let Scratch { pool, found, visited, nodes, allowed, links: room, measured, .. } = scratch;
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
        for &link in links.of(node, room) {
            if link == END {
                break;
            }
            if visited.meet(link) {
                nodes.push(link);
            }
        }
        if let Some(next) = pool.peek() {
            links.prefetch(next);
        }
    }
}
