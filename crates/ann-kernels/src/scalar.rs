//! What each operation means, in plain Rust: the twin that every other set is held to.
//!
//! Floats are summed in 32 lanes by fused multiply-add, the rest of a slice as if zeros
//! followed, and the lanes always in one order, so that vectors of any width give the same bits.

use half::f16;

use crate::Kernels;
use crate::prefetch::each_row;

/// The set that runs everywhere.
pub const KERNELS: Kernels = Kernels {
    name: "scalar",
    dot_codes_rows: |query, table, rows, out| each_row(query, table, rows, out, dot_i8),
    l1_codes_rows: |query, table, rows, out| each_row(query, table, rows, out, l1_i8),
    dot_i8_rows: |query, table, rows, out| each_row(query, table, rows, out, dot_i8),
    hamming_rows: |query, table, rows, out| each_row(query, table, rows, out, hamming),
    and_rows: |query, table, rows, out| each_row(query, table, rows, out, and),
    dot_i8,
    l2_i8,
    l1_i8,
    dot_f32,
    l2_f32,
    l1_f32,
    dot_f16,
    l2_f16,
    l1_f16,
};

const LANES: usize = 32;

/// The inner product of bytes.
#[must_use]
pub fn dot_i8(a: &[i8], b: &[i8]) -> i32 {
    a.iter().zip(b).map(|(&a, &b)| i32::from(a) * i32::from(b)).sum()
}

/// The sum of squared differences of bytes.
#[must_use]
pub fn l2_i8(a: &[i8], b: &[i8]) -> i32 {
    a.iter().zip(b).map(|(&a, &b)| (i32::from(a) - i32::from(b)).pow(2)).sum()
}

/// The sum of absolute differences of bytes.
#[must_use]
pub fn l1_i8(a: &[i8], b: &[i8]) -> i32 {
    a.iter().zip(b).map(|(&a, &b)| (i32::from(a) - i32::from(b)).abs()).sum()
}

/// Bits that differ.
#[must_use]
pub fn hamming(a: &[u64], b: &[u64]) -> i32 {
    a.iter().zip(b).map(|(a, b)| (a ^ b).count_ones().cast_signed()).sum()
}

/// Bits that are set in both.
#[must_use]
pub fn and(a: &[u64], b: &[u64]) -> i32 {
    a.iter().zip(b).map(|(a, b)| (a & b).count_ones().cast_signed()).sum()
}

/// The inner product.
#[must_use]
pub fn dot_f32(a: &[f32], b: &[f32]) -> f32 {
    lanes(a, b, |b| b, |sum, a, b| a.mul_add(b, sum))
}

/// The sum of squared differences.
#[must_use]
pub fn l2_f32(a: &[f32], b: &[f32]) -> f32 {
    lanes(a, b, |b| b, squared)
}

/// The sum of absolute differences.
#[must_use]
pub fn l1_f32(a: &[f32], b: &[f32]) -> f32 {
    lanes(a, b, |b| b, |sum, a, b| sum + (a - b).abs())
}

/// The inner product with half-precision numbers.
#[must_use]
pub fn dot_f16(a: &[f32], b: &[u16]) -> f32 {
    lanes(a, b, widen, |sum, a, b| a.mul_add(b, sum))
}

/// The sum of squared differences from half-precision numbers.
#[must_use]
pub fn l2_f16(a: &[f32], b: &[u16]) -> f32 {
    lanes(a, b, widen, squared)
}

/// The sum of absolute differences from half-precision numbers.
#[must_use]
pub fn l1_f16(a: &[f32], b: &[u16]) -> f32 {
    lanes(a, b, widen, |sum, a, b| sum + (a - b).abs())
}

fn widen(bits: u16) -> f32 {
    f16::from_bits(bits).to_f32()
}

fn squared(sum: f32, a: f32, b: f32) -> f32 {
    let difference = a - b;
    difference.mul_add(difference, sum)
}

fn lanes<B: Copy>(
    a: &[f32],
    b: &[B],
    value: fn(B) -> f32,
    add: impl Fn(f32, f32, f32) -> f32,
) -> f32 {
    let mut sums = [0.0_f32; LANES];
    for (a, b) in a.chunks(LANES).zip(b.chunks(LANES)) {
        for (lane, sum) in sums.iter_mut().enumerate() {
            let a = a.get(lane).copied().unwrap_or_default();
            let b = b.get(lane).copied().map(value).unwrap_or_default();
            *sum = add(*sum, a, b);
        }
    }
    let eight = [0, 1, 2, 3, 4, 5, 6, 7]
        .map(|lane: usize| (sums[lane] + sums[lane + 8]) + (sums[lane + 16] + sums[lane + 24]));
    let four = [0, 1, 2, 3].map(|lane| eight[lane] + eight[lane + 4]);
    (four[0] + four[2]) + (four[1] + four[3])
}
