//! Checksums of a section's blocks, each verified when it is first needed.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::segment::format::BLOCK_BYTES;

/// Which blocks of a section have been seen whole.
#[derive(Debug)]
pub(crate) struct Verified(Box<[AtomicU64]>);

impl Verified {
    pub(crate) fn new(blocks: usize) -> Self {
        Self((0..blocks.div_ceil(64)).map(|_| AtomicU64::new(0)).collect())
    }

    /// Whether the blocks under `begin..end` of the section are what was written.
    pub(crate) fn holds(&self, section: &[u8], sums: &[u32], begin: usize, end: usize) -> bool {
        (begin / BLOCK_BYTES..end.div_ceil(BLOCK_BYTES)).all(|block| {
            let (word, bit) = (&self.0[block / 64], 1_u64 << (block % 64));
            if word.load(Ordering::Relaxed) & bit != 0 {
                return true;
            }
            let from = block * BLOCK_BYTES;
            let bytes = &section[from..(from + BLOCK_BYTES).min(section.len())];
            let holds = sums.get(block) == Some(&crc32fast::hash(bytes));
            if holds {
                word.fetch_or(bit, Ordering::Relaxed);
            }
            holds
        })
    }
}
