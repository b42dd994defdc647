//! Paths within a location, and directories by who they are.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};

/// Between the name of what went aside and a number: no name's text holds it.
pub const ASIDE: char = '\u{10ffff}';

/// The last name of a path.
#[must_use]
pub fn name_of(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or_default()
}

/// Whether a path lies below a directory.
#[must_use]
pub fn is_below(path: &str, dir: &str) -> bool {
    path.strip_prefix(dir).is_some_and(|rest| rest.starts_with('/'))
}

/// A path, and those of all directories that it lies in but the root.
pub fn with_parents(path: &str) -> impl Iterator<Item = &str> {
    let first = Some(path).filter(|path| !path.is_empty());
    std::iter::successors(first, |path| path.rsplit_once('/').map(|(parent, _)| parent))
}

/// A path as it was before anything of it went aside.
#[must_use]
pub fn in_place(path: &str) -> Cow<'_, str> {
    if !path.contains(ASIDE) {
        return path.into();
    }
    let names = path.split('/').map(|name| name.split(ASIDE).next().unwrap_or_default());
    names.collect::<Vec<_>>().join("/").into()
}

/// The ends of the range of all that lies below a directory: `/` and the
/// character after it. With the directory itself that is `path >= itself AND
/// path < to AND (path = itself OR path >= from)`: an OR of two ranges is not
/// looked up in an index.
#[must_use]
pub fn below(path: &str) -> (String, String) {
    if path.is_empty() {
        // Everything but the root itself: no name's text holds so high a character.
        return (String::new(), ASIDE.to_string());
    }
    (format!("{path}/"), format!("{path}0"))
}

/// Directories by who they are, with the paths of their rows as they now are.
#[derive(Debug, Default)]
pub struct KnownDirs {
    ids: HashMap<(i64, i64), Vec<i64>>,
    paths: HashMap<i64, String>,
    /// The same the other way, in order: what lies below a path is together.
    at: BTreeMap<String, i64>,
}

impl KnownDirs {
    /// A row, its inode and birth, and its path; one that is known already stays.
    pub fn insert(&mut self, id: i64, who: (i64, i64), path: String) {
        if self.paths.insert(id, path.clone()).is_none() {
            self.ids.entry(who).or_default().push(id);
            self.at.insert(path, id);
        }
    }

    /// Where a row now is.
    #[must_use]
    pub fn path(&self, id: i64) -> &str {
        self.paths.get(&id).map_or("", String::as_str)
    }

    /// A directory and all below it go elsewhere.
    pub fn rename(&mut self, old: &str, new: &str) {
        let (from, to) = below(old);
        let inside = self.at.range(from..to).map(|(path, _)| path.clone());
        for path in inside.chain([old.to_owned()]).collect::<Vec<_>>() {
            let Some(id) = self.at.remove(&path) else { continue };
            let path = format!("{new}{}", &path[old.len()..]);
            self.paths.insert(id, path.clone());
            self.at.insert(path, id);
        }
    }

    /// The row to be moved to a place, unless one of that directory's is there.
    pub fn misplaced(
        &self,
        who: (i64, i64),
        place: &str,
        is_there: impl Fn(&str) -> bool,
    ) -> Option<i64> {
        let ids = self.ids.get(&who)?;
        if ids.iter().any(|id| self.path(*id) == place) {
            return None;
        }
        let free = |path: &str| !path.is_empty() && (path.contains(ASIDE) || !is_there(path));
        ids.iter().copied().find(|id| free(self.path(*id)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_lies_in_all_that_it_names_and_is_plain_without_what_set_it_aside() {
        assert_eq!(with_parents("a/b/c").collect::<Vec<_>>(), ["a/b/c", "a/b", "a"]);
        assert_eq!(with_parents("").count(), 0);
        assert_eq!(in_place("a/b/c"), "a/b/c");
        assert_eq!(in_place("a\u{10ffff}12/b/c\u{10ffff}7"), "a/b/c");
    }
}
