//! What can go wrong, each kind with what a caller needs to act on it.

use std::io;
use std::path::{Path, PathBuf};

/// A failure of the index.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A value from outside is wrong; the same call always fails.
    #[error("{field}: {message}")]
    Invalid {
        /// The field that is wrong.
        field: &'static str,
        /// What is wrong and what would be right.
        message: String,
    },
    /// Stored bytes are not what was written, or were never written by us: rebuild the file.
    #[error("{}: {what}", path.display())]
    Damaged {
        /// The segment's file.
        path: PathBuf,
        /// What does not hold.
        what: String,
    },
    /// The file system refused.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The work would need more memory than it may use.
    #[error("needs {needed} bytes of memory and may use {limit}")]
    OverBudget {
        /// Bytes at the peak.
        needed: u64,
        /// Bytes allowed.
        limit: u64,
    },
    /// [`crate::Control::cancel`] was called.
    #[error("cancelled")]
    Cancelled,
    /// The sources of a piece of work are no longer what they were when it began.
    #[error("{0} is no longer part of the index; begin the work anew")]
    Stale(&'static str),
}

impl Error {
    pub(crate) fn invalid(field: &'static str, message: impl Into<String>) -> Self {
        Self::Invalid { field, message: message.into() }
    }

    pub(crate) fn damaged(path: &Path, what: impl Into<String>) -> Self {
        Self::Damaged { path: path.to_owned(), what: what.into() }
    }

    pub(crate) fn io(path: &Path) -> impl FnOnce(io::Error) -> Self + '_ {
        move |source| Self::Io { path: path.to_owned(), source }
    }
}

/// The result of everything here.
pub type Result<T, E = Error> = std::result::Result<T, E>;
