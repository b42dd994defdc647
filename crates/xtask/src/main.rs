//! The development commands of this repository: `cargo xtask test` and friends.
//!
//! It has no dependencies, so that it compiles in seconds on a fresh clone.
#![allow(
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a command-line tool: it prints, and its environment is its input"
)]

mod bench;
mod machine;
mod python;
mod run;
mod test;

use std::process::ExitCode;

use machine::Machine;

/// What went wrong, in words for the person at the terminal.
type Failure = String;

const HELP: &str = "\
Usage: cargo xtask <COMMAND>

  test [--only STEP]...            everything CI checks; the steps are
                                   python format protos clippy dependencies
                                   build tests clients demo
  lint                             format, protos, clippy and dependencies
  fmt                              format Rust and proto files
  bench NAME [--rows N] [--quick]  measure beside a peer in one run: flight
  venv                             make the tests' Python environment, print its path
";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match dispatch(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("xtask: {failure}");
            ExitCode::FAILURE
        }
    }
}

fn dispatch(args: &[String]) -> Result<(), Failure> {
    let machine = Machine::here()?;
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args.as_slice() {
        ["test", rest @ ..] => test::run(&machine, &test::chosen(rest)?),
        ["lint"] => test::run(&machine, &test::LINT),
        ["fmt"] => test::format(&machine),
        ["bench", rest @ ..] => bench::run(&machine, rest),
        ["venv"] => python::environment(&machine).map(|venv| println!("{}", venv.display())),
        ["help" | "--help" | "-h"] | [] => {
            print!("{HELP}");
            Ok(())
        }
        [unknown, ..] => Err(format!("no such command: {unknown}\n\n{HELP}")),
    }
}
