//! How much memory this process may use.

use sysinfo::{MemoryRefreshKind, RefreshKind, System};

/// The part of it that is kept of blocks.
const PART: u64 = 8;
/// Less than this is not worth keeping, bytes.
const CACHE_BYTES_MIN: u64 = 512 << 20;

/// An eighth of the machine's memory, or of what the process' control group
/// allows, but at least 512 MiB: peers that keep what they read take more.
pub(crate) fn cache_bytes() -> u64 {
    let memory = RefreshKind::nothing().with_memory(MemoryRefreshKind::nothing().with_ram());
    // A system that does not tell is taken for a small one.
    let Ok(system) = System::new_with_specifics(memory) else { return CACHE_BYTES_MIN };
    let allowed = system.cgroup_limits().map(|limits| limits.total_memory);
    let total = allowed.filter(|allowed| *allowed > 0).unwrap_or(u64::MAX);
    (total.min(system.total_memory()) / PART).max(CACHE_BYTES_MIN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_a_part_of_what_there_is() {
        let bytes = cache_bytes();
        assert!((CACHE_BYTES_MIN..u64::MAX / PART).contains(&bytes), "{bytes}");
    }
}
