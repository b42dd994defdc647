//! How big, how documented, how safe (STYLE ★).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::collections::BTreeMap;

use architecture::golden::{
    CRATE_LINES_MAX, DOCUMENTED_PERCENT_MIN, EMPTY_NAMES, FILE_LINES_MAX, FUNCTION_LINES_MAX,
    README_LINES,
};
use architecture::refuse;
use architecture::source::{Public, sources};
use architecture::workspace::crates;

#[test]
fn no_file_is_too_long() {
    let breaches: Vec<String> = sources()
        .iter()
        .filter(|source| source.lines > FILE_LINES_MAX)
        .map(|source| format!("{}: {} lines", source.path, source.lines))
        .collect();
    refuse(&format!("more than {FILE_LINES_MAX} lines:"), &breaches);
}

#[test]
fn no_function_is_too_long() {
    let mut breaches = Vec::new();
    for source in sources() {
        for function in source.functions.iter().filter(|f| f.lines > FUNCTION_LINES_MAX) {
            let (name, line, lines) = (&function.name, function.line, function.lines);
            breaches.push(format!("{}:{line}: {name} has {lines} lines", source.path));
        }
    }
    refuse(&format!("more than {FUNCTION_LINES_MAX} lines:"), &breaches);
}

#[test]
fn no_crate_is_too_big() {
    let mut lines: BTreeMap<&str, usize> = BTreeMap::new();
    for source in sources() {
        *lines.entry(source.home.as_str()).or_default() += source.lines;
    }
    let breaches: Vec<String> = lines
        .into_iter()
        .filter(|(_, lines)| *lines > CRATE_LINES_MAX)
        .map(|(home, lines)| format!("{home}: {lines} lines"))
        .collect();
    refuse(&format!("more than {CRATE_LINES_MAX} lines in one crate:"), &breaches);
}

#[test]
fn every_file_says_what_it_is() {
    let breaches: Vec<String> = sources()
        .iter()
        .filter(|source| !source.introduced)
        .map(|source| source.path.clone())
        .collect();
    refuse("no `//!` at the head:", &breaches);
}

#[test]
fn every_file_and_directory_has_a_name_that_says_something() {
    let mut breaches = Vec::new();
    for source in sources() {
        for part in source.path.split('/').skip(1) {
            if EMPTY_NAMES.contains(&part.strip_suffix(".rs").unwrap_or(part)) {
                breaches.push(source.path.clone());
            }
        }
    }
    refuse("these names could stand for anything:", &breaches);
}

#[test]
fn nothing_panics_outside_tests() {
    let mut breaches = Vec::new();
    for source in sources().iter().filter(|source| !source.is_test) {
        breaches.extend(source.panics.iter().map(|panic| format!("{}: {panic}", source.path)));
    }
    refuse("a panic is an answer nobody can act on:", &breaches);
}

#[test]
fn public_surfaces_are_documented() {
    let mut surfaces: BTreeMap<&str, Public> = BTreeMap::new();
    for source in sources().iter().filter(|source| !source.is_test) {
        let surface = surfaces.entry(source.home.as_str()).or_default();
        surface.items += source.public.items;
        surface.documented += source.public.documented;
    }
    let breaches: Vec<String> = surfaces
        .into_iter()
        .filter(|(_, p)| p.documented * 100 < p.items * DOCUMENTED_PERCENT_MIN)
        .map(|(home, p)| format!("{home}: {} of {}", p.documented, p.items))
        .collect();
    refuse(&format!("less than {DOCUMENTED_PERCENT_MIN} % of `pub` documented:"), &breaches);
}

#[test]
fn every_crate_has_a_readme_of_a_page() {
    let mut breaches = Vec::new();
    for found in crates() {
        let path = found.dir.join("README.md");
        match std::fs::read_to_string(&path) {
            Ok(text) if README_LINES.contains(&text.lines().count()) => {}
            Ok(text) => {
                breaches.push(format!("{}: {} lines", path.display(), text.lines().count()))
            }
            Err(_) => breaches.push(format!("{} is missing", path.display())),
        }
    }
    refuse(&format!("a README of {README_LINES:?} lines in every crate:"), &breaches);
}
