//! The loops for NEON, which every 64-bit ARM has.

use std::arch::aarch64::{
    float32x4_t, int8x16_t, uint8x16_t, vabdq_f32, vabdq_s8, vaddlvq_u8, vaddq_f32, vaddvq_s32,
    vaddvq_u32, vandq_u8, vcntq_u8, vdupq_n_f32, vdupq_n_s32, vdupq_n_u32, veorq_u8, vfmaq_f32,
    vget_high_s16, vget_low_s8, vget_low_s16, vgetq_lane_f32, vld1q_f32, vld1q_s8, vld1q_u8,
    vmlal_s16, vmull_high_s8, vmull_s8, vpadalq_s16, vpadalq_u16, vpaddlq_u8, vreinterpretq_u8_s8,
    vsubl_high_s8, vsubl_s8, vsubq_f32,
};

use half::f16;

use crate::prefetch::each_row;
use crate::{Kernels, scalar};

/// The set.
pub const KERNELS: Kernels = Kernels {
    name: "neon",
    dot_codes_rows: |query, table, rows, out| each_row(query, table, rows, out, dot_i8),
    l1_codes_rows: |query, table, rows, out| each_row(query, table, rows, out, l1_i8),
    dot_i8_rows: |query, table, rows, out| each_row(query, table, rows, out, dot_i8),
    hamming_rows: |query, table, rows, out| each_row(query, table, rows, out, hamming),
    and_rows: |query, table, rows, out| each_row(query, table, rows, out, and),
    dot_i8,
    l2_i8,
    l1_i8,
    dot_f32: |a, b| lanes(a, b, |some| *some, product),
    l2_f32: |a, b| lanes(a, b, |some| *some, squared),
    l1_f32: |a, b| lanes(a, b, |some| *some, absolute),
    dot_f16: |a, b| lanes(a, b, widened, product),
    l2_f16: |a, b| lanes(a, b, widened, squared),
    l1_f16: |a, b| lanes(a, b, widened, absolute),
};

#[inline(always)]
fn bytes(from: &[i8; 16]) -> int8x16_t {
    // SAFETY: 16 bytes are there; the load takes any alignment.
    unsafe { vld1q_s8(from.as_ptr()) }
}

#[inline(always)]
fn words(from: &[u64; 2]) -> uint8x16_t {
    // SAFETY: 16 bytes are there; the load takes any alignment.
    unsafe { vld1q_u8(from.as_ptr().cast()) }
}

#[inline(always)]
fn floats(from: &[f32; 4]) -> float32x4_t {
    // SAFETY: four floats are there.
    unsafe { vld1q_f32(from.as_ptr()) }
}

/// Products of two bytes fit 16 bits; pairs of them are added into 32.
#[inline(always)]
fn dot_i8(a: &[i8], b: &[i8]) -> i32 {
    let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<16>(), b.as_chunks::<16>());
    // SAFETY: every processor of this architecture has NEON.
    let whole = unsafe {
        let mut sums = [vdupq_n_s32(0); 2];
        for (a, b) in a.iter().zip(b) {
            let (a, b) = (bytes(a), bytes(b));
            sums[0] = vpadalq_s16(sums[0], vmull_s8(vget_low_s8(a), vget_low_s8(b)));
            sums[1] = vpadalq_s16(sums[1], vmull_high_s8(a, b));
        }
        vaddvq_s32(sums[0]).wrapping_add(vaddvq_s32(sums[1]))
    };
    whole + scalar::dot_i8(a_rest, b_rest)
}

fn l2_i8(a: &[i8], b: &[i8]) -> i32 {
    let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<16>(), b.as_chunks::<16>());
    // SAFETY: every processor of this architecture has NEON.
    let whole = unsafe {
        let mut sums = vdupq_n_s32(0);
        for (a, b) in a.iter().zip(b) {
            let (a, b) = (bytes(a), bytes(b));
            let halves = [vsubl_s8(vget_low_s8(a), vget_low_s8(b)), vsubl_high_s8(a, b)];
            for half in halves {
                sums = vmlal_s16(sums, vget_low_s16(half), vget_low_s16(half));
                sums = vmlal_s16(sums, vget_high_s16(half), vget_high_s16(half));
            }
        }
        vaddvq_s32(sums)
    };
    whole + scalar::l2_i8(a_rest, b_rest)
}

