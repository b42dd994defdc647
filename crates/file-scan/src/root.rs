//! A tree held by a descriptor: nothing above it is ever reached.

use std::ffi::OsStr;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{AtFlags, CWD, Mode, OFlags, ResolveFlags, Statx, StatxFlags};
use rustix::io::Errno;

/// `openat2` takes at most 4,095 bytes at once; longer ways go in pieces.
const PIECE_BYTES: usize = 2_000;

/// Why a root can't be used.
#[derive(Debug, thiserror::Error)]
pub enum RootError {
    /// It is not there (any more), or on a disk that is away.
    #[error("{0} is not there")]
    Missing(String),
    /// It is there and no directory.
    #[error("{0} is no directory")]
    NotADirectory(String),
    /// It is there and can't be opened.
    #[error("{0}: {1}")]
    Unreadable(String, io::Error),
}

/// Which directory it is, whatever its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Identity {
    /// The device.
    pub dev: u64,
    /// The inode.
    pub ino: u64,
}

/// An open root. Clones share the descriptor.
#[derive(Debug, Clone)]
pub struct Root {
    fd: Arc<OwnedFd>,
    path: PathBuf,
    identity: Identity,
    has_openat2: Arc<AtomicBool>,
}

/// An open directory below a root.
#[derive(Debug)]
pub struct Dir {
    pub(crate) fd: OwnedFd,
    /// Which it is.
    pub identity: Identity,
    pub(crate) modified: i64,
    pub(crate) born: Option<i64>,
}

impl Root {
    /// Opens a root by its absolute path, which may lead through symlinks
    /// itself: whoever names it chose it.
    ///
    /// # Errors
    /// It is missing, no directory or unreadable.
    pub fn open(path: &Path) -> Result<Self, RootError> {
        let shown = path.display().to_string();
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd =
            rustix::fs::openat(CWD, path, flags, Mode::empty()).map_err(|errno| match errno {
                Errno::NOENT => RootError::Missing(shown.clone()),
                Errno::NOTDIR => RootError::NotADirectory(shown.clone()),
                other => RootError::Unreadable(shown.clone(), other.into()),
            })?;
        let stat = stat_fd(&fd).map_err(|errno| RootError::Unreadable(shown, errno.into()))?;
        Ok(Self {
            fd: Arc::new(fd),
            path: path.to_owned(),
            identity: identity(&stat),
            has_openat2: Arc::new(AtomicBool::new(true)),
        })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn descriptor(&self) -> &OwnedFd {
        &self.fd
    }

    /// Which directory it is.
    #[must_use]
    pub const fn identity(&self) -> Identity {
        self.identity
    }

    /// Opens a directory below the root, by its relative path.
    ///
    /// # Errors
    /// It is not there, no directory, behind a symlink, or unreadable.
    pub fn dir(&self, relative: &[u8]) -> io::Result<Dir> {
        let fd = self.descend(relative)?;
        let stat = stat_fd(&fd)?;
        Ok(Dir {
            fd,
            identity: identity(&stat),
            modified: nanos(&stat.stx_mtime),
            born: born(&stat),
        })
    }

    /// Which inode is at a relative path now; nothing if none is. A symlink at
    /// the end is not followed.
    #[must_use]
    pub fn inode_at(&self, relative: &[u8]) -> Option<Identity> {
        let (parent, name) = split(relative);
        let dir = self.descend(parent).ok()?;
        let stat = rustix::fs::statx(
            &dir,
            OsStr::from_bytes(name),
            AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT,
            StatxFlags::INO,
        );
        Some(identity(&stat.ok()?))
    }

    fn descend(&self, relative: &[u8]) -> io::Result<OwnedFd> {
        if relative.is_empty() {
            return Ok(rustix::fs::openat(&*self.fd, ".", dir_flags(), Mode::empty())?);
        }
        let mut held: Option<OwnedFd> = None;
        let mut rest = relative;
        loop {
            let (piece, after) = next_piece(rest);
            let opened = match &held {
                Some(fd) => self.open_beneath(fd, piece)?,
                None => self.open_beneath(&self.fd, piece)?,
            };
            if after.is_empty() {
                return Ok(opened);
            }
            held = Some(opened);
            rest = after;
        }
    }

    fn open_beneath(&self, from: &OwnedFd, piece: &[u8]) -> io::Result<OwnedFd> {
        let name = OsStr::from_bytes(piece);
        if self.has_openat2.load(Ordering::Relaxed) {
            let resolve =
                ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
            match rustix::fs::openat2(from, name, dir_flags(), Mode::empty(), resolve) {
                Err(Errno::NOSYS | Errno::PERM) => self.has_openat2.store(false, Ordering::Relaxed),
                opened => return Ok(opened?),
            }
        }
        let mut held: Option<OwnedFd> = None;
        for component in piece.split(|byte| *byte == b'/') {
            if component.is_empty() || component == b"." || component == b".." {
                return Err(Errno::INVAL.into());
            }
            let name = OsStr::from_bytes(component);
            let next = match &held {
                Some(fd) => rustix::fs::openat(fd, name, dir_flags(), Mode::empty())?,
                None => rustix::fs::openat(from, name, dir_flags(), Mode::empty())?,
            };
            held = Some(next);
        }
        held.ok_or_else(|| Errno::INVAL.into())
    }
}

fn dir_flags() -> OFlags {
    OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC
}

/// As many whole components as go at once, and the rest.
fn next_piece(path: &[u8]) -> (&[u8], &[u8]) {
    if path.len() <= PIECE_BYTES {
        return (path, &[]);
    }
    let within = path[..PIECE_BYTES].iter().rposition(|byte| *byte == b'/');
    let at = within.or_else(|| path.iter().position(|byte| *byte == b'/'));
    match at {
        Some(at) => (&path[..at], &path[at + 1..]),
        None => (path, &[]),
    }
}

/// A path's parent and its last name.
pub(crate) fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|byte| *byte == b'/') {
        Some(at) => (&path[..at], &path[at + 1..]),
        None => (&[], path),
    }
}

pub(crate) fn stat_fd(fd: &OwnedFd) -> rustix::io::Result<Statx> {
    rustix::fs::statx(fd, "", AtFlags::EMPTY_PATH, StatxFlags::BASIC_STATS | StatxFlags::BTIME)
}

/// When it was made, where the file system knows it.
pub(crate) fn born(stat: &Statx) -> Option<i64> {
    (stat.stx_mask & StatxFlags::BTIME.bits() != 0).then(|| nanos(&stat.stx_btime))
}

pub(crate) fn identity(stat: &Statx) -> Identity {
    Identity { dev: rustix::fs::makedev(stat.stx_dev_major, stat.stx_dev_minor), ino: stat.stx_ino }
}

pub(crate) fn nanos(time: &rustix::fs::StatxTimestamp) -> i64 {
    time.tv_sec.saturating_mul(1_000_000_000).saturating_add(i64::from(time.tv_nsec))
}
