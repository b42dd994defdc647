//! How often each value is there: exactly while values are few, then the most
//! frequent ones with how far off their counts may be.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use crate::hll;

/// Values that are kept.
pub(crate) const KEPT_MAX: usize = 4_096;
/// A piece whose first values are nearly all different has no frequent ones.
const PROBED: u64 = 16_384;

/// Hashes by the crate's own function: quick for short texts.
#[derive(Debug, Default, Clone)]
pub(crate) struct Mixed(u64);

impl Hasher for Mixed {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        self.0 = self.0.rotate_left(23) ^ hll::hash(bytes);
    }

    fn write_usize(&mut self, _: usize) {}
}

pub(crate) type ByBytes<V> = HashMap<Box<[u8]>, V, BuildHasherDefault<Mixed>>;

#[derive(Debug, Clone, Default)]
pub(crate) struct Counter {
    counts: ByBytes<u64>,
    /// A value that is not kept may have occurred so often; 0: all are kept.
    missed_max: u64,
    added: u64,
    /// Nothing is kept: values are all different.
    pointless: bool,
}

impl Counter {
    pub fn add(&mut self, value: &[u8], times: u64) {
        self.added += times;
        if self.pointless {
            return;
        }
        if let Some(count) = self.counts.get_mut(value) {
            *count += times;
            return;
        }
        self.counts.insert(value.into(), times);
        if self.counts.len() > KEPT_MAX {
            self.shrink();
        }
    }

    fn shrink(&mut self) {
        let mut counts: Vec<u64> = self.counts.values().copied().collect();
        let middle = counts.len() / 2;
        let (_, limit, _) = counts.select_nth_unstable(middle);
        let limit = *limit;
        self.counts.retain(|_, count| *count > limit);
        self.missed_max += limit;
        let kept: u64 = self.counts.values().sum();
        if self.added >= PROBED && kept < self.added / 16 {
            self.pointless = true;
            self.counts = ByBytes::default();
        }
    }

    pub fn merge(&mut self, other: &Self) {
        self.added += other.added;
        self.missed_max += other.missed_max;
        self.pointless |= other.pointless;
        if self.pointless {
            self.counts = ByBytes::default();
            return;
        }
        for (value, count) in &other.counts {
            *self.counts.entry(value.clone()).or_default() += count;
        }
        while self.counts.len() > KEPT_MAX {
            self.shrink();
        }
    }

    /// All values are there with their exact counts.
    pub const fn is_exact(&self) -> bool {
        self.missed_max == 0 && !self.pointless
    }

    /// By how much a count may be too low, and how often a value may be there that is not kept.
    pub const fn error(&self) -> u64 {
        if self.pointless { self.added } else { self.missed_max }
    }

    pub fn len(&self) -> usize {
        self.counts.len()
    }

    /// The most frequent values, equal ones by their bytes.
    pub fn top(&self, limit: usize) -> Vec<(&[u8], u64)> {
        let mut all: Vec<(&[u8], u64)> =
            self.counts.iter().map(|(value, count)| (value.as_ref(), *count)).collect();
        all.sort_unstable_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(b.0)));
        all.truncate(limit);
        all
    }

    pub fn memory_bytes(&self) -> usize {
        self.counts.keys().map(|value| value.len() + 48).sum()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn few_values_are_counted_exactly_and_merged() {
        let (mut a, mut b) = (Counter::default(), Counter::default());
        for n in 0..10_000u32 {
            a.add(&(n % 100).to_be_bytes(), 1);
            b.add(&(n % 50).to_be_bytes(), 1);
        }
        a.merge(&b);
        assert!(a.is_exact());
        assert_eq!((a.len(), a.top(1)[0]), (100, (0u32.to_be_bytes().as_slice(), 300)));
    }

    #[test]
    fn frequent_values_survive_many_rare_ones() {
        let mut counter = Counter::default();
        for n in 0..60_000u32 {
            counter.add(&n.to_be_bytes(), 1);
            counter.add(b"often", 1);
        }
        assert!(!counter.is_exact());
        assert!(counter.counts.len() <= KEPT_MAX);
        let (value, count) = counter.top(1)[0];
        assert_eq!(value, b"often");
        assert!(count <= 60_000 && count + counter.missed_max >= 60_000);
    }

    #[test]
    fn values_that_are_all_different_are_not_kept() {
        let mut counter = Counter::default();
        for n in 0..100_000u32 {
            counter.add(&n.to_be_bytes(), 1);
        }
        assert!(counter.pointless && counter.memory_bytes() == 0);
    }
}
