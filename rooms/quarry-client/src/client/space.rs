//! Names of spaces as they are typed.

use std::fmt;
use std::str::FromStr;

/// `NAMESPACE/DATASET/SPACE`, or `NAMESPACE/SPACE` of a namespace's own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpaceName {
    /// The namespace.
    pub namespace: String,
    /// Empty: the namespace's own.
    pub dataset: String,
    /// The space.
    pub space: String,
}

impl FromStr for SpaceName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parts: Vec<&str> = text.split('/').collect();
        let (namespace, dataset, space) = match parts.as_slice() {
            [namespace, dataset, space] if !dataset.is_empty() => (*namespace, *dataset, *space),
            [namespace, space] => (*namespace, "", *space),
            _ => ("", "", ""),
        };
        if namespace.is_empty() || space.is_empty() {
            return Err(format!(
                "{text:?} names no space; write NAMESPACE/DATASET/SPACE, or NAMESPACE/SPACE"
            ));
        }
        Ok(Self {
            namespace: namespace.to_owned(),
            dataset: dataset.to_owned(),
            space: space.to_owned(),
        })
    }
}

impl fmt::Display for SpaceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.dataset.is_empty() {
            return write!(f, "{}/{}", self.namespace, self.space);
        }
        write!(f, "{}/{}/{}", self.namespace, self.dataset, self.space)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn names_have_two_or_three_parts() {
        let name: SpaceName = "a/b/c".parse().unwrap();
        assert_eq!((name.dataset.as_str(), name.to_string().as_str()), ("b", "a/b/c"));
        assert_eq!("a/c".parse::<SpaceName>().unwrap().dataset, "");
        for wrong in ["", "a", "a//c", "/b/c", "a/b/", "a/b/c/d"] {
            assert!(wrong.parse::<SpaceName>().is_err(), "{wrong}");
        }
    }
}
