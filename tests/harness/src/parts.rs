//! Finding the parts: the binary under test and the Python environment.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

/// The `quarry` binary: `QUARRY_TEST_BINARY`, else the one beside this test, built first.
pub fn quarry_binary() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| match std::env::var_os("QUARRY_TEST_BINARY") {
        Some(path) => PathBuf::from(path),
        None => build_beside_this_test(),
    })
}

fn build_beside_this_test() -> PathBuf {
    // <target>/<profile>/deps/<test>-<hash>
    let test = std::env::current_exe().expect("the path of this test");
    let profile = test.ancestors().nth(2).expect("a target directory");
    let target = profile.parent().expect("a target directory");
    let mut cargo = cargo();
    cargo.args(["build", "--quiet", "--package", "quarry"]).env("CARGO_TARGET_DIR", target);
    if profile.ends_with("release") {
        cargo.arg("--release");
    }
    let status = cargo.status().expect("cargo");
    assert!(status.success(), "cargo build --package quarry: {status}");
    profile.join("quarry")
}

/// The tests' Python environment: `QUARRY_TEST_VENV`, else what `cargo xtask venv` makes.
pub fn venv() -> &'static Path {
    static VENV: OnceLock<PathBuf> = OnceLock::new();
    VENV.get_or_init(|| {
        if let Some(path) = std::env::var_os("QUARRY_TEST_VENV") {
            return PathBuf::from(path);
        }
        let output = cargo()
            .args(["run", "--quiet", "--package", "xtask", "--", "venv"])
            .stderr(Stdio::inherit())
            .output()
            .expect("cargo");
        assert!(output.status.success(), "cargo xtask venv: {}", output.status);
        PathBuf::from(String::from_utf8(output.stdout).expect("a path").trim())
    })
}

fn cargo() -> Command {
    let program = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(program);
    command.current_dir(env!("CARGO_MANIFEST_DIR")).stdin(Stdio::null());
    command
}
