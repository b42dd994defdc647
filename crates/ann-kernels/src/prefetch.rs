//! Rows of a table one after another, their memory asked for before it is needed.

/// How many rows ahead of the one in work are asked for: of short rows so many more that memory
/// has as much to do.
const AHEAD: usize = 3;
const AHEAD_MAX: usize = 16;
const AHEAD_BYTES: usize = 1_152;

/// Writes the number that `of` gives for the query and each of some rows of a table, whose rows
/// are as wide as the query. Always inlined, so `of` may use what the caller may.
#[inline(always)]
pub fn each_row<T>(
    query: &[T],
    table: &[T],
    rows: &[u32],
    out: &mut [i32],
    of: impl Fn(&[T], &[T]) -> i32,
) {
    let width = query.len();
    let row = |number: u32| {
        let begin = number as usize * width;
        &table[begin..begin + width]
    };
    let ahead_of = (AHEAD_BYTES / size_of_val(query).max(1)).clamp(AHEAD, AHEAD_MAX);
    for &ahead in rows.iter().take(ahead_of) {
        prefetch(row(ahead));
    }
    for (at, (&number, out)) in rows.iter().zip(out).enumerate() {
        if let Some(&ahead) = rows.get(at + ahead_of) {
            prefetch(row(ahead));
        }
        *out = of(query, row(number));
    }
}

/// Begins to load the cache lines of a slice; changes nothing else.
#[inline(always)]
pub fn prefetch<T>(slice: &[T]) {
    let bytes = size_of_val(slice);
    let begin = slice.as_ptr().cast::<u8>();
    let mut at = 0;
    while at < bytes {
        line(begin.wrapping_add(at));
        at += 64;
    }
}

#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn line(address: *const u8) {
    use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
    // SAFETY: a prefetch reads nothing that the program can see and never faults.
    unsafe { _mm_prefetch::<_MM_HINT_T0>(address.cast()) }
}

#[cfg(target_arch = "aarch64")]
#[inline(always)]
fn line(address: *const u8) {
    // SAFETY: a prefetch reads nothing that the program can see and never faults.
    unsafe {
        std::arch::asm!(
            "prfm pldl1keep, [{address}]",
            address = in(reg) address,
            options(nostack, preserves_flags, readonly)
        );
    }
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
#[inline(always)]
fn line(_address: *const u8) {}
