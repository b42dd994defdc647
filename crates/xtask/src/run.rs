//! Running steps one after another: headings, timings and one closing table.

use std::process::Command;
use std::time::{Duration, Instant};

use crate::Failure;
use crate::machine::Machine;

/// One part of a longer command.
pub struct Step {
    /// As given to `--only`.
    pub name: &'static str,
    /// What the heading says.
    pub title: &'static str,
    /// A step that failed takes these earlier ones' results for granted.
    pub needs: &'static [&'static str],
    /// Does it.
    pub run: fn(&Machine) -> Result<(), Failure>,
}

enum Outcome {
    Passed,
    Failed(Failure),
    Skipped(&'static str),
}

/// Runs every step, also after one failed unless it needs that one, and fails if any did.
pub fn steps(machine: &Machine, steps: &[Step]) -> Result<(), Failure> {
    let mut done: Vec<(&Step, Outcome, Duration)> = Vec::new();
    for step in steps {
        println!("\n━━━ {} · {}", step.name, step.title);
        let begin = Instant::now();
        let outcome = match missing(step, &done) {
            Some(need) => Outcome::Skipped(need),
            None => match (step.run)(machine) {
                Ok(()) => Outcome::Passed,
                Err(failure) => Outcome::Failed(failure),
            },
        };
        let took = begin.elapsed();
        println!("{}", line(step, &outcome, took));
        done.push((step, outcome, took));
    }
    summary(&done)
}

fn missing(step: &Step, done: &[(&Step, Outcome, Duration)]) -> Option<&'static str> {
    step.needs.iter().copied().find(|need| {
        done.iter().any(|(earlier, outcome, _)| {
            earlier.name == *need && !matches!(outcome, Outcome::Passed)
        })
    })
}

fn line(step: &Step, outcome: &Outcome, took: Duration) -> String {
    let said = match outcome {
        Outcome::Passed => "ok".to_owned(),
        Outcome::Failed(failure) => format!("FAILED: {failure}"),
        Outcome::Skipped(need) => format!("skipped, because `{need}` failed"),
    };
    format!("{:<13}{:>7.1} s  {said}", step.name, took.as_secs_f64())
}

fn summary(done: &[(&Step, Outcome, Duration)]) -> Result<(), Failure> {
    println!("\n━━━ summary");
    for (step, outcome, took) in done {
        println!("{}", line(step, outcome, *took));
    }
    let failed: Vec<&str> = done
        .iter()
        .filter(|(_, outcome, _)| !matches!(outcome, Outcome::Passed))
        .map(|(step, _, _)| step.name)
        .collect();
    if failed.is_empty() {
        return Ok(());
    }
    Err(format!(
        "{} did not pass; run one again with `cargo xtask test --only {}`",
        failed.join(", "),
        failed[0]
    ))
}

/// Runs a command and waits; its exit code decides.
pub fn succeed(command: &mut Command) -> Result<(), Failure> {
    let shown = shown(command);
    println!("$ {shown}");
    let status = command.status().map_err(|err| format!("{shown}: {err}"))?;
    if status.success() { Ok(()) } else { Err(format!("`{shown}` ended with {status}")) }
}

fn shown(command: &Command) -> String {
    let program = command.get_program().to_string_lossy();
    let name = program.rsplit('/').next().unwrap_or(&program).to_owned();
    command.get_args().fold(name, |line, arg| format!("{line} {}", arg.to_string_lossy()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine() -> Machine {
        Machine::here().unwrap()
    }

    const GOOD: Step = Step { name: "good", title: "", needs: &[], run: |_| Ok(()) };
    const BAD: Step = Step { name: "bad", title: "", needs: &[], run: |_| Err("broken".into()) };
    const NEEDY: Step = Step {
        name: "needy",
        title: "",
        needs: &["bad"],
        run: |_| unreachable!("it must be skipped"),
    };

    #[test]
    fn one_failure_fails_the_run_and_skips_what_needs_it() {
        let failure = steps(&machine(), &[BAD, NEEDY, GOOD]).unwrap_err();
        assert!(failure.starts_with("bad, needy did not pass"), "{failure}");
    }

    #[test]
    fn a_need_outside_the_chosen_steps_is_taken_for_granted() {
        const ALONE: Step = Step { name: "alone", title: "", needs: &["build"], run: |_| Ok(()) };
        assert_eq!(steps(&machine(), &[ALONE]), Ok(()));
    }

    #[test]
    fn a_failing_command_says_what_it_was() {
        let failure = succeed(Command::new("/bin/sh").args(["-c", "exit 3"])).unwrap_err();
        assert_eq!(failure, "`sh -c exit 3` ended with exit status: 3");
    }
}
