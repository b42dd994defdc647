//! The loops for AVX2 with FMA, F16C and POPCNT: every x86-64 server since 2015.

use std::arch::x86_64::{
    __m128i, __m256, __m256i, _mm_add_epi32, _mm_add_ps, _mm_add_ss, _mm_cvtsi128_si32,
    _mm_cvtss_f32, _mm_loadu_si128, _mm_movehl_ps, _mm_shuffle_epi32, _mm_shuffle_ps,
    _mm256_abs_epi8, _mm256_add_epi32, _mm256_add_epi64, _mm256_add_ps, _mm256_andnot_ps,
    _mm256_castps256_ps128, _mm256_castsi256_si128, _mm256_cvtepi8_epi16, _mm256_cvtph_ps,
    _mm256_extractf128_ps, _mm256_extracti128_si256, _mm256_fmadd_ps, _mm256_loadu_ps,
    _mm256_loadu_si256, _mm256_madd_epi16, _mm256_maddubs_epi16, _mm256_sad_epu8, _mm256_set1_epi8,
    _mm256_set1_epi16, _mm256_set1_ps, _mm256_setzero_ps, _mm256_setzero_si256, _mm256_sign_epi8,
    _mm256_sub_epi16, _mm256_sub_ps, _mm256_xor_si256,
};

use crate::Kernels;
use crate::prefetch::each_row;
use crate::scalar;

/// The set, where the processor has all of it.
pub fn kernels() -> Option<Kernels> {
    let here = is_x86_feature_detected!("avx2")
        && is_x86_feature_detected!("fma")
        && is_x86_feature_detected!("f16c")
        && is_x86_feature_detected!("popcnt");
    here.then_some(KERNELS)
}

/// A plain function over one of this file's; only [`kernels`] gives it away.
macro_rules! checked {
    (|$($arg:ident),+| $of:ident) => {
        |$($arg),+| {
            // SAFETY: `kernels` gives this set away only where the processor has the features.
            unsafe { $of($($arg),+) }
        }
    };
}

const KERNELS: Kernels = Kernels {
    name: "avx2",
    dot_codes_rows: checked!(|query, table, rows, out| dot_codes_rows),
    l1_codes_rows: checked!(|query, table, rows, out| l1_codes_rows),
    dot_i8_rows: checked!(|query, table, rows, out| dot_i8_rows),
    hamming_rows: checked!(|query, table, rows, out| hamming_rows),
    and_rows: checked!(|query, table, rows, out| and_rows),
    dot_i8: checked!(|a, b| dot_i8),
    l2_i8: checked!(|a, b| l2_i8),
    l1_i8: checked!(|a, b| l1_i8),
    dot_f32: checked!(|a, b| dot_f32),
    l2_f32: checked!(|a, b| l2_f32),
    l1_f32: checked!(|a, b| l1_f32),
    dot_f16: checked!(|a, b| dot_f16),
    l2_f16: checked!(|a, b| l2_f16),
    l1_f16: checked!(|a, b| l1_f16),
};

macro_rules! rows {
    ($name:ident, $element:ty, $of:ident) => {
        #[target_feature(enable = "avx2,fma,f16c,popcnt")]
        fn $name(query: &[$element], table: &[$element], rows: &[u32], out: &mut [i32]) {
            each_row(query, table, rows, out, |query, row| $of(query, row));
        }
    };
}

rows!(dot_codes_rows, i8, dot_codes);
rows!(l1_codes_rows, i8, l1_codes);
rows!(dot_i8_rows, i8, dot_i8);
rows!(hamming_rows, u64, hamming);
rows!(and_rows, u64, and);

#[inline]
#[target_feature(enable = "avx2")]
fn bytes(from: &[i8; 32]) -> __m256i {
    // SAFETY: 32 bytes are there; the load takes any alignment.
    unsafe { _mm256_loadu_si256(from.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "avx2")]
fn half_bytes(from: &[i8; 16]) -> __m128i {
    // SAFETY: 16 bytes are there; the load takes any alignment.
    unsafe { _mm_loadu_si128(from.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "avx2")]
fn sum_i32(sums: __m256i) -> i32 {
    let four = _mm_add_epi32(_mm256_castsi256_si128(sums), _mm256_extracti128_si256::<1>(sums));
    let two = _mm_add_epi32(four, _mm_shuffle_epi32::<0b_01_00_11_10>(four));
    _mm_cvtsi128_si32(_mm_add_epi32(two, _mm_shuffle_epi32::<0b_10_11_00_01>(two)))
}

/// Codes within −127..=127: |a| times (b with a's sign) makes pairs of at most 2 · 127², which
/// fit 16 bits.
#[inline]
#[target_feature(enable = "avx2")]
fn dot_codes(a: &[i8], b: &[i8]) -> i32 {
    let ones = _mm256_set1_epi16(1);
    let mut sums = _mm256_setzero_si256();
    for (a, b) in a.as_chunks::<32>().0.iter().zip(b.as_chunks::<32>().0) {
        let (a, b) = (bytes(a), bytes(b));
        let pairs = _mm256_maddubs_epi16(_mm256_abs_epi8(a), _mm256_sign_epi8(b, a));
        sums = _mm256_add_epi32(sums, _mm256_madd_epi16(pairs, ones));
    }
    sum_i32(sums)
}

/// With the signs' bit turned, bytes are unsigned in the same order.
#[inline]
#[target_feature(enable = "avx2")]
fn l1_codes(a: &[i8], b: &[i8]) -> i32 {
    let turn = _mm256_set1_epi8(i8::MIN);
    let mut sums = _mm256_setzero_si256();
    for (a, b) in a.as_chunks::<32>().0.iter().zip(b.as_chunks::<32>().0) {
        let (a, b) = (_mm256_xor_si256(bytes(a), turn), _mm256_xor_si256(bytes(b), turn));
        sums = _mm256_add_epi64(sums, _mm256_sad_epu8(a, b));
    }
    sum_i32(sums)
}

#[target_feature(enable = "avx2")]
fn l1_i8(a: &[i8], b: &[i8]) -> i32 {
    let whole = a.len().min(b.len()) / 32 * 32;
    l1_codes(&a[..whole], &b[..whole]) + scalar::l1_i8(&a[whole..], &b[whole..])
}

#[inline]
#[target_feature(enable = "avx2")]
fn dot_i8(a: &[i8], b: &[i8]) -> i32 {
    let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<16>(), b.as_chunks::<16>());
    let mut sums = _mm256_setzero_si256();
    for (a, b) in a.iter().zip(b) {
        let (a, b) = (_mm256_cvtepi8_epi16(half_bytes(a)), _mm256_cvtepi8_epi16(half_bytes(b)));
        sums = _mm256_add_epi32(sums, _mm256_madd_epi16(a, b));
    }
    sum_i32(sums) + scalar::dot_i8(a_rest, b_rest)
}

#[target_feature(enable = "avx2")]
fn l2_i8(a: &[i8], b: &[i8]) -> i32 {
    let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<16>(), b.as_chunks::<16>());
    let mut sums = _mm256_setzero_si256();
    for (a, b) in a.iter().zip(b) {
        let (a, b) = (_mm256_cvtepi8_epi16(half_bytes(a)), _mm256_cvtepi8_epi16(half_bytes(b)));
        let difference = _mm256_sub_epi16(a, b);
        sums = _mm256_add_epi32(sums, _mm256_madd_epi16(difference, difference));
    }
    sum_i32(sums) + scalar::l2_i8(a_rest, b_rest)
}

