//! Locations.

use ids::PrincipalId;
use uuid::Uuid;

/// How much is learnt of a location's files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mode {
    /// Names, sizes, times.
    Metadata = 1,
    /// And every file's hash.
    Content = 2,
    /// And what looks alike.
    Deep = 3,
}

impl Mode {
    /// From the stored number.
    pub fn of(number: i32) -> Self {
        match number {
            2 => Self::Content,
            3 => Self::Deep,
            _ => Self::Metadata,
        }
    }
}

/// A directory tree whose files are known.
#[derive(Debug, Clone)]
pub struct Location {
    pub id: i64,
    pub uuid: Uuid,
    pub path: String,
    pub name: String,
    pub device: String,
    pub owner: PrincipalId,
    pub mode: Mode,
    pub rules: Vec<String>,
    pub guard_percent: i32,
    /// Device and inode of the root, once it was seen.
    pub root: Option<(i64, i64)>,
    pub generation: i64,
    pub scanned_at: Option<i64>,
    pub problem: String,
    pub watched: bool,
    pub unhashed: bool,
    pub entries: i64,
    pub files: i64,
    pub bytes: i64,
    pub missing: i64,
    pub created_at: i64,
    /// The newest change's number.
    pub change_seq: i64,
    /// Archives in it are directories too.
    pub archives: bool,
    /// Files in its archives.
    pub members: i64,
}

impl Location {
    /// It is a prefix of a bucket.
    pub fn is_bucket(&self) -> bool {
        !self.path.starts_with('/')
    }

    /// An absolute path of what lies in it.
    pub fn absolute(&self, relative: &str) -> String {
        absolute(&self.path, relative)
    }
}

/// What an entry of a location is shown with.
#[derive(Debug, Clone)]
pub struct Place {
    pub uuid: Uuid,
    pub path: String,
    /// Entries that its last scan did not find and did not remove.
    pub missing: i64,
}

impl Place {
    /// As a location's own.
    pub fn absolute(&self, relative: &str) -> String {
        absolute(&self.path, relative)
    }
}

impl From<&Location> for Place {
    fn from(location: &Location) -> Self {
        Self { uuid: location.uuid, path: location.path.clone(), missing: location.missing }
    }
}

fn absolute(path: &str, relative: &str) -> String {
    match (path, relative) {
        (path, "") => path.to_owned(),
        ("/", relative) => format!("/{relative}"),
        (path, relative) => format!("{path}/{relative}"),
    }
}

/// A path relative to a root, if it is the root or lies below it.
pub fn relative_to<'a>(root: &str, path: &'a str) -> Option<&'a str> {
    if root == "/" {
        return path.strip_prefix('/');
    }
    let rest = path.strip_prefix(root)?;
    if rest.is_empty() { Some(rest) } else { rest.strip_prefix('/') }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lies_below_is_told_from_what_begins_alike() {
        assert_eq!(relative_to("/a", "/a"), Some(""));
        assert_eq!(relative_to("/a", "/a/b/c"), Some("b/c"));
        assert_eq!(relative_to("/a", "/ab"), None);
        assert_eq!(relative_to("/", "/a"), Some("a"));
    }
}
