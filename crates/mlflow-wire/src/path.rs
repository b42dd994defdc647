//! Artifact paths: relative, decoded, and never out of their root.

use crate::{MlflowError, Result};

/// A path below a root, as a client gave it, once it is known to stay there.
/// Percent escapes are undone until none is left, so what is checked is what is
/// used.
///
/// # Errors
/// `INVALID_PARAMETER_VALUE` "Invalid path" for one that is absolute, climbs,
/// or is written for another system.
pub fn safe(path: &str) -> Result<String> {
    let decoded = decode(path)?;
    let is_absolute = decoded.starts_with('/') || decoded.starts_with('\\') || has_drive(&decoded);
    let climbs = decoded.split('/').any(|part| part == "..");
    let is_strange =
        decoded.chars().any(|letter| matches!(letter, '#' | '\\') || letter.is_control());
    let is_uri = decoded.to_ascii_lowercase().starts_with("file:");
    if is_absolute || climbs || is_strange || is_uri {
        return Err(invalid());
    }
    Ok(decoded)
}

fn invalid() -> MlflowError {
    MlflowError::invalid("Invalid path")
}

fn has_drive(path: &str) -> bool {
    let bytes = path.as_bytes();
    bytes.len() >= 3 && bytes[0].is_ascii_alphabetic() && bytes[1] == b':' && bytes[2] == b'/'
}

/// More layers of escapes than anybody has a reason for.
const LAYERS_MAX: usize = 10;

fn decode(path: &str) -> Result<String> {
    let mut path = path.to_owned();
    for _ in 0..LAYERS_MAX {
        let decoded = unescape(&path).ok_or_else(invalid)?;
        if decoded == path {
            return Ok(path);
        }
        path = decoded;
    }
    Err(invalid())
}

/// One layer of percent escapes undone; none for bytes that are no UTF-8.
/// What only looks like an escape stays.
#[must_use]
pub fn unescape(text: &str) -> Option<String> {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let escaped = (bytes[at] == b'%').then(|| hex_pair(bytes.get(at + 1..at + 3))).flatten();
        match escaped {
            Some(byte) => {
                out.push(byte);
                at += 3;
            }
            None => {
                out.push(bytes[at]);
                at += 1;
            }
        }
    }
    String::from_utf8(out).ok()
}

fn hex_pair(digits: Option<&[u8]>) -> Option<u8> {
    let digits = digits?;
    let digit = |byte: u8| (byte as char).to_digit(16);
    u8::try_from(digit(digits[0])? * 16 + digit(digits[1])?).ok()
}

/// A path with no empty and no `.` parts; nothing for the root itself.
#[must_use]
pub fn normal(path: &str) -> String {
    let parts: Vec<&str> =
        path.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
    parts.join("/")
}

/// What Python's `posixpath.normpath` makes of a name.
#[must_use]
pub fn normpath(name: &str) -> String {
    if name.is_empty() {
        return ".".to_owned();
    }
    let slashes = match name.len() - name.trim_start_matches('/').len() {
        0 => "",
        2 => "//",
        _ => "/",
    };
    let mut kept: Vec<&str> = Vec::new();
    for part in name.split('/').filter(|part| !part.is_empty() && *part != ".") {
        if part != ".." || (slashes.is_empty() && kept.last().is_none_or(|last| *last == "..")) {
            kept.push(part);
        } else {
            kept.pop();
        }
    }
    let joined = format!("{slashes}{}", kept.join("/"));
    if joined.is_empty() { ".".to_owned() } else { joined }
}