#[inline]
#[target_feature(enable = "popcnt")]
fn hamming(a: &[u64], b: &[u64]) -> i32 {
    scalar::hamming(a, b)
}

#[inline]
#[target_feature(enable = "popcnt")]
fn and(a: &[u64], b: &[u64]) -> i32 {
    scalar::and(a, b)
}

#[inline]
#[target_feature(enable = "avx2")]
fn floats(from: &[f32; 8]) -> __m256 {
    // SAFETY: 8 floats are there; the load takes any alignment.
    unsafe { _mm256_loadu_ps(from.as_ptr()) }
}

#[inline]
#[target_feature(enable = "avx2,f16c")]
fn halves(from: &[u16; 8]) -> __m256 {
    // SAFETY: 16 bytes are there; the load takes any alignment.
    _mm256_cvtph_ps(unsafe { _mm_loadu_si128(from.as_ptr().cast()) })
}

/// The lanes in the order of [`scalar`].
#[inline]
#[target_feature(enable = "avx2")]
fn sum_f32(sums: [__m256; 4]) -> f32 {
    let eight = _mm256_add_ps(_mm256_add_ps(sums[0], sums[1]), _mm256_add_ps(sums[2], sums[3]));
    let four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps::<1>(eight));
    let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    _mm_cvtss_f32(_mm_add_ss(two, _mm_shuffle_ps::<1>(two, two)))
}

/// One operation on floats: how b is loaded, and how a lane grows.
macro_rules! lanes {
    ($name:ident, $element:ty, $load:ident, $add:ident) => {
        #[target_feature(enable = "avx2,fma,f16c")]
        fn $name(a: &[f32], b: &[$element]) -> f32 {
            let length = a.len().min(b.len());
            let ((a, a_rest), (b, b_rest)) =
                (a[..length].as_chunks::<32>(), b[..length].as_chunks::<32>());
            let mut sums = [_mm256_setzero_ps(); 4];
            for (a, b) in a.iter().zip(b) {
                let (a, b) = (a.as_chunks::<8>().0, b.as_chunks::<8>().0);
                for lane in 0..4 {
                    sums[lane] = $add(sums[lane], floats(&a[lane]), $load(&b[lane]));
                }
            }
            if !a_rest.is_empty() {
                let (mut a, mut b) = ([0.0_f32; 32], [<$element>::default(); 32]);
                a[..a_rest.len()].copy_from_slice(a_rest);
                b[..b_rest.len()].copy_from_slice(b_rest);
                let (a, b) = (a.as_chunks::<8>().0, b.as_chunks::<8>().0);
                for lane in 0..4 {
                    sums[lane] = $add(sums[lane], floats(&a[lane]), $load(&b[lane]));
                }
            }
            sum_f32(sums)
        }
    };
}

#[inline]
#[target_feature(enable = "avx2,fma")]
fn product(sum: __m256, a: __m256, b: __m256) -> __m256 {
    _mm256_fmadd_ps(a, b, sum)
}

#[inline]
#[target_feature(enable = "avx2,fma")]
fn squared(sum: __m256, a: __m256, b: __m256) -> __m256 {
    let difference = _mm256_sub_ps(a, b);
    _mm256_fmadd_ps(difference, difference, sum)
}

#[inline]
#[target_feature(enable = "avx2")]
fn absolute(sum: __m256, a: __m256, b: __m256) -> __m256 {
    _mm256_add_ps(sum, _mm256_andnot_ps(_mm256_set1_ps(-0.0), _mm256_sub_ps(a, b)))
}

lanes!(dot_f32, f32, floats, product);
lanes!(l2_f32, f32, floats, squared);
lanes!(l1_f32, f32, floats, absolute);
lanes!(dot_f16, u16, halves, product);
lanes!(l2_f16, u16, halves, squared);
lanes!(l1_f16, u16, halves, absolute);
