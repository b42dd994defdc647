//! What is wrong with a setting: its key, where it stands, what to write.

use std::path::Path;

use figment::error::{Actual, Kind};
use service_error::ServiceError;

/// Parts of key names whose values are not repeated in messages.
const SECRET_MARKS: [&str; 5] = ["secret", "token", "password", "key", "url"];

/// A file that is no settings file.
pub fn in_file(path: &Path, what: &str) -> ServiceError {
    ServiceError::invalid("settings", format!("{}: {what}", path.display()))
        .reason("INVALID_SETTINGS")
}

/// A value that does not fit the settings.
pub fn explain(error: figment::Error) -> ServiceError {
    let source = error.metadata.as_ref().map_or("the settings", |metadata| metadata.name.as_ref());
    let mut key = error.path.join(".");
    let what = match &error.kind {
        Kind::UnknownField(found, known) => {
            // The path ends at the section; the key is what was found in it.
            if error.path.last().is_none_or(|last| last != found) {
                key = if key.is_empty() { found.clone() } else { format!("{key}.{found}") };
            }
            format!("there is no such key; known here: {}", known.join(", "))
        }
        Kind::MissingField(name) => {
            key = if key.is_empty() { name.to_string() } else { format!("{key}.{name}") };
            "is required".to_owned()
        }
        Kind::InvalidType(found, expected) | Kind::InvalidValue(found, expected) => {
            format!("{} is not {expected}", shown(&key, found))
        }
        Kind::UnknownVariant(found, known) => format!("`{found}` is none of {}", known.join(", ")),
        Kind::Message(_) if is_secret(&key) => "the value is not valid".to_owned(),
        other => other.to_string(),
    };
    let message = if key.is_empty() {
        format!("{what}, in {source}")
    } else {
        format!("{key} in {source}: {what}")
    };
    ServiceError::invalid("settings", message).reason("INVALID_SETTINGS").with("key", key)
}

fn shown(key: &str, found: &Actual) -> String {
    if is_secret(key) { "the value".to_owned() } else { found.to_string() }
}

/// Whether a key may name a secret.
pub fn is_secret(key: &str) -> bool {
    SECRET_MARKS.iter().any(|mark| key.contains(mark))
}
