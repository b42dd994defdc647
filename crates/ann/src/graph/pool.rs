//! The nearest nodes that a walk has met, in order, and its other memory.

use crate::codes::Measured;

/// A distance as a number of the same order.
pub(crate) const fn key(distance: f32) -> u32 {
    let bits = distance.to_bits();
    bits ^ ((bits.cast_signed() >> 31).cast_unsigned() | 0x8000_0000)
}

/// Nodes by distance, nearest first, at most as many as its room; which of them have been
/// expanded. An entry is key, node and the expanded bit in one word.
#[derive(Debug, Default)]
pub(crate) struct Pool {
    entries: Vec<u64>,
    room: usize,
    /// No entry before it waits to be expanded.
    cursor: usize,
}

impl Pool {
    pub(crate) fn clear(&mut self, room: usize) {
        self.entries.clear();
        self.room = room.max(1);
        self.cursor = 0;
    }

    pub(crate) fn is_full(&self) -> bool {
        self.entries.len() >= self.room
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// The key that a newcomer must be below.
    pub(crate) fn limit(&self) -> u32 {
        if self.is_full() { self.entries.last().map_or(0, |e| (e >> 32) as u32) } else { u32::MAX }
    }

    #[inline]
    pub(crate) fn offer(&mut self, key: u32, node: u32) {
        if self.entries.len() < self.room {
            self.entries.push(0);
        } else if key >= self.limit() {
            return;
        }
        let entry = u64::from(key) << 32 | u64::from(node) << 1;
        let last = self.entries.len() - 1;
        let at = self.entries[..last].partition_point(|held| *held < entry);
        self.entries.copy_within(at..last, at + 1);
        self.entries[at] = entry;
        self.cursor = self.cursor.min(at);
    }

    /// The nearest that waits, as expanded from now on, with its key.
    #[inline]
    pub(crate) fn next(&mut self) -> Option<(u32, u32)> {
        while let Some(entry) = self.entries.get_mut(self.cursor) {
            self.cursor += 1;
            if *entry & 1 == 0 {
                *entry |= 1;
                return Some(((*entry >> 32) as u32, (*entry as u32) >> 1));
            }
        }
        None
    }

    /// The nearest that waits.
    #[inline]
    pub(crate) fn peek(&self) -> Option<u32> {
        let entry = self.entries.get(self.cursor).filter(|entry| **entry & 1 == 0)?;
        Some((*entry as u32) >> 1)
    }

    /// One of the nearest, from 0.
    pub(crate) fn nth(&self, at: usize) -> Option<u64> {
        self.entries.get(at).copied()
    }

    /// The nodes, nearest first.
    pub(crate) fn nodes(&self) -> impl Iterator<Item = u32> + '_ {
        self.entries.iter().map(|entry| (*entry as u32) >> 1)
    }

    /// Keys and nodes, nearest first.
    pub(crate) fn entries(&self) -> impl Iterator<Item = (u32, u32)> + '_ {
        self.entries.iter().map(|entry| ((*entry >> 32) as u32, (*entry as u32) >> 1))
    }
}

/// Which nodes a walk has met: a bit each, and which words to clear after.
#[derive(Debug, Default)]
pub(crate) struct Visited {
    words: Vec<u64>,
    met: Vec<u32>,
}

impl Visited {
    pub(crate) fn clear(&mut self, nodes: usize) {
        let words = nodes.div_ceil(64);
        if self.words.len() != words || self.met.len() * 8 > words {
            self.words.clear();
            self.words.resize(words, 0);
        } else {
            for &node in &self.met {
                self.words[node as usize / 64] = 0;
            }
        }
        self.met.clear();
    }

    /// Whether it was not met before.
    #[inline]
    pub(crate) fn meet(&mut self, node: u32) -> bool {
        let (word, bit) = (&mut self.words[node as usize / 64], 1_u64 << (node % 64));
        let new = *word & bit == 0;
        if new {
            *word |= bit;
            self.met.push(node);
        }
        new
    }

    pub(crate) fn count(&self) -> usize {
        self.met.len()
    }
}

/// The memory of one walk, kept for the next.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    pub(crate) pool: Pool,
    pub(crate) found: Pool,
    pub(crate) visited: Visited,
    pub(crate) nodes: Vec<u32>,
    pub(crate) allowed: Vec<bool>,
    pub(crate) measured: Measured,
    /// Rows of a scan, and the bits of their sketches that differ.
    pub(crate) rows: Vec<u32>,
    pub(crate) differing: Vec<i32>,
    /// Of those, the nearest: bits and rows.
    pub(crate) near: Vec<(i32, u32)>,
}
