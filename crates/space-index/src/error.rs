//! What can go wrong with an index.

use std::io;
use std::path::{Path, PathBuf};

/// A failure of the index.
#[derive(Debug, thiserror::Error)]
pub enum IndexError {
    /// The vectors' part.
    #[error(transparent)]
    Ann(#[from] ann::Error),
    /// The payload's part.
    #[error(transparent)]
    Payload(#[from] payload_index::PayloadError),
    /// A file is not what was written.
    #[error("{}: {what}", path.display())]
    Damaged {
        /// Which.
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
}

impl IndexError {
    /// Whether stored bytes are to be made anew from the rows.
    #[must_use]
    pub const fn is_damage(&self) -> bool {
        matches!(
            self,
            Self::Damaged { .. }
                | Self::Ann(ann::Error::Damaged { .. })
                | Self::Payload(payload_index::PayloadError::Damaged(_))
        )
    }

    pub(crate) fn damaged(path: &Path, what: impl Into<String>) -> Self {
        Self::Damaged { path: path.to_owned(), what: what.into() }
    }

    pub(crate) fn io(path: &Path) -> impl FnOnce(io::Error) -> Self + '_ {
        move |source| Self::Io { path: path.to_owned(), source }
    }
}
