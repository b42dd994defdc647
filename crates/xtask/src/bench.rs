//! `cargo xtask bench NAME`: the release binary beside a peer, in the same run.

use std::path::PathBuf;

use crate::Failure;
use crate::machine::Machine;
use crate::python;
use crate::run::succeed;

/// The benchmarks, each a program in `tests/bench/<name>/bench.py`. One whose peers are no
/// part of the tests' environment has a `requirements.txt` beside it.
const BENCHMARKS: [&str; 6] = ["ann", "files", "flight", "items", "models", "vectors"];
/// The one that measures a crate in its own process.
const IN_PROCESS: &str = "ann";

/// Compiled clients that a benchmark measures beside Python's: (benchmark, package, example).
const CLIENTS: [(&str, &str, &str); 2] =
    [("files", "files-api", "find-client"), ("vectors", "vectors-api", "search-client")];

/// Those that a check runs with `--quick`. The others' peers are large, and they have yet to be seen whole.
const QUICK: [&str; 1] = ["flight"];

/// Builds the release binary and runs one benchmark; what it prints is its report.
pub fn run(machine: &Machine, args: &[&str]) -> Result<(), Failure> {
    let (name, rest) = args.split_first().ok_or_else(|| unknown("nothing"))?;
    if !BENCHMARKS.contains(name) {
        return Err(unknown(name));
    }
    if *name != IN_PROCESS {
        succeed(&mut machine.cargo(&["build", "--release", "--locked", "--package", "quarry"]))?;
    }
    for (_, package, example) in CLIENTS.iter().filter(|client| client.0 == *name) {
        let args = ["build", "--release", "--locked", "--package", package, "--example", example];
        succeed(&mut machine.cargo(&args))?;
    }
    program(machine, name, "release", rest)
}

/// The program that a benchmark measures: the product, but for the index alone, which is an
/// example of its crate and built here.
fn measured(machine: &Machine, name: &str, profile: &str) -> Result<PathBuf, Failure> {
    if name != IN_PROCESS {
        return Ok(machine.quarry(profile));
    }
    let mut args = vec!["build", "--locked", "--package", "ann", "--example", "ann-bench"];
    if profile == "release" {
        args.push("--release");
    }
    succeed(&mut machine.cargo(&args))?;
    Ok(machine.target.join(profile).join("examples/ann-bench"))
}

/// Runs the quick benchmarks on the debug binary with small numbers, to see that it runs.
pub fn each_quickly(machine: &Machine) -> Result<(), Failure> {
    QUICK.iter().try_for_each(|name| program(machine, name, "debug", &["--quick"]))
}

fn program(machine: &Machine, name: &str, profile: &str, args: &[&str]) -> Result<(), Failure> {
    let peers = format!("tests/bench/{name}/requirements.txt");
    let venv = if machine.root.join(&peers).exists() {
        python::environment_of(machine, &peers)?
    } else {
        python::environment(machine)?
    };
    let mut program = machine.command(venv.join("bin/python"));
    program.arg(machine.root.join(format!("tests/bench/{name}/bench.py")));
    program.arg("--binary").arg(measured(machine, name, profile)?).args(args);
    program.env("PYTHONDONTWRITEBYTECODE", "1");
    succeed(&mut program)
}

fn unknown(name: &str) -> Failure {
    format!("{name} is no benchmark; there are: {}", BENCHMARKS.join(", "))
}
