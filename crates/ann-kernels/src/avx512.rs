//! The loops over codes for AVX-512 with VNNI, which multiply and add four bytes a lane in one
//! step, and over bits where it counts those of a lane in one. What is not compared in every step of a walk is AVX2's.

use std::arch::x86_64::{
    __m512i, _mm512_add_epi64, _mm512_dpbusd_epi32, _mm512_loadu_si512, _mm512_maskz_loadu_epi8,
    _mm512_maskz_loadu_epi64, _mm512_popcnt_epi64, _mm512_reduce_add_epi32,
    _mm512_reduce_add_epi64, _mm512_sad_epu8, _mm512_set1_epi8, _mm512_setzero_si512,
    _mm512_xor_si512,
};

use crate::Kernels;
use crate::prefetch::each_row;

/// The set, where the processor has all of it.
pub fn kernels() -> Option<Kernels> {
    let here = is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512vnni");
    let mut other = crate::avx2::kernels().filter(|_| here)?;
    if is_x86_feature_detected!("avx512vpopcntdq") {
        other.hamming_rows = |query, table, rows, out| {
            // SAFETY: the processor has the features.
            unsafe { hamming_rows(query, table, rows, out) }
        };
    }
    Some(Kernels {
        name: "avx512-vnni",
        // SAFETY, each: this set is given away only where the processor has the features.
        dot_codes_rows: |query, table, rows, out| {
            // SAFETY: as above.
            unsafe { dot_rows(query, table, rows, out) }
        },
        dot_i8_rows: |query, table, rows, out| {
            // SAFETY: as above.
            unsafe { dot_rows(query, table, rows, out) }
        },
        l1_codes_rows: |query, table, rows, out| {
            // SAFETY: as above.
            unsafe { l1_rows(query, table, rows, out) }
        },
        dot_i8: |a, b| {
            // SAFETY: as above.
            unsafe { dot_pair(a, b) }
        },
        l1_i8: |a, b| {
            // SAFETY: as above.
            unsafe { l1(a, b) }
        },
        ..other
    })
}

#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
fn dot_rows(query: &[i8], table: &[i8], rows: &[u32], out: &mut [i32]) {
    let surplus = surplus(query);
    each_row(query, table, rows, out, |query, row| dot(query, row).wrapping_sub(surplus));
}

#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
fn l1_rows(query: &[i8], table: &[i8], rows: &[u32], out: &mut [i32]) {
    each_row(query, table, rows, out, |query, row| l1(query, row));
}

#[target_feature(enable = "avx512f,avx512bw,avx512vpopcntdq")]
fn hamming_rows(query: &[u64], table: &[u64], rows: &[u32], out: &mut [i32]) {
    each_row(query, table, rows, out, |query, row| hamming(query, row));
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vpopcntdq")]
fn hamming(query: &[u64], row: &[u64]) -> i32 {
    let ((query, query_rest), (row, row_rest)) = (query.as_chunks::<8>(), row.as_chunks::<8>());
    let mut sums = _mm512_setzero_si512();
    for (query, row) in query.iter().zip(row) {
        let differing = _mm512_xor_si512(words(query), words(row));
        sums = _mm512_add_epi64(sums, _mm512_popcnt_epi64(differing));
    }
    if !query_rest.is_empty() {
        let differing = _mm512_xor_si512(few_words(query_rest), few_words(row_rest));
        sums = _mm512_add_epi64(sums, _mm512_popcnt_epi64(differing));
    }
    _mm512_reduce_add_epi64(sums) as i32
}

#[inline]
#[target_feature(enable = "avx512f")]
fn words(from: &[u64; 8]) -> __m512i {
    // SAFETY: 64 bytes are there; the load takes any alignment.
    unsafe { _mm512_loadu_si512(from.as_ptr().cast()) }
}

/// Fewer than eight words, and zeros after them.
#[inline]
#[target_feature(enable = "avx512f")]
fn few_words(from: &[u64]) -> __m512i {
    debug_assert!(from.len() < 8, "there are fewer");
    let there = (1_u8 << (from.len() % 8)) - 1;
    // SAFETY: words that the mask leaves out are not read.
    unsafe { _mm512_maskz_loadu_epi64(there, from.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn bytes(from: &[i8; 64]) -> __m512i {
    // SAFETY: 64 bytes are there; the load takes any alignment.
    unsafe { _mm512_loadu_si512(from.as_ptr().cast()) }
}

/// Fewer than 64 bytes, and zeros after them.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn few_bytes(from: &[i8]) -> __m512i {
    debug_assert!(from.len() < 64, "there are fewer");
    let there = (1_u64 << (from.len() % 64)) - 1;
    // SAFETY: bytes that the mask leaves out are not read.
    unsafe { _mm512_maskz_loadu_epi8(there, from.as_ptr()) }
}

/// The processor multiplies unsigned bytes by signed ones: rows are taken 128 too high, which
/// makes each product too large by 128 times the query's byte, whatever the row.
fn surplus(query: &[i8]) -> i32 {
    query.iter().map(|&byte| i32::from(byte)).sum::<i32>().wrapping_mul(128)
}

/// The inner product and the query's [`surplus`].
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
fn dot(query: &[i8], row: &[i8]) -> i32 {
    let turn = _mm512_set1_epi8(i8::MIN);
    let ((query, query_rest), (row, row_rest)) = (query.as_chunks::<64>(), row.as_chunks::<64>());
    let mut sums = _mm512_setzero_si512();
    for (query, row) in query.iter().zip(row) {
        sums = _mm512_dpbusd_epi32(sums, _mm512_xor_si512(bytes(row), turn), bytes(query));
    }
    if !query_rest.is_empty() {
        // Beyond the end the query is zero, and so is the product.
        let row = _mm512_xor_si512(few_bytes(row_rest), turn);
        sums = _mm512_dpbusd_epi32(sums, row, few_bytes(query_rest));
    }
    _mm512_reduce_add_epi32(sums)
}

#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
fn dot_pair(a: &[i8], b: &[i8]) -> i32 {
    let length = a.len().min(b.len());
    let (a, b) = (&a[..length], &b[..length]);
    dot(a, b).wrapping_sub(surplus(a))
}

/// With the signs' bit turned, bytes are unsigned in the same order.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
fn l1(a: &[i8], b: &[i8]) -> i32 {
    let length = a.len().min(b.len());
    let turn = _mm512_set1_epi8(i8::MIN);
    let ((a, a_rest), (b, b_rest)) = (a[..length].as_chunks::<64>(), b[..length].as_chunks::<64>());
    let mut sums = _mm512_setzero_si512();
    for (a, b) in a.iter().zip(b) {
        let (a, b) = (_mm512_xor_si512(bytes(a), turn), _mm512_xor_si512(bytes(b), turn));
        sums = _mm512_add_epi64(sums, _mm512_sad_epu8(a, b));
    }
    if !a_rest.is_empty() {
        let a = _mm512_xor_si512(few_bytes(a_rest), turn);
        let b = _mm512_xor_si512(few_bytes(b_rest), turn);
        sums = _mm512_add_epi64(sums, _mm512_sad_epu8(a, b));
    }
    _mm512_reduce_add_epi64(sums) as i32
}
