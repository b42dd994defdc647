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
    /// The same, character by character.
    Chars(regex::Regex),
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
        let glob = glob.map_err(|err| wrong(err.to_string()))?;
        if !pattern.contains(['?', '[']) {
            return Ok(Self::Glob(glob.compile_matcher()));
        }
        let regex = regex::RegexBuilder::new(&of_chars(glob.regex()))
            .dot_matches_new_line(true)
            .size_limit(PATTERN_BYTES_MAX)
            .build();
        regex.map(Self::Chars).map_err(|err| wrong(err.to_string()))
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
            // A byte that is no character is one in the name's text.
            Self::Chars(regex) => regex.is_match(name),
            Self::Regex(regex) => regex.is_match(&bytes),
            Self::Glob(glob) => {
                use std::os::unix::ffi::OsStrExt;
                glob.is_match(std::ffi::OsStr::from_bytes(&bytes))
            }
        }
    }
}

/// A glob's expression over bytes, where one escape is a byte of a character, as one over
/// characters.
fn of_chars(bytes: &str) -> String {
    let (mut chars, mut pending) = (String::with_capacity(bytes.len()), Vec::new());
    let mut rest = bytes.strip_prefix("(?-u)").unwrap_or(bytes);
    while let Some(first) = rest.chars().next() {
        let byte =
            rest.strip_prefix("\\x").and_then(|hex| u8::from_str_radix(hex.get(..2)?, 16).ok());
        if let Some(byte) = byte {
            pending.push(byte);
            if let Ok(text) = std::str::from_utf8(&pending) {
                chars.push_str(text);
                pending.clear();
            }
            rest = rest.get(4..).unwrap_or_default();
            continue;
        }
        // What is escaped otherwise is one character.
        let length = first.len_utf8() + if first == '\\' { 1 } else { 0 };
        chars.push_str(rest.get(..length).unwrap_or(rest));
        rest = rest.get(length..).unwrap_or_default();
    }
    chars
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn globs_go_by_characters() {
        let raw = file_scan::names::text(b"a\xff");
        for (glob, name, is_it) in [
            ("??", "日本", true),
            ("??", "日本語", false),
            ("?", "日本", false),
            ("a?b", "aüb", true),
            ("a?b", "a\nb", true),
            ("[日月]本", "日本", true),
            ("[!日]本", "日本", false),
            ("[!日]本", "月本", true),
            ("[а-я]?.txt", "эю.txt", true),
            ("a?", &raw, true),
            ("*.{txt,日}", "x.日", true),
            ("?\\x41", "ax41", true),
            ("a[.]b?", "a.bc", true),
            ("a[.]b?", "axbc", false),
            ("*", "日本", true),
            ("**", "日本", true),
            ("[?]", "?", true),
        ] {
            assert_eq!(Matcher::glob(glob).unwrap().matches(name), is_it, "{glob} {name}");
        }
    }
}
