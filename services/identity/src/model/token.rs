//! Personal access tokens: `qpat_<id22>_<secret43>_<crc6>`.

use ids::{PrincipalId, TokenId};
use service_error::ServiceError;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use uuid::Uuid;

use super::base62;

const PREFIX: &str = "qpat_";
const ID_DIGITS: usize = 22;
const SECRET_DIGITS: usize = 43;
const SUM_DIGITS: usize = 6;
/// A secret that an operator chose has at least so many bytes.
const OPAQUE_BYTES_MIN: usize = 32;
const OPAQUE_BYTES_MAX: usize = 4_096;
const DESCRIPTION_CHARS_MAX: usize = 256;
const LIFETIME_SECONDS_MAX: i64 = 10 * 366 * 86_400;

/// What a token lets its bearer do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// Everything its owner may do.
    Full = 1,
    /// Only calls that change nothing.
    ReadOnly = 2,
}

/// A token as it is known after it was made: without its secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    pub id: TokenId,
    pub owner: PrincipalId,
    pub description: String,
    pub scope: Scope,
    /// Times are microseconds UTC.
    pub created_at: i64,
    /// Never if none.
    pub expires_at: Option<i64>,
    pub revoked_at: Option<i64>,
}

impl Token {
    /// Neither revoked nor expired.
    pub fn is_live(&self, now: i64) -> bool {
        self.revoked_at.is_none() && self.expires_at.is_none_or(|expires_at| expires_at > now)
    }
}

/// A token that was just made; its secret is shown once and not kept.
pub struct Made {
    pub id: TokenId,
    pub text: String,
    pub hash: [u8; 32],
}

impl Made {
    /// A new token of 256 random bits.
    pub fn new() -> Self {
        let (id, secret) = (TokenId::new(), rand::random::<[u8; 32]>());
        let mut text = format!(
            "{PREFIX}{}_{}_",
            base62::encode(id.uuid().as_bytes(), ID_DIGITS),
            base62::encode(&secret, SECRET_DIGITS)
        );
        let sum = crc32fast::hash(text.as_bytes());
        text.push_str(&base62::encode(&sum.to_be_bytes(), SUM_DIGITS));
        Self { id, text, hash: fingerprint(&secret) }
    }
}

/// A credential that somebody presents.
#[derive(Debug, PartialEq, Eq)]
pub struct Presented {
    pub id: TokenId,
    hash: [u8; 32],
}

impl Presented {
    /// A personal access token, or a long secret that an operator chose, whose
    /// id follows from the secret. Nothing for what can be neither.
    pub fn parse(text: &str) -> Option<Self> {
        if text.starts_with(PREFIX) {
            return Self::of_token(text);
        }
        if !(OPAQUE_BYTES_MIN..=OPAQUE_BYTES_MAX).contains(&text.len()) {
            return None;
        }
        let hash = fingerprint(text.as_bytes());
        // Another hash than the one that is stored: the id is public.
        let id: [u8; 32] =
            Sha256::new().chain_update("quarry token id\0").chain_update(hash).finalize().into();
        let (half, _) = id.split_first_chunk::<16>()?;
        Some(Self {
            id: TokenId::from_uuid(uuid::Builder::from_custom_bytes(*half).into_uuid()),
            hash,
        })
    }

    fn of_token(text: &str) -> Option<Self> {
        let (signed, sum) = text.split_at_checked(text.len().checked_sub(SUM_DIGITS)?)?;
        if base62::decode::<4>(sum)? != crc32fast::hash(signed.as_bytes()).to_be_bytes() {
            return None;
        }
        let (id, secret) = signed.strip_prefix(PREFIX)?.strip_suffix('_')?.split_once('_')?;
        if id.len() != ID_DIGITS || secret.len() != SECRET_DIGITS {
            return None;
        }
        let id = Uuid::from_bytes(base62::decode(id)?);
        Some(Self { id: TokenId::from_uuid(id), hash: fingerprint(&base62::decode::<32>(secret)?) })
    }

    /// What is stored of the secret.
    pub fn hash(&self) -> [u8; 32] {
        self.hash
    }

    /// Whether a stored hash is this secret's, in constant time.
    pub fn matches(&self, stored: &[u8]) -> bool {
        self.hash.ct_eq(stored).into()
    }
}

/// SHA-256 of a secret; enough because secrets are random and long.
pub fn fingerprint(secret: &[u8]) -> [u8; 32] {
    Sha256::digest(secret).into()
}

/// # Errors
/// A description that is too long or has control characters.
pub fn check_description(description: &str) -> Result<(), ServiceError> {
    if description.chars().count() > DESCRIPTION_CHARS_MAX
        || description.chars().any(char::is_control)
    {
        return Err(ServiceError::invalid(
            "description",
            format!("must be at most {DESCRIPTION_CHARS_MAX} characters on one line"),
        ));
    }
    Ok(())
}

/// When a token that lives `lifetime_seconds` expires; never if none is given.
///
/// # Errors
/// A lifetime that is not within one second and ten years.
pub fn expiry_after(now: i64, lifetime_seconds: Option<i64>) -> Result<Option<i64>, ServiceError> {
    match lifetime_seconds {
        None => Ok(None),
        Some(seconds) if (1..=LIFETIME_SECONDS_MAX).contains(&seconds) => {
            Ok(Some(now + seconds * 1_000_000))
        }
        Some(_) => Err(ServiceError::invalid(
            "lifetime_seconds",
            format!("must be within 1 and {LIFETIME_SECONDS_MAX}; leave it unset for never"),
        )),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn a_made_token_is_recognised_and_no_altered_one() {
        let made = Made::new();
        assert_eq!(made.text.len(), 5 + ID_DIGITS + 1 + SECRET_DIGITS + 1 + SUM_DIGITS);
        let presented = Presented::parse(&made.text).unwrap();
        assert_eq!(presented.id, made.id);
        assert!(presented.matches(&made.hash));
        assert!(!presented.matches(&[0; 32]) && !presented.matches(&[]));
        for at in 0..made.text.len() {
            let mut altered = made.text.clone().into_bytes();
            altered[at] = if altered[at] == b'x' { b'y' } else { b'x' };
            let altered = String::from_utf8(altered).unwrap();
            let same =
                Presented::parse(&altered).is_some_and(|presented| presented.matches(&made.hash));
            assert!(!same, "altered at {at}");
        }
    }

    #[test]
    fn odd_texts_are_no_credentials() {
        for odd in [
            "",
            "qpat_",
            "qpat_1_2_3",
            "short",
            "qpat_ééééééé",
            &"x".repeat(OPAQUE_BYTES_MAX + 1),
            "qpat_\u{0}",
        ] {
            assert_eq!(Presented::parse(odd), None, "{odd:?}");
        }
    }

    #[test]
    fn a_chosen_secret_has_always_the_same_id() {
        let secret = "correct horse battery staple, twice over";
        assert_eq!(Presented::parse(secret), Presented::parse(secret));
        assert_ne!(
            Presented::parse(secret).unwrap().id,
            Presented::parse(&format!("{secret}!")).unwrap().id
        );
    }

    #[test]
    fn lifetimes_are_bounded() {
        assert_eq!(expiry_after(5, None).unwrap(), None);
        assert_eq!(expiry_after(5, Some(2)).unwrap(), Some(2_000_005));
        for wrong in [0, -1, i64::MAX, LIFETIME_SECONDS_MAX + 1] {
            assert_eq!(
                expiry_after(5, Some(wrong)).unwrap_err().field_name(),
                Some("lifetime_seconds")
            );
        }
    }
}
