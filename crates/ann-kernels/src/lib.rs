//! The inner loops of the index: inner products, differences and counts of bits over slices, for
//! each processor, and memory in large pages.
//!
//! [`scalar`] says what each operation means; every other set gives the same integers, and the
//! same floats to the last bit. One of three crates with `unsafe`, beside
//! `mapped-files` and `startup-memory`.

mod agreement;
#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "aarch64")]
mod neon;
mod pages;
mod prefetch;
pub mod scalar;

use std::sync::OnceLock;

pub use pages::{AtomicWords, Pages};
pub use prefetch::prefetch;

/// A code table's rows are this many bytes or a multiple of it.
pub const CODE_LANES: usize = 32;

/// What is computed of a query and many rows of one table: the query, the table (rows of the
/// query's length, one after another), the rows' numbers and the results, as many as numbers.
pub type Rows<T> = fn(&[T], &[T], &[u32], &mut [i32]);
/// What is computed of two slices of one length.
pub type Pair<A, B, R> = fn(&[A], &[B]) -> R;

/// One set of loops. All take slices of equal length; of unequal ones the shorter counts.
#[derive(Debug, Clone, Copy)]
pub struct Kernels {
    /// What the set is called.
    pub name: &'static str,
    /// Inner products of codes within −127..=127; rows of a multiple of [`CODE_LANES`].
    pub dot_codes_rows: Rows<i8>,
    /// Sums of absolute differences of codes; rows of a multiple of [`CODE_LANES`].
    pub l1_codes_rows: Rows<i8>,
    /// Inner products of any bytes.
    pub dot_i8_rows: Rows<i8>,
    /// Bits that differ.
    pub hamming_rows: Rows<u64>,
    /// Bits that are set in both.
    pub and_rows: Rows<u64>,
    /// The inner product of any bytes.
    pub dot_i8: Pair<i8, i8, i32>,
    /// The sum of squared differences of any bytes.
    pub l2_i8: Pair<i8, i8, i32>,
    /// The sum of absolute differences of any bytes.
    pub l1_i8: Pair<i8, i8, i32>,
    /// The inner product.
    pub dot_f32: Pair<f32, f32, f32>,
    /// The sum of squared differences.
    pub l2_f32: Pair<f32, f32, f32>,
    /// The sum of absolute differences.
    pub l1_f32: Pair<f32, f32, f32>,
    /// The inner product with half-precision numbers, given as their bits.
    pub dot_f16: Pair<f32, u16, f32>,
    /// The sum of squared differences from half-precision numbers.
    pub l2_f16: Pair<f32, u16, f32>,
    /// The sum of absolute differences from half-precision numbers.
    pub l1_f16: Pair<f32, u16, f32>,
}

impl Kernels {
    /// The fastest set that this processor has and that gives the scalar one's results on it.
    #[must_use]
    pub fn get() -> &'static Self {
        static CHOSEN: OnceLock<Kernels> = OnceLock::new();
        CHOSEN.get_or_init(|| {
            let right = Self::available().into_iter().rev().find(agreement::agrees);
            right.unwrap_or(scalar::KERNELS)
        })
    }

    /// Every set that can run here, the slowest first.
    #[must_use]
    pub fn available() -> Vec<Self> {
        #[allow(unused_mut, reason = "other processors have no other set")]
        let mut found = vec![scalar::KERNELS];
        #[cfg(target_arch = "x86_64")]
        found.extend(avx2::kernels().into_iter().chain(avx512::kernels()));
        #[cfg(target_arch = "aarch64")]
        found.push(neon::KERNELS);
        found
    }
}
