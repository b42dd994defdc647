//! One Arrow, one tonic, one prost, one sqlx: two of them are two sets of types.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use architecture::golden::ONE_VERSION;
use architecture::refuse;
use architecture::workspace::{compiled, crates, root};

#[test]
fn one_version_of_what_must_be_one_is_compiled() {
    let compiled = compiled();
    let mut breaches = Vec::new();
    for name in ONE_VERSION {
        let prefix = format!("{name} ");
        let found: Vec<&String> =
            compiled.iter().filter(|line| line.starts_with(&prefix)).collect();
        if found.len() != 1 {
            breaches.push(format!("{name}: {found:?}"));
        }
    }
    refuse("exactly one version of each:", &breaches);
}

#[test]
fn no_second_tls_is_compiled() {
    let compiled = compiled();
    let breaches: Vec<String> = ["openssl-sys ", "native-tls ", "aws-lc-rs "]
        .iter()
        .filter(|name| compiled.iter().any(|line| line.starts_with(*name)))
        .map(|name| (*name).to_owned())
        .collect();
    refuse("ring, through rustls, is the one TLS provider:", &breaches);
}

#[test]
fn features_and_versions_are_chosen_in_one_place() {
    let mut breaches = Vec::new();
    for found in crates() {
        let manifest = std::fs::read_to_string(found.dir.join("Cargo.toml")).expect("a manifest");
        let mut within = false;
        for line in manifest.lines() {
            if line.starts_with('[') {
                within = line.contains("dependencies");
            } else if within && !line.trim().is_empty() && !line.starts_with('#') {
                let inherits = line.contains("workspace = true") && !line.contains("features");
                if !inherits {
                    breaches.push(format!("{}: {line}", found.name));
                }
            }
        }
    }
    refuse("`name.workspace = true` and nothing more:", &breaches);
}

#[test]
fn the_licence_is_there_and_named() {
    let text = std::fs::read_to_string(root().join("LICENSE")).expect("LICENSE");
    assert!(text.contains("Apache License") && text.contains("END OF TERMS AND CONDITIONS"));
    let manifest = std::fs::read_to_string(root().join("Cargo.toml")).expect("Cargo.toml");
    assert!(manifest.contains("license = \"Apache-2.0\""));
}
