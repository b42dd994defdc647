//! What a platform loses when it is killed, starved, cut off or doubled: nothing that it
//! acknowledged. Each test has a platform of its own; [`history`] knows what was said.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "tests"
)]

mod away;
mod crash;
mod drain;
mod faults;
mod files_crash;
mod garbage;
mod history;
mod kills;
mod load;
mod models_kill;
mod replicas;
mod unique;
