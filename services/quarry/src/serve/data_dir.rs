//! The data directory: made private, probed, locked per role, and where the
//! process says how to reach it.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use serde::Serialize;
use service_error::ServiceError;

use super::settings::Role;

/// The name of the file that tells the command line where this platform is.
pub use crate::client::address::SERVER_FILE;

/// The data directory of this process, held as long as the value lives.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    _locks: Vec<File>,
}

impl DataDir {
    /// Makes the directory (mode 0700) if it is missing, proves that it can be
    /// written, and locks it for `roles`.
    ///
    /// # Errors
    /// A directory that cannot be made or written, or a role that another
    /// process runs on it.
    pub fn open(path: &Path, roles: impl IntoIterator<Item = Role>) -> Result<Self, ServiceError> {
        let unusable = |error: io::Error| {
            ServiceError::invalid("data_dir", format!("{} cannot be used: {error}; name a directory that this user may write (--data-dir)", path.display()))
                .reason("DATA_DIR_UNUSABLE")
                .caused_by(error)
        };
        fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(unusable)?;
        let probe = path.join(format!(".probe-{}", std::process::id()));
        write_private(&probe, b"").and_then(|()| fs::remove_file(&probe)).map_err(unusable)?;
        let mut locks = Vec::new();
        for role in roles {
            locks.push(lock(path, role)?);
        }
        Ok(Self { path: path.to_owned(), _locks: locks })
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

fn lock(path: &Path, role: Role) -> Result<File, ServiceError> {
    let name = path.join(format!("{role}.lock"));
    let unusable = |error: io::Error| {
        ServiceError::invalid("data_dir", format!("{} cannot be locked: {error}", name.display()))
    };
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(&name)
        .map_err(unusable)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(ServiceError::precondition(format!(
            "another process runs {role} on {}; stop it or name another --data-dir",
            path.display()
        ))
        .reason("DATA_DIR_LOCKED")),
        Err(TryLockError::Error(error)) => Err(unusable(error)),
    }
}

/// Where a process can be reached; the content of the ready file and of
/// [`SERVER_FILE`].
#[derive(Debug, Clone, Serialize)]
pub struct Reachable {
    /// The public door, or the roles' own.
    pub listen: SocketAddr,
    /// The operations door.
    pub ops_listen: SocketAddr,
    /// The process.
    pub pid: u32,
}

impl Reachable {
    /// Writes it to a file, whole or not at all.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub fn write(&self, path: &Path) -> Result<(), ServiceError> {
        let failed = |error: io::Error| {
            ServiceError::invalid("ready_file", format!("{}: {error}", path.display()))
        };
        let text =
            serde_json::to_vec(self).map_err(|error| ServiceError::internal(error.to_string()))?;
        let mut draft = path.as_os_str().to_owned();
        draft.push(format!(".{}", std::process::id()));
        write_private(Path::new(&draft), &text).map_err(failed)?;
        fs::rename(&draft, path).map_err(failed)
    }
}

/// Writes a file that only this user may read, and its bytes to the disk.
pub fn write_private(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file =
        OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_role_runs_once_on_a_directory_and_another_beside_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("data");
        let held = DataDir::open(&path, [Role::Catalog]).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o700);
        let error = DataDir::open(&path, [Role::Catalog]).unwrap_err();
        assert!(error.reason_is("DATA_DIR_LOCKED"), "{error}");
        DataDir::open(&path, [Role::Gateway]).unwrap();
        drop(held);
        DataDir::open(&path, [Role::Catalog]).unwrap();
    }

    #[test]
    fn a_directory_that_cannot_be_made_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        fs::write(&file, "x").unwrap();
        let error = DataDir::open(&file.join("data"), [Role::Catalog]).unwrap_err();
        assert_eq!(error.field_name(), Some("data_dir"));
        assert!(error.message().contains("--data-dir"), "{error}");
    }

    #[test]
    fn the_ready_file_is_json() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ready");
        let reachable = Reachable {
            listen: ([127, 0, 0, 1], 1).into(),
            ops_listen: ([127, 0, 0, 1], 2).into(),
            pid: 3,
        };
        reachable.write(&path).unwrap();
        let read: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        assert_eq!(read["listen"], "127.0.0.1:1");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
