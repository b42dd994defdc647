//! Reads this workspace as its rules see it: crates and their edges, files and what
//! stands in them. The rules are in `tests/`, what they allow in [`golden`].
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "tests: a workspace that cannot be read ends them"
)]

pub mod golden;
pub mod source;
pub mod workspace;

/// Fails with every breach at once: one run shows all the work.
pub fn refuse(rule: &str, breaches: &[String]) {
    assert!(breaches.is_empty(), "{rule}\n  {}\n", breaches.join("\n  "));
}
