//! What the platform promises over its wires, written once and run on every ground:
//! {one process, split} × {SQLite, Postgres}. `tests/every_ground.rs` runs [`CASES`];
//! the other tests need a platform of their own, to kill it or to load it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "tests"
)]

pub mod cases;
pub mod refusal;
mod stage;

pub use cases::CASES;
pub use stage::{Stage, run, run_cases, unique};

use futures::future::LocalBoxFuture;

/// One promise. It makes its own namespace, so cases run beside each other.
pub struct Case {
    /// As printed, and as `QUARRY_TEST_CASE` picks it (part of it will do).
    pub name: &'static str,
    /// Panics if the promise is broken.
    pub run: for<'a> fn(&'a Stage) -> LocalBoxFuture<'a, ()>,
}
