//! `quarry`: the platform and its command line in one binary.

mod cli;
mod demo;
mod samples;
mod schemas;
mod serve;

use std::process::ExitCode;

use quarry_client::{client, failure, output};

fn main() -> ExitCode {
    cli::main()
}
