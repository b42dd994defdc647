//! `quarry`: the platform and its command line in one binary.

mod cli;
mod client;
mod demo;
mod failure;
mod output;
mod samples;
mod serve;

use std::process::ExitCode;

/// The system's allocator keeps an arena a thread: after a few large puts a
/// gigabyte stayed resident that nobody used.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    cli::main()
}
