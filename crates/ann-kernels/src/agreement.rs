//! Whether a set does on this processor what the scalar one means, before it is used.

use half::f16;

use crate::{Kernels, scalar};

/// Lengths with whole steps of every set, and with a rest.
const LENGTHS: [usize; 4] = [32, 96, 384, 1_536 + 32];
const REST: usize = 7;
const ROWS: usize = 4;

/// Pseudo-random numbers, the same every time.
fn drawn(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state
}

fn codes(state: &mut u64, count: usize) -> Vec<i8> {
    (0..count).map(|_| ((drawn(state) >> 32) as i8).max(-127)).collect()
}

/// Compares all that it does, on a few vectors: microseconds.
pub fn agrees(set: &Kernels) -> bool {
    let state = &mut 0x9e37_79b9_7f4a_7c15;
    LENGTHS.iter().all(|&length| {
        let (query, table) = (codes(state, length), codes(state, length * ROWS));
        rows_agree(set, &query, &table)
            && bits_agree(set, state, length)
            && bytes_agree(set, &query[..length - REST], &table[..length - REST])
            && floats_agree(set, state, length - REST)
    })
}

fn rows_agree(set: &Kernels, query: &[i8], table: &[i8]) -> bool {
    let rows: [u32; ROWS + 1] = [3, 0, 2, 1, 3];
    let same = |of: crate::Rows<i8>, meant: crate::Rows<i8>| {
        let (mut got, mut expected) = ([0; ROWS + 1], [0; ROWS + 1]);
        of(query, table, &rows, &mut got);
        meant(query, table, &rows, &mut expected);
        got == expected
    };
    same(set.dot_codes_rows, scalar::KERNELS.dot_codes_rows)
        && same(set.l1_codes_rows, scalar::KERNELS.l1_codes_rows)
        && same(set.dot_i8_rows, scalar::KERNELS.dot_i8_rows)
}

fn bits_agree(set: &Kernels, state: &mut u64, length: usize) -> bool {
    let words = length / 32 * 2 - 1;
    let mut some = |count: usize| (0..count).map(|_| drawn(state)).collect::<Vec<u64>>();
    let (query, table) = (some(words), some(words * 2));
    let same = |of: crate::Rows<u64>, meant: crate::Rows<u64>| {
        let (mut got, mut expected) = ([0; 2], [0; 2]);
        of(&query, &table, &[1, 0], &mut got);
        meant(&query, &table, &[1, 0], &mut expected);
        got == expected
    };
    same(set.hamming_rows, scalar::KERNELS.hamming_rows)
        && same(set.and_rows, scalar::KERNELS.and_rows)
}

fn bytes_agree(set: &Kernels, a: &[i8], b: &[i8]) -> bool {
    (set.dot_i8)(a, b) == scalar::dot_i8(a, b)
        && (set.l2_i8)(a, b) == scalar::l2_i8(a, b)
        && (set.l1_i8)(a, b) == scalar::l1_i8(a, b)
}

fn floats_agree(set: &Kernels, state: &mut u64, length: usize) -> bool {
    let mut some = || {
        let value = |_| (drawn(state) >> 40) as f32 / 16_777_216.0 - 0.5;
        (0..length).map(value).collect::<Vec<f32>>()
    };
    let (a, b) = (some(), some());
    let halves: Vec<u16> = b.iter().map(|b| f16::from_f32(*b).to_bits()).collect();
    let same = |got: f32, meant: f32| got.to_bits() == meant.to_bits();
    same((set.dot_f32)(&a, &b), scalar::dot_f32(&a, &b))
        && same((set.l2_f32)(&a, &b), scalar::l2_f32(&a, &b))
        && same((set.l1_f32)(&a, &b), scalar::l1_f32(&a, &b))
        && same((set.dot_f16)(&a, &halves), scalar::dot_f16(&a, &halves))
        && same((set.l2_f16)(&a, &halves), scalar::l2_f16(&a, &halves))
        && same((set.l1_f16)(&a, &halves), scalar::l1_f16(&a, &halves))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_that_is_wrong_in_one_thing_is_not_taken() {
        assert!(agrees(&scalar::KERNELS));
        let wrong: [Kernels; 4] = [
            Kernels { l2_i8: |a, b| scalar::l2_i8(a, b) + 1, ..scalar::KERNELS },
            Kernels { dot_f16: |a, b| scalar::dot_f16(a, b) * 1.000_001, ..scalar::KERNELS },
            Kernels { and_rows: scalar::KERNELS.hamming_rows, ..scalar::KERNELS },
            Kernels { dot_codes_rows: scalar::KERNELS.l1_codes_rows, ..scalar::KERNELS },
        ];
        assert!(wrong.iter().all(|set| !agrees(set)));
    }

    #[test]
    fn every_set_of_this_processor_agrees() {
        for set in Kernels::available() {
            assert!(agrees(&set), "{}", set.name);
        }
    }
}
