//! Names and texts, and what they may be.

use std::collections::BTreeMap;

use service_error::ServiceError;

/// The most characters of a model's name: MLflow counts characters, not bytes.
pub const NAME_CHARS_MAX: usize = 256;
/// The most characters of the key of a tag, metric or parameter.
pub const KEY_CHARS_MAX: usize = 250;
/// The most characters of a tag's value.
pub const VALUE_CHARS_MAX: usize = 100_000;
const DESCRIPTION_BYTES_MAX: usize = 100_000;
const CARD_BYTES_MAX: usize = 1 << 20;
const ALIAS_CHARS_MAX: usize = 255;
const LABEL_BYTES_MAX: usize = 128;
const TAGS_MAX: usize = 1_000;

/// Checks a model's name: what a path segment and a URI of MLflow can hold.
///
/// # Errors
/// The rule that is broken.
pub fn model_name<'a>(field: &str, text: &'a str) -> Result<&'a str, ServiceError> {
    let shown: String = text.chars().take(64).collect();
    let wrong = |rule: &str| {
        Err(ServiceError::invalid(field, format!("{shown:?} {rule}")).reason("INVALID_NAME"))
    };
    if text.trim().is_empty() {
        return wrong("is empty: name a model");
    }
    if let Some(count) = longer(text, NAME_CHARS_MAX) {
        return wrong(&format!("is {count} characters long: at most {NAME_CHARS_MAX}"));
    }
    if text.contains(['/', ':']) {
        return wrong("contains '/' or ':', which no model's name may");
    }
    if text.chars().any(char::is_control) {
        return wrong("contains a control character");
    }
    if text == "." || text == ".." {
        return wrong("is no name");
    }
    Ok(text)
}

/// Checks an alias: letters, digits, `_`, `-`, and neither `latest` nor what
/// reads as a version (`v12`). One of digits alone is an alias where `@` is
/// before it, and a version's number where it is not.
///
/// # Errors
/// The rule that is broken.
pub fn check_alias(text: &str) -> Result<(), ServiceError> {
    let shown: String = text.chars().take(64).collect();
    let wrong = |rule: &str| {
        Err(ServiceError::invalid("alias", format!("{shown:?} {rule}")).reason("INVALID_ALIAS"))
    };
    if text.is_empty() {
        return wrong("is empty: name an alias");
    }
    if let Some(count) = longer(text, ALIAS_CHARS_MAX) {
        return wrong(&format!("is {count} characters long: at most {ALIAS_CHARS_MAX}"));
    }
    if !text.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '-')) {
        return wrong("may hold letters, digits, '_' and '-' only");
    }
    if text.eq_ignore_ascii_case("latest") {
        return wrong("is reserved: the newest version always answers to it");
    }
    let digits = text.strip_prefix(['v', 'V']).unwrap_or_default();
    if !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return wrong("reads as a version's number");
    }
    Ok(())
}

/// Checks a label of a version.
///
/// # Errors
/// The rule that is broken.
pub fn check_label(text: &str) -> Result<(), ServiceError> {
    check_text("label", text, LABEL_BYTES_MAX)?;
    if text.chars().any(|c| c.is_whitespace() || c.is_control() || matches!(c, '/' | ':' | '@')) {
        let message = format!("{text:?} may not hold white space, '/', ':' or '@'");
        return Err(ServiceError::invalid("label", message));
    }
    Ok(())
}

/// Checks a description.
///
/// # Errors
/// One that is too long.
pub fn check_description(text: &str) -> Result<(), ServiceError> {
    check_text("description", text, DESCRIPTION_BYTES_MAX)
}

/// Checks a model card.
///
/// # Errors
/// One that is too long.
pub fn check_card(text: &str) -> Result<(), ServiceError> {
    check_text("markdown", text, CARD_BYTES_MAX)
}

/// Checks one tag.
///
/// # Errors
/// An empty key, or a key or a value that is too long.
pub fn check_tag(key: &str, value: &str) -> Result<(), ServiceError> {
    if key.is_empty() {
        return Err(ServiceError::invalid("tags", "a key is empty"));
    }
    check_chars("tags", key, KEY_CHARS_MAX)?;
    let shown: String = key.chars().take(64).collect();
    check_chars("tags", value, VALUE_CHARS_MAX)
        .map_err(|error| ServiceError::invalid("tags", format!("{shown:?}: {}", error.message())))
}

/// Checks all tags of a request.
///
/// # Errors
/// As [`check_tag`], and too many of them.
pub fn check_tags(tags: &BTreeMap<String, String>) -> Result<(), ServiceError> {
    if tags.len() > TAGS_MAX {
        let message = format!("has {} entries; at most {TAGS_MAX}", tags.len());
        return Err(ServiceError::invalid("tags", message));
    }
    tags.iter().try_for_each(|(key, value)| check_tag(key, value))
}

/// The characters of a text that has more than so many.
fn longer(text: &str, chars_max: usize) -> Option<usize> {
    // Most texts are short enough even in bytes.
    (text.len() > chars_max).then(|| text.chars().count()).filter(|count| *count > chars_max)
}

/// Checks the length of a text in characters, and that Postgres takes it.
///
/// # Errors
/// One that is too long or holds a NUL.
pub fn check_chars(field: &str, text: &str, chars_max: usize) -> Result<(), ServiceError> {
    if let Some(count) = longer(text, chars_max) {
        let message = format!("is {count} characters long; at most {chars_max}");
        return Err(ServiceError::invalid(field, message));
    }
    check_text(field, text, usize::MAX)
}

/// Checks the length of a text in bytes, and that Postgres takes it.
///
/// # Errors
/// One that is too long or holds a NUL.
pub fn check_text(field: &str, text: &str, bytes_max: usize) -> Result<(), ServiceError> {
    if text.len() > bytes_max {
        let message = format!("is {} bytes long; at most {bytes_max}", text.len());
        return Err(ServiceError::invalid(field, message));
    }
    if text.contains('\0') {
        return Err(ServiceError::invalid(field, "contains a NUL character"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn names_that_mlflow_takes_are_taken_and_paths_are_not() {
        for good in ["resnet", "ResNet 50", "modèle", "a.b-c_d", &"é".repeat(256) as &str] {
            assert_eq!(model_name("name", good).unwrap(), good);
        }
        for bad in ["", " ", "a/b", "a:b", "a\0b", "..", ".", &"x".repeat(257) as &str] {
            let error = model_name("name", bad).unwrap_err();
            assert_eq!(error.field_name(), Some("name"), "{bad:?}");
        }
    }

    #[test]
    fn aliases_never_read_as_a_version() {
        let long = "ü".repeat(255);
        for good in ["champion", "prod-eu", "v12b", "canary_2", "v", "12", "20240115", &long] {
            assert!(check_alias(good).is_ok(), "{good}");
        }
        for bad in ["", "latest", "LATEST", "v12", "V1", "a b", "a/b", "a:b", "@x"] {
            assert!(check_alias(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_tag_of_a_megabyte_is_refused() {
        assert!(check_tag("k", &"ü".repeat(VALUE_CHARS_MAX)).is_ok());
        let error = check_tag("k", &"x".repeat(1 << 20)).unwrap_err();
        assert!(error.message().contains("1048576 characters"), "{error}");
        assert!(check_tag("", "x").is_err());
        assert!(check_tag(&"k".repeat(251), "x").is_err());
    }
}
