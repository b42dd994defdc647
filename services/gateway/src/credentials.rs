//! What a client presents.

use ::settings::Secret;
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderValue};
use service_error::ServiceError;

/// The header in which Arrow's older handshake sends its token.
pub const FLIGHT_TOKEN_HEADER: &str = "auth-token-bin";

/// A client's credential, not verified.
#[derive(Debug, Clone)]
pub enum Credential {
    /// An opaque token.
    Bearer(Secret),
    /// A name with a password or a token.
    Basic {
        /// The user's name.
        name: String,
        /// A password or a personal access token.
        password: Secret,
    },
}

impl Credential {
    /// As an `authorization` header, marked sensitive.
    ///
    /// # Errors
    /// A credential that is no header's value.
    pub fn header(&self) -> Result<HeaderValue, ServiceError> {
        let text = match self {
            Self::Bearer(token) => format!("Bearer {}", token.expose()),
            Self::Basic { name, password } => {
                format!("Basic {}", STANDARD.encode(format!("{name}:{}", password.expose())))
            }
        };
        let mut value = HeaderValue::from_str(&text).map_err(|_| malformed("is no text"))?;
        value.set_sensitive(true);
        Ok(value)
    }
}

/// The credential of a request; none if it presents none.
///
/// # Errors
/// `UNAUTHENTICATED` for a header that is neither Bearer nor Basic.
pub fn presented(headers: &HeaderMap) -> Result<Option<Credential>, ServiceError> {
    if let Some(value) = headers.get(AUTHORIZATION) {
        let text = value.to_str().map_err(|_| malformed("is no text"))?;
        return authorization(text).map(Some);
    }
    match headers.get(FLIGHT_TOKEN_HEADER) {
        Some(value) => flight_token(value.as_bytes()).map(Some),
        None => Ok(None),
    }
}

/// The answer to a call that needs a credential and has none.
pub fn missing() -> ServiceError {
    ServiceError::unauthenticated("the call needs a token: send `authorization: Bearer <token>`")
        .reason("TOKEN_MISSING")
}

fn malformed(what: &str) -> ServiceError {
    ServiceError::unauthenticated(format!(
        "the authorization header {what}: send `authorization: Bearer <token>`"
    ))
    .reason("TOKEN_MALFORMED")
}

fn authorization(text: &str) -> Result<Credential, ServiceError> {
    let (scheme, rest) = text.split_once(' ').ok_or_else(|| malformed("has no scheme"))?;
    let rest = rest.trim();
    if rest.is_empty() {
        return Err(malformed("is empty"));
    }
    if scheme.eq_ignore_ascii_case("bearer") {
        return Ok(Credential::Bearer(Secret::new(rest)));
    }
    if !scheme.eq_ignore_ascii_case("basic") {
        return Err(malformed("is neither Bearer nor Basic"));
    }
    let decoded = decode(rest.as_bytes()).ok_or_else(|| malformed("is no base64"))?;
    let (name, password) = decoded
        .split_once(':')
        .ok_or_else(|| malformed("has no colon between name and password"))?;
    Ok(Credential::Basic { name: name.to_owned(), password: Secret::new(password) })
}

fn flight_token(encoded: &[u8]) -> Result<Credential, ServiceError> {
    let token = decode(encoded).ok_or_else(|| malformed("is no base64"))?;
    let token = token.strip_prefix("Bearer ").unwrap_or(&token).trim();
    if token.is_empty() {
        Err(malformed("is empty"))
    } else {
        Ok(Credential::Bearer(Secret::new(token)))
    }
}

fn decode(encoded: &[u8]) -> Option<String> {
    let bytes = STANDARD.decode(encoded).or_else(|_| STANDARD_NO_PAD.decode(encoded)).ok()?;
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(name: &'static str, value: &str) -> Result<Option<Credential>, ServiceError> {
        presented(&HeaderMap::from_iter([(
            http::HeaderName::from_static(name),
            value.parse().unwrap(),
        )]))
    }

    #[test]
    fn bearer_and_basic_are_read_in_any_case() {
        assert!(
            matches!(of("authorization", "bEaReR  abc ").unwrap(), Some(Credential::Bearer(token)) if token.expose() == "abc")
        );
        let Some(Credential::Basic { name, password }) =
            of("authorization", "Basic YWRhOmE6Yg==").unwrap()
        else {
            panic!("no Basic")
        };
        assert_eq!((name.as_str(), password.expose()), ("ada", "a:b"));
    }

    #[test]
    fn the_older_flight_header_is_a_token() {
        for value in ["cXBhdF94", "QmVhcmVyIHFwYXRfeA", "QmVhcmVyIHFwYXRfeA=="] {
            assert!(
                matches!(of("auth-token-bin", value).unwrap(), Some(Credential::Bearer(token)) if token.expose() == "qpat_x")
            );
        }
    }

    #[test]
    fn nothing_is_no_credential_and_nonsense_is_refused() {
        assert!(presented(&HeaderMap::new()).unwrap().is_none());
        for value in ["", "Bearer", "Bearer ", "Digest x", "Basic !!!", "Basic YWRh", "qpat_x"] {
            assert_eq!(
                of("authorization", value).unwrap_err().reason_text(),
                "TOKEN_MALFORMED",
                "{value:?}"
            );
        }
    }

    #[test]
    fn a_credential_is_not_printed() {
        let printed = format!("{:?}", of("authorization", "Bearer qpat_canary").unwrap());
        assert!(!printed.contains("canary"), "{printed}");
    }
}
