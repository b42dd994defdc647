//! `cargo xtask test`: every check of the repository, in the order that fails fastest.

use std::path::Path;
use std::process::Command;
use std::{env, fs, process};

use crate::Failure;
use crate::bench;
use crate::machine::{Machine, filled, installed};
use crate::python;
use crate::run::{self, Step, succeed};

const PYTHON: Step =
    Step { name: "python", title: "the tests' Python environment", needs: &[], run: python::step };
const FORMAT: Step = Step {
    name: "format",
    title: "cargo fmt",
    needs: &[],
    run: |machine| succeed(&mut machine.cargo(&["fmt", "--all", "--check"])),
};
const PROTOS: Step = Step {
    name: "protos",
    title: "buf lint",
    needs: &["python"],
    run: |machine| {
        buf(machine, &["lint", "proto"])?;
        buf(machine, &["format", "--diff", "--exit-code", "proto", "--path", "proto/quarry"])
    },
};
const CLIPPY: Step = Step {
    name: "clippy",
    title: "no warning anywhere",
    needs: &[],
    run: |machine| {
        let args = ["clippy", "--workspace", "--all-targets", "--locked", "--", "-D", "warnings"];
        succeed(&mut machine.cargo(&args))
    },
};
const DEPENDENCIES: Step = Step {
    name: "dependencies",
    title: "licences, bans, one version of what must be one",
    needs: &[],
    run: dependencies,
};
const BUILD: Step =
    Step { name: "build", title: "every program and test (debug)", needs: &[], run: build };
const TESTS: Step = Step {
    name: "tests",
    title: "unit, architecture and API tests",
    needs: &["python", "build"],
    run: tests,
};
const CLIENTS: Step = Step {
    name: "clients",
    title: "unmodified foreign clients against the binary",
    needs: &["python", "build"],
    run: clients,
};
const CHART: Step = Step {
    name: "chart",
    title: "the Helm chart and the files of deploy/",
    needs: &["python", "build"],
    run: |machine| {
        let mut pytest = pytest(machine, &python::environment(machine)?, "tests/deploy");
        succeed(pytest.env("QUARRY_TEST_BINARY", machine.quarry("debug")))
    },
};
const DEMO: Step =
    Step { name: "demo", title: "the first command of the README", needs: &["build"], run: demo };

const BENCHES: Step = Step {
    name: "benches",
    title: "a benchmark runs (debug binary: its times say nothing)",
    needs: &["python", "build"],
    run: bench::each_quickly,
};

/// All steps, in order.
const ALL: [Step; 11] =
    [PYTHON, FORMAT, PROTOS, CLIPPY, DEPENDENCIES, BUILD, CHART, TESTS, CLIENTS, DEMO, BENCHES];

/// The steps that run nothing of ours.
pub const LINT: [Step; 5] = [PYTHON, FORMAT, PROTOS, CLIPPY, DEPENDENCIES];

/// The steps that `--only STEP` (repeatable) names; all of them without it.
pub fn chosen(args: &[&str]) -> Result<Vec<Step>, Failure> {
    let mut names = Vec::new();
    for pair in args.chunks(2) {
        match pair {
            ["--only", name] if ALL.iter().any(|step| step.name == *name) => names.push(*name),
            ["--only", name] => {
                let known: Vec<&str> = ALL.iter().map(|step| step.name).collect();
                return Err(format!("no step `{name}`; there are {}", known.join(", ")));
            }
            _ => return Err(format!("expected --only STEP, found {}", pair.join(" "))),
        }
    }
    Ok(ALL.into_iter().filter(|step| names.is_empty() || names.contains(&step.name)).collect())
}

/// Runs the steps.
pub fn run(machine: &Machine, steps: &[Step]) -> Result<(), Failure> {
    println!("building in {}", machine.target.display());
    run::steps(machine, steps)
}

/// `cargo xtask fmt`.
pub fn format(machine: &Machine) -> Result<(), Failure> {
    succeed(&mut machine.cargo(&["fmt", "--all"]))?;
    buf(machine, &["format", "--write", "proto", "--path", "proto/quarry"])
}

fn buf(machine: &Machine, args: &[&str]) -> Result<(), Failure> {
    let venv = python::environment(machine)?;
    succeed(machine.command(venv.join("bin/buf")).args(args))
}

fn dependencies(machine: &Machine) -> Result<(), Failure> {
    if !installed("cargo-deny", "--version") {
        println!("cargo-deny is not installed: tests/architecture checks single versions alone");
        return Ok(());
    }
    let checks = ["deny", "--locked", "check", "bans", "licenses", "sources"];
    succeed(&mut machine.cargo(&checks))
}

