//! `quarry`: the platform and its command line in one binary.

mod cli;
mod client;
mod demo;
mod failure;
mod output;
mod samples;
mod serve;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::main()
}
