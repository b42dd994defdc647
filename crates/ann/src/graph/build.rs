//! Linking the graph, on several threads.
//!
//! Nodes are inserted by falling level, so the entry never changes. Lists grow past their final
//! length by half before they are pruned: most prunings are saved. A list is changed under its
//! node's lock and read without: whatever a reader sees of it are nodes.

use std::path::Path;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use ann_kernels::AtomicWords;

use crate::codes::{Measured, Probe, Table};
use crate::control::{Control, Phase};
use crate::error::{Error, Result};
use crate::graph::pool::{Scratch, key};
use crate::graph::reach::reach_all;
use crate::graph::walk::{Links, walk};
use crate::graph::{END, base_links};
use crate::settings::Graph;

/// The first nodes are linked one by one: a tiny graph has no room for threads.
const ALONE: usize = 512;
/// Nodes a thread takes at a time.
const SHARE: usize = 32;
const LOCKS: usize = 1 << 12;
const LEVEL_MAX: u8 = 12;

/// Memory of a row while its graph is linked, its code aside.
pub(crate) const fn peak_bytes_per_row(graph: Graph) -> u64 {
    let base = base_links(graph.links) as u64;
    // Growing and final base lists, counts, upper lists (a row in `links` has one), orders.
    (base + base / 2) * 4 + base * 4 + 4 + 8 + 16
}

/// The graph of `rows` nodes, numbered as the rows of the table.
#[derive(Debug)]
pub(crate) struct Linked {
    /// Lists of [`base_links`] for each node, ended by [`END`].
    pub(crate) base: Vec<u32>,
    /// From the lowest of the upper levels: its nodes and their lists of `links`, in nodes.
    pub(crate) upper: Vec<(Vec<u32>, Vec<u32>)>,
    /// A node of the highest level.
    pub(crate) entry: u32,
}

struct Growing<'a> {
    table: Table<'a>,
    /// By what candidates are told apart, if not by nearness: long vectors are near to all, but in one direction.
    angles: Option<Table<'a>>,
    graph: Graph,
    /// Lists of the lowest level: a count, then room for half as many more than they end with.
    base: AtomicWords,
    /// Where a node's upper lists begin: one for each of its levels, a count and `links`.
    upper_at: Vec<u32>,
    upper: Vec<AtomicU32>,
    levels: Vec<u8>,
    locks: Vec<Mutex<()>>,
    top: u8,
    entry: u32,
}

/// The lists of one level of a growing graph.
struct Layer<'g, 'a> {
    growing: &'g Growing<'a>,
    level: u8,
}

impl Layer<'_, '_> {
    fn list(&self, node: u32) -> &[AtomicU32] {
        self.growing.list(node, self.level)
    }
}

impl Links for Layer<'_, '_> {
    #[inline]
    fn of(&self, node: u32) -> impl Iterator<Item = u32> {
        let (count, links) = counted(self.list(node));
        links[..count].iter().map(|link| link.load(Ordering::Relaxed))
    }

    #[inline]
    fn prefetch(&self, node: u32) {
        ann_kernels::prefetch(self.list(node));
    }
}

fn counted(list: &[AtomicU32]) -> (usize, &[AtomicU32]) {
    match list.split_first() {
        Some((count, links)) => ((count.load(Ordering::Acquire) as usize).min(links.len()), links),
        None => (0, list),
    }
}

