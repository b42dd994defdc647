//! An order of the nodes in which those that are walked together stand together.

use crate::graph::{END, Linked, base_links};

/// The node of each place: breadth first from the entry, what is not reached last.
pub(crate) fn by_locality(linked: &Linked, links: u16) -> Vec<u32> {
    let width = base_links(links);
    let rows = linked.base.len() / width;
    let mut seen = vec![false; rows];
    let mut order = Vec::with_capacity(rows);
    let roots = std::iter::once(linked.entry).chain(0..rows as u32);
    for root in roots {
        if std::mem::replace(&mut seen[root as usize], true) {
            continue;
        }
        let mut at = order.len();
        order.push(root);
        while let Some(&node) = order.get(at) {
            at += 1;
            let begin = node as usize * width;
            for &link in linked.base[begin..begin + width].iter().take_while(|l| **l != END) {
                if !std::mem::replace(&mut seen[link as usize], true) {
                    order.push(link);
                }
            }
        }
    }
    order
}
