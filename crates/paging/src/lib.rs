//! Pages of control-plane lists: bounded sizes and opaque keyset tokens.
//!
//! A token is the last key of a page, bound to the list that made it. It is
//! checked against accidents (another list's token, a cut paste), not against
//! malice: it holds only what the caller was shown. Tokens over rows of a
//! dataset are sealed instead, by the item store.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Serialize;
use serde::de::DeserializeOwned;
use service_error::ServiceError;

/// Entries on a page when the request names no size.
pub const PAGE_SIZE_DEFAULT: u32 = 100;
/// The most entries a control-plane page holds.
pub const PAGE_SIZE_MAX: u32 = 1_000;
/// The longest token that is looked at, in bytes.
const TOKEN_BYTES_MAX: usize = 4_096;

/// The number of entries that a request asks for: [`PAGE_SIZE_DEFAULT`] for 0.
///
/// # Errors
/// A negative size, or one above `max`.
pub fn page_size(requested: i32, max: u32) -> Result<u32, ServiceError> {
    match u32::try_from(requested) {
        Ok(0) => Ok(PAGE_SIZE_DEFAULT.min(max)),
        Ok(size) if size <= max => Ok(size),
        _ => Err(ServiceError::invalid(
            "page_size",
            format!("{requested} is not within 1 and {max}"),
        )),
    }
}

/// The token that continues `list` after `key`. `list` names the list and
/// whatever it was narrowed by, e.g. `"datasets:vision"`.
#[must_use]
pub fn token<K: Serialize>(list: &str, key: &K) -> String {
    // A key is made of integers and text, which always serialise.
    let body = serde_json::to_vec(key).unwrap_or_default();
    let mut bytes = checksum(list, &body).to_be_bytes().to_vec();
    bytes.extend_from_slice(&body);
    URL_SAFE_NO_PAD.encode(bytes)
}

/// The key that a token continues after; nothing for an empty token, which
/// begins the list.
///
/// # Errors
/// A token that `list` did not make.
pub fn key<K: DeserializeOwned>(list: &str, token: &str) -> Result<Option<K>, ServiceError> {
    key_within(list, token, TOKEN_BYTES_MAX)
}

/// As [`key`], for a list whose keys are long: of tokens of at most so many bytes.
///
/// # Errors
/// As [`key`].
pub fn key_within<K: DeserializeOwned>(
    list: &str,
    token: &str,
    bytes_max: usize,
) -> Result<Option<K>, ServiceError> {
    if token.is_empty() {
        return Ok(None);
    }
    let wrong = || {
        ServiceError::invalid(
            "page_token",
            "is not a token of this list; repeat the list without a token",
        )
        .reason("PAGE_TOKEN_INVALID")
    };
    if token.len() > bytes_max {
        return Err(wrong());
    }
    let bytes = URL_SAFE_NO_PAD.decode(token).map_err(|_| wrong())?;
    let (sum, body) = bytes.split_first_chunk::<4>().ok_or_else(wrong)?;
    if u32::from_be_bytes(*sum) != checksum(list, body) {
        return Err(wrong());
    }
    serde_json::from_slice(body).map(Some).map_err(|_| wrong())
}

/// Splits off the entry that was fetched beyond the page to learn whether
/// there is another one: the page's entries, and the token that continues it.
pub fn cut<T, K: Serialize>(
    mut entries: Vec<T>,
    size: u32,
    list: &str,
    key_of: impl Fn(&T) -> K,
) -> (Vec<T>, String) {
    let size = size as usize;
    if entries.len() <= size {
        return (entries, String::new());
    }
    entries.truncate(size);
    let next = entries.last().map(|last| token(list, &key_of(last))).unwrap_or_default();
    (entries, next)
}

fn checksum(list: &str, body: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(list.as_bytes());
    hasher.update(&[0]);
    hasher.update(body);
    hasher.finalize()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn a_token_gives_its_key_back_to_its_own_list_only() {
        let made = token("datasets:vision", &("icons", 7));
        assert_eq!(
            key::<(String, i64)>("datasets:vision", &made).unwrap(),
            Some(("icons".to_owned(), 7))
        );
        let error = key::<(String, i64)>("datasets:audio", &made).unwrap_err();
        assert!(error.reason_is("PAGE_TOKEN_INVALID"));
    }

    #[test]
    fn garbage_is_refused_and_nothing_begins_the_list() {
        assert_eq!(key::<i64>("l", "").unwrap(), None);
        let long = "A".repeat(TOKEN_BYTES_MAX + 1);
        for garbage in ["!", "AAAA", "AAAAAAAA", long.as_str()] {
            assert!(key::<i64>("l", garbage).is_err(), "{garbage}");
        }
    }

    #[test]
    fn sizes_are_bounded() {
        assert_eq!(page_size(0, PAGE_SIZE_MAX).unwrap(), PAGE_SIZE_DEFAULT);
        assert_eq!(page_size(1_000, PAGE_SIZE_MAX).unwrap(), 1_000);
        assert_eq!(page_size(1_001, PAGE_SIZE_MAX).unwrap_err().field_name(), Some("page_size"));
        assert!(page_size(-1, PAGE_SIZE_MAX).is_err());
    }

    #[test]
    fn the_extra_entry_becomes_the_token() {
        let (page, next) = cut(vec![1, 2, 3], 2, "l", |n| *n);
        assert_eq!((page, key::<i32>("l", &next).unwrap()), (vec![1, 2], Some(2)));
        let (page, next) = cut(vec![1, 2], 2, "l", |n| *n);
        assert_eq!((page, next), (vec![1, 2], String::new()));
    }
}
