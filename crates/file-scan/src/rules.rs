//! What a location leaves out, in the words of `.gitignore`.

use ignore::Match;
use ignore::gitignore::{Gitignore, GitignoreBuilder};
use std::path::Path;

/// Patterns of a location. The empty one leaves nothing out.
#[derive(Debug, Clone)]
pub struct Rules {
    patterns: Gitignore,
}

impl Default for Rules {
    fn default() -> Self {
        Self { patterns: Gitignore::empty() }
    }
}

impl Rules {
    /// Rules of patterns, the later ones winning; `!` takes back.
    ///
    /// # Errors
    /// The pattern that is none, and why.
    pub fn new<S: AsRef<str>>(patterns: &[S]) -> Result<Self, String> {
        let mut builder = GitignoreBuilder::new("");
        for pattern in patterns {
            let pattern = pattern.as_ref();
            builder.add_line(None, pattern).map_err(|err| format!("{pattern:?}: {err}"))?;
        }
        builder.build().map(|patterns| Self { patterns }).map_err(|err| err.to_string())
    }

    /// Whether an entry is left out, by its path relative to the root.
    #[must_use]
    pub fn leaves_out(&self, relative: &Path, is_dir: bool) -> bool {
        !self.patterns.is_empty()
            && matches!(self.patterns.matched(relative, is_dir), Match::Ignore(_))
    }

    /// Nothing is left out.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.patterns.is_empty()
    }
}
