//! Where a space is, in names.

use std::fmt;

use service_error::ServiceError;

const NAME_BYTES_MAX: usize = 128;

/// `namespace/dataset/space`, or `namespace/space` of a namespace's own.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Address {
    /// The namespace.
    pub namespace: String,
    /// Empty: the namespace's own.
    pub dataset: String,
    /// The space.
    pub space: String,
}

impl Address {
    /// Checks the names of a request. A name that no namespace or dataset can have is looked
    /// for in vain, so only the space's own grammar is checked.
    ///
    /// # Errors
    /// `InvalidArgument` naming the field.
    pub fn new(namespace: &str, dataset: &str, space: &str) -> Result<Self, ServiceError> {
        if namespace.is_empty() {
            return Err(ServiceError::invalid("namespace", "is empty: name the space's namespace"));
        }
        if let Some(rule) = broken_rule(space) {
            let shown: String = space.chars().take(NAME_BYTES_MAX).collect();
            return Err(
                ServiceError::invalid("space", format!("{shown:?} {rule}")).reason("INVALID_NAME")
            );
        }
        Ok(Self {
            namespace: namespace.to_owned(),
            dataset: dataset.to_owned(),
            space: space.to_owned(),
        })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.dataset.is_empty() {
            return write!(f, "{}/{}", self.namespace, self.space);
        }
        write!(f, "{}/{}/{}", self.namespace, self.dataset, self.space)
    }
}

fn broken_rule(text: &str) -> Option<&'static str> {
    let allowed =
        |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '_' | '-' | '.');
    if text.is_empty() || text.len() > NAME_BYTES_MAX {
        return Some("is no name: a name has 1 to 128 characters");
    }
    if !text.chars().all(allowed) {
        return Some("is no name: only a-z, 0-9, '_', '-' and '.' are allowed");
    }
    if !text.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit()) {
        return Some("must begin with a letter or a digit");
    }
    text.contains("..").then_some("must not contain '..'")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn names_keep_their_grammar() {
        assert_eq!(Address::new("a", "b", "c-1.x").unwrap().to_string(), "a/b/c-1.x");
        assert_eq!(Address::new("a", "", "c").unwrap().to_string(), "a/c");
        for wrong in ["", "A", "a b", "-a", "a..b", "a/b", &"a".repeat(129)] {
            let error = Address::new("a", "b", wrong).unwrap_err();
            assert_eq!(error.field_name(), Some("space"), "{wrong}");
        }
        assert_eq!(Address::new("", "", "c").unwrap_err().field_name(), Some("namespace"));
    }
}
