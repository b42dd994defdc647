//! Names of namespaces and datasets.

use std::fmt;

use service_error::ServiceError;

/// The most characters a name may have.
pub const NAME_LENGTH_MAX: usize = 128;

/// A name that keeps the grammar: 1 to 128 of a-z, 0-9, `_`, `-`, `.`,
/// beginning with a letter or a digit, without `..`. It is safe in a path, a
/// URL and an object key.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(String);

impl Name {
    /// Checks a name that a request gives in `field`.
    ///
    /// # Errors
    /// `InvalidArgument` naming the field and the rule that is broken.
    pub fn parse(field: &str, text: &str) -> Result<Self, ServiceError> {
        match broken_rule(text) {
            None => Ok(Self(text.to_owned())),
            Some(rule) => {
                let shown: String = text.chars().take(NAME_LENGTH_MAX).collect();
                Err(ServiceError::invalid(field, format!("{shown:?} {rule}"))
                    .reason("INVALID_NAME"))
            }
        }
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn broken_rule(text: &str) -> Option<String> {
    if text.is_empty() {
        return Some("is empty: a name has 1 to 128 characters".to_owned());
    }
    if text.len() > NAME_LENGTH_MAX {
        return Some(format!("is {} bytes long: a name has 1 to 128 characters", text.len()));
    }
    let allowed =
        |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '_' | '-' | '.');
    if let Some(other) = text.chars().find(|c| !allowed(*c)) {
        return Some(format!("contains {other:?}: only a-z, 0-9, '_', '-' and '.' are allowed"));
    }
    if !text.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit()) {
        return Some("must begin with a letter or a digit".to_owned());
    }
    text.contains("..").then(|| "must not contain '..'".to_owned())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn names_that_people_use_are_taken() {
        for good in ["a", "0", "icons", "coco-2017.v1", "a_b", "x.y-z", &"n".repeat(128)] {
            assert_eq!(Name::parse("name", good).unwrap().as_str(), good);
        }
    }

    #[test]
    fn every_other_name_is_refused_with_field_and_rule() {
        let cases = [
            ("", "is empty"),
            (&"n".repeat(129) as &str, "129 bytes"),
            ("Icons", "'I'"),
            ("a/b", "'/'"),
            ("a\0b", "'\\0'"),
            ("ü", "'ü'"),
            ("a b", "' '"),
            ("-a", "begin with"),
            (".hidden", "begin with"),
            ("..", "begin with"),
            ("a..b", "'..'"),
        ];
        for (bad, rule) in cases {
            let error = Name::parse("namespace", bad).unwrap_err();
            assert_eq!(error.field_name(), Some("namespace"), "{bad:?}");
            assert!(error.message().contains(rule), "{bad:?}: {error}");
        }
    }
}
