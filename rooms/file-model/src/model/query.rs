//! What is looked for.

use globset::{GlobBuilder, GlobMatcher};
use regex::bytes::{Regex, RegexBuilder};
use service_error::ServiceError;
use uuid::Uuid;

/// Compiled patterns may take so much memory.
const PATTERN_BYTES_MAX: usize = 1 << 20;
const PATTERN_CHARS_MAX: usize = 1_000;

/// All that is set must hold.
#[derive(Debug, Default)]
pub struct Query {
    /// Within the name, in any case.
    pub text: Option<String>,
    /// At its beginning.
    pub prefix: Option<String>,
    /// What no database can look for.
    pub matcher: Option<Matcher>,
    pub extensions: Vec<String>,
    pub kinds: Vec<i64>,
    pub content_kinds: Vec<i64>,
    pub size_min: Option<i64>,
    pub size_max: Option<i64>,
    /// Nanoseconds.
    pub modified_after: Option<i64>,
    pub modified_before: Option<i64>,
    pub tags: Vec<String>,
    pub labels: Vec<String>,
    /// These have these values.
    pub properties: Vec<(String, String)>,
    /// A location's directory and all below it.
    pub within: Option<(i64, String)>,
    /// Only what lies in that directory itself.
    pub directly: bool,
    /// Whose own marks count beside everybody's; nil: nobody's.
    pub viewer: Uuid,
    /// Locations that may be seen.
    pub locations: Locations,
    pub duplicates_only: bool,
    pub favorites_only: bool,
    pub with_hidden: bool,
    pub content: Option<Vec<u8>>,
}

/// Locations by what is known of them: the query that needs them looks up the others.
#[derive(Debug)]
pub enum Locations {
    All,
    Ids(Vec<Uuid>),
    Numbers(Vec<i64>),
}

impl Default for Locations {
    fn default() -> Self {
        Self::Numbers(Vec::new())
    }
}

impl From<Vec<i64>> for Locations {
    fn from(numbers: Vec<i64>) -> Self {
        Self::Numbers(numbers)
    }
}

/// A pattern over names.
#[derive(Debug)]
pub enum Matcher {
    /// The whole name.
    Glob(GlobMatcher),
    /// Somewhere in it.
    Regex(Regex),
}

impl Matcher {
    /// A glob over whole names.
    ///
    /// # Errors
    /// A pattern that is none.
    pub fn glob(pattern: &str) -> Result<Self, ServiceError> {
        let wrong = |why: String| ServiceError::invalid("query.glob", why);
        if pattern.chars().count() > PATTERN_CHARS_MAX {
            return Err(wrong(format!("is longer than {PATTERN_CHARS_MAX} characters")));
        }
        let glob = GlobBuilder::new(pattern).literal_separator(true).build();
        glob.map(|glob| Self::Glob(glob.compile_matcher())).map_err(|err| wrong(err.to_string()))
    }

    /// A regular expression; it runs in time linear to the name.
    ///
    /// # Errors
    /// A pattern that is none or too large.
    pub fn regex(pattern: &str) -> Result<Self, ServiceError> {
        let compiled = RegexBuilder::new(pattern).size_limit(PATTERN_BYTES_MAX).build();
        compiled
            .map(Self::Regex)
            .map_err(|err| ServiceError::invalid("query.regex", err.to_string()))
    }

    /// Whether a name matches, as its own bytes.
    pub fn matches(&self, name: &str) -> bool {
        let bytes = file_scan::names::bytes(name);
        match self {
            Self::Regex(regex) => regex.is_match(&bytes),
            Self::Glob(glob) => {
                use std::os::unix::ffi::OsStrExt;
                glob.is_match(std::ffi::OsStr::from_bytes(&bytes))
            }
        }
    }
}

/// By what a list is ordered; then by number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SortBy {
    Number,
    Name,
    Size,
    Modified,
}

/// An order.
#[derive(Debug, Clone, Copy)]
pub struct Sort {
    pub by: SortBy,
    pub descending: bool,
}
