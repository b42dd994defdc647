//! Cargo's own graph of the workspace.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

/// A crate of this workspace.
#[derive(Debug)]
pub struct Crate {
    /// As in its Cargo.toml.
    pub name: String,
    /// Its directory.
    pub dir: PathBuf,
    /// `crates`, `rooms`, `services` or `tests`.
    pub floor: String,
    /// Workspace crates that it is built from (normal and build dependencies).
    pub uses: BTreeSet<String>,
    /// Workspace crates of its tests only.
    pub uses_in_tests: BTreeSet<String>,
    /// Everything else that it names, from registries.
    pub foreign: BTreeSet<String>,
}

/// The checkout.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).expect("tests/architecture")
}

/// Every crate of the workspace, by name.
pub fn crates() -> Vec<Crate> {
    let metadata = cargo(&["metadata", "--format-version", "1", "--no-deps", "--locked"]);
    let metadata: Value = serde_json::from_str(&metadata).expect("JSON");
    let packages = metadata["packages"].as_array().expect("packages");
    let names: BTreeSet<&str> = packages.iter().filter_map(|p| p["name"].as_str()).collect();
    let mut crates: Vec<Crate> = packages.iter().map(|package| read(package, &names)).collect();
    crates.sort_by(|a, b| a.name.cmp(&b.name));
    crates
}

fn read(package: &Value, names: &BTreeSet<&str>) -> Crate {
    let manifest = PathBuf::from(package["manifest_path"].as_str().expect("a manifest"));
    let dir = manifest.parent().expect("a directory").to_path_buf();
    let within = dir.strip_prefix(root()).expect("a crate of this checkout");
    let floor = within.iter().next().expect("a floor").to_string_lossy().into_owned();
    let mut read = Crate {
        name: package["name"].as_str().expect("a name").to_owned(),
        floor,
        dir,
        uses: BTreeSet::new(),
        uses_in_tests: BTreeSet::new(),
        foreign: BTreeSet::new(),
    };
    for dependency in package["dependencies"].as_array().expect("dependencies") {
        let name = dependency["name"].as_str().expect("a name");
        let list = match (names.contains(name), dependency["kind"].as_str()) {
            (true, Some("dev")) => &mut read.uses_in_tests,
            (true, _) => &mut read.uses,
            (false, _) => &mut read.foreign,
        };
        list.insert(name.to_owned());
    }
    read
}

/// `name version` of everything that the workspace's binaries are compiled from.
pub fn compiled() -> BTreeSet<String> {
    let args = ["tree", "--workspace", "--edges", "normal", "--prefix", "none", "--locked"];
    let tree = cargo(&[&args[..], &["--format", "{p}"]].concat());
    tree.lines()
        .map(|line| line.split_whitespace().take(2).collect::<Vec<_>>().join(" "))
        .filter(|line| !line.is_empty())
        .collect()
}

fn cargo(args: &[&str]) -> String {
    let program = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(program)
        .args(args)
        .current_dir(root())
        .stdin(Stdio::null())
        .output()
        .expect("cargo");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "cargo {}: {stderr}", args.join(" "));
    String::from_utf8(output.stdout).expect("text")
}
