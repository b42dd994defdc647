//! Item ids on their way in.

use uuid::Uuid;

use crate::SchemaError;

/// What an item's `id` may look like.
pub const ID_RULES: &str = "an item's id is a UUID: text with or without hyphens, or 16 bytes; \
                            rows without one get a new UUIDv7 from the server";

/// An id from text, with or without hyphens.
///
/// # Errors
/// Quotes the text and says [`ID_RULES`].
pub fn parse_id(text: &str) -> Result<Uuid, SchemaError> {
    let trimmed = text.trim();
    // Not everything that the parser takes: `{…}` and `urn:uuid:…` would come
    // back in another shape than they went in.
    match trimmed.len() {
        32 | 36 => Uuid::try_parse(trimmed).map_err(|_| refused(text)),
        _ => Err(refused(text)),
    }
}

/// An id from its 16 bytes.
///
/// # Errors
/// Says how many bytes there were, and [`ID_RULES`].
pub fn parse_id_bytes(bytes: &[u8]) -> Result<Uuid, SchemaError> {
    Uuid::from_slice(bytes).map_err(|_| {
        SchemaError::at("id", format!("holds a value of {} bytes; {ID_RULES}", bytes.len()))
    })
}

/// A new id; later ones sort after earlier ones.
#[must_use]
pub fn new_id() -> Uuid {
    Uuid::now_v7()
}

fn refused(text: &str) -> SchemaError {
    let shown: String = text.chars().take(64).collect();
    SchemaError::at("id", format!("holds {shown:?}; {ID_RULES}"))
}