/// All in one go: cargo selects other features of third-party crates for each
/// selection of ours, and a second selection would compile the world again.
fn build(machine: &Machine) -> Result<(), Failure> {
    succeed(&mut machine.cargo(&["build", "--workspace", "--all-targets", "--locked"]))
}

fn tests(machine: &Machine) -> Result<(), Failure> {
    if installed("cargo-nextest", "--version") {
        let mut nextest = with_parts(machine)?;
        nextest.args(["cargo", "nextest", "run", "--workspace", "--locked"]);
        if filled("CI").is_some() {
            nextest.args(["--profile", "ci"]);
        }
        return succeed(&mut nextest);
    }
    let cargo = ["cargo", "test", "--locked", "--no-fail-fast"];
    // These start platforms and time them: never two at once.
    const ALONE: [&str; 3] = ["api", "faults", "lifecycle"];
    let others = ALONE.into_iter().flat_map(|name| ["--exclude", name]);
    let others = succeed(with_parts(machine)?.args(cargo).arg("--workspace").args(others));
    let alone = ALONE.into_iter().flat_map(|name| ["--package", name]);
    succeed(with_parts(machine)?.args(cargo).args(alone).args(["--", "--test-threads=1"]))?;
    others
}

fn clients(machine: &Machine) -> Result<(), Failure> {
    const ALL: &str = "tests/compatibility";
    const MLFLOW: &str = "tests/compatibility/mlflow_client";
    let run = |pytest: &Command| {
        let mut parts = with_parts(machine)?;
        parts.arg(pytest.get_program()).args(pytest.get_args());
        parts.env("PYTHONDONTWRITEBYTECODE", "1");
        succeed(&mut parts)
    };
    let mut others = pytest(machine, &python::environment(machine)?, ALL);
    run(others.args(["--ignore", MLFLOW]))?;
    let environment = python::environment_of(machine, &format!("{MLFLOW}/requirements.txt"))?;
    // The platforms are those of the conftest.py above.
    run(pytest(machine, &environment, MLFLOW).args(["--confcutdir", ALL]))
}

/// The tests of a folder, in one of the tests' Python environments.
fn pytest(machine: &Machine, environment: &Path, folder: &str) -> Command {
    let mut pytest = machine.command(environment.join("bin/python"));
    pytest.args(["-m", "pytest", "-p", "no:cacheprovider", "-q", "-ra", "--durations=5"]);
    pytest.args(["--rootdir", folder, folder]);
    pytest.env("PYTHONDONTWRITEBYTECODE", "1");
    pytest
}

/// A command, still to be named by its first argument, that finds the binary under test, the
/// Python environment, and a Postgres that lives as long as the command.
fn with_parts(machine: &Machine) -> Result<Command, Failure> {
    build(machine)?;
    let mut command = machine.command(machine.target.join("debug/with_postgres"));
    command.env("QUARRY_TEST_BINARY", machine.quarry("debug"));
    command.env("QUARRY_TEST_VENV", python::environment(machine)?);
    command.env("QUARRY_TEST_MINILM", python::minilm(machine)?);
    Ok(command)
}

/// As on a newcomer's machine: an empty data directory, nothing configured.
fn demo(machine: &Machine) -> Result<(), Failure> {
    let dir = env::temp_dir().join(format!("quarry-demo-{}", process::id()));
    let mut demo = machine.command(machine.quarry("debug"));
    demo.args(["demo", "--exit", "--data-dir"]).arg(&dir);
    demo.args(["--listen", "127.0.0.1:0", "--ops-listen", "127.0.0.1:0"]);
    let outcome = succeed(&mut demo);
    if dir.exists() {
        fs::remove_dir_all(&dir).map_err(|err| format!("{}: {err}", dir.display()))?;
    }
    outcome
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(steps: &[Step]) -> Vec<&'static str> {
        steps.iter().map(|step| step.name).collect()
    }

    #[test]
    fn without_a_choice_every_step_runs_in_order() {
        assert_eq!(names(&chosen(&[]).unwrap()), names(&ALL));
    }

    #[test]
    fn a_choice_keeps_the_order_of_the_steps() {
        let steps = chosen(&["--only", "tests", "--only", "format"]).unwrap();
        assert_eq!(names(&steps), ["format", "tests"]);
    }

    #[test]
    fn an_unknown_step_names_the_known_ones() {
        let failure = chosen(&["--only", "tset"]).err().unwrap();
        assert!(failure.contains("no step `tset`") && failure.contains("clients"), "{failure}");
        assert!(chosen(&["--fast"]).is_err());
    }

    #[test]
    fn every_need_is_an_earlier_step() {
        for (at, step) in ALL.iter().enumerate() {
            for need in step.needs {
                assert!(names(&ALL[..at]).contains(need), "{} needs {need}", step.name);
            }
        }
    }
}
