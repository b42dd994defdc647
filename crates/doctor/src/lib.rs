//! What is wrong with a platform's surroundings, and what to do about it.

pub mod bucket;
pub mod certificates;
pub mod database;
pub mod doors;
pub mod place;

use serde::Serialize;
use service_error::ServiceError;

/// Two clocks that differ by more refuse each other's tokens.
pub const SKEW_SECONDS_MAX: f64 = 5.0;

/// How a check came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// As it should be.
    Ok,
    /// It works, and may not go on to.
    Warning,
    /// Something does not work.
    Problem,
}

/// What one check saw.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// E.g. `database.vector`.
    pub check: String,
    /// How it came out.
    pub verdict: Verdict,
    /// What was seen.
    pub message: String,
    /// What to do; empty where nothing is to be done.
    pub remedy: String,
}

impl Finding {
    /// As it should be.
    pub fn ok(check: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            check: check.into(),
            verdict: Verdict::Ok,
            message: message.into(),
            remedy: String::new(),
        }
    }

    /// It works, and may not go on to.
    pub fn warning(
        check: impl Into<String>,
        message: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self {
            check: check.into(),
            verdict: Verdict::Warning,
            message: message.into(),
            remedy: remedy.into(),
        }
    }

    /// Something does not work.
    pub fn problem(
        check: impl Into<String>,
        message: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self { verdict: Verdict::Problem, ..Self::warning(check, message, remedy) }
    }

    /// An error whose message says what to do.
    pub fn of_error(check: impl Into<String>, error: &ServiceError, remedy: &str) -> Self {
        Self::problem(check, error.message(), remedy)
    }
}

/// How far another clock is from this one, as a finding.
fn clock(check: &str, whose: &str, seconds_ahead: f64) -> Finding {
    let by = format!(
        "the clock of {whose} is {:.1} s {}",
        seconds_ahead.abs(),
        match seconds_ahead {
            ahead if ahead >= 0.0 => "ahead",
            _ => "behind",
        }
    );
    if seconds_ahead.abs() <= SKEW_SECONDS_MAX {
        return Finding::ok(check, by);
    }
    Finding::problem(
        check,
        format!(
            "{by}: tokens are refused between clocks that differ by more than {SKEW_SECONDS_MAX} s"
        ),
        "set both machines' clocks by the same time server (NTP)",
    )
}

#[cfg(test)]
mod tests;
