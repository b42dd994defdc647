//! Names of datasets and versions as they are typed.

use std::fmt;
use std::str::FromStr;

/// `NAMESPACE/DATASET`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DatasetName {
    /// Before the slash.
    pub namespace: String,
    /// After it.
    pub dataset: String,
}

impl FromStr for DatasetName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.split_once('/') {
            Some((namespace, dataset))
                if !namespace.is_empty() && !dataset.is_empty() && !dataset.contains('/') =>
            {
                Ok(Self { namespace: namespace.to_owned(), dataset: dataset.to_owned() })
            }
            _ => Err(format!("{text:?} names no dataset; write NAMESPACE/DATASET")),
        }
    }
}

impl fmt::Display for DatasetName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.dataset)
    }
}

/// `NAMESPACE/DATASET[@VERSION]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VersionName {
    /// The dataset.
    pub dataset: DatasetName,
    /// A number or an alias; the newest without.
    pub version: Option<String>,
}

impl FromStr for VersionName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (name, version) = match text.split_once('@') {
            Some((_, "")) => return Err(format!("{text:?} names no version after the @")),
            Some((name, version)) => (name, Some(version.to_owned())),
            None => (text, None),
        };
        Ok(Self { dataset: name.parse()?, version })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn names_have_two_parts_and_perhaps_a_version() {
        let name: VersionName = "vision/icons@3".parse().unwrap();
        assert_eq!(
            (name.dataset.to_string().as_str(), name.version.as_deref()),
            ("vision/icons", Some("3"))
        );
        assert_eq!("vision/icons".parse::<VersionName>().unwrap().version, None);
        for wrong in ["icons", "/icons", "vision/", "a/b/c", "a/b@", ""] {
            assert!(wrong.parse::<VersionName>().is_err(), "{wrong}");
        }
    }
}
