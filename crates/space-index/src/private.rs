//! Directories and files that nobody else reads: what is in them was read with somebody's rights.

use std::fs;
use std::io;
use std::path::Path;

#[cfg(unix)]
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};

#[cfg(unix)]
const DIRECTORY: u32 = 0o700;
#[cfg(unix)]
const FILE: u32 = 0o600;

/// Makes a directory, and those above it that are missing, for its owner alone; one that is there becomes so.
pub(crate) fn make_dir(dir: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    builder.mode(DIRECTORY);
    builder.create(dir)?;
    close(dir);
    Ok(())
}

/// A new file for its owner alone.
pub(crate) fn create_new(path: &Path) -> io::Result<fs::File> {
    let mut options = fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    options.mode(FILE);
    options.open(path)
}

/// Takes from others what an earlier version gave them. Another's file, which can't be changed, stays as it is.
pub(crate) fn close(path: &Path) {
    #[cfg(unix)]
    if let Ok(meta) = fs::symlink_metadata(path)
        && !meta.is_symlink()
        && meta.permissions().mode() & 0o077 != 0
    {
        let mode = if meta.is_dir() { DIRECTORY } else { FILE };
        let _ = fs::set_permissions(path, fs::Permissions::from_mode(mode));
    }
    #[cfg(not(unix))]
    let _ = path;
}
