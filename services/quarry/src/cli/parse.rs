//! Values as they are typed.

use std::time::{Duration, SystemTime};

use clap::ValueEnum;
use options_api::v1 as options;
use prost_types::Timestamp;

/// A global role.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Role {
    /// Reads what it was granted
    Viewer,
    /// May create namespaces
    User,
    /// May do everything
    Admin,
}

impl From<Role> for options::Role {
    fn from(role: Role) -> Self {
        match role {
            Role::Viewer => Self::Viewer,
            Role::User => Self::User,
            Role::Admin => Self::Admin,
        }
    }
}

/// The level of a grant, each including the ones before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Level {
    /// See it
    Read,
    /// Change its rows
    Write,
    /// Grant it to others
    Admin,
    /// Delete it
    Owner,
}

impl From<Level> for options::Level {
    fn from(level: Level) -> Self {
        match level {
            Level::Read => Self::Read,
            Level::Write => Self::Write,
            Level::Admin => Self::Admin,
            Level::Owner => Self::Owner,
        }
    }
}

/// `45s`, `30m`, `12h`, `30d`.
pub fn lifetime(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is no time; write e.g. 45s, 30m, 12h or 30d");
    let unit = text.chars().last().ok_or_else(wrong)?;
    let seconds = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3600,
        'd' => 86_400,
        _ => return Err(wrong()),
    };
    let number: u64 = text[..text.len() - 1].parse().map_err(|_| wrong())?;
    number
        .checked_mul(seconds)
        .filter(|seconds| (1..=100 * 366 * 86_400).contains(seconds))
        .map(Duration::from_secs)
        .ok_or_else(|| format!("{text:?} is not between a second and a hundred years"))
}

/// The moment after a lifetime.
pub fn moment_after(lifetime: Duration) -> Timestamp {
    Timestamp::from(SystemTime::now() + lifetime)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lifetimes_have_a_unit() {
        assert_eq!(lifetime("90d"), Ok(Duration::from_secs(90 * 86_400)));
        assert_eq!(lifetime("45s"), Ok(Duration::from_secs(45)));
        for wrong in ["", "5", "d", "-1d", "1w", "0s", "99999999999999d", "1é"] {
            assert!(lifetime(wrong).is_err(), "{wrong}");
        }
    }
}
