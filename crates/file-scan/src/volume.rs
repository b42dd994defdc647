//! The file system that a directory is on: where it is mounted, and its room.

use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use rustix::fs::StatVfsMountFlags;

use crate::root::Root;

/// A mounted file system.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Volume {
    /// Where it is mounted.
    pub mount_point: PathBuf,
    /// `ext4`, `nfs4`, `overlay` …
    pub file_system: String,
    /// The device, or what is named instead of one.
    pub source: String,
    /// Bytes that it has room for.
    pub bytes: u64,
    /// Bytes that are left to those who are not its administrators.
    pub bytes_free: u64,
    /// Nobody writes to it.
    pub read_only: bool,
}

impl Root {
    /// The file system that the root is on. Only its room is known where the system
    /// tells no mounts.
    ///
    /// # Errors
    /// The system's.
    pub fn volume(&self) -> io::Result<Volume> {
        let room = rustix::fs::fstatvfs(self.descriptor())?;
        let resolved = std::fs::canonicalize(self.path())?;
        let mounts = std::fs::read("/proc/self/mountinfo").unwrap_or_default();
        Ok(Volume {
            bytes: room.f_blocks.saturating_mul(room.f_frsize),
            bytes_free: room.f_bavail.saturating_mul(room.f_frsize),
            read_only: room.f_flag.contains(StatVfsMountFlags::RDONLY),
            ..mount_of(&mounts, &resolved).unwrap_or_default()
        })
    }
}

/// The mount that a resolved path lies in: the deepest one, of two on one place the later.
pub(crate) fn mount_of(mounts: &[u8], path: &Path) -> Option<Volume> {
    let mounts = mounts.split(|byte| *byte == b'\n').filter_map(mount);
    mounts
        .filter(|mount| path.starts_with(&mount.mount_point))
        .max_by_key(|mount| mount.mount_point.components().count())
}

/// A line of `mountinfo`: the fifth word is the mount point, after a lone `-` come the
/// file system and its source.
fn mount(line: &[u8]) -> Option<Volume> {
    let words: Vec<&[u8]> = line.split(|byte| *byte == b' ').collect();
    let dash = words.iter().position(|word| *word == b"-")?;
    let text = |at: usize| words.get(at).map(|word| unescaped(word));
    let lossy = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Some(Volume {
        mount_point: OsString::from_vec(text(4)?).into(),
        file_system: lossy(text(dash + 1)?),
        source: lossy(text(dash + 2)?),
        ..Volume::default()
    })
}

/// Spaces and the like are three octal digits after a backslash.
fn unescaped(word: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(word.len());
    let mut rest = word;
    while let Some((first, after)) = rest.split_first() {
        let octal = after.get(..3).filter(|_| *first == b'\\');
        let code =
            octal.and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok());
        match code {
            Some(code) => {
                bytes.push(code);
                rest = &after[3..];
            }
            None => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    const MOUNTS: &[u8] = b"22 1 0:21 / / rw,relatime shared:1 - ext4 /dev/vda1 rw
24 22 0:23 / /data rw master:2 propagate_from:1 - xfs /dev/vdb rw
25 22 0:23 / /data rw - nfs4 server:/export rw
26 22 0:24 / /my\\040disk rw - vfat /dev/sdc1 rw
broken
";

    #[test]
    fn a_path_is_on_the_deepest_and_last_mount() {
        let of = |path: &str| mount_of(MOUNTS, Path::new(path)).unwrap();
        assert_eq!(
            (of("/home").file_system.as_str(), of("/home").source.as_str()),
            ("ext4", "/dev/vda1")
        );
        assert_eq!(of("/data/a").file_system, "nfs4");
        assert_eq!(of("/database").file_system, "ext4");
        assert_eq!(of("/my disk/x").mount_point, Path::new("/my disk"));
        assert_eq!(mount_of(b"", Path::new("/")), None);
    }

    #[test]
    fn a_real_root_has_room() {
        let dir = tempfile::tempdir().unwrap();
        let volume = Root::open(dir.path()).unwrap().volume().unwrap();
        assert!(volume.bytes >= volume.bytes_free && volume.bytes > 0, "{volume:?}");
        let real = std::fs::canonicalize(dir.path()).unwrap();
        assert!(real.starts_with(&volume.mount_point) && !volume.file_system.is_empty());
    }
}
