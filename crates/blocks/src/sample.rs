//! Rows drawn at random, repeatably: each row has a number that depends on the
//! seed and where it is, and the least numbers win.

use std::collections::BinaryHeap;

use filter::Pruned;
use service_error::ServiceError;

use crate::find::{Position, judge_of};
use crate::read::{BlockReader, Reading};
use crate::rows::BlockRows;

impl BlockReader {
    /// At most `size` of the passing rows, each with the same chance, in storage
    /// order.
    ///
    /// # Errors
    /// `DataLoss` for a damaged block, or as the object store fails.
    pub async fn sample<B, P>(
        &self,
        blocks: &[B],
        reading: &Reading,
        (size, seed): (usize, u64),
        prune: P,
    ) -> Result<Vec<Position>, ServiceError>
    where
        B: AsRef<BlockRows> + Sync,
        P: Fn(usize) -> Pruned + Sync,
    {
        let filtered = reading.filter.is_some();
        let chosen: Vec<usize> =
            (0..blocks.len()).filter(|i| !filtered || prune(*i) != Pruned::None).collect();
        let steps = self.steps(blocks, &chosen, reading).await?;
        let (access, judge) = (self.access(&reading.tally), judge_of(reading)?);
        let found = self
            .spread(steps, move |step| {
                let mut drawn = Drawn::new(size);
                if let Some((group, rows)) = step.rows(&access, judge.as_ref())? {
                    for row in rows.numbers().values() {
                        let row = group.begin + u64::from(*row);
                        drawn.offer(seed, Position { block: step.block(), row });
                    }
                }
                Ok(drawn.heap.into_vec())
            })
            .await?;
        let mut drawn = Drawn::new(size);
        for row in reading.tail_rows()? {
            drawn.offer(seed, Position { block: blocks.len(), row });
        }
        for (lot, position) in found.into_iter().flatten() {
            drawn.take(lot, position);
        }
        let mut rows: Vec<Position> =
            drawn.heap.into_iter().map(|(_, position)| position).collect();
        rows.sort_unstable();
        Ok(rows)
    }
}

struct Drawn {
    heap: BinaryHeap<(u64, Position)>,
    size: usize,
}

impl Drawn {
    fn new(size: usize) -> Self {
        Self { heap: BinaryHeap::new(), size }
    }

    fn offer(&mut self, seed: u64, position: Position) {
        let place = ((position.block as u64) << 40) ^ position.row;
        self.take(mixed(seed ^ mixed(place)), position);
    }

    fn take(&mut self, lot: u64, position: Position) {
        if self.heap.len() < self.size {
            self.heap.push((lot, position));
        } else if self.heap.peek().is_some_and(|(worst, _)| lot < *worst) {
            self.heap.pop();
            self.heap.push((lot, position));
        }
    }
}

/// SplitMix64's last steps.
const fn mixed(value: u64) -> u64 {
    let value = value.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let value = (value ^ (value >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    value ^ (value >> 31)
}
