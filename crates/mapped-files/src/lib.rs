//! Files as memory, which may be cut while they are read: hashes of large ones without a copy of their bytes, and
//! mappings that stay.

#[cfg(target_os = "linux")]
mod guard;
#[cfg(target_os = "linux")]
mod kept;
mod mapped;

use std::fs::File;

pub use mapped::Mapped;

/// Adds so many bytes of a file to a hash, from an offset on, which is that of a page. False: they can't be mapped, or
/// were not all there when they were looked at. Then the hash is of no use, and the file is to be read instead, which
/// tells why.
#[must_use]
#[cfg(target_os = "linux")]
pub fn hash_rest(hash: &mut blake3::Hasher, file: &File, offset: u64, bytes: u64) -> bool {
    /// What is mapped at once: long enough that its making costs nothing, short enough to be no memory to speak of.
    const WINDOW_BYTES: u64 = 4 << 20;
    let mut done = 0;
    while done < bytes {
        let length = WINDOW_BYTES.min(bytes - done);
        if !guard::hash_window(hash, file, offset + done, length) {
            return false;
        }
        done += length;
    }
    // Of the page in which a file ends the rest is zeros, and no signal says so.
    file.metadata().is_ok_and(|now| now.len() >= offset + bytes)
}

/// Elsewhere nothing is mapped.
#[must_use]
#[cfg(not(target_os = "linux"))]
pub fn hash_rest(_: &mut blake3::Hasher, _: &File, _: u64, _: u64) -> bool {
    false
}

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests;
