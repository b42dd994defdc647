//! Gives back the memory that only a start needed.

#[cfg(target_os = "linux")]
mod mappings;

/// Unmaps the pages of the program's file and returns what the allocator keeps free. Pages come back from the
/// file, without a read where the system still caches it, when they are next touched. Answers how many bytes of
/// addresses were unmapped.
///
/// # Errors
/// The system's, which does not say what is mapped; then all is as before.
#[cfg(target_os = "linux")]
pub fn release() -> std::io::Result<usize> {
    let unmapped = mappings::unmap_program()?;
    #[cfg(target_env = "gnu")]
    // SAFETY: has no conditions; it takes the allocator's own locks.
    unsafe {
        libc::malloc_trim(0);
    }
    Ok(unmapped)
}

/// Does nothing where the system has no such call.
///
/// # Errors
/// None.
#[cfg(not(target_os = "linux"))]
pub fn release() -> std::io::Result<usize> {
    Ok(0)
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::fs;

    /// Counted page by page; what `status` says lags behind.
    fn resident_kib() -> u64 {
        let status = fs::read_to_string("/proc/self/smaps_rollup").unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("Rss:"));
        line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok()).unwrap_or_default()
    }

    #[test]
    fn pages_of_the_program_go_and_come_back() {
        let before = resident_kib();
        let unmapped = super::release();
        let after = resident_kib();
        assert!(unmapped.is_ok_and(|bytes| bytes > 100 << 10));
        assert!(after < before, "{after} KiB after, {before} KiB before");
        // This is run from pages that were just unmapped.
        assert_eq!(format!("{:?}", vec![1.5; 2]), "[1.5, 1.5]");
    }
}
