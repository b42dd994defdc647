//! Who may use whom: Cargo's own graph against the golden table.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use architecture::golden::{DEPENDENCIES_MAX, EMPTY_NAMES, OTHER_SERVICES, SERVICES};
use architecture::refuse;
use architecture::workspace::{Crate, crates, root};

/// `crate: dependency dependency …`, one row a crate.
fn golden() -> BTreeMap<String, BTreeSet<String>> {
    let path = root().join("tests/architecture/edges.golden");
    let text = std::fs::read_to_string(path).expect("edges.golden");
    let rows = text.lines().filter(|line| !line.starts_with('#') && !line.trim().is_empty());
    rows.map(|row| {
        let (name, uses) = row.split_once(':').expect("crate: dependencies");
        (name.to_owned(), uses.split_whitespace().map(str::to_owned).collect())
    })
    .collect()
}

#[test]
fn every_edge_is_a_row_of_the_golden_table_and_every_row_an_edge() {
    let golden = golden();
    let mut breaches = Vec::new();
    let all = crates();
    for found in &all {
        let row = format!("{}: {}", found.name, joined(&found.uses));
        match golden.get(&found.name) {
            Some(allowed) if *allowed == found.uses => {}
            Some(allowed) => {
                let new: BTreeSet<_> = found.uses.difference(allowed).cloned().collect();
                let gone: BTreeSet<_> = allowed.difference(&found.uses).cloned().collect();
                breaches.push(format!(
                    "{}: new [{}], no longer used [{}]; the row would be `{}`",
                    found.name,
                    joined(&new),
                    joined(&gone),
                    row.trim()
                ));
            }
            None => breaches.push(format!("no row `{}`", row.trim())),
        }
    }
    for name in golden.keys().filter(|name| !all.iter().any(|found| found.name == **name)) {
        breaches.push(format!("a row for {name}, which is no crate"));
    }
    refuse("tests/architecture/edges.golden says who may use whom:", &breaches);
}

fn joined(names: &BTreeSet<String>) -> String {
    names.iter().map(String::as_str).collect::<Vec<_>>().join(" ")
}

#[test]
fn no_service_depends_on_another_and_only_the_binary_names_two() {
    let all = crates();
    let services: BTreeSet<&str> = on_floor(&all, "services").map(|c| c.name.as_str()).collect();
    let mut breaches = Vec::new();
    for found in all.iter().filter(|found| found.name != "quarry") {
        let uses = found.uses.iter().chain(&found.uses_in_tests);
        for service in uses.filter(|name| services.contains(name.as_str())) {
            breaches.push(format!("{} uses the service {service}", found.name));
        }
    }
    refuse("only quarry may depend on services:", &breaches);
}

#[test]
fn every_service_is_named_in_the_tables() {
    let known: BTreeSet<&str> =
        SERVICES.iter().copied().chain(OTHER_SERVICES.iter().map(|(name, _)| *name)).collect();
    let all = crates();
    let found: BTreeSet<&str> = on_floor(&all, "services").map(|c| c.name.as_str()).collect();
    assert_eq!(found, known, "SERVICES and OTHER_SERVICES of golden.rs name the services");
}

#[test]
fn contracts_depend_on_contracts_only() {
    let all = crates();
    let mut breaches = Vec::new();
    for contract in all.iter().filter(|found| found.name.ends_with("-api")) {
        let others = contract.uses.iter();
        for other in others.filter(|name| !name.ends_with("-api") && *name != "proto-build") {
            breaches.push(format!("{} uses {other}", contract.name));
        }
    }
    refuse("an -api crate holds a contract and nothing that implements it:", &breaches);
}

#[test]
fn the_gateway_holds_no_data() {
    let all = crates();
    let gateway = all.iter().find(|found| found.name == "gateway").expect("a gateway");
    let banned = ["sql-store", "blob-store", "blocks", "filter"];
    let foreign = ["sea-orm", "object_store", "parquet", "arrow"];
    let uses = gateway.uses.iter().chain(&gateway.foreign);
    let breaches: Vec<String> = uses
        .filter(|name| banned.iter().chain(&foreign).any(|banned| name == banned))
        .map(|name| format!("gateway uses {name}"))
        .collect();
    refuse("the gateway relays and transcodes; it stores and decodes nothing:", &breaches);
}

#[test]
fn a_small_crate_stands_on_few_others() {
    let all = crates();
    let breaches: Vec<String> = on_floor(&all, "crates")
        .filter(|found| found.uses.len() > DEPENDENCIES_MAX)
        .map(|found| format!("{} uses {}: {}", found.name, found.uses.len(), joined(&found.uses)))
        .collect();
    refuse(&format!("more than {DEPENDENCIES_MAX} workspace crates:"), &breaches);
}

#[test]
fn errors_are_typed_and_names_say_something() {
    let mut breaches = Vec::new();
    for found in crates() {
        if EMPTY_NAMES.contains(&found.name.as_str()) {
            breaches.push(format!("the crate name {} says nothing", found.name));
        }
        for dependency in ["anyhow", "eyre", "color-eyre"] {
            if found.foreign.contains(dependency) {
                breaches.push(format!("{} uses {dependency}: errors are types here", found.name));
            }
        }
    }
    refuse("crates:", &breaches);
}

fn on_floor<'a>(all: &'a [Crate], floor: &'a str) -> impl Iterator<Item = &'a Crate> {
    all.iter().filter(move |found| found.floor == floor)
}
