//! The k nearest of what has been offered.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use crate::query::Hit;

impl Eq for Hit {}

impl Ord for Hit {
    fn cmp(&self, other: &Self) -> Ordering {
        self.distance.total_cmp(&other.distance).then(self.number.cmp(&other.number))
    }
}

impl PartialOrd for Hit {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// Keeps the `k` nearest hits; of equal distances the smaller number is nearer.
#[derive(Debug)]
pub(crate) struct Nearest {
    k: usize,
    distance_max: f32,
    heap: BinaryHeap<Hit>,
}

impl Nearest {
    pub(crate) fn new(k: usize, distance_max: Option<f32>) -> Self {
        let distance_max = distance_max.unwrap_or(f32::INFINITY);
        Self { k, distance_max, heap: BinaryHeap::with_capacity(k + 1) }
    }

    pub(crate) fn offer(&mut self, hit: Hit) {
        if hit.distance > self.distance_max {
            return;
        }
        if self.heap.len() < self.k {
            self.heap.push(hit);
        } else if let Some(mut worst) = self.heap.peek_mut()
            && hit < *worst
        {
            *worst = hit;
        }
    }

    pub(crate) fn into_sorted(self) -> Vec<Hit> {
        self.heap.into_sorted_vec()
    }
}
