//! `namespace/dataset`, the name of a dataset in commands.

use std::fmt;

use service_error::ServiceError;

/// A dataset by its names. The catalog checks their grammar.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Address {
    /// The namespace's name.
    pub namespace: String,
    /// The dataset's name.
    pub dataset: String,
}

impl Address {
    /// An address of two names.
    ///
    /// # Errors
    /// A name that is missing.
    pub fn new(namespace: &str, dataset: &str) -> Result<Self, ServiceError> {
        for (field, name) in [("namespace", namespace), ("dataset", dataset)] {
            if name.is_empty() {
                return Err(ServiceError::invalid(field, "must not be empty"));
            }
            if name.contains('\0') || name.len() > 1_024 {
                return Err(ServiceError::invalid(field, "is no name"));
            }
        }
        Ok(Self { namespace: namespace.to_owned(), dataset: dataset.to_owned() })
    }

    /// Reads `namespace/dataset`.
    ///
    /// # Errors
    /// A text of another form.
    pub fn parse(text: &str) -> Result<Self, ServiceError> {
        match text.split('/').collect::<Vec<_>>().as_slice() {
            [namespace, dataset] => Self::new(namespace, dataset),
            _ => Err(ServiceError::invalid("dataset", "must be \"namespace/dataset\"")),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.dataset)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exactly_two_names() {
        assert_eq!(Address::parse("a/b").map(|a| a.to_string()).ok().as_deref(), Some("a/b"));
        for wrong in ["", "a", "a/", "/b", "a/b/c", "a/b\0"] {
            assert!(Address::parse(wrong).is_err(), "{wrong:?}");
        }
    }
}