/// The difference of two bytes, taken as unsigned, is whole.
#[inline(always)]
fn l1_i8(a: &[i8], b: &[i8]) -> i32 {
    let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<16>(), b.as_chunks::<16>());
    // SAFETY: every processor of this architecture has NEON.
    let whole = unsafe {
        let mut sums = vdupq_n_u32(0);
        for (a, b) in a.iter().zip(b) {
            let apart = vreinterpretq_u8_s8(vabdq_s8(bytes(a), bytes(b)));
            sums = vpadalq_u16(sums, vpaddlq_u8(apart));
        }
        vaddvq_u32(sums)
    };
    whole.cast_signed() + scalar::l1_i8(a_rest, b_rest)
}

#[inline(always)]
fn hamming(a: &[u64], b: &[u64]) -> i32 {
    let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<2>(), b.as_chunks::<2>());
    let mut sum = scalar::hamming(a_rest, b_rest);
    for (a, b) in a.iter().zip(b) {
        // SAFETY: every processor of this architecture has NEON.
        sum += i32::from(unsafe { vaddlvq_u8(vcntq_u8(veorq_u8(words(a), words(b)))) });
    }
    sum
}

#[inline(always)]
fn and(a: &[u64], b: &[u64]) -> i32 {
    let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<2>(), b.as_chunks::<2>());
    let mut sum = scalar::and(a_rest, b_rest);
    for (a, b) in a.iter().zip(b) {
        // SAFETY: every processor of this architecture has NEON.
        sum += i32::from(unsafe { vaddlvq_u8(vcntq_u8(vandq_u8(words(a), words(b)))) });
    }
    sum
}

fn widened(halves: &[u16; 32]) -> [f32; 32] {
    halves.map(|bits| f16::from_bits(bits).to_f32())
}

#[inline(always)]
fn product(sum: float32x4_t, a: float32x4_t, b: float32x4_t) -> float32x4_t {
    // SAFETY: every processor of this architecture has NEON.
    unsafe { vfmaq_f32(sum, a, b) }
}

#[inline(always)]
fn squared(sum: float32x4_t, a: float32x4_t, b: float32x4_t) -> float32x4_t {
    // SAFETY: every processor of this architecture has NEON.
    unsafe {
        let difference = vsubq_f32(a, b);
        vfmaq_f32(sum, difference, difference)
    }
}

#[inline(always)]
fn absolute(sum: float32x4_t, a: float32x4_t, b: float32x4_t) -> float32x4_t {
    // SAFETY: every processor of this architecture has NEON.
    unsafe { vaddq_f32(sum, vabdq_f32(a, b)) }
}

/// Thirty-two lanes, in the order of [`scalar`].
#[inline(always)]
fn lanes<B: Copy + Default>(
    a: &[f32],
    b: &[B],
    load: impl Fn(&[B; 32]) -> [f32; 32],
    add: impl Fn(float32x4_t, float32x4_t, float32x4_t) -> float32x4_t,
) -> f32 {
    let length = a.len().min(b.len());
    let ((a, a_rest), (b, b_rest)) = (a[..length].as_chunks::<32>(), b[..length].as_chunks::<32>());
    // SAFETY: every processor of this architecture has NEON.
    let mut sums = [unsafe { vdupq_n_f32(0.0) }; 8];
    let mut step = |a: &[f32; 32], b: &[B; 32]| {
        let b = load(b);
        let (a, b) = (a.as_chunks::<4>().0, b.as_chunks::<4>().0);
        for (sum, (a, b)) in sums.iter_mut().zip(a.iter().zip(b)) {
            *sum = add(*sum, floats(a), floats(b));
        }
    };
    for (a, b) in a.iter().zip(b) {
        step(a, b);
    }
    if !a_rest.is_empty() {
        let (mut a, mut b) = ([0.0_f32; 32], [B::default(); 32]);
        a[..a_rest.len()].copy_from_slice(a_rest);
        b[..b_rest.len()].copy_from_slice(b_rest);
        step(&a, &b);
    }
    // SAFETY: every processor of this architecture has NEON.
    unsafe {
        let low = vaddq_f32(vaddq_f32(sums[0], sums[2]), vaddq_f32(sums[4], sums[6]));
        let high = vaddq_f32(vaddq_f32(sums[1], sums[3]), vaddq_f32(sums[5], sums[7]));
        let four = vaddq_f32(low, high);
        let (even, odd) = (
            vgetq_lane_f32::<0>(four) + vgetq_lane_f32::<2>(four),
            vgetq_lane_f32::<1>(four) + vgetq_lane_f32::<3>(four),
        );
        even + odd
    }
}
