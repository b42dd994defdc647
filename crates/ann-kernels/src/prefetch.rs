//! Asking for memory before it is needed.

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
