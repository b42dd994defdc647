//! Sketches: a bit for each coordinate of each row, whether its code is above the middle one. How
//! many bits differ from the query's says roughly how near a row is, for an eighth of the memory
//! that its code would be read from.
//!
//! They are made when a scan first asks for them, and are not in the file. What they are worth
//! depends on the vectors and is measured then: how far down by sketches the nearest lie.

use ann_kernels::{Kernels, Pages};

use crate::codes::{Coded, Measured, Table};
use crate::segment::Segment;
use crate::vector::aligned;

/// Fewer coordinates say too little.
const COORDINATES_MIN: usize = 128;
/// Rows that the middle is taken of, and that are sorted both ways to measure the reach.
const SAMPLE_ROWS: usize = 4_096;
/// Of the sample, how many are looked for among it, and how many neighbours each has.
const SOUGHT: usize = 32;
const NEIGHBOURS: usize = 10;
/// A usual reach.
pub(crate) const REACH_USUAL: usize = 250;
/// Sketches that reach farther save nothing.
const REACH_MAX: usize = 512;

/// The sketches of a segment.
#[derive(Debug)]
pub(crate) struct Sketches {
    /// By row.
    words: Pages,
    width: usize,
    /// What a code is above or not, by coordinate.
    middle: Vec<i8>,
    reach: usize,
}

impl Sketches {
    /// The words of a sketch of so many coordinates, if they are enough for one.
    pub(crate) fn width(coordinates: usize) -> Option<usize> {
        (coordinates >= COORDINATES_MIN).then_some(coordinates.div_ceil(64))
    }

    /// Those of a segment, if they are worth it and memory is there.
    pub(crate) fn of(segment: &Segment) -> Option<Self> {
        let (table, rows) = (segment.table(), segment.rows() as usize);
        let first = table.bytes(0)?;
        let width = Self::width(first.len())?;
        let sample = (0..rows).step_by(rows.div_ceil(SAMPLE_ROWS).max(1));
        let sample: Vec<u32> = sample.map(|row| row as u32).collect();
        let slots = segment.slot_of_row();
        let mut sums = vec![0_i32; first.len()];
        for code in sample.iter().filter_map(|row| table.bytes(slots[*row as usize])) {
            sums.iter_mut().zip(code).for_each(|(sum, byte)| *sum += i32::from(*byte));
        }
        let middle = sums.iter().map(|sum| (sum / sample.len() as i32) as i8).collect();
        let words = Pages::zeroed(rows * width * 8).ok()?;
        let mut sketches = Self { words, width, middle, reach: REACH_MAX };
        let words: &mut [u64] = bytemuck::cast_slice_mut(&mut sketches.words);
        // In the order of the slots: codes are larger than sketches.
        for (slot, row) in (0..).zip(segment.row_of_slot()) {
            let begin = *row as usize * width;
            sketch(table.bytes(slot)?, &sketches.middle, &mut words[begin..begin + width]);
        }
        sketches.reach = sketches.measured_reach(&table, slots, &sample);
        (sketches.reach < REACH_MAX).then_some(sketches)
    }

    /// How far down by sketches all but a hundredth of the nearest by codes are, of some rows
    /// among a sample; half as far again, since others lie in other places.
    fn measured_reach(&self, table: &Table<'_>, slots: &[u32], sample: &[u32]) -> usize {
        let sampled: Vec<u32> = sample.iter().map(|row| slots[*row as usize]).collect();
        let (mut measured, mut differing) = (Measured::default(), vec![0; sample.len()]);
        let mut ranks = Vec::new();
        for at in (0..sample.len()).step_by(sample.len().div_ceil(SOUGHT)) {
            let probe = table.probe(sampled[at]);
            table.measure(&probe, &sampled, &mut measured);
            measured.distances[at] = f32::INFINITY;
            let mut order: Vec<usize> = (0..sample.len()).collect();
            let nearest = NEIGHBOURS.min(sample.len() - 1);
            order.select_nth_unstable_by(nearest, |a, b| {
                measured.distances[*a].total_cmp(&measured.distances[*b])
            });
            let query = self.sketched(&Coded::of(&probe), table);
            self.measure(&query, sample, &mut differing);
            // It is not among what is looked for.
            differing[at] = i32::MAX;
            let rank = |limit: i32| differing.iter().filter(|bits| **bits <= limit).count();
            ranks.extend(order[..nearest].iter().map(|near| rank(differing[*near])));
        }
        ranks.sort_unstable();
        let all_but_few = ranks.len().saturating_sub(1) * 99 / 100;
        ranks.get(all_but_few).map_or(REACH_MAX, |rank| rank + rank / 2)
    }

    /// A query's.
    pub(crate) fn sketched(&self, query: &Coded, table: &Table<'_>) -> Vec<u64> {
        let mut words = vec![0; self.width];
        let (bytes, unit) = query.bytes();
        if table.is_of_products() {
            // A product with what is taken from every row is the same for all: the query stays.
            sketch(bytes, &vec![0; bytes.len()], &mut words);
        } else {
            let scaled = bytes.iter().map(|byte| (f32::from(*byte) * unit) as i8);
            sketch(&scaled.collect::<Vec<i8>>(), &self.middle, &mut words);
        }
        words
    }

    /// The bits of each row that differ from the query's.
    pub(crate) fn measure(&self, query: &[u64], rows: &[u32], out: &mut [i32]) {
        (Kernels::get().hamming_rows)(query, aligned(&self.words), rows, out);
    }

    /// How many of the nearest by sketches hold the ten nearest by codes.
    pub(crate) const fn reach(&self) -> usize {
        self.reach
    }

    /// Bytes of one.
    pub(crate) const fn width_bytes(&self) -> usize {
        self.width * 8
    }

    pub(crate) fn memory_bytes(&self) -> usize {
        self.words.len()
    }
}

/// Writes the sketch of a code.
fn sketch(code: &[i8], middle: &[i8], words: &mut [u64]) {
    for ((codes, middles), word) in code.chunks(64).zip(middle.chunks(64)).zip(words) {
        let mut above = [0_u8; 64];
        for ((above, code), middle) in above.iter_mut().zip(codes).zip(middles) {
            *above = u8::from(code > middle);
        }
        // Eight bytes of 0 or 1 become eight bits by one product.
        *word = above.as_chunks::<8>().0.iter().rev().fold(0, |word, eight| {
            let bits = u64::from_le_bytes(*eight).wrapping_mul(0x0102_0408_1020_4080) >> 56;
            word << 8 | bits
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sketch_has_a_bit_for_each_coordinate() {
        let code: Vec<i8> = (0..150).map(|at: i32| (at * 37 % 251 - 125) as i8).collect();
        let middle: Vec<i8> = (0..150).map(|at: i32| (at * 11 % 31 - 15) as i8).collect();
        let mut words = [0; 3];
        sketch(&code, &middle, &mut words);
        for at in 0..192 {
            let is_set = words[at / 64] >> (at % 64) & 1 == 1;
            let is_above = at < 150 && code[at] > middle[at];
            assert_eq!(is_set, is_above, "{at}");
        }
    }
}
