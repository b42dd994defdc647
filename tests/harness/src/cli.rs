//! The command line as its user runs it.

use std::collections::BTreeMap;
use std::process::Command;

use serde_json::Value;

use crate::parts::quarry_binary;
use crate::platform::Platform;
use crate::process::{Launch, Process};

/// What a command left behind.
#[derive(Debug)]
pub struct CliOutput {
    /// Its exit code; -1 if a signal ended it.
    pub code: i32,
    /// Its answer.
    pub stdout: String,
    /// Its complaints and progress.
    pub stderr: String,
}

impl CliOutput {
    /// The one JSON document of `-o json`; ends the test if the command failed.
    pub fn json(&self) -> Value {
        assert_eq!(self.code, 0, "{self:?}");
        serde_json::from_str(&self.stdout).unwrap_or_else(|err| panic!("{err}: {self:?}"))
    }
}

impl Platform {
    /// Runs `quarry …` against this platform as the first admin and waits for it.
    pub async fn cli(&self, args: &[&str]) -> CliOutput {
        let mut command = self.cli_command(args);
        tokio::task::spawn_blocking(move || {
            let output = command.output().expect("the quarry binary");
            CliOutput {
                code: output.status.code().unwrap_or(-1),
                stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
                stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
            }
        })
        .await
        .expect("a command")
    }

    /// The command alone, for tests that start it and do something meanwhile.
    pub fn cli_command(&self, args: &[&str]) -> Command {
        let variables = BTreeMap::from([
            ("QUARRY_WAIT".to_owned(), crate::doors::patience().as_secs().to_string()),
            ("QUARRY_SERVER".to_owned(), self.url()),
            ("QUARRY_TOKEN".to_owned(), self.admin_token().to_owned()),
        ]);
        let launch =
            Launch { name: "cli".to_owned(), args: Vec::new(), variables, dir: self.scratch() };
        let mut command = Command::new(quarry_binary());
        command.args(args);
        launch.apply(&mut command);
        command
    }
}

impl Process {
    /// Runs `quarry …` without a platform, for what fails before there is one.
    pub fn run(launch: &Launch) -> CliOutput {
        let mut command = Command::new(quarry_binary());
        command.args(&launch.args);
        let output = launch.apply(&mut command).output().expect("the quarry binary");
        CliOutput {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}
