//! Runs a command with `QUARRY_TEST_POSTGRES_URL` naming a Postgres of its own, for unit
//! tests that want both databases: `with_postgres cargo nextest run`.
#![allow(clippy::expect_used, reason = "a tool of the tests")]

use std::process::{Command, ExitCode};

use harness::Postgres;

fn main() -> ExitCode {
    let mut args = std::env::args_os().skip(1);
    let program = args.next().expect("a command to run");
    let postgres = Postgres::start();
    let status = Command::new(program)
        .args(args)
        .env("QUARRY_TEST_POSTGRES_URL", postgres.url("postgres"))
        .status()
        .expect("the command");
    if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
