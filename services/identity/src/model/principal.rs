//! People and programs.

use ids::PrincipalId;
use service_error::ServiceError;

const NAME_BYTES_MAX: usize = 64;
const DISPLAY_NAME_CHARS_MAX: usize = 128;

/// What a principal is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A person.
    User = 1,
    /// A program.
    ServiceAccount = 2,
}

/// The global role, each including the ones before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Reads what it has been granted.
    Viewer = 1,
    /// Changes what it has been granted, makes namespaces.
    User = 2,
    /// Does everything.
    Admin = 3,
}

impl Role {
    /// As in an internal token.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::User => "user",
            Self::Admin => "admin",
        }
    }
}

/// Somebody who can hold tokens and grants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Principal {
    pub id: PrincipalId,
    pub name: String,
    pub display_name: String,
    pub kind: Kind,
    pub role: Role,
    pub disabled: bool,
    /// Microseconds UTC.
    pub created_at: i64,
    /// Grows with every change.
    pub revision: i64,
}

/// # Errors
/// A name that is not 1–64 of `[a-z0-9._@-]` beginning with a letter or digit.
pub fn check_name(field: &str, name: &str) -> Result<(), ServiceError> {
    let begins = name.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit());
    let fits = name
        .bytes()
        .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"._-@".contains(&byte));
    if begins && fits && name.len() <= NAME_BYTES_MAX {
        return Ok(());
    }
    Err(ServiceError::invalid(
        field,
        format!(
            "must be 1 to {NAME_BYTES_MAX} of a-z, 0-9, '.', '_', '-' and '@', beginning with a letter or digit"
        ),
    ))
}

/// # Errors
/// A display name that is too long or has control characters.
pub fn check_display_name(name: &str) -> Result<(), ServiceError> {
    if name.chars().count() > DISPLAY_NAME_CHARS_MAX || name.chars().any(char::is_control) {
        return Err(ServiceError::invalid(
            "display_name",
            format!("must be at most {DISPLAY_NAME_CHARS_MAX} characters on one line"),
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_plain_words() {
        for good in ["a", "ana", "ci-bot.2", "ana@example.org", "0x", &"a".repeat(64)] {
            assert!(check_name("name", good).is_ok(), "{good}");
        }
        for bad in ["", "-a", ".a", "@a", "Ana", "a b", "a/b", "..", "a\0", "ä", &"a".repeat(65)] {
            let error = check_name("name", bad).err();
            assert_eq!(
                error.as_ref().and_then(|error| error.field_name()),
                Some("name"),
                "{bad:?}"
            );
        }
    }

    #[test]
    fn display_names_are_one_line() {
        assert!(check_display_name("Ana María Ñ.").is_ok());
        assert!(check_display_name("a\nb").is_err());
        assert!(check_display_name(&"x".repeat(129)).is_err());
    }
}