/// A number as good as drawn, always the same for a node.
const fn scrambled(node: u32) -> u64 {
    let mut x = (node as u64).wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

fn level(node: u32, links: u16) -> u8 {
    let drawn = ((scrambled(node) >> 11) as f64 + 0.5) / (1_u64 << 53) as f64;
    let level = -drawn.ln() / f64::from(links).ln();
    (level as u8).min(LEVEL_MAX)
}

impl<'a> Growing<'a> {
    fn new((table, angles): Tables<'a>, graph: Graph, rows: u32) -> Result<Self> {
        let levels: Vec<u8> = (0..rows).map(|node| level(node, graph.links)).collect();
        let base_room = 1 + base_links(graph.links) * 3 / 2;
        let mut upper_at = Vec::with_capacity(levels.len());
        let mut next = 0;
        for &level in &levels {
            upper_at.push(next);
            next += u32::from(level) * (1 + u32::from(graph.links));
        }
        let empty = |length: usize| (0..length).map(|_| AtomicU32::new(0)).collect();
        let top = levels.iter().copied().max().unwrap_or_default();
        let entry = levels.iter().position(|level| *level == top).unwrap_or_default() as u32;
        let base = AtomicWords::zeroed(rows as usize * base_room);
        Ok(Self {
            table,
            angles,
            graph,
            base: base.map_err(Error::io(Path::new("memory")))?,
            upper_at,
            upper: empty(next as usize),
            levels,
            locks: (0..LOCKS).map(|_| Mutex::new(())).collect(),
            top,
            entry,
        })
    }

    fn list(&self, node: u32, level: u8) -> &[AtomicU32] {
        if level == 0 {
            let room = 1 + base_links(self.graph.links) * 3 / 2;
            &self.base[node as usize * room..(node as usize + 1) * room]
        } else {
            let room = 1 + self.graph.links as usize;
            let begin = self.upper_at[node as usize] as usize + (level as usize - 1) * room;
            &self.upper[begin..begin + room]
        }
    }

    const fn links_max(&self, level: u8) -> usize {
        if level == 0 { base_links(self.graph.links) } else { self.graph.links as usize }
    }

    /// What a pruned list is filled up to.
    const fn filled(&self, level: u8) -> usize {
        let links = self.graph.links as usize;
        if level == 0 { links * 5 / 4 } else { links / 2 }
    }

    fn insert(&self, node: u32, work: &mut Work) {
        if node == self.entry {
            return;
        }
        let probe = self.table.probe(node);
        let own = self.levels[node as usize];
        let mut nearest = self.entry;
        for level in (own + 1..=self.top).rev() {
            nearest = self.nearest(nearest, level, &probe, work);
        }
        let mut entries = vec![nearest];
        for level in (0..=own.min(self.top)).rev() {
            let layer = Layer { growing: self, level };
            work.walk.visited.clear(self.levels.len());
            let ef = self.graph.build_ef as usize;
            walk(&layer, &self.table, &probe, &entries, ef, &mut work.walk);
            work.candidates.clear();
            let found = work.walk.pool.entries().filter(|(_, found)| *found != node);
            work.candidates.extend(found);
            entries.clear();
            entries.extend(work.candidates.iter().map(|(_, node)| *node).take(8));
            self.choose(node, self.graph.links as usize, work);
            let chosen = std::mem::take(&mut work.chosen);
            self.set(node, level, &chosen);
            for &other in &chosen {
                self.add(other, node, level, work);
            }
            work.chosen = chosen;
        }
    }

    /// One step after another to whatever is nearer.
    fn nearest(&self, from: u32, level: u8, probe: &Probe<'_>, work: &mut Work) -> u32 {
        let layer = Layer { growing: self, level };
        work.walk.visited.clear(self.levels.len());
        walk(&layer, &self.table, probe, &[from], 1, &mut work.walk);
        work.walk.pool.nodes().next().unwrap_or(from)
    }

    /// Chooses of the candidates, nearest first, those that are nearer to the node than to any
    /// that is chosen: links in every direction. Of equal vectors one is chosen, and one that is
    /// equal to the node hides no others: all are as near to it as to the node.
    fn choose(&self, node: u32, most: usize, work: &mut Work) {
        let Work { candidates, chosen, measured, .. } = work;
        chosen.clear();
        let table = self.angles.as_ref().unwrap_or(&self.table);
        let is_lopsided = self.angles.is_some() || table.is_lopsided();
        let is_uneven = self.angles.is_none() && table.is_by_row();
        for &(distance, candidate) in candidates.iter() {
            if chosen.len() >= most {
                break;
            }
            let probe = table.probe(candidate);
            let mut distance = distance;
            if is_lopsided {
                // As those it is compared with are: from the candidate.
                table.measure(&probe, &[node], measured);
                let from = key(measured.distances[0]);
                // Short vectors would hide the long ones, which are far from all: of both lengths, the shorter counts.
                distance = if is_uneven { from.min(distance) } else { from };
            }
            let shadowed = chosen.chunks(8).any(|chosen| {
                table.measure(&probe, chosen, measured);
                let between = measured.distances.iter().map(|between| key(*between));
                between.zip(chosen).any(|(between, &chosen)| {
                    let hides = || !table.are_same(chosen, node) || table.are_same(candidate, node);
                    between < distance || between == distance && hides()
                })
            });
            if !shadowed {
                chosen.push(candidate);
            }
        }
    }

    /// The list of a node that has none yet; others may have added to it already.
    fn set(&self, node: u32, level: u8, chosen: &[u32]) {
        let _locked = self.lock(node);
        let list = self.list(node, level);
        let (count, links) = counted(list);
        let held: Vec<u32> =
            links[..count].iter().map(|link| link.load(Ordering::Relaxed)).collect();
        let new = chosen.iter().filter(|link| !held.contains(link));
        let mut count = count;
        for (&link, place) in new.zip(&links[count..]) {
            place.store(link, Ordering::Relaxed);
            count += 1;
        }
        list[0].store(count as u32, Ordering::Release);
    }

    /// Links a node back; a list that is full is chosen anew.
    fn add(&self, node: u32, link: u32, level: u8, work: &mut Work) {
        let _locked = self.lock(node);
        let list = self.list(node, level);
        let (count, links) = counted(list);
        work.held.clear();
        work.held.extend(links[..count].iter().map(|link| link.load(Ordering::Relaxed)));
        if work.held.contains(&link) {
            return;
        }
        if let Some(place) = links.get(count) {
            place.store(link, Ordering::Relaxed);
            list[0].store(count as u32 + 1, Ordering::Release);
            return;
        }
        work.held.push(link);
        self.prune(node, level, work);
        for (&link, place) in work.chosen.iter().zip(links) {
            place.store(link, Ordering::Relaxed);
        }
        list[0].store(work.chosen.len() as u32, Ordering::Release);
    }

    /// Chooses of what is held.
    fn prune(&self, node: u32, level: u8, work: &mut Work) {
        self.table.measure(&self.table.probe(node), &work.held, &mut work.measured);
        work.candidates.clear();
        let keys = work.measured.distances.iter().map(|distance| key(*distance));
        work.candidates.extend(keys.zip(work.held.iter().copied()));
        work.candidates.sort_unstable();
        self.choose(node, self.links_max(level), work);
        // Few directions leave room: the nearest of the others, too, or recall stops rising.
        let Work { candidates, chosen, .. } = work;
        for &(_, candidate) in candidates.iter() {
            if chosen.len() >= self.filled(level) {
                break;
            }
            if !chosen.contains(&candidate) {
                chosen.push(candidate);
            }
        }
    }

    fn lock(&self, node: u32) -> std::sync::MutexGuard<'_, ()> {
        self.locks[node as usize % LOCKS].lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn finish(self, threads: usize, control: &Control) -> Result<Linked> {
        let width = base_links(self.graph.links);
        let rows = self.levels.len();
        let mut base = vec![END; rows * width];
        let share = rows.div_ceil(threads).max(1);
        std::thread::scope(|scope| {
            for (at, lists) in base.chunks_mut(share * width).enumerate() {
                let growing = &self;
                scope.spawn(move || growing.finish_base(at * share, lists));
            }
        });
        control.check()?;
        let mut upper = Vec::new();
        for level in 1..=self.top {
            let nodes: Vec<u32> =
                (0..rows as u32).filter(|node| self.levels[*node as usize] >= level).collect();
            let width = self.graph.links as usize;
            let mut lists = vec![END; nodes.len() * width];
            for (&node, list) in nodes.iter().zip(lists.chunks_mut(width)) {
                let (count, links) = counted(self.list(node, level));
                for (place, link) in list.iter_mut().zip(&links[..count]) {
                    *place = link.load(Ordering::Relaxed);
                }
            }
            upper.push((nodes, lists));
        }
        Ok(Linked { base, upper, entry: self.entry })
    }

    fn finish_base(&self, first: usize, lists: &mut [u32]) {
        let width = base_links(self.graph.links);
        let mut work = Work::default();
        for (at, list) in lists.chunks_mut(width).enumerate() {
            let node = (first + at) as u32;
            let (count, links) = counted(self.list(node, 0));
            work.held.clear();
            work.held.extend(links[..count].iter().map(|link| link.load(Ordering::Relaxed)));
            if count > width {
                self.prune(node, 0, &mut work);
                std::mem::swap(&mut work.held, &mut work.chosen);
            }
            list[..work.held.len()].copy_from_slice(&work.held);
        }
    }
}

/// The memory of one thread.
#[derive(Default)]
struct Work {
    walk: Scratch,
    measured: Measured,
    candidates: Vec<(u32, u32)>,
    chosen: Vec<u32>,
    held: Vec<u32>,
}

/// What rows are near by, and what their directions are told by, if by something else.
pub(crate) type Tables<'a> = (Table<'a>, Option<Table<'a>>);

/// Links all rows of a table.
pub(crate) fn link(
    tables: Tables<'_>,
    rows: u32,
    graph: Graph,
    threads: usize,
    control: &Control,
) -> Result<Linked> {
    control.enter(Phase::Linking, u64::from(rows));
    let growing = Growing::new(tables, graph, rows)?;
    let mut order: Vec<u32> = (0..rows).collect();
    order.sort_unstable_by_key(|node| {
        (std::cmp::Reverse(growing.levels[*node as usize]), scrambled(*node ^ 0x5bd1_e995))
    });
    let (alone, together) = order.split_at(order.len().min(ALONE));
    let mut work = Work::default();
    for &node in alone {
        growing.insert(node, &mut work);
        control.advance(1)?;
    }
    let next = AtomicUsize::new(0);
    let linking = || -> Result<()> {
        let mut work = Work::default();
        loop {
            let begin = next.fetch_add(SHARE, Ordering::Relaxed);
            let Some(nodes) = together.get(begin..together.len().min(begin + SHARE)) else {
                return Ok(());
            };
            if nodes.is_empty() {
                return Ok(());
            }
            nodes.iter().for_each(|node| growing.insert(*node, &mut work));
            control.advance(nodes.len() as u64)?;
        }
    };
    if threads <= 1 {
        linking()?;
    } else {
        std::thread::scope(|scope| {
            let threads: Vec<_> = (0..threads).map(|_| scope.spawn(linking)).collect();
            threads.into_iter().try_for_each(|thread| match thread.join() {
                Ok(result) => result,
                Err(panic) => std::panic::resume_unwind(panic),
            })
        })?;
    }
    let mut linked = growing.finish(threads.max(1), control)?;
    reach_all(&mut linked, &tables.0, graph, control)?;
    Ok(linked)
}
