//! Where things are: the checkout, the build directory, the user's cache.

use std::env;
use std::ffi::OsStr;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::Failure;

/// The places every command works with.
pub struct Machine {
    /// The checkout.
    pub root: PathBuf,
    /// Cargo's build directory, shared by all clones unless the caller names one.
    pub target: PathBuf,
    /// `${XDG_CACHE_HOME:-$HOME/.cache}/quarry`.
    pub cache: PathBuf,
}

impl Machine {
    /// Looks at the environment; fails only where there is no home directory.
    pub fn here() -> Result<Self, Failure> {
        // Of the cargo that runs it: a build directory that clones share may hold another one's.
        let manifest = filled("CARGO_MANIFEST_DIR")
            .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
        let root = manifest.ancestors().nth(2).ok_or("xtask is not in crates/xtask")?.to_path_buf();
        let cache = match filled("XDG_CACHE_HOME") {
            Some(dir) => PathBuf::from(dir),
            None => {
                PathBuf::from(filled("HOME").ok_or("set HOME or XDG_CACHE_HOME")?).join(".cache")
            }
        }
        .join("quarry");
        let target = match filled("CARGO_TARGET_DIR") {
            Some(dir) => root.join(dir),
            None => cache.join("target"),
        };
        Ok(Self { root, target, cache })
    }

    /// A command in the checkout, with the build directory set and nothing on its input.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        command.current_dir(&self.root).env("CARGO_TARGET_DIR", &self.target).stdin(Stdio::null());
        for (name, _) in env::vars_os() {
            let text = name.to_string_lossy();
            if OF_THE_OUTER_CARGO.iter().any(|prefix| text.starts_with(prefix)) {
                command.env_remove(&name);
            }
        }
        command
    }

    /// Cargo itself, the one that runs xtask.
    pub fn cargo(&self, args: &[&str]) -> Command {
        let cargo = filled("CARGO").unwrap_or_else(|| "cargo".into());
        let mut command = self.command(cargo);
        command.args(args);
        command
    }

    /// The `quarry` binary of a profile (`debug` or `release`).
    pub fn quarry(&self, profile: &str) -> PathBuf {
        self.target.join(profile).join("quarry")
    }
}

/// What `cargo run` sets for xtask: build scripts below it that look at these (ring's does) would
/// see another environment than under a cargo of one's own, and all that stands on them would be
/// compiled anew.
const OF_THE_OUTER_CARGO: [&str; 4] =
    ["CARGO_BIN_", "CARGO_CRATE_", "CARGO_MANIFEST_", "CARGO_PKG_"];

/// Whether `program` can be run at all.
pub fn installed(program: &str, argument: &str) -> bool {
    Command::new(program)
        .arg(argument)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

/// An environment variable that is set and not empty.
pub fn filled(name: &str) -> Option<std::ffi::OsString> {
    env::var_os(name).filter(|value| !value.is_empty())
}
