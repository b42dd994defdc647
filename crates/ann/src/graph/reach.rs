//! Links to what no walk would meet: lists are pruned one by one, and a group may lose the last link that led to it.

use crate::codes::Table;
use crate::control::Control;
use crate::error::Result;
use crate::graph::pool::Scratch;
use crate::graph::walk::{Flat, Links as _, walk};
use crate::graph::{END, Linked, base_links};
use crate::settings::Graph;

/// Links each node that is not met from the entry from the nearest that is and has room. Of equal vectors some are
/// enough: a walk that meets many comes no farther.
pub(crate) fn reach_all(
    linked: &mut Linked,
    table: &Table<'_>,
    graph: Graph,
    control: &Control,
) -> Result<()> {
    let width = base_links(graph.links);
    let rows = linked.base.len() / width;
    let mut met = Met { nodes: vec![false; rows], waiting: Vec::new() };
    met.follow(linked.entry, &linked.base, width);
    let mut scratch = Scratch::default();
    for node in 0..rows as u32 {
        if met.nodes[node as usize] || has_equal(node, linked, width, table, &met) {
            continue;
        }
        control.check()?;
        scratch.visited.clear(rows);
        let links = Flat { links: &linked.base, width };
        let ef = graph.build_ef as usize;
        walk(&links, table, &table.probe(node), &[linked.entry], ef, &mut scratch);
        let near = || scratch.pool.nodes();
        if near().filter(|near| table.are_same(*near, node)).count() >= graph.links as usize {
            continue;
        }
        let room = near().find_map(|near| {
            let end = (near as usize + 1) * width;
            linked.base[end - width..end]
                .iter()
                .position(|link| *link == END)
                .map(|at| end - width + at)
        });
        if let Some(room) = room {
            linked.base[room] = node;
            met.follow(node, &linked.base, width);
        }
    }
    Ok(())
}

/// Whether it is linked to an equal one that is met.
fn has_equal(node: u32, linked: &Linked, width: usize, table: &Table<'_>, met: &Met) -> bool {
    let links = Flat { links: &linked.base, width };
    links.of(node).any(|link| met.nodes[link as usize] && table.are_same(link, node))
}

struct Met {
    nodes: Vec<bool>,
    waiting: Vec<u32>,
}

impl Met {
    /// Meets what links lead to.
    fn follow(&mut self, from: u32, base: &[u32], width: usize) {
        let links = Flat { links: base, width };
        self.nodes[from as usize] = true;
        self.waiting.push(from);
        while let Some(node) = self.waiting.pop() {
            for link in links.of(node) {
                if !std::mem::replace(&mut self.nodes[link as usize], true) {
                    self.waiting.push(link);
                }
            }
        }
    }
}
