//! Members of archives: of tars their ranges, of tars (compressed or not) and
//! zips their bytes, read forwards and within limits.

mod bounded;
mod forward;
mod reading;
mod tar;
mod zip;

use std::io;

pub use reading::{Format, Limits, Offered, Passed, read_archive};
pub use tar::tar_members;

/// Bytes of a member's path.
pub const NAME_BYTES_MAX: u64 = 4_096;
/// Bytes of one extended header.
pub const EXTENDED_BYTES_MAX: u64 = 1 << 20;

/// A regular file in an archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Relative, without `.` and `..`.
    pub path: Vec<u8>,
    /// Where its bytes begin in the archive.
    pub offset: u64,
    /// Bytes.
    pub size: u64,
    /// Seconds since 1970.
    pub modified: i64,
}

/// Why an archive can't be read further.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// The disk's, or the decompressor's.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// It is cut off, or no archive at all.
    #[error("at byte {offset}: {why}")]
    Broken {
        /// Of the header.
        offset: u64,
        /// What is wrong.
        why: &'static str,
    },
    /// A name that could lead out of a directory.
    #[error(
        "at byte {offset}: the member {name:?} has a name that is refused: absolute, too long, or with '..'"
    )]
    Name {
        /// Of the header.
        offset: u64,
        /// As it is, made printable.
        name: String,
    },
    /// More members than the caller takes.
    #[error("more than {0} members")]
    TooMany(u64),
    /// It would unpack to far more than it is.
    #[error(
        "it unpacks to more than {0} bytes, which is more than is read of an archive of its size"
    )]
    Bomb(u64),
    /// Two members lie in the same bytes.
    #[error("the members {a:?} and {b:?} overlap: no program writes that, bombs are made so")]
    Overlap {
        /// The first of them.
        a: String,
        /// The second.
        b: String,
    },
}

/// A member's path without `.` parts; nothing for one that is refused.
fn plain_path(path: &[u8]) -> Option<Vec<u8>> {
    if path.is_empty() || path[0] == b'/' || path.contains(&0) || path.len() as u64 > NAME_BYTES_MAX
    {
        return None;
    }
    let mut plain: Vec<u8> = Vec::with_capacity(path.len());
    for part in path.split(|byte| *byte == b'/') {
        match part {
            b"." | b"" => {}
            b".." => return None,
            part => {
                if !plain.is_empty() {
                    plain.push(b'/');
                }
                plain.extend_from_slice(part);
            }
        }
    }
    (!plain.is_empty()).then_some(plain)
}

/// A name for people.
fn shown(name: &[u8]) -> String {
    String::from_utf8_lossy(name).chars().take(200).collect()
}

#[cfg(test)]
mod tests;
